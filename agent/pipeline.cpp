#include "agent/pipeline.h"

#include <optional>
#include <utility>

#include "agent/score/builtin_model.h"

namespace vedette {
namespace {

// As adjtimex(2) says; where it says nothing, the clock is believed.
bool is_clock_doubtful(const FeatureTable& features) {
  static const std::optional<std::size_t> column = find_feature("clock_unsynchronized");
  return column && !features.entities.empty() && features.row(0)[*column] >= 1;
}

}  // namespace

Result<std::vector<std::unique_ptr<Scorer>>> make_scorers(std::unique_ptr<Scorer> anomaly,
                                                          const std::string& model, const RiskOptions& risk,
                                                          AssessOptions& assess) {
  std::vector<std::unique_ptr<Scorer>> scorers;
  scorers.push_back(std::move(anomaly));
  if (model == "off") return scorers;
  Result<std::unique_ptr<RiskScorer>> made =
      model == "builtin" ? RiskScorer::from_bytes(builtin_risk_model(), "the built-in model", risk)
                         : RiskScorer::make(model, risk);
  if (!made) return tl::unexpected(made.error());
  // A model knows best from which probability on it is right.
  assess.risk_threshold = (*made)->alarm_threshold().value_or(assess.risk_threshold);
  scorers.push_back(std::move(*made));
  return scorers;
}

Pipeline::Pipeline(FeatureOptions features, std::vector<std::unique_ptr<Scorer>> scorers,
                   AssessOptions assess, DecideOptions decide)
    : features_(features),
      scorers_(std::move(scorers)),
      assessor_(std::move(assess)),
      decider_(std::move(decide)) {}

void Pipeline::tick(Snapshot& snapshot) {
  features_.update(snapshot.observation, snapshot.features);

  snapshot.scores.entities.assign(snapshot.features.entities.size(), EntityScore{});
  for (const std::unique_ptr<Scorer>& scorer : scorers_) {
    if (snapshot.taught) scorer->learn(*snapshot.taught);
    scorer->heed(snapshot.lessons);
    scorer->score(snapshot.features, snapshot.scores);
  }

  causes_.update(snapshot.observation);
  snapshot.conditions =
      assessor_.update(snapshot.observation, snapshot.features, snapshot.scores, causes_.waits_longer());
  assessor_.set_aside(decider_.drop_set_aside(snapshot.conditions, snapshot.observation.time, snapshot.act));
  snapshot.incidents = incidents_.update(snapshot.observation.time, snapshot.conditions, causes_);
  snapshot.decision =
      decider_.update(snapshot.observation.time, snapshot.conditions, snapshot.observation.entities,
                      snapshot.act, is_clock_doubtful(snapshot.features));
}

}  // namespace vedette
