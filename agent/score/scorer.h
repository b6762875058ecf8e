// What judges a feature table. Scorers are called by the tick thread, in the order pipeline.cpp names them,
// and each fills its own part of the scores; their state is their own.
#pragma once

#include <algorithm>
#include <array>
#include <cstdint>
#include <limits>
#include <string>
#include <string_view>
#include <vector>

#include "agent/features/feature_table.h"

namespace vedette {

// One signal's share of a verdict. `column` indexes feature_columns().
struct Reason {
  std::uint32_t column = 0;
  float value = 0;   // the feature's value now
  float usual = 0;   // what it usually is (anomaly) or NaN (risk)
  float weight = 0;  // its contribution: z-score (anomaly) or log-odds (risk, SHAP)
};

struct Baselines;

// Why an entity is not judged yet.
enum class Learning : std::uint8_t {
  kDone,        // it is
  kNew,         // too little was seen of it
  kKnown,       // it begins with what its workload is known to do, and has a moment to settle
  kNewVersion,  // what is known is of another revision of its workload
  kReplicas,    // its workload has more or fewer pods on this node than before
  kNewSignals,  // what is known was learnt by an agent with other signals
};
inline constexpr std::array<std::string_view, 6> kLearningNames{
    "", "new", "settling", "new_version", "replicas_changed", "new_signals"};
inline std::string_view to_string(Learning learning) {
  return kLearningNames[static_cast<std::size_t>(learning)];
}

// The shipped model's (score/model/MODEL_CARD.md).
inline constexpr double kRiskHorizonS = 60;

// On the scale of anomaly scores: from so far below its threshold on one may be told, where all lost enough
// to longer waits (assess/assessor.cpp).
inline constexpr double kMostLostPart = 0.44;

struct EntityScore {
  // Anomaly: tail probability turned into 0..1 (higher = more unusual) beside the rolling threshold.
  double anomaly = 0;
  double anomaly_threshold = 1;
  bool anomalous = false;
  Learning learning = Learning::kNew;
  std::vector<Reason> anomaly_reasons;
  bool warming_up() const { return learning != Learning::kDone; }
  // Anomalous, half way to it, or what may be told: most of the time the reasons say nothing.
  bool reasons_matter() const {
    return anomalous || anomaly >= std::min(anomaly_threshold / 2, anomaly_threshold - kMostLostPart);
  }

  // Failure risk: probability of an observed failure (OOM kill, EMFILE, ENOSPC) within kRiskHorizonS; NaN
  // without model.
  double risk = std::numeric_limits<double>::quiet_NaN();
  std::vector<Reason> risk_reasons;
};

// What a person said (`vedette feedback`) of an incident that told an anomaly of this entity.
struct Lesson {
  std::string entity;    // its name
  bool right = false;    // it was trouble; else a false or a benign alarm
  std::string workload;  // baseline_workload() of it; empty: of this entity alone
  bool operator==(const Lesson&) const = default;
};

struct Scores {
  std::vector<EntityScore> entities;  // parallel to FeatureTable::entities
};

class Scorer {
public:
  Scorer() = default;
  Scorer(const Scorer&) = delete;
  Scorer& operator=(const Scorer&) = delete;
  virtual ~Scorer() = default;

  // Takes over what is usual for workloads that it does not know itself.
  virtual void learn(const Baselines& /*baselines*/) {}
  // Before the score() that it is to count for.
  virtual void heed(const std::vector<Lesson>& /*lessons*/) {}
  // `scores.entities` has one element per row of `table`.
  virtual void score(const FeatureTable& table, Scores& scores) = 0;
};

}  // namespace vedette
