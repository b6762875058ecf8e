#include "agent/replay.h"

#include <algorithm>

namespace vedette {
namespace {

// What the agent's own baselines said: they are made of hours that a recording need not have.
class RecordedAnomaly final : public Scorer {
public:
  explicit RecordedAnomaly(const ReplaySource& source) : source_(source) {}

  void score(const FeatureTable& table, Scores& scores) override {
    const RecordedVerdict& verdict = source_.verdict();
    for (std::size_t row = 0; row < std::min(table.entities.size(), verdict.entities.size()); ++row) {
      const RecordedVerdict::EntityVerdict& then = verdict.entities[row];
      EntityScore& score = scores.entities[row];
      score.anomaly = then.anomaly;
      score.anomaly_threshold = then.anomaly_threshold;
      score.anomalous = then.anomalous;
      score.learning = then.learning;
      score.anomaly_reasons = then.anomaly_reasons;
    }
  }

private:
  const ReplaySource& source_;
};

}  // namespace

Result<std::unique_ptr<Replay>> Replay::open(ReplayOptions options) {
  std::unique_ptr<Replay> replay(new Replay(std::move(options)));
  auto source = ReplaySource::open(replay->options_.path);
  if (!source) return tl::unexpected(source.error());
  replay->source_ = std::move(*source);
  return replay;
}

Status Replay::start(ReplaySource::Start start, const Instant& now) {
  RecordedSettings settings = source_->header().settings.value_or(RecordedSettings{});
  if (settings.model.empty()) settings.model = "builtin";
  const bool other_model = !options_.model.empty() && options_.model != settings.model;
  const std::string model = options_.model.empty() ? settings.model : options_.model;

  continued_ = start == ReplaySource::Start::kContinued;
  settings.assess.continues = continued_;
  std::unique_ptr<Scorer> anomaly;
  if (continued_) {
    anomaly = std::make_unique<RecordedAnomaly>(*source_);
  } else {
    AnomalyOptions options;
    options.false_alarms_per_week = settings.false_alarms_per_week;
    anomaly = std::make_unique<AnomalyScorer>(options);
  }
  // A threshold that was recorded belongs to the model of then.
  const double threshold = settings.assess.risk_threshold;
  auto scorers = make_scorers(std::move(anomaly), model, RiskOptions{}, settings.assess);
  if (!scorers) {
    return fail(scorers.error().text +
                (options_.model.empty() ? ": it is the model of then; --model names another" : ""));
  }
  if (source_->header().settings && !other_model) settings.assess.risk_threshold = threshold;

  DecideOptions decide;
  decide.mode = settings.mode;
  decide.max_taints_per_hour = settings.max_taints_per_hour;
  decide.recovery_s = settings.assess.recovery_s;
  if (options_.policy) decide.policy = options_.policy;
  pipeline_ = std::make_unique<Pipeline>(FeatureOptions{}, std::move(*scorers), std::move(settings.assess),
                                         std::move(decide));
  took_scores_ = took_scores_ || continued_;
  settled_ns_ = now.monotonic_ns + static_cast<MonotonicNs>(kSettleS * kNsPerSecond);
  unknown_.clear();
  decision_known_ = false;
  return {};
}

Result<bool> Replay::next(ReplayedTick& tick) {
  const Result<Source::Wait> wait = source_->wait();
  if (!wait) return tl::unexpected(wait.error());
  if (*wait == Source::Wait::kEnd) return false;
  Snapshot& snapshot = tick.snapshot;
  if (Status ok = source_->collect(snapshot.observation); !ok) return tl::unexpected(ok.error());
  tick.start = source_->start();
  if (tick.start != ReplaySource::Start::kNone) {
    if (Status ok = start(tick.start, snapshot.observation.time); !ok) return tl::unexpected(ok.error());
  }
  snapshot.act = source_->act();
  snapshot.taught = source_->taught();
  snapshot.lessons = source_->lessons();
  if (!options_.policy && source_->policy()) pipeline_->set_policy(source_->policy());
  pipeline_->tick(snapshot);
  tick.then = source_->verdict();
  tick.now = verdict_of(snapshot);
  compare(tick);
  return true;
}

void Replay::compare(ReplayedTick& tick) {
  RecordedVerdict& then = tick.comparable_then;
  RecordedVerdict& now = tick.comparable_now;
  then = tick.then;
  now = tick.now;
  if (!continued_) return;
  const bool settled = tick.snapshot.observation.time.monotonic_ns >= settled_ns_;
  if (!settled) {
    then.entities.clear();
    now.entities.clear();
  }
  const auto key_of = [](const RecordedVerdict::ConditionVerdict& condition) {
    return Key(condition.reason, condition.entity);
  };
  // What was there before stays unknown until it is over.
  std::set<Key> unknown;
  for (const RecordedVerdict* verdict : {&then, &now}) {
    for (const RecordedVerdict::ConditionVerdict& condition : verdict->conditions) {
      if (condition.since_ns < settled_ns_ || unknown_.contains(key_of(condition)))
        unknown.insert(key_of(condition));
    }
  }
  unknown_ = std::move(unknown);
  const auto is_unknown = [&](const RecordedVerdict::ConditionVerdict& condition) {
    return unknown_.contains(key_of(condition));
  };
  std::erase_if(then.conditions, is_unknown);
  std::erase_if(now.conditions, is_unknown);
  decision_known_ = decision_known_ || (settled && !then.taint && !now.taint);
  for (RecordedVerdict* verdict : {&then, &now}) {
    verdict->generation = 0;
    // Without a taint it is that of the last one, which may have been before.
    if (!verdict->taint) verdict->effect.clear();
    if (!unknown_.empty()) verdict->held_back.clear();
    if (decision_known_) continue;
    verdict->taint = false;
    verdict->reason.clear();
    verdict->effect.clear();
    verdict->held_back.clear();
  }
}

}  // namespace vedette
