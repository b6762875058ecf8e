// The order of the stages, and nothing else: an observation goes in, a snapshot comes out. Owned and called
// by the tick thread; no clock, no I/O, so a recording gives the same snapshots as the node did.
#pragma once

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "agent/act/decider.h"
#include "agent/assess/assessor.h"
#include "agent/assess/cause_finder.h"
#include "agent/assess/incidents.h"
#include "agent/base/result.h"
#include "agent/features/feature_builder.h"
#include "agent/score/anomaly.h"
#include "agent/score/risk.h"
#include "agent/snapshot.h"

namespace vedette {

// In the order in which a pipeline asks them. `model`: "builtin", "off", or the path of a model file, whose
// own alarm threshold goes before that of `assess`.
Result<std::vector<std::unique_ptr<Scorer>>> make_scorers(std::unique_ptr<Scorer> anomaly,
                                                          const std::string& model, const RiskOptions& risk,
                                                          AssessOptions& assess);

class Pipeline {
public:
  Pipeline(FeatureOptions features, std::vector<std::unique_ptr<Scorer>> scorers, AssessOptions assess,
           DecideOptions decide);

  // Judges `snapshot.observation`, given `snapshot.act` (what the writer knew when the tick began) and
  // `snapshot.taught`, and fills the rest of the snapshot but for `self`.
  void tick(Snapshot& snapshot);

  // From the next tick on.
  void set_policy(std::shared_ptr<const Policy> policy) { decider_.set_policy(std::move(policy)); }

private:
  FeatureBuilder features_;
  std::vector<std::unique_ptr<Scorer>> scorers_;
  Assessor assessor_;
  CauseFinder causes_;
  Incidents incidents_;
  Decider decider_;
};

}  // namespace vedette
