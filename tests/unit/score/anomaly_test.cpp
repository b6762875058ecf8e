#include "agent/score/anomaly.h"

#include <cmath>
#include <cstring>
#include <limits>

#include <doctest/doctest.h>

#include "agent/score/exact_math.h"

namespace {

using namespace vedette;

constexpr double kTick = 0.5;
// So long, and a spike in one of many noisy signals is rarer than any budget: the tail of noise is known.
constexpr double kKnowsS = 3600;

// Feature tables made by hand: noise of a given relative size around one level per column.
struct Feed {
  FeatureTable table;
  Scores scores;
  RandomBits random{17};
  std::vector<float> level;
  std::vector<float> noise;

  explicit Feed(std::size_t entities) {
    table.time.monotonic_ns = 5'000'000'000;
    for (std::size_t i = 0; i < entities; ++i) {
      Entity entity;
      entity.id = static_cast<EntityId>(i);
      entity.name = std::to_string(i);
      table.entities.push_back(std::make_shared<const Entity>(entity));
    }
    const std::size_t columns = feature_columns().size();
    table.values.resize(entities * columns);
    scores.entities.resize(entities);
    for (std::size_t c = 0; c < columns; ++c) {
      level.push_back(feature_columns()[c].unit == "ratio" ? 0.3F : static_cast<float>(c % 5) * 20);
      noise.push_back(c % 4 == 3 ? 0.F : 0.3F);
    }
  }
  // Sum of three uniforms: bell-shaped, mean 0, variance 1/4.
  float bell() { return random.uniform() + random.uniform() + random.uniform() - 1.5F; }
  void fill() {
    const std::size_t columns = level.size();
    for (std::size_t i = 0; i < table.values.size(); ++i) {
      table.values[i] = level[i % columns] * (1 + noise[i % columns] * bell());
    }
  }
  float& at(std::size_t row, std::string_view name) { return table.row(row)[*find_feature(name)]; }
  void judge(AnomalyScorer& scorer) {
    table.time.monotonic_ns += static_cast<MonotonicNs>(kTick * 1e9);
    scorer.score(table, scores);
  }
  void run(AnomalyScorer& scorer, double seconds) {
    for (int tick = 0; tick < seconds / kTick; ++tick) {
      fill();
      judge(scorer);
    }
  }
};

}  // namespace

TEST_CASE("quiet noise is flagged no more often than twice the budget") {
  AnomalyOptions options;
  constexpr double kShare = 2e-3;
  constexpr std::size_t kEntities = 10;
  options.false_alarms_per_week = kShare * kEntities * 7 * 86'400 / options.flag_s;
  options.handicap = 0;
  options.min_deviation = 0;  // the statistics alone must hold the budget
  AnomalyScorer scorer(options);
  Feed feed(kEntities);
  feed.run(scorer, 400);
  std::size_t flagged = 0;
  std::size_t judged = 0;
  for (int tick = 0; tick < 3000 / kTick; ++tick) {
    feed.fill();
    feed.judge(scorer);
    for (const EntityScore& score : feed.scores.entities) {
      CHECK_FALSE(score.warming_up());
      flagged += score.anomalous ? 1 : 0;
      ++judged;
    }
  }
  CHECK(static_cast<double>(flagged) <= 2 * kShare * static_cast<double>(judged));
}

TEST_CASE(
    "the false alarms allowed are shared by all entities, and whoever had one must be rarer next time") {
  AnomalyScorer scorer(AnomalyOptions{});
  Feed one(1);
  one.run(scorer, kKnowsS);
  // 14 of 4 s in a week.
  CHECK(one.scores.entities[0].anomaly_threshold * 8 ==
        doctest::Approx(-std::log10(56.0 / 604'800)).epsilon(1e-5));
  const auto handicapped = [&](AnomalyScorer& of, Feed& feed) {
    const double before = feed.scores.entities[0].anomaly_threshold;
    feed.fill();
    feed.at(0, "errors_network.rate_2s") = 1e4F;
    feed.judge(of);
    CHECK(feed.scores.entities[0].anomalous);
    feed.run(of, 50);  // it may not be over yet
    CHECK(feed.scores.entities[0].anomaly_threshold == doctest::Approx(before).epsilon(1e-6));
    feed.run(of, 15);
    return 8 * (feed.scores.entities[0].anomaly_threshold - before);
  };
  CHECK(handicapped(scorer, one) == doctest::Approx(0.5).epsilon(0.01));
  CHECK(scorer.baseline("node")->handicap == doctest::Approx(0.5).epsilon(0.01));

  AnomalyOptions options;
  options.handicap = 3;
  options.handicap_half_life_s = 100;
  AnomalyScorer bounded(options);
  Feed another(1);
  another.run(bounded, kKnowsS);
  CHECK(handicapped(bounded, another) == doctest::Approx(2).epsilon(0.1));
  another.run(bounded, 100);
  CHECK(bounded.baseline("node")->handicap == doctest::Approx(1).epsilon(0.1));

  AnomalyScorer of_ten(AnomalyOptions{});
  Feed ten(10);
  ten.run(of_ten, 600);
  CHECK(ten.scores.entities[0].anomaly_threshold * 8 ==
        doctest::Approx(-std::log10(5.6 / 604'800)).epsilon(1e-5));
}

TEST_CASE("whose alarm was false or benign must be rarer to be flagged again, until it was right once") {
  AnomalyScorer scorer(AnomalyOptions{});
  Feed feed(2);
  feed.run(scorer, 600);
  const double before = feed.scores.entities[0].anomaly_threshold;
  const auto decades_after = [&](const std::vector<Lesson>& lessons) {
    scorer.heed(lessons);
    feed.run(scorer, kTick);
    CHECK(feed.scores.entities[0].anomaly_threshold == before);
    return 8 * (feed.scores.entities[1].anomaly_threshold - before);
  };
  CHECK(decades_after({{"1", false, ""}}) == doctest::Approx(1).epsilon(0.01));
  CHECK(decades_after({{"1", false, ""}, {"nobody", false, ""}}) == doctest::Approx(2).epsilon(0.01));
  CHECK(decades_after({{"1", false, ""}}) == doctest::Approx(2).epsilon(0.01));  // at most
  CHECK(decades_after({{"1", true, ""}}) == 0);
}

TEST_CASE("what was said of one pod holds for its workload, also when none of it is left") {
  AnomalyScorer scorer(AnomalyOptions{});
  Feed feed(3);
  for (const EntityId id : {1, 2}) {
    Entity pod = *feed.table.entities[id];
    pod.kind = EntityKind::kPod;
    pod.namespace_name = "shop";
    pod.workload = "Deployment/api";
    feed.table.entities[id] = std::make_shared<const Entity>(pod);
  }
  feed.run(scorer, kKnowsS);
  const std::string workload = "pod/shop/Deployment/api";
  const auto decades = [&](std::size_t row) {
    return 8 * (feed.scores.entities[row].anomaly_threshold - feed.scores.entities[0].anomaly_threshold);
  };
  const auto hear = [&](bool right) {
    scorer.heed({{"1", right, workload}});
    feed.run(scorer, kTick);
  };
  hear(false);
  CHECK(decades(1) == doctest::Approx(1).epsilon(0.01));
  CHECK(decades(2) == doctest::Approx(1).epsilon(0.01));
  hear(true);
  CHECK(decades(1) == 0);
  CHECK(decades(2) == 0);
  feed.table.entities.resize(1);
  feed.scores.entities.resize(1);
  feed.table.values.resize(feed.level.size());
  const auto left = [&] { return scorer.baseline(workload).value().handicap; };
  hear(false);  // in the tick in which they go
  CHECK(left() == doctest::Approx(1).epsilon(0.01));
  hear(false);
  CHECK(left() == doctest::Approx(2).epsilon(0.01));
  CHECK(scorer.baseline("node").value().handicap == 0);
  hear(true);
  CHECK(left() == 0);
}

TEST_CASE("a step in one column is flagged within three ticks and named first, on that entity alone") {
  for (const std::string_view name :
       {"errors_network.rate_2s", "runqueue_latency.p99_2s", "memory_use", "tcp_resets_sent.rate_2s"}) {
    CAPTURE(name);
    AnomalyScorer scorer(AnomalyOptions{});
    Feed feed(4);
    feed.run(scorer, kKnowsS);
    bool found = false;
    for (int tick = 0; tick < 3; ++tick) {
      feed.fill();
      const float usual = feed.level[*find_feature(name)];
      feed.at(2, name) = name == "memory_use" ? 0.95F : usual * 12 + 50;
      feed.judge(scorer);
      found |= feed.scores.entities[2].anomalous;
      REQUIRE(feed.scores.entities[2].anomaly_reasons.size() == 3);
      const Reason& first = feed.scores.entities[2].anomaly_reasons[0];
      CHECK(feature_columns()[first.column].name == name);
      CHECK(first.value == feed.at(2, name));
      CHECK(first.weight > 3);
      CHECK(first.usual == doctest::Approx(usual).epsilon(0.35));
      CHECK_FALSE(feed.scores.entities[1].anomalous);
    }
    CHECK(found);
    CHECK(feed.scores.entities[2].anomaly > feed.scores.entities[2].anomaly_threshold);
  }
}

TEST_CASE("who is flagged stays so until it is less rare by a decade") {
  constexpr std::size_t kEntities = 5;
  AnomalyOptions options;
  options.false_alarms_per_week = 1e-2 * kEntities * 7 * 86'400 / options.flag_s;
  options.handicap = 0;
  options.min_deviation = 0;
  AnomalyScorer scorer(options);
  Feed feed(kEntities);
  feed.run(scorer, 400);
  std::vector<bool> was(kEntities);
  int kept = 0;
  int left = 0;
  for (int tick = 0; tick < 2000 / kTick; ++tick) {
    feed.fill();
    feed.judge(scorer);
    for (std::size_t i = 0; i < kEntities; ++i) {
      const EntityScore& score = feed.scores.entities[i];
      const double over = 8 * (score.anomaly - score.anomaly_threshold);
      if (std::abs(over) < 1e-4 || std::abs(over + options.keep) < 1e-4) continue;  // rounded
      CHECK(score.anomalous == (over > (was[i] ? -options.keep : 0)));
      kept += score.anomalous && over <= 0 ? 1 : 0;
      left += was[i] && !score.anomalous ? 1 : 0;
      was[i] = score.anomalous;
    }
  }
  CHECK(kept > 3);
  CHECK(left > 3);
}

TEST_CASE("nothing is flagged in an entity's first minutes, and its score has no threshold then") {
  AnomalyScorer scorer(AnomalyOptions{});
  Feed feed(2);
  for (int tick = 0; tick < 290 / kTick; ++tick) {
    feed.fill();
    if (tick > 200 / kTick) feed.at(1, "errors_io.rate_2s") = 1e6F;
    feed.judge(scorer);
    CHECK(feed.scores.entities[1].warming_up());
    CHECK_FALSE(feed.scores.entities[1].anomalous);
    CHECK(feed.scores.entities[1].anomaly_threshold == 1);
  }
}

TEST_CASE("missing and infinite values never poison a baseline, a score or a reason") {
  AnomalyScorer scorer(AnomalyOptions{});
  Feed feed(3);
  const float nan = std::numeric_limits<float>::quiet_NaN();
  const float infinity = std::numeric_limits<float>::infinity();
  for (int tick = 0; tick < kKnowsS / kTick; ++tick) {
    feed.fill();
    for (float& value : feed.table.row(0)) value = nan;
    for (float& value : feed.table.row(1)) {
      const float draw = feed.random.uniform();
      if (draw < 0.3F) value = draw < 0.02F ? infinity : draw < 0.04F ? -infinity : nan;
    }
    if (tick % 100 == 50) feed.at(1, "forks.rate_2s") = std::numeric_limits<float>::max();
    feed.judge(scorer);
    for (const EntityScore& score : feed.scores.entities) {
      CHECK(score.anomaly >= 0);
      CHECK(score.anomaly <= 1);
      for (const Reason& reason : score.anomaly_reasons) {
        CHECK(std::isfinite(reason.value));
        CHECK(std::isfinite(reason.usual));
        CHECK(std::isfinite(reason.weight));
      }
    }
    CHECK(feed.scores.entities[0].anomaly_reasons.empty());
    CHECK_FALSE(feed.scores.entities[0].anomalous);
  }
  // And the entity that missed a third of everything is still watched.
  for (int tick = 0; tick < 3; ++tick) {
    feed.fill();
    feed.at(1, "errors_network.rate_2s") = 1e4F;
    feed.judge(scorer);
  }
  CHECK(feed.scores.entities[1].anomalous);
}

TEST_CASE("signals that never move give neither a division by zero nor an alarm, and still show a step") {
  AnomalyScorer scorer(AnomalyOptions{});
  Feed feed(2);
  for (float& noise : feed.noise) noise = 0;
  for (int tick = 0; tick < 1500; ++tick) {
    feed.fill();
    feed.judge(scorer);
    CHECK_FALSE(feed.scores.entities[0].anomalous);
    CHECK(std::isfinite(feed.scores.entities[0].anomaly));
  }
  CHECK(feed.scores.entities[0].anomaly_reasons.empty());
  feed.fill();
  feed.at(0, "errors_io.rate_2s") += 500;
  feed.judge(scorer);
  CHECK(feed.scores.entities[0].anomalous);
  REQUIRE(feed.scores.entities[0].anomaly_reasons.size() == 1);
  CHECK(feature_columns()[feed.scores.entities[0].anomaly_reasons[0].column].name == "errors_io.rate_2s");
}

TEST_CASE("a new level is unusual at first and ordinary after some time") {
  AnomalyScorer scorer(AnomalyOptions{});
  Feed feed(2);
  feed.run(scorer, 600);
  for (float& level : feed.level) level *= 3;
  feed.run(scorer, kTick);
  CHECK(feed.scores.entities[0].anomalous);
  feed.run(scorer, 5400);
  CHECK_FALSE(feed.scores.entities[0].anomalous);
}

TEST_CASE("extra ticks of urgent events, even two at one moment, change no baseline by much") {
  AnomalyScorer scorer(AnomalyOptions{});
  Feed feed(2);
  feed.run(scorer, 600);
  feed.fill();
  for (int i = 0; i < 50; ++i) scorer.score(feed.table, feed.scores);
  CHECK_FALSE(feed.scores.entities[0].anomalous);
  feed.run(scorer, 20);
  CHECK_FALSE(feed.scores.entities[0].anomalous);
}

TEST_CASE("state follows the entities and stays below 32 KiB for each") {
  AnomalyScorer scorer(AnomalyOptions{});
  Feed feed(5);
  feed.run(scorer, 5);
  CHECK(scorer.entities() == 5);
  feed.table.entities.resize(2);
  feed.table.values.resize(2 * feature_columns().size());
  feed.scores.entities.resize(2);
  feed.run(scorer, kTick);
  CHECK(scorer.entities() == 2);
  CHECK(AnomalyScorer::bytes_per_entity() < 32 * 1024);
}

namespace {

// Another pod of a Deployment, in the row after the last.
void add_pod(Feed& feed, EntityId id, const std::string& workload, const std::string& revision) {
  Entity entity;
  entity.id = id;
  entity.kind = EntityKind::kPod;
  entity.namespace_name = "shop";
  entity.pod_name = workload + "-" + std::to_string(id);
  entity.name = "pod/shop/" + entity.pod_name;
  entity.workload = "Deployment/" + workload;
  entity.revision = revision;
  feed.table.entities.push_back(std::make_shared<const Entity>(entity));
  feed.table.values.resize(feed.table.entities.size() * feature_columns().size());
  feed.scores.entities.resize(feed.table.entities.size());
}

Baselines kept_of(const AnomalyScorer& scorer) {
  Baselines kept;
  for (const std::string& workload : scorer.workloads()) kept.list.push_back(*scorer.baseline(workload));
  return kept;
}

void remove_row(Feed& feed, std::size_t row) {
  feed.table.entities.erase(feed.table.entities.begin() + static_cast<std::ptrdiff_t>(row));
  feed.table.values.resize(feed.table.entities.size() * feature_columns().size());
  feed.scores.entities.resize(feed.table.entities.size());
}

}  // namespace

TEST_CASE("who is started again settles for two minutes, and is judged by what it knew") {
  AnomalyScorer scorer(AnomalyOptions{});
  Feed feed(2);
  feed.run(scorer, kKnowsS);
  CHECK(feed.scores.entities[1].learning == Learning::kDone);
  Entity again = *feed.table.entities[1];
  again.restarts = 1;
  feed.table.entities[1] = std::make_shared<const Entity>(again);
  for (int tick = 0; tick < 100 / kTick; ++tick) {
    feed.fill();
    if (tick < 5) feed.at(1, "errors_network.rate_2s") = 1e4F;
    feed.judge(scorer);
    CHECK(feed.scores.entities[1].learning == Learning::kKnown);
    CHECK_FALSE(feed.scores.entities[1].anomalous);
    CHECK(feed.scores.entities[0].learning == Learning::kDone);
  }
  feed.run(scorer, 30);
  CHECK(feed.scores.entities[1].learning == Learning::kDone);
  for (int tick = 0; tick < 3; ++tick) {
    feed.fill();
    feed.at(1, "errors_network.rate_2s") = 1e4F;
    feed.judge(scorer);
  }
  CHECK(feed.scores.entities[1].anomalous);
}

TEST_CASE("a pod in another's place is judged after two minutes, by what its siblings know") {
  AnomalyScorer scorer(AnomalyOptions{});
  Feed feed(1);
  add_pod(feed, 6, "api", "v1");
  add_pod(feed, 7, "api", "v1");
  feed.run(scorer, kKnowsS);
  remove_row(feed, 2);
  add_pod(feed, 8, "api", "v1");
  add_pod(feed, 9, "other", "v1");
  feed.run(scorer, 100);
  CHECK(feed.scores.entities[2].learning == Learning::kKnown);
  CHECK(feed.scores.entities[3].learning == Learning::kNew);
  feed.run(scorer, 30);
  CHECK(feed.scores.entities[2].learning == Learning::kDone);
  CHECK(feed.scores.entities[3].learning == Learning::kNew);
  CHECK_FALSE(feed.scores.entities[2].anomalous);
  feed.fill();
  feed.at(2, "errors_network.rate_2s") = 1e4F;
  feed.judge(scorer);
  CHECK(feed.scores.entities[2].anomalous);
}

TEST_CASE("what a workload is known to do outlives its last pod, within a bound") {
  AnomalyOptions options;
  options.max_absent = 2;
  AnomalyScorer scorer(options);
  Feed feed(1);
  for (EntityId id = 1; id <= 3; ++id) add_pod(feed, id, "job" + std::to_string(id), "");
  feed.run(scorer, 300);
  CHECK(scorer.workloads().size() == 4);
  while (feed.table.entities.size() > 1) {
    remove_row(feed, 1);  // job1 first
    feed.run(scorer, 10);
  }
  CHECK(scorer.workloads() ==
        std::vector<std::string>{"node", "pod/shop/Deployment/job3", "pod/shop/Deployment/job2"});
  add_pod(feed, 11, "job1", "");
  add_pod(feed, 12, "job2", "");
  feed.run(scorer, 10);
  CHECK(feed.scores.entities[1].learning == Learning::kNew);
  CHECK(feed.scores.entities[2].learning == Learning::kKnown);
}

TEST_CASE("another version learns anew within minutes and says so, instead of alarming") {
  // For how long an anomaly lasts at a stretch: assess/ tells only of those that hold for 1 s.
  const auto longest_s = [](Feed& feed, AnomalyScorer& scorer, double seconds) {
    double longest = 0;
    double lasts = 0;
    for (int tick = 0; tick < seconds / kTick; ++tick) {
      feed.fill();
      for (float& value : feed.table.row(1)) value *= 3;
      feed.judge(scorer);
      lasts = feed.scores.entities[1].anomalous ? lasts + kTick : 0;
      longest = std::max(longest, lasts);
    }
    return longest;
  };
  AnomalyScorer scorer(AnomalyOptions{});
  Feed feed(1);
  add_pod(feed, 1, "api", "v1");
  feed.run(scorer, 1200);
  remove_row(feed, 1);
  add_pod(feed, 2, "api", "v2");
  CHECK(longest_s(feed, scorer, 290) == 0);
  CHECK(feed.scores.entities[1].learning == Learning::kNewVersion);
  CHECK(longest_s(feed, scorer, 300) < 1);
  CHECK(feed.scores.entities[1].learning == Learning::kDone);
  // A fault of the new version is one again.
  feed.fill();
  feed.at(1, "errors_network.rate_2s") = 1e4F;
  feed.judge(scorer);
  CHECK(feed.scores.entities[1].anomalous);
  // The same step without another version alarms.
  Feed same(1);
  AnomalyScorer other(AnomalyOptions{});
  add_pod(same, 1, "api", "v1");
  same.run(other, 1200);
  CHECK(longest_s(same, other, 30) > 1);
}

TEST_CASE("with more or fewer pods of it on the node a workload learns anew, with one replaced it does not") {
  AnomalyScorer scorer(AnomalyOptions{});
  Feed feed(1);
  add_pod(feed, 1, "api", "v1");
  add_pod(feed, 2, "api", "v1");
  add_pod(feed, 3, "db", "v1");
  feed.run(scorer, 600);
  remove_row(feed, 2);
  feed.run(scorer, 30);
  add_pod(feed, 4, "api", "v1");
  feed.run(scorer, 130);
  CHECK(feed.scores.entities[1].learning == Learning::kDone);
  CHECK(feed.scores.entities[3].learning == Learning::kDone);
  // A third one: the two that live, and the new one, learn what their new part of the work is.
  add_pod(feed, 5, "api", "v1");
  feed.run(scorer, 70);
  for (const std::size_t row : {1, 3, 4}) CHECK(feed.scores.entities[row].learning == Learning::kReplicas);
  CHECK(feed.scores.entities[2].learning == Learning::kDone);
  // And again while they do.
  feed.run(scorer, 200);
  remove_row(feed, 4);
  feed.run(scorer, 290);
  CHECK(feed.scores.entities[1].learning == Learning::kReplicas);
  feed.run(scorer, 100);
  CHECK(feed.scores.entities[1].learning == Learning::kDone);
}

TEST_CASE("a baseline that was saved while it relearnt is known again after two restarts") {
  AnomalyScorer first(AnomalyOptions{});
  Feed feed(1);
  add_pod(feed, 1, "api", "v1");
  feed.run(first, 600);
  add_pod(feed, 2, "api", "v1");
  feed.run(first, 70);
  CHECK(feed.scores.entities[1].learning == Learning::kReplicas);
  const auto restarted = [](const AnomalyScorer& before) {
    Baselines kept = kept_of(before);
    for (Baseline& baseline : kept.list) baseline.detector = *Detector::from(baseline.detector.memory());
    auto next = std::make_unique<AnomalyScorer>(AnomalyOptions{});
    next->learn(kept);
    return next;
  };
  const auto second = restarted(first);
  feed.run(*second, 5);
  const auto third = restarted(*second);
  feed.run(*third, 5);
  CHECK(feed.scores.entities[1].learning == Learning::kKnown);
}

TEST_CASE(
    "what was learnt goes on after a restart as it was, and where it came from another node without that "
    "node") {
  AnomalyScorer first(AnomalyOptions{});
  Feed feed(1);
  add_pod(feed, 1, "api", "v1");
  feed.run(first, kKnowsS);
  Baselines kept = kept_of(first);
  REQUIRE(kept.list.size() == 2);
  for (const bool of_other_node : {false, true}) {
    CAPTURE(of_other_node);
    kept.of_other_node = of_other_node;
    AnomalyScorer second(AnomalyOptions{});
    second.learn(kept);
    feed.run(second, 130);
    CHECK(feed.scores.entities[0].learning == (of_other_node ? Learning::kNew : Learning::kDone));
    CHECK(feed.scores.entities[1].learning == Learning::kDone);
    CHECK_FALSE(feed.scores.entities[1].anomalous);
    CHECK(second.baseline("pod/shop/Deployment/api")->detector.age_rows() > 2 * kKnowsS);
    feed.fill();
    feed.at(1, "errors_network.rate_2s") = 1e4F;
    feed.judge(second);
    CHECK(feed.scores.entities[1].anomalous);
  }
}

TEST_CASE("who is named late is given what its workload knew, unless it knows more itself") {
  AnomalyScorer first(AnomalyOptions{});
  Feed feed(1);
  add_pod(feed, 1, "api", "v1");
  feed.run(first, kKnowsS);
  Baselines kept = kept_of(first);
  for (Baseline& baseline : kept.list) baseline.handicap = 1;

  const EntityPtr named = feed.table.entities[1];
  Entity nameless = *named;
  nameless.workload.clear();
  for (const bool knows_more : {false, true}) {
    CAPTURE(knows_more);
    AnomalyScorer second(AnomalyOptions{});
    second.learn(kept);
    feed.table.entities[1] = std::make_shared<const Entity>(nameless);
    feed.run(second, knows_more ? 2 * kKnowsS : 400);  // the API server is away
    CHECK(feed.scores.entities[1].learning == Learning::kDone);
    feed.table.entities[1] = named;
    feed.run(second, 10);
    CHECK(feed.scores.entities[1].learning == (knows_more ? Learning::kDone : Learning::kKnown));
    const std::optional<Baseline> known = second.baseline("pod/shop/Deployment/api");
    REQUIRE(known);
    CHECK(known->detector.age_rows() > (knows_more ? 4 : 2) * kKnowsS);
    CHECK(known->handicap > 0.9);
  }
}

TEST_CASE("of two baselines of a workload the one that has seen more is kept, whichever comes first") {
  const std::string api = "pod/shop/Deployment/api";
  const auto learnt_in = [&](double seconds) {
    AnomalyScorer scorer(AnomalyOptions{});
    Feed feed(1);
    add_pod(feed, 1, "api", "v1");
    feed.run(scorer, seconds);
    const auto baseline = scorer.baseline(api);
    REQUIRE(baseline);
    Baselines all;
    all.list.push_back(*baseline);
    return all;
  };
  const Baselines poor = learnt_in(300);
  const Baselines rich = learnt_in(600);
  for (const bool rich_first : {true, false}) {
    AnomalyScorer scorer(AnomalyOptions{});
    scorer.learn(rich_first ? rich : poor);
    scorer.learn(rich_first ? poor : rich);
    CHECK(scorer.baseline(api)->detector.age_rows() == rich.list[0].detector.age_rows());
  }
}

TEST_CASE("what another node knows never displaces what this one learnt, however much it has seen") {
  AnomalyOptions options;
  options.max_absent = 3;
  const auto learnt_in = [&](double seconds) {
    AnomalyScorer scorer(options);
    Feed feed(1);
    add_pod(feed, 1, "api", "v1");
    feed.run(scorer, seconds);
    return *scorer.baseline("pod/shop/Deployment/api");
  };
  const Baseline young = learnt_in(300);
  const Baseline old = learnt_in(600);
  Baselines own;
  Baselines foreign;
  foreign.of_other_node = true;
  const auto of = [](std::string workload, Baseline baseline) {
    baseline.workload = std::move(workload);
    return baseline;
  };
  for (const std::string name : {"a", "b", "c"}) own.list.push_back(of(name, young));
  for (const std::string name : {"c", "d", "node"}) foreign.list.push_back(of(name, old));
  AnomalyScorer scorer(options);
  scorer.learn(own);
  scorer.learn(foreign);
  CHECK(scorer.workloads() == std::vector<std::string>{"a", "b", "c"});
  CHECK(scorer.baseline("c")->detector.age_rows() == young.detector.age_rows());
  // Nor when it came first.
  AnomalyScorer other(options);
  other.learn(foreign);
  CHECK(other.baseline("c")->of_other_node);
  other.learn(own);
  CHECK(other.baseline("c")->detector.age_rows() == young.detector.age_rows());
  CHECK_FALSE(other.baseline("c")->of_other_node);
}

TEST_CASE("a version that left before it was learnt leaves what was known before, and is learnt again") {
  AnomalyScorer scorer(AnomalyOptions{});
  Feed feed(1);
  add_pod(feed, 1, "api", "v1");
  feed.run(scorer, 600);
  remove_row(feed, 1);
  add_pod(feed, 2, "api", "v2");
  feed.run(scorer, 100);
  CHECK(feed.scores.entities[1].learning == Learning::kNewVersion);
  CHECK(scorer.baseline("pod/shop/Deployment/api")->revision == "v1");
  remove_row(feed, 1);
  add_pod(feed, 3, "api", "v2");
  feed.run(scorer, 10);
  CHECK(feed.scores.entities[1].learning == Learning::kNewVersion);
  remove_row(feed, 1);
  add_pod(feed, 4, "api", "v1");
  feed.run(scorer, 10);
  CHECK(feed.scores.entities[1].learning == Learning::kKnown);
}

TEST_CASE("the same tables give the same scores and reasons, bit for bit") {
  const auto run = [] {
    AnomalyScorer scorer(AnomalyOptions{});
    Feed feed(3);
    std::vector<double> all;
    for (int tick = 0; tick < 1500; ++tick) {
      feed.fill();
      if (tick % 400 > 390) feed.at(1, "errors_io.rate_2s") = 300;
      feed.judge(scorer);
      for (const EntityScore& score : feed.scores.entities) {
        all.push_back(score.anomaly);
        for (const Reason& reason : score.anomaly_reasons) {
          all.push_back(reason.column);
          all.push_back(static_cast<double>(reason.usual));
          all.push_back(static_cast<double>(reason.weight));
        }
      }
    }
    return all;
  };
  const std::vector<double> first = run();
  const std::vector<double> second = run();
  REQUIRE(first.size() == second.size());
  CHECK(std::memcmp(first.data(), second.data(), first.size() * sizeof(double)) == 0);
}
