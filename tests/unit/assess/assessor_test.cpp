#include "agent/assess/assessor.h"

#include <cmath>
#include <memory>

#include <doctest/doctest.h>

using namespace vedette;

namespace {

// A node and one pod; each tick is 500 ms after the one before.
class Scene {
public:
  explicit Scene(AssessOptions options = {}) : assessor(std::move(options)) {
    auto node = std::make_shared<Entity>();
    auto pod = std::make_shared<Entity>();
    pod->id = 1;
    pod->kind = EntityKind::kPod;
    pod->name = "pod/shop/cart";
    observation.entities = {node, pod};
    observation.samples.resize(2);
    observation.samples[1].entity = 1;
    observation.probes = {{"ext4", ProbeState::kAttached, "", 0, 0}};
    features.entities = observation.entities;
    features.values.assign(2 * feature_columns().size(), NAN);
    scores.entities.resize(2);
    observation.time = {1'000'000'000, 5'000'000'000'000};
  }

  std::vector<Condition> tick(double seconds = 0.5) {
    const auto ns = static_cast<std::uint64_t>(seconds * 1e9);
    observation.time.monotonic_ns += ns;
    observation.time.wall_ns += ns;
    observation.interval_s = seconds;
    features.time = observation.time;
    std::vector<Condition> conditions = assessor.update(observation, features, scores, waits_longer);
    observation.events.clear();
    return conditions;
  }

  void event(std::uint32_t type, EntityId entity, std::int64_t value = 0, std::string text = {},
             std::uint32_t pid = 42) {
    KernelEvent fact;
    fact.type = type;
    fact.entity = entity;
    fact.time_ns = observation.time.monotonic_ns + 1'000'000;
    fact.value = value;
    fact.comm = "victim";
    fact.pid = pid;
    fact.text = std::move(text);
    observation.events.push_back(std::move(fact));
  }

  void set(std::size_t row, std::string_view feature, float value) {
    features.row(row)[find_feature(feature).value()] = value;
  }

  Observation observation;
  std::optional<LongerWait> waits_longer = LongerWait{};
  FeatureTable features;
  Scores scores;
  Assessor assessor;
};

}  // namespace

TEST_CASE(
    "one task that hangs for long is one, however often the kernel reports it; three are the node's "
    "trouble") {
  Scene scene;
  std::vector<Condition> conditions;
  for (int i = 0; i < 5; ++i) {
    scene.event(EVENT_hung_task, kNodeEntity, 0, "", 7);
    conditions = scene.tick(120);
  }
  REQUIRE(conditions.size() == 1);
  CHECK(conditions[0].reason == "TaskHung");
  CHECK(conditions[0].count == 1);
  CHECK(conditions[0].severity == Severity::kDegraded);
  scene.event(EVENT_hung_task, kNodeEntity, 0, "", 8);
  scene.event(EVENT_hung_task, kNodeEntity, 0, "", 9);
  CHECK(scene.tick()[0].severity == Severity::kUnhealthy);

  // As the log tells it where no probe does.
  Scene log;
  const auto line = [&](const std::string& task, int seconds) {
    log.event(KernelEvent::kLogEvent, kNodeEntity, 3,
              "INFO: task " + task + " blocked for more than " + std::to_string(seconds) + " seconds.");
  };
  for (int i = 1; i <= 5; ++i) {
    line("kworker/u8:2:812", 120 * i);
    conditions = log.tick(120);
  }
  REQUIRE(conditions.size() == 1);
  CHECK(conditions[0].reason == "TaskHung");
  CHECK(conditions[0].count == 1);
  CHECK(conditions[0].severity == Severity::kDegraded);
  line("dd:8", 120);
  line("dd:9", 120);
  CHECK(log.tick()[0].severity == Severity::kUnhealthy);
}

TEST_CASE("of what an operator has set aside nothing is left: the next evidence is the first") {
  Scene scene;
  const auto errors = [&](int count) {
    for (int i = 0; i < count; ++i) scene.event(EVENT_block_error, kNodeEntity);
    return scene.tick();
  };
  REQUIRE(errors(3)[0].severity == Severity::kUnhealthy);
  scene.assessor.set_aside({"DiskError"});
  CHECK(scene.tick().empty());
  const std::vector<Condition> again = errors(1);
  REQUIRE(again.size() == 1);
  CHECK(again[0].count == 1);
  CHECK(again[0].severity == Severity::kDegraded);
  CHECK(again[0].since.monotonic_ns == scene.observation.time.monotonic_ns);
  CHECK(again[0].first_evidence_ns == again[0].evidence_ns);

  scene.event(EVENT_hung_task, kNodeEntity, 0, "", 7);
  scene.tick();
  scene.assessor.set_aside({"DiskError", "TaskHung"});
  CHECK(scene.tick().empty());
  scene.event(EVENT_hung_task, kNodeEntity, 0, "", 7);
  REQUIRE(scene.tick().size() == 1);
  CHECK(scene.tick()[0].count == 1);
}

TEST_CASE("a level that hard evidence of the same domain follows was right") {
  Scene scene;
  scene.set(0, "disk_space_use", 0.99F);
  std::vector<Condition> conditions;
  for (int i = 0; i < 200 && conditions.empty(); ++i) conditions = scene.tick();
  REQUIRE(conditions.size() == 1);
  REQUIRE(conditions[0].evidence == Evidence::kLevel);
  REQUIRE(conditions[0].domain == Domain::kStorage);
  CHECK_FALSE(conditions[0].came_true);
  scene.event(EVENT_ext4_error, kNodeEntity, 1853, "ext4_lookup");
  scene.tick();
  for (const Condition& condition : scene.tick()) {
    if (condition.evidence == Evidence::kLevel) CHECK(condition.came_true);
  }
}

TEST_CASE("one ext4 error makes the node unhealthy at once, until the recovery time has passed quietly") {
  Scene scene({.recovery_s = 10});
  CHECK(scene.tick().empty());
  scene.event(EVENT_ext4_error, kNodeEntity, 1853, "ext4_lookup");
  std::vector<Condition> conditions = scene.tick();
  REQUIRE(conditions.size() == 1);
  CHECK(conditions[0].reason == "FilesystemError");
  CHECK(conditions[0].severity == Severity::kUnhealthy);
  CHECK(conditions[0].confidence == 1);
  CHECK(conditions[0].message.find("ext4_lookup:1853") != std::string::npos);
  CHECK_FALSE(conditions[0].recovering);
  const Instant since = conditions[0].since;

  conditions = scene.tick(1);
  REQUIRE(conditions.size() == 1);
  CHECK(conditions[0].recovering);

  scene.event(EVENT_ext4_error, kNodeEntity, 1, "ext4_iget");
  conditions = scene.tick();
  REQUIRE(conditions.size() == 1);
  CHECK(conditions[0].count == 2);
  CHECK(conditions[0].since.monotonic_ns == since.monotonic_ns);
  CHECK(scene.tick(9).size() == 1);
  CHECK(scene.tick(1).empty());
}

TEST_CASE(
    "an OOM kill at a pod's own limit, on its NUMA nodes, or of unknown cause, is the pod's, never the "
    "node's") {
  for (const std::int64_t cause : {OOM_CGROUP_LIMIT, OOM_CPUSET, OOM_POLICY, OOM_UNKNOWN}) {
    Scene scene;
    for (int i = 0; i < 5; ++i) scene.event(EVENT_oom_kill, 1, cause);
    const std::vector<Condition> conditions = scene.tick();
    REQUIRE(conditions.size() == 1);
    CHECK(conditions[0].reason == "OOMKilled");
    CHECK(conditions[0].entity->name == "pod/shop/cart");
    CHECK(conditions[0].severity == Severity::kDegraded);
  }
}

TEST_CASE("a node without memory is unhealthy, whoever the victim was") {
  Scene scene;
  scene.event(EVENT_oom_kill, 1, OOM_NODE);
  const std::vector<Condition> conditions = scene.tick();
  REQUIRE(conditions.size() == 1);
  CHECK(conditions[0].reason == "NodeOutOfMemory");
  CHECK(conditions[0].entity->kind == EntityKind::kNode);
  CHECK(conditions[0].severity == Severity::kUnhealthy);
  CHECK(conditions[0].suffers);  // whoever took the memory is to be found
}

TEST_CASE("a log line stands in for a missing probe and is not counted beside a working one") {
  const std::string line = "EXT4-fs error (device sda1): ext4_lookup:1853: inode #2";
  Scene scene;
  scene.event(KernelEvent::kLogEvent, kNodeEntity, 3, line);
  CHECK(scene.tick().empty());

  scene.observation.probes[0].state = ProbeState::kDegraded;
  scene.event(KernelEvent::kLogEvent, kNodeEntity, 3, line);
  const std::vector<Condition> conditions = scene.tick();
  REQUIRE(conditions.size() == 1);
  CHECK(conditions[0].reason == "FilesystemError");
  CHECK(conditions[0].confidence < 1);
  CHECK(conditions[0].confidence >= 0.8);
}

TEST_CASE("a soft lockup in the log needs no probe") {
  Scene scene;
  scene.event(KernelEvent::kLogEvent, kNodeEntity, 0, "watchdog: BUG: soft lockup - CPU#1 stuck for 26s!");
  CHECK(scene.tick().at(0).reason == "SoftLockup");
}

TEST_CASE("a level must hold before it counts and must fall well below before it recovers") {
  Scene scene;
  scene.set(0, "disk_space_use", 0.98F);
  CHECK(scene.tick(5).empty());
  CHECK(scene.tick(5).empty());
  std::vector<Condition> conditions = scene.tick(5);
  REQUIRE(conditions.size() == 1);
  CHECK(conditions[0].reason == "DiskFull");
  CHECK(conditions[0].severity == Severity::kDegraded);
  scene.set(0, "disk_space_use", 0.96F);
  scene.tick();
  CHECK_FALSE(scene.tick().at(0).recovering);
  scene.set(0, "disk_space_use", 0.90F);
  scene.tick(1);
  CHECK(scene.tick(1).at(0).recovering);
}

TEST_CASE("a prediction needs persistence, names its reasons, and does not outlive its horizon") {
  Scene scene;
  scene.scores.entities[1].risk = 0.9;
  scene.scores.entities[1].risk_reasons = {
      {static_cast<std::uint32_t>(find_feature("memory_use").value()), 0.93F, NAN, 2.1F}};
  CHECK(scene.tick().empty());
  scene.tick(1);
  std::vector<Condition> conditions = scene.tick(1);
  REQUIRE(conditions.size() == 1);
  CHECK(conditions[0].reason == "PredictedFailure");
  CHECK(conditions[0].domain == Domain::kMemory);
  REQUIRE(conditions[0].details.size() == 1);
  CHECK(conditions[0].details[0] == "memory_use 0.93 (+2.1)");
  scene.scores.entities[1].risk = 0;
  CHECK(scene.tick(59).size() == 1);
  CHECK(scene.tick(2).empty());
}

TEST_CASE("a probe that is shed or degraded costs the confidence of what rests on it, and of nothing else") {
  const auto reason = [](std::string_view feature, float weight) {
    Reason made;
    made.column = static_cast<std::uint32_t>(find_feature(feature).value());
    made.weight = weight;
    return made;
  };
  const auto confidence = [&](std::vector<ProbeHealth> probes, std::vector<Reason> reasons) {
    Scene scene;
    scene.observation.probes = std::move(probes);
    scene.scores.entities[1].risk = 0.9;
    scene.scores.entities[1].risk_reasons = std::move(reasons);
    for (int i = 0; i < 6; ++i) scene.tick();
    return scene.tick().at(0).confidence;
  };
  const std::vector<Reason> memory{reason("memory_use", 2), reason("memory_use.eta", 1)};
  const std::vector<Reason> mixed{reason("memory_use", 3), reason("tcp_connect_failures.rate", -1)};
  const auto shed = [](const char* name) {
    return std::vector<ProbeHealth>{{name, ProbeState::kShed, "over the CPU budget", 0, 0}};
  };
  // Hardware that is not there lowers nothing.
  CHECK(confidence({{"mce", ProbeState::kDegraded, "no tracepoint", 0, 0},
                    {"nvme", ProbeState::kDegraded, "no tracepoint", 0, 0},
                    {"scsi", ProbeState::kDegraded, "no tracepoint", 0, 0}},
                   memory) == 1);
  CHECK(confidence(shed("tcp"), memory) == 1);
  CHECK(confidence(shed("tcp"), mixed) == doctest::Approx(0.75));
  CHECK(confidence({{"tcp", ProbeState::kDegraded, "failed", 0, 0}}, mixed) == doctest::Approx(0.75));
  CHECK(confidence({{"cgroup", ProbeState::kDegraded, "failed", 0, 0}}, memory) == 0);
  CHECK(confidence({{"tcp", ProbeState::kOff, "switched off", 0, 0}}, mixed) == 1);
}

TEST_CASE("losses lower the confidence of scores, not of what the kernel said") {
  Scene scene;
  scene.scores.entities[1].risk = 0.9;
  scene.observation.losses.lost[EVENT_exec] = 7;
  scene.event(EVENT_ext4_error, kNodeEntity);
  for (int i = 0; i < 6; ++i) scene.tick();
  const std::vector<Condition> conditions = scene.tick();
  REQUIRE(conditions.size() == 2);
  CHECK(conditions[0].reason == "FilesystemError");
  CHECK(conditions[0].confidence == 1);
  CHECK(conditions[1].reason == "PredictedFailure");
  CHECK(conditions[1].confidence < 0.8);
}

TEST_CASE(
    "runs that a probe missed, and starts that found no room, cost what rests on those columns, for a "
    "minute") {
  const auto reason = [](std::string_view feature, float weight) {
    Reason made;
    made.column = static_cast<std::uint32_t>(find_feature(feature).value());
    made.weight = weight;
    return made;
  };
  Scene scene;
  scene.observation.probes = {{"tcp", ProbeState::kAttached, "", 0, 0},
                              {"locks", ProbeState::kAttached, "", 0, 0}};
  scene.scores.entities[1].risk = 0.9;
  const auto confidence = [&](std::string_view feature, double seconds = 0.5) {
    scene.scores.entities[1].risk_reasons = {reason(feature, 2)};
    const auto conditions = scene.tick(seconds);
    return conditions.empty() ? -1 : conditions.at(0).confidence;
  };
  for (int i = 0; i < 6; ++i) scene.tick();
  CHECK(confidence("tcp_connects.rate") == 1);
  scene.observation.probes[0].misses = 0;
  CHECK(confidence("tcp_connects.rate") == 1);
  scene.observation.probes[0].misses = kMissedRuns;  // noise
  CHECK(confidence("tcp_connects.rate") == 1);
  scene.observation.samples[0].counters[COUNTER_tcp_connects] = 10'000;
  scene.observation.probes[0].misses = kMissedRuns + 400;  // and of so many
  CHECK(confidence("tcp_connects.rate") == 1);
  scene.observation.probes[0].misses = kMissedRuns + 400 + 401;
  CHECK(confidence("tcp_connects.rate") == doctest::Approx(0.6));
  CHECK(confidence("tcp_connect_latency.p99") == doctest::Approx(0.6));
  CHECK(confidence("lock_contentions.rate") == 1);
  CHECK(confidence("tcp_connects.rate", 58) == doctest::Approx(0.6));
  CHECK(confidence("tcp_connects.rate", 2) == 1);

  scene.observation.losses.no_task_storage = 5;  // of them, two of locks; the others cost a sample each
  scene.observation.losses.no_start[COUNTER_lock_contentions] = 2;
  CHECK(confidence("lock_contentions.rate") == 1);  // noise
  scene.observation.losses.no_start[COUNTER_lock_contentions] = 2 + 2 * kLostStartsPerS;
  CHECK(confidence("lock_contentions.rate") == doctest::Approx(0.6));
  CHECK(confidence("lock_contentions.rate_2s") == doctest::Approx(0.6));
  CHECK(confidence("lock_wait_ns.rate") == 1);
  CHECK(confidence("lock_wait_ns.rate_2s") == 1);
  CHECK(confidence("tcp_connects.rate") == 1);
  CHECK(confidence("lock_contentions.rate", 57) == doctest::Approx(0.6));
  CHECK(confidence("lock_contentions.rate", 3) == 1);
}

TEST_CASE("what was missed before the part of a run that is replayed was not missed in it") {
  AssessOptions options;
  options.continues = true;
  Scene scene(options);
  scene.observation.probes = {{"tcp", ProbeState::kAttached, "", 0, 0}};
  scene.observation.probes[0].misses = 3 + kMissedRuns;
  scene.scores.entities[1].risk = 0.9;
  Reason reason;
  reason.column = static_cast<std::uint32_t>(find_feature("tcp_connects.rate").value());
  reason.weight = 1;
  scene.scores.entities[1].risk_reasons = {reason};
  for (int i = 0; i < 6; ++i) scene.tick();
  CHECK(scene.tick().at(0).confidence == 1);
  scene.observation.probes[0].misses = 4 + 2 * kMissedRuns;
  CHECK(scene.tick().at(0).confidence == doctest::Approx(0.6));
}

TEST_CASE("a risk above the threshold on the node itself announces nothing: the model knows only pods") {
  Scene scene;
  scene.scores.entities[0].risk = 0.99;
  for (int i = 0; i < 20; ++i) CHECK(scene.tick().empty());
}

TEST_CASE(
    "a corrected machine check informs however often it comes; an uncorrected one degrades, three taint") {
  Scene scene;
  for (int i = 0; i < 50; ++i) scene.event(EVENT_machine_check, kNodeEntity, 0x9c00000000000151, "corrected");
  std::vector<Condition> conditions = scene.tick();
  REQUIRE(conditions.size() == 1);
  CHECK(conditions[0].reason == "HardwareErrorCorrected");
  CHECK(conditions[0].severity == Severity::kInfo);
  CHECK(conditions[0].domain == Domain::kHardware);
  scene.event(EVENT_machine_check, kNodeEntity, 0x7d, "uncorrected");
  conditions = scene.tick();
  REQUIRE(conditions.size() == 2);
  CHECK(conditions[0].reason == "HardwareError");
  CHECK(conditions[0].severity == Severity::kDegraded);
  CHECK(conditions[0].message == "machine check, uncorrected: bank 0 status 0x7d");
  for (int i = 0; i < 2; ++i) scene.event(EVENT_machine_check, kNodeEntity, 0x7d, "uncorrected");
  CHECK(scene.tick().at(0).severity == Severity::kUnhealthy);
}

TEST_CASE(
    "a poisoned page that is out of use degrades the node, one that is not makes it unhealthy for good") {
  Scene scene;
  const auto fail = [&](std::int64_t result) {
    scene.event(EVENT_memory_failure, 1, 0x3f2d0);
    scene.observation.events.back().extra = result;
    return scene.tick().at(0);
  };
  const auto contained = fail(2);
  CHECK(contained.reason == "MemoryFailure");
  CHECK(contained.entity->kind == EntityKind::kNode);
  CHECK(contained.severity == Severity::kDegraded);
  CHECK(contained.message == "the hardware gave up on the memory page 0x3f2d0, which is out of use now");
  CHECK(fail(1).severity == Severity::kUnhealthy);
  CHECK(fail(2).severity == Severity::kUnhealthy);  // the milder one heals nothing
}

TEST_CASE(
    "errors below the retries of a driver or a link taint nothing, unless a link fails for the third time") {
  Scene scene;
  const auto say = [&](std::uint32_t type, std::int64_t extra, const std::string& text) {
    scene.event(type, kNodeEntity, 0x40, text);
    scene.observation.events.back().extra = extra;
  };
  for (int i = 0; i < 20; ++i) {
    say(EVENT_scsi_error, (2LL << 32) | 3, "error");
    say(EVENT_scsi_error, (2LL << 32) | 3, "timeout");
    say(EVENT_nvme_error, 1, "");
    say(EVENT_pcie_error, 2, "0000:01:00.0");
    say(EVENT_pcie_error, 0, "0000:01:00.0");
  }
  std::vector<Condition> conditions = scene.tick();
  REQUIRE(conditions.size() == 4);
  for (const Condition& condition : conditions) {
    CAPTURE(condition.reason);
    CHECK(condition.severity < Severity::kUnhealthy);
    CHECK((condition.severity == Severity::kDegraded) ==
          (condition.reason == "DiskTimeout" || condition.reason == "PcieError"));
    if (condition.reason == "DiskTimeout")
      CHECK(condition.message == "a command of SCSI device 2:0:3 got no answer");
  }
  Scene fresh;
  for (int i = 0; i < 3; ++i) {
    fresh.event(EVENT_pcie_error, kNodeEntity, 0x40, "0000:01:00.0");
    fresh.observation.events.back().extra = 1;
  }
  CHECK(fresh.tick().at(0).severity == Severity::kUnhealthy);
}

TEST_CASE("a service that does not answer degrades the node once it has been silent for long enough") {
  Scene scene;
  scene.set(0, "kubelet_up", 1);
  scene.set(0, "runtime_up", 0);
  CHECK(scene.tick(10).empty());
  CHECK(scene.tick(10).empty());
  std::vector<Condition> conditions;
  for (int i = 0; i < 2; ++i) conditions = scene.tick(10);
  REQUIRE(conditions.size() == 1);
  CHECK(conditions[0].reason == "RuntimeDown");
  CHECK(conditions[0].severity == Severity::kDegraded);
  CHECK(conditions[0].message == "the container runtime does not answer on its socket");
  scene.set(0, "runtime_up", 1);
  scene.tick();
  CHECK(scene.tick().at(0).recovering);
  // A single silence is none, and a service that is not there is no trouble.
  scene.set(0, "kubelet_up", 0);
  scene.tick(10);
  scene.set(0, "kubelet_up", NAN);
  for (int i = 0; i < 5; ++i) CHECK(scene.tick(10).size() == 1);
}

TEST_CASE("levels of the node: each has its own patience, and none of them taints") {
  struct Case {
    const char* feature;
    float value;
    const char* reason;
    Severity severity;
    const char* message;
    double hold_s;
  };
  for (const Case& one : {
           Case{"conntrack_use", 0.91F, "ConntrackNearLimit", Severity::kDegraded,
                "conntrack_use at 91 % of what the node has", 10},
           Case{"read_only_mounts", 1, "ReadOnlyMount", Severity::kDegraded,
                "1 filesystems that were writable are read-only", 10},
           Case{"failed_disks", 2, "DiskFailed", Severity::kDegraded, "2 disks do not run, their drivers say",
                10},
           Case{"memory_errors_uncorrected.rate", 0.1F, "MemoryErrorUncorrected", Severity::kDegraded,
                "0.1 memory errors a second that the controller could not correct", 0},
           Case{"clock_unsynchronized", 1, "ClockUnsynchronized", Severity::kInfo,
                "nothing synchronizes the kernel's clock", 600},
           Case{"steal_time", 0.125F, "CpuStolen", Severity::kInfo,
                "0.125 of all CPUs' time is given to others by the hypervisor", 60},
           Case{"dns_timeouts.rate", 0.1F, "DnsTimeouts", Severity::kInfo,
                "0.1 DNS queries a second that nobody answered within 5 s", 11},
           Case{"clock_jumps.rate", 0.1F, "ClockJumped", Severity::kInfo,
                "0.1 steps of the wall clock a second", 0},
       }) {
    CAPTURE(one.feature);
    Scene scene;
    scene.set(0, one.feature, 0);
    CHECK(scene.tick().empty());
    scene.set(0, one.feature, one.value);
    if (one.hold_s > 0) {
      CHECK(scene.tick().empty());
      CHECK(scene.tick(one.hold_s - 1).empty());
    }
    const std::vector<Condition> conditions = scene.tick(2);
    REQUIRE(conditions.size() == 1);
    CHECK(conditions[0].reason == one.reason);
    CHECK(conditions[0].severity == one.severity);
    CHECK(conditions[0].message == one.message);
  }
}

TEST_CASE("who asks in vain suffers, but the node does not suffer the sum of its pods") {
  Scene scene;
  for (const std::size_t row : {0, 1}) scene.set(row, "dns_timeouts.rate", 0.6F);
  scene.tick();
  const std::vector<Condition> conditions = scene.tick(12);
  REQUIRE(conditions.size() == 2);
  for (const Condition& condition : conditions) CHECK(condition.suffers == (condition.entity->id == 1));
}

TEST_CASE("an anomaly is told by the next tick where all wait longer, and needs to be less rare then") {
  Scene scene;
  EntityScore& score = scene.scores.entities[1];
  score.learning = Learning::kDone;
  score.anomalous = true;
  score.anomaly = 0.7;
  score.anomaly_threshold = 0.6;
  const auto ticks_until_told = [&] {
    for (int tick = 1; tick <= 130; ++tick) {
      const std::vector<Condition> conditions = scene.tick();
      if (conditions.empty()) continue;
      CHECK(conditions[0].reason == "Anomaly");
      CHECK(conditions[0].severity == Severity::kInfo);
      CHECK(conditions[0].suffers);
      CHECK(score.reasons_matter());  // or a replay could not tell it
      const bool felt = scene.waits_longer && scene.waits_longer->s > 0;
      CHECK(felt == (conditions[0].message.find("wait 1.5 s a second longer") != std::string::npos));
      return tick;
    }
    return 0;
  };
  const LongerWait nobody;
  const auto after_a_break = [&](std::optional<LongerWait> waits_longer) {
    score.anomalous = false;
    scene.waits_longer = nobody;
    CHECK(scene.tick(100).empty());
    score.anomalous = score.anomaly > score.anomaly_threshold;
    scene.waits_longer = waits_longer;
    return ticks_until_told();
  };
  CHECK(after_a_break(nobody) == 121);  // nobody waits for it: 60 s
  CHECK(after_a_break(LongerWait{1.5, 1}) == 2);
  CHECK(after_a_break(LongerWait{1.5, 0.9}) == 121);  // all lost less than a second
  CHECK(after_a_break(std::nullopt) == 2);            // nobody knows
  score.anomaly = 0.47;
  CHECK(after_a_break(LongerWait{1.5, 1}) == 2);
  CHECK(after_a_break(nobody) == 0);
  CHECK(after_a_break(std::nullopt) == 0);
  // The more they lost, the less rare it may be.
  score.anomaly = 0.37;
  CHECK(after_a_break(LongerWait{1.5, 1}) == 0);
  CHECK(after_a_break(LongerWait{1.5, 2}) == 2);
  score.anomaly = 0.17;
  CHECK(after_a_break(LongerWait{1.5, 7}) == 0);
  CHECK(after_a_break(LongerWait{1.5, 8}) == 2);
  score.anomaly = 0.15;
  CHECK(after_a_break(LongerWait{1.5, 1000}) == 0);
  score.anomaly = 0.9;
  score.learning = Learning::kKnown;
  score.anomalous = false;
  scene.waits_longer = LongerWait{1.5, 1};
  CHECK(ticks_until_told() == 0);
}

TEST_CASE("an anomaly that ends says that it is below its alarm by now") {
  Scene scene;
  scene.waits_longer.reset();
  EntityScore& score = scene.scores.entities[1];
  score = {};
  score.learning = Learning::kDone;
  score.anomalous = true;
  score.anomaly = 0.7;
  score.anomaly_threshold = 0.6;
  scene.tick();
  CHECK(scene.tick().at(0).message == "behaves unlike itself: score 0.7, alarm at 0.6");
  score.anomaly = 0.5;  // flagged until it is less rare by a decade
  CHECK(scene.tick().at(0).message == "behaves unlike itself: score 0.5, not calm yet; alarm at 0.6");
}

TEST_CASE("rules of one's own judge the kernel log, and silence what ships") {
  AssessOptions options;
  LogRule mine;
  mine.pattern = "qla2xxx .*LOOP DOWN";
  mine.reason = "FibreDown";
  mine.domain = Domain::kStorage;
  mine.unhealthy_at = 2;
  LogRule quiet;
  quiet.pattern = "soft lockup";
  options.log_rules = LogRules::make({mine, quiet}).value();
  Scene scene(options);
  scene.event(KernelEvent::kLogEvent, kNodeEntity, 4, "qla2xxx [0000:05:00.0]-500b:1: LOOP DOWN detected");
  scene.event(KernelEvent::kLogEvent, kNodeEntity, 0, "watchdog: BUG: soft lockup - CPU#1 stuck for 26s!");
  std::vector<Condition> conditions = scene.tick();
  REQUIRE(conditions.size() == 1);
  CHECK(conditions[0].reason == "FibreDown");
  CHECK(conditions[0].domain == Domain::kStorage);
  CHECK(conditions[0].severity == Severity::kDegraded);
  scene.event(KernelEvent::kLogEvent, kNodeEntity, 4, "qla2xxx [0000:05:00.0]-500b:1: LOOP DOWN detected");
  CHECK(scene.tick().at(0).severity == Severity::kUnhealthy);
}
