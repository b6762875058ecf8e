#include "agent/pipeline.h"

#include <utility>

namespace vedette {

Pipeline::Pipeline(FeatureOptions features, std::vector<std::unique_ptr<Scorer>> scorers,
                   AssessOptions assess, DecideOptions decide)
    : features_(features),
      scorers_(std::move(scorers)),
      assessor_(std::move(assess)),
      decider_(std::move(decide)) {}

void Pipeline::tick(Snapshot& snapshot) {
  features_.update(snapshot.observation, snapshot.features);

  snapshot.scores.entities.assign(snapshot.features.entities.size(), EntityScore{});
  for (const std::unique_ptr<Scorer>& scorer : scorers_) scorer->score(snapshot.features, snapshot.scores);

  snapshot.conditions = assessor_.update(snapshot.observation, snapshot.features, snapshot.scores);
  drop_set_aside(snapshot.conditions, snapshot.observation.time, snapshot.act);
  causes_.update(snapshot.observation);
  snapshot.incidents = incidents_.update(snapshot.observation.time, snapshot.conditions, causes_);
  snapshot.decision = decider_.update(snapshot.observation.time, snapshot.conditions,
                                      snapshot.observation.entities, snapshot.act);
}

}  // namespace vedette
