#include "agent/replay.h"

#include <random>
#include <string>
#include <vector>

#include <doctest/doctest.h>

#include "agent/record/baseline_file.h"
#include "agent/record/recorder.h"
#include "tests/policy_of.h"
#include "tests/unit/temporary_folder.h"

namespace vedette {
namespace {

constexpr WallNs kEpochNs = 1'800'000'000'000'000'000;
constexpr std::uint64_t kTicks = 900;
constexpr std::uint64_t kErrorAt = 760;  // the filesystem's error

RecordedSettings settings() {
  RecordedSettings settings;
  settings.assess.recovery_s = 30;
  settings.mode = Mode::kEnforce;
  settings.model = "builtin";
  settings.false_alarms_per_week = 3;
  return settings;
}

// A node and a pod at two ticks a second: noise, records lost at the start, a disk that is full all the time,
// and late in the run a filesystem's error.
Observation observe(std::uint64_t tick, std::mt19937& random) {
  static const std::vector<EntityPtr> entities = [] {
    auto node = std::make_shared<Entity>();
    node->name = "node";
    auto pod = std::make_shared<Entity>();
    pod->id = 7;
    pod->kind = EntityKind::kPod;
    pod->name = "pod/shop/cart";
    pod->namespace_name = "shop";
    pod->workload = "Deployment/cart";
    pod->revision = "7c5";
    return std::vector<EntityPtr>{node, pod};
  }();
  Observation observation;
  const std::uint64_t time_ns = 90'000'000'000 + tick * 500'000'000;
  observation.time = {time_ns, kEpochNs + time_ns};
  observation.interval_s = tick == 0 ? 0 : 0.5;
  observation.entities = entities;
  for (const EntityPtr& entity : entities) {
    Sample sample;
    sample.entity = entity->id;
    for (auto& counter : sample.counters) counter = random() % 100;
    for (auto& histogram : sample.histograms) histogram[10 + random() % 3] = random() % 20;
    for (auto& gauge : sample.gauges) gauge = 0.1 + 0.001 * static_cast<double>(random() % 100);
    sample.gauges[GAUGE_disk_space_use] = 0.99;
    sample.gauges[GAUGE_kubelet_up] = sample.gauges[GAUGE_runtime_up] = sample.gauges[GAUGE_dns_up] = 1;
    observation.samples.push_back(sample);
  }
  for (const std::string_view name : {"syscalls", "sched", "process"}) {
    ProbeHealth probe;
    probe.name = name;
    probe.state = ProbeState::kAttached;
    observation.probes.push_back(probe);
  }
  observation.losses.lost[0] = tick < 10 ? 0 : 5;
  if (tick == kErrorAt) {
    KernelEvent event;
    event.type = EVENT_ext4_error;
    event.time_ns = time_ns - 1'000'000;
    event.text = "ext4_lookup";
    observation.events.push_back(event);
  }
  return observation;
}

// The run, recorded whole (FILE) and by a flight recorder that has forgotten its first half (FLIGHT).
class RecordedRun {
public:
  // `taught`: given to the agent with its third tick, as are `lessons`.
  explicit RecordedRun(const std::shared_ptr<const Baselines>& taught = nullptr,
                       const std::vector<Lesson>& lessons = {}) {
    RecordedSettings set = settings();
    AnomalyOptions anomaly_options;
    anomaly_options.false_alarms_per_week = set.false_alarms_per_week;
    auto owned = std::make_unique<AnomalyScorer>(anomaly_options);
    const AnomalyScorer& anomaly = *owned;
    auto scorers = make_scorers(std::move(owned), "builtin", {}, set.assess);
    REQUIRE(scorers.has_value());
    DecideOptions decide;
    decide.mode = set.mode;
    decide.recovery_s = set.assess.recovery_s;
    Pipeline pipeline({}, std::move(*scorers), set.assess, decide);
    RecorderOptions options;
    options.path = file();
    options.queue_ticks = kTicks;
    options.flight.folder = flight();
    options.flight.keep_s = 240;
    options.header.started_wall_ns = 1;
    options.header.settings = set;
    auto recorder = Recorder::make(options);
    REQUIRE(recorder.has_value());
    std::mt19937 random(1);
    for (std::uint64_t tick = 0; tick < kTicks; ++tick) {
      auto snapshot = std::make_shared<Snapshot>();
      snapshot->observation = observe(tick, random);
      snapshot->act.known = true;
      if (tick == 2) {
        snapshot->taught = taught;
        snapshot->lessons = lessons;
      }
      pipeline.tick(*snapshot);
      (*recorder)->publish(snapshot);
    }
    auto writer = BaselineWriter::create(folder_.file("baselines"), {});
    REQUIRE(writer.has_value());
    for (const std::string& workload : anomaly.workloads())
      REQUIRE(writer->append(*anomaly.baseline(workload)).has_value());
    REQUIRE(writer->finish().has_value());
  }
  std::shared_ptr<const Baselines> learnt() const {
    auto baselines = load_baselines(folder_.file("baselines"));
    REQUIRE(baselines.has_value());
    return std::make_shared<const Baselines>(std::move(*baselines));
  }
  std::string file() const { return folder_.file("run.rec"); }
  std::string flight() const { return folder_.file("flight"); }

private:
  TemporaryFolder folder_;
};

struct Judged {
  std::uint64_t ticks = 0, different = 0;
  bool tainted_then = false, tainted_now = false;
  std::string effect_now;
  bool disk_full_compared = false, error_compared = false;
  bool took_scores = false;
};

Judged judge(const ReplayOptions& options) {
  auto replay = Replay::open(options);
  REQUIRE(replay.has_value());
  Judged judged;
  ReplayedTick tick;
  for (;;) {
    const Result<bool> more = (*replay)->next(tick);
    REQUIRE(more.has_value());
    if (!*more) break;
    ++judged.ticks;
    const auto differences =
        verdict_differences(tick.comparable_then, tick.comparable_now, tick.snapshot.features.entities);
    if (!differences.empty()) ++judged.different;
    judged.tainted_then = judged.tainted_then || tick.comparable_then.taint;
    judged.tainted_now = judged.tainted_now || tick.comparable_now.taint;
    if (tick.comparable_now.taint) judged.effect_now = tick.comparable_now.effect;
    for (const auto& condition : tick.comparable_now.conditions) {
      judged.disk_full_compared = judged.disk_full_compared || condition.reason == "DiskFull";
      judged.error_compared = judged.error_compared || condition.reason == "FilesystemError";
    }
  }
  judged.took_scores = (*replay)->took_scores();
  return judged;
}

}  // namespace

TEST_CASE("a whole run is judged again to the bit, by the settings that it brings along") {
  const RecordedRun run;
  const Judged judged = judge({run.file(), nullptr, ""});
  CHECK(judged.ticks == kTicks);
  CHECK(judged.different == 0);
  CHECK(judged.tainted_then);
  CHECK(judged.tainted_now);
  CHECK(judged.disk_full_compared);
  CHECK_FALSE(judged.took_scores);
}

TEST_CASE("what the agent was taught, and what was said of its incidents, is part of its recording") {
  const RecordedRun first;
  const RecordedRun taught(first.learnt());
  const RecordedRun told(first.learnt(), {{"node", false, ""}});
  const RecordedRun told_workload(first.learnt(), {{"a replica that has gone", false, "node"}});
  for (const RecordedRun* run : {&taught, &told, &told_workload}) {
    const Judged judged = judge({run->file(), nullptr, ""});
    CHECK(judged.ticks == kTicks);
    CHECK(judged.different == 0);
  }
  // It was no idle word: the pod was judged by then, and would not have been without.
  const auto tick_of = [](const RecordedRun& run, std::uint64_t number) {
    auto replay = Replay::open({run.file(), nullptr, ""});
    REQUIRE(replay.has_value());
    ReplayedTick tick;
    for (std::uint64_t i = 0; i <= number; ++i) REQUIRE((*replay)->next(tick).value_or(false));
    return tick.now.entities;
  };
  CHECK(tick_of(first, 300)[1].learning == Learning::kNew);
  CHECK(tick_of(taught, 300)[1].learning == Learning::kDone);
  CHECK(tick_of(told, 300)[0].anomaly_threshold > tick_of(taught, 300)[0].anomaly_threshold);
  CHECK(tick_of(told_workload, 300)[0].anomaly_threshold == tick_of(told, 300)[0].anomaly_threshold);
}

TEST_CASE("where the beginning is missing, what came after some minutes is judged again to the bit") {
  const RecordedRun run;
  const Judged judged = judge({run.flight(), nullptr, ""});
  CHECK(judged.ticks < 700);
  CHECK(judged.took_scores);
  CHECK(judged.different == 0);
  CHECK(judged.error_compared);
  CHECK(judged.tainted_now);
  CHECK_FALSE(judged.disk_full_compared);  // it was full before
}

TEST_CASE("another policy acts otherwise on the same verdicts") {
  const RecordedRun run;
  for (const std::string& path : {run.file(), run.flight()}) {
    const Judged mild = judge({path, policy_of("{rules: [{reason: FilesystemError, effect: None}]}"), ""});
    CHECK(mild.different > 0);
    CHECK(mild.tainted_then);
    CHECK_FALSE(mild.tainted_now);
    CHECK(mild.error_compared);
    const Judged hard =
        judge({path, policy_of("{rules: [{reason: FilesystemError, effect: NoExecute}]}"), ""});
    CHECK(hard.effect_now == "NoExecute");
  }
}

TEST_CASE("another model scores otherwise, and one that is not there is named") {
  const RecordedRun run;
  CHECK(judge({run.file(), nullptr, "off"}).different > 0);
  auto replay = Replay::open({run.file(), nullptr, "/nonexistent.ubj"});
  REQUIRE(replay.has_value());
  ReplayedTick tick;
  const Result<bool> more = (*replay)->next(tick);
  REQUIRE_FALSE(more.has_value());
  CHECK(more.error().text.find("/nonexistent.ubj") != std::string::npos);
}

}  // namespace vedette
