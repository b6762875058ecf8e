// Conditions become what the agent wants of its node object. A pure function of what it was shown so far: the
// safety rules live here, the API calls in node_writer.h. Called by the tick thread only.
#pragma once

#include <deque>
#include <string>
#include <vector>

#include "agent/act/decision.h"
#include "agent/assess/condition.h"

namespace vedette {

struct DecideOptions {
  Mode mode = Mode::kObserve;
  std::string effect = "NoSchedule";  // moves nothing that runs; NoExecute is the operator's choice
  // Below it a verdict may not taint. Telemetry loss brings every score-based verdict below it.
  double min_confidence = 0.8;
  // New taints an hour. A node that needs more is flapping: then a human should look.
  unsigned max_taints_per_hour = 4;
  // How long a taint found at start is held without evidence: the process that set it knew why, and the
  // evidence may come again. Same as AssessOptions::recovery_s.
  double adopted_hold_s = 300;
};

class Decider {
public:
  explicit Decider(DecideOptions options);

  // `act` is what the writer knew when the tick began. Generation 0 until the node's present state is known
  // (or, in observe mode, until the first tick).
  Decision update(const Instant& now, const std::vector<Condition>& conditions, const ActState& act);

private:
  DecideOptions options_;
  Decision decision_;
  std::deque<MonotonicNs> taints_;    // times of new taints within the last hour
  MonotonicNs adopted_until_ns_ = 0;  // 0: nothing adopted
  bool seen_state_ = false;
};

}  // namespace vedette
