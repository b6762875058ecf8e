// How unusual is each entity now, compared with itself? Deviations from two exponentially weighted baselines,
// and an isolation forest over them, joined into one tail probability. Called by the tick thread once per
// tick; state is its own. Deterministic bit for bit (exact_math.h).
#pragma once

#include <memory>
#include <unordered_map>
#include <vector>

#include "agent/score/isolation_forest.h"
#include "agent/score/scorer.h"

namespace vedette {

struct AnomalyOptions {
  // Share of an entity's time that may be flagged although nothing is wrong: 1e-4 is one flag of 9 s a day
  // (a rate's window makes most flags about that long). assess/ asks for some seconds in a row on top.
  double false_alarm_budget = 1e-4;
  // No flag in an entity's first minutes: its baselines and its score distribution are made of them.
  double warm_up_s = 300;
  // Slow baseline: what the entity is like these minutes; a leak of a minute or ten stands out against it.
  double slow_half_life_s = 900;
  // Fast baseline: what it was just now; a jump stands out although the slow one saw much variance.
  double fast_half_life_s = 60;
  // A column is judged only after it was seen for so long.
  double min_history_s = 60;
  // The entity's own score distribution forgets with this half-life; alarms that hold weigh a tenth.
  double distribution_half_life_s = 7200;
  // Whatever the statistics say, a mean of the three largest deviations below this is never flagged.
  double min_deviation = 3;
  ForestOptions forest;
};

class AnomalyScorer : public Scorer {
public:
  explicit AnomalyScorer(AnomalyOptions options);
  ~AnomalyScorer() override;

  // Fills the anomaly part of each score: `anomaly` = -log10(tail probability) / 8, so .25 is 1 in 100 and 1
  // is 1 in 10^8 of the entity's own recent time; `anomaly_threshold` is the budget on that scale (the level
  // it stands for rolls with the entity's scores), and 1 in warm-up. Reasons: the three largest deviations,
  // with the baseline as `usual` and the z-score as `weight`; columns without history or missing now are
  // skipped. Etas are not judged: they jump by nature and say nothing beyond their gauge and its slope.
  void score(const FeatureTable& table, Scores& scores) override;

  std::size_t entities() const { return states_.size(); }
  static std::size_t bytes_per_entity();
  // What does not grow with the number of entities.
  std::size_t shared_bytes() const { return forest_.bytes(); }

private:
  struct State;
  struct Column;
  struct Deviation;

  Deviation deviate(std::span<const float> row, double elapsed_s, State& state);
  void grow_forest(const Deviation& deviation, double elapsed_s);
  void judge(const Deviation& deviation, float isolation, double elapsed_s, State& state,
             EntityScore& out) const;
  void explain(std::span<const float> row, const Deviation& deviation, const State& state,
               EntityScore& out) const;

  AnomalyOptions options_;
  std::vector<Column> columns_;
  IsolationForest forest_;
  double since_remembered_s_ = 0;
  double since_grown_s_ = 0;
  std::size_t next_contributor_ = 0;
  std::unordered_map<EntityId, std::unique_ptr<State>> states_;
  MonotonicNs last_ns_ = 0;
  std::uint64_t tick_ = 0;
};

}  // namespace vedette
