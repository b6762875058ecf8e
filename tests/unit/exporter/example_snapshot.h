// A node with troubles, as its agent would publish it: what the tests of the exporter and of the CLI serve.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "agent/snapshot.h"

namespace vedette::example {

struct Scene {
  std::size_t quiet_pods = 3;  // beside the node, the pod shop/cart and the unit ssh.service
  bool troubles = true;        // shop/cart runs out of memory; the tcp probe is degraded
  std::uint64_t tick = 1;      // one per second
  MonotonicNs start_ns = 0;    // of the first tick
};

inline EntityPtr entity(EntityId id, EntityKind kind, std::string name, std::string namespace_name = "",
                        std::string pod = "", std::string workload = "") {
  return std::make_shared<const Entity>(
      Entity{id, kind, std::move(name), std::move(namespace_name), std::move(pod), "", std::move(workload)});
}

inline void set(FeatureTable& table, std::size_t row, const std::string& column, double value) {
  table.row(row)[find_feature(column).value()] = static_cast<float>(value);
}

inline std::uint32_t column(const std::string& name) {
  return static_cast<std::uint32_t>(find_feature(name).value());
}

inline std::shared_ptr<const Snapshot> snapshot(const Scene& scene = {}) {
  auto made = std::make_shared<Snapshot>();
  Observation& observation = made->observation;
  const std::uint64_t second = 1'000'000'000ULL;
  observation.time = {scene.start_ns + scene.tick * second, 1'795'400'000ULL * second + scene.tick * second};
  observation.interval_s = scene.tick == 1 ? 0 : 1;

  observation.entities = {
      entity(0, EntityKind::kNode, "node"),
      entity(1, EntityKind::kPod, "pod/shop/cart-7d9f", "shop", "cart-7d9f", "Deployment/cart"),
      entity(2, EntityKind::kUnit, "unit/ssh.service", "", "", "ssh.service")};
  for (std::size_t i = 0; i < scene.quiet_pods; ++i) {
    const std::string pod = "web-" + std::to_string(i);
    observation.entities.push_back(entity(static_cast<EntityId>(i + 3), EntityKind::kPod,
                                          "pod/default/" + pod, "default", pod, "Deployment/web"));
  }
  const std::size_t rows = observation.entities.size();
  made->features.time = observation.time;
  made->features.entities = observation.entities;
  made->features.values.assign(rows * feature_columns().size(), static_cast<float>(kMissing));
  made->scores.entities.resize(rows);
  for (std::size_t row = 0; row < rows; ++row) {
    Sample sample;
    sample.entity = observation.entities[row]->id;
    const std::uint64_t share = row == 0 ? rows : row;
    sample.counters[COUNTER_syscalls] = 1000 * share;
    sample.counters[COUNTER_context_switches] = 100 * share;
    sample.counters[COUNTER_runqueue_wait_ns] = 2'000'000 * share;
    sample.counters[COUNTER_tcp_connects] = 7;
    sample.histograms[HISTOGRAM_syscall_latency][2] = 60 * share;
    sample.histograms[HISTOGRAM_syscall_latency][HISTOGRAM_BUCKETS - 1] = 1;
    sample.gauges[GAUGE_cpu_cores] = 0.1 * static_cast<double>(share);
    sample.gauges[GAUGE_memory_bytes] = 64e6 * static_cast<double>(share);
    if (row < 2) sample.gauges[GAUGE_memory_use] = row == 0 ? 0.41 : 0.97;
    observation.samples.push_back(sample);

    FeatureTable& features = made->features;
    set(features, row, "cpu_cores", sample.gauges[GAUGE_cpu_cores]);
    set(features, row, "memory_bytes", sample.gauges[GAUGE_memory_bytes]);
    set(features, row, "memory_use", sample.gauges[GAUGE_memory_use]);
    set(features, row, "syscalls.rate",
        1000.0 * static_cast<double>(share) + 300.0 * static_cast<double>(scene.tick % 7));
    for (const FeatureInfo& feature : feature_columns()) {
      if (feature.signal.starts_with("errors_")) set(features, row, feature.name, 0.5);
    }
    set(features, row, "runqueue_latency.p99", 0.0004 * static_cast<double>(share));
    EntityScore& score = made->scores.entities[row];
    score.learning = row + 1 == rows && scene.quiet_pods > 0 ? Learning::kNew : Learning::kDone;
    score.anomaly = 0.12;
    score.anomaly_threshold = 0.8;
    score.risk = row == 0 ? kMissing : 0.01;
  }
  FeatureTable& features = made->features;
  set(features, 0, "cpu_limit_use", 0.23);
  set(features, 0, "disk_space_use", 0.71);
  set(features, 0, "pressure_cpu", 0.02);
  set(features, 0, "pressure_memory", 0);
  set(features, 0, "pressure_io", 0.01);

  for (const char* name :
       {"syscalls", "sched", "memory", "process", "faults", "cgroup", "proc", "mounts", "psi"}) {
    observation.probes.push_back({name, ProbeState::kAttached, "", 0, 0});
  }
  observation.probes[0].runs = 120'000'000;
  observation.probes[0].run_ns = 9'600'000'000;
  observation.probes.push_back({"tcp", scene.troubles ? ProbeState::kDegraded : ProbeState::kAttached,
                                scene.troubles ? "the kernel has no tracepoint tcp_retransmit_skb" : "", 0,
                                0});
  observation.losses.produced[EVENT_exec] = 5000;
  observation.losses.received = 5000;
  made->decision.next = "nothing: no condition asks for a taint";
  made->act.known = made->act.connected = true;
  made->self = {0.42, 0.31, 0.006, 21 << 20, 4 << 20, scene.tick};

  if (scene.troubles) {
    observation.losses.lost[EVENT_exec] = 12;
    observation.losses.received = 4988;
    observation.probes[0].misses = 0;
    observation.probes[1].misses = 7;
    observation.losses.no_task_storage = 4;
    observation.losses.no_start[COUNTER_lock_contentions] = 3;
    set(features, 1, "memory_use.slope", 0.00125);
    set(features, 1, "memory_use.eta", 24);
    EntityScore& score = made->scores.entities[1];
    score.anomaly = 0.93;
    score.anomalous = true;
    score.risk = 0.88;
    score.anomaly_reasons = {{column("memory_bytes"), 64e6F, 2.1e7F, 8.2F},
                             {column("runqueue_latency.p99"), 0.038F, 0.0012F, 6.4F}};
    score.risk_reasons = {{column("memory_use"), 0.97F, static_cast<float>(kMissing), 2.1F},
                          {column("memory_use.eta"), 24.0F, static_cast<float>(kMissing), 1.4F}};
    Condition memory;
    memory.reason = "MemoryExhaustion";
    memory.domain = Domain::kMemory;
    memory.evidence = Evidence::kRisk;
    memory.severity = Severity::kUnhealthy;
    memory.entity = observation.entities[1];
    memory.confidence = 0.97;
    memory.since = {observation.time.monotonic_ns - std::min(scene.tick, std::uint64_t{190}) * second,
                    observation.time.wall_ns - 190 * second};
    memory.evidence_ns = observation.time.monotonic_ns;
    memory.count = 41;
    memory.message = "Working set is at 97 % of its limit and reaches it in 24 s";
    memory.details = {"memory_use 0.97 (+2.1)", "memory_use.eta 24 (+1.4)"};
    Condition disk;
    disk.reason = "FilesystemError";
    disk.domain = Domain::kStorage;
    disk.severity = Severity::kDegraded;
    disk.entity = observation.entities[0];
    disk.since = memory.since;
    disk.evidence_ns = memory.since.monotonic_ns;
    disk.count = 1;
    disk.recovering = true;
    disk.recovers_in_s = 110;
    disk.message = "ext4 found an error on device 7:0 in ext4_lookup line 1705";
    made->conditions = {memory, disk};
    made->decision.held_back = "observe mode (act.mode: observe)";
    made->decision.next = "would lift nothing; FilesystemError is over in 110 s if nothing new is seen";
    KernelEvent kill;
    kill.type = EVENT_oom_kill;
    kill.entity = 1;
    kill.time_ns = observation.time.monotonic_ns;
    kill.value = OOM_CGROUP_LIMIT;
    kill.extra = 524288;
    kill.pid = 4242;
    kill.comm = "cart";
    observation.events.push_back(kill);
  }
  return made;
}

}  // namespace vedette::example
