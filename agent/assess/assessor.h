// Evidence and scores become conditions with severity, confidence, since-when and hysteresis. A pure function
// of what it was shown so far: no clock, no I/O. Called by the tick thread only.
#pragma once

#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "agent/assess/column_trust.h"
#include "agent/assess/condition.h"
#include "agent/assess/wait_history.h"
#include "agent/collect/log_rules.h"
#include "agent/collect/observation.h"
#include "agent/features/feature_table.h"
#include "agent/score/scorer.h"

namespace vedette {

struct AssessOptions {
  // Quiet time after the last evidence until a condition is over. Five minutes is a kubelet's own default for
  // leaving a pressure condition (--eviction-pressure-transition-period).
  double recovery_s = 300;
  // The same after a prediction or an anomaly: the horizon of the prediction.
  double score_recovery_s = 60;
  // Probability that announces a failure, and how long it must hold: one noisy tick announces nothing.
  double risk_threshold = 0.5;
  double risk_hold_s = 2;
  // So long an anomaly must hold while nobody waits for it: a load that grows is none, and what is usual
  // follows it within 20 s. One that is felt is told with the next tick.
  double anomaly_hold_s = 60;
  // The first tick is not the agent's first: what was lost until then was not lost in it.
  bool continues = false;
  // What a line of the kernel log means. Never null.
  std::shared_ptr<const LogRules> log_rules = LogRules::builtin();
};

class Assessor {
public:
  explicit Assessor(AssessOptions options);

  // All active conditions, worst first. `features` and `scores` are parallel to each other (score/scorer.h);
  // `waits_longer` is the CauseFinder's.
  std::vector<Condition> update(const Observation& observation, const FeatureTable& features,
                                const Scores& scores, std::optional<LongerWait> waits_longer);
  // The node's conditions of these reasons begin anew with the next evidence: an operator has seen what they
  // were made of.
  void set_aside(const std::vector<std::string>& reasons);

private:
  struct Proof;  // one piece of evidence about to be filed

  void file(const Proof& proof, const Instant& now);
  void read_events(const Observation& observation);
  void read_levels(const FeatureTable& features);
  void read_risks(const FeatureTable& features, const Scores& scores);
  void read_anomalies(const FeatureTable& features, const Scores& scores,
                      std::optional<LongerWait> waits_longer);
  // Whether what the predictions announced has come.
  void read_outcomes(const Observation& observation);
  // Seconds for which `holds` has been true of (what, entity) without a break; starts at 0.
  double held_for(std::string_view what, EntityId entity, bool holds, const Instant& now);

  using Key = std::pair<std::string, EntityId>;  // reason, entity

  AssessOptions options_;
  std::map<Key, Condition> active_;
  // What holds, by a name that outlives all (a rule's reason, a literal).
  std::map<std::pair<std::string_view, EntityId>, MonotonicNs> held_since_;
  // Pids, while TaskHung lasts: the kernel reports a task for as long as it hangs, every two minutes.
  std::set<std::uint32_t> hung_;
  ColumnTrust trust_;
};

}  // namespace vedette
