#include "agent/collect/live_source.h"

#include <cmath>
#include <string>

#include <doctest/doctest.h>

#include "tests/unit/collect/file_tree.h"

namespace vedette {
namespace {

const std::string kUid = "0c3a8f1e-5d2b-4c7a-9e6f-1a2b3c4d5e6f";
const std::string kContainer = "3f4e1c0a9b8d7e6f5a4b3c2d1e0f9a8b7c6d5e4f3a2b1c0d9e8f7a6b5c4d3e2f";

// A v2 node with one pod of one container, one service and one empty slice.
void make_node(const FileTree& tree) {
  const auto pod = "/cgroup/kubepods/burstable/pod" + kUid;
  tree.write("/proc/self/mountinfo", "1 0 0:1 / " + tree.path("/cgroup") + " rw - cgroup2 cgroup2 rw\n");
  tree.write("/proc/stat", "cpu  1 0 1 1\ncpu0 1 0 1 1\n");
  tree.write("/proc/meminfo", "MemTotal: 100 kB\nMemAvailable: 25 kB\n");
  tree.write("/proc/loadavg", "0 0 0 1/2 3\n");
  tree.write("/proc/vmstat", "pgfault 1\n");
  tree.write(pod + "/memory.current", "600\n");
  tree.write(pod + "/memory.stat", "inactive_file 100\n");
  tree.write(pod + "/memory.max", "1000\n");
  tree.write(pod + "/" + kContainer + "/cgroup.procs", "12\n");
  tree.write("/cgroup/system.slice/cron.service/cgroup.procs", "13\n");
  tree.write("/cgroup/system.slice/empty.service/cgroup.procs", "");
}

LiveOptions below(const FileTree& tree) {
  LiveOptions options;
  options.files.proc = tree.path("/proc");
  options.files.host = tree.path("/host");
  options.kernel_log = tree.path("/proc/stat/kmsg");  // no directory
  options.use_kernel_probes = false;
  return options;
}

const ProbeHealth& health(const Observation& observation, const std::string& name) {
  for (const auto& probe : observation.probes) {
    if (probe.name == name) return probe;
  }
  FAIL("no health of ", name);
  return observation.probes.front();
}

TEST_CASE("A tree of cgroups becomes the node, its pods and its units, without those that hold nobody") {
  const FileTree tree;
  make_node(tree);
  Latest<PodList> pods;
  auto options = below(tree);
  options.pods = &pods;
  auto source = LiveSource::make(options);
  REQUIRE(source.has_value());
  Observation observation;
  REQUIRE((*source)->collect(observation).has_value());
  REQUIRE(observation.entities.size() == 3);
  REQUIRE(observation.samples.size() == 3);
  CHECK(observation.interval_s == 0);
  CHECK(observation.entities[0]->name == "node");
  CHECK(observation.samples[0].gauges[GAUGE_memory_use] == doctest::Approx(0.75));

  std::size_t pod = 0;
  for (std::size_t i = 1; i < 3; ++i) {
    CHECK(observation.samples[i].entity == observation.entities[i]->id);
    if (observation.entities[i]->kind == EntityKind::kPod) pod = i;
  }
  REQUIRE(pod != 0);
  CHECK(observation.entities[3 - pod]->name == "unit/cron.service");
  CHECK(observation.entities[pod]->name == "pod/uid/" + kUid);
  CHECK(observation.samples[pod].gauges[GAUGE_memory_bytes] == 500);
  CHECK(observation.samples[pod].gauges[GAUGE_memory_use] == doctest::Approx(0.5));

  const auto id = observation.entities[pod]->id;
  pods.set(PodList{{PodInfo{kUid, "shop", "api-1", "Deployment/api", {}}}});
  REQUIRE((*source)->collect(observation).has_value());
  REQUIRE(observation.entities.size() == 3);
  CHECK(observation.entities[pod]->name == "pod/shop/api-1");
  CHECK(observation.entities[pod]->id == id);
  // Between two readings of the files the values are repeated.
  CHECK(observation.samples[pod].gauges[GAUGE_memory_bytes] == 500);
}

TEST_CASE("Whatever cannot be read is degraded by name with its reason, and the rest goes on") {
  const FileTree tree;
  make_node(tree);
  auto source = LiveSource::make(below(tree));
  REQUIRE(source.has_value());
  Observation observation;
  REQUIRE((*source)->collect(observation).has_value());
  CHECK(health(observation, "cgroup").state == ProbeState::kAttached);
  CHECK(health(observation, "kernel").state == ProbeState::kAttached);
  CHECK(health(observation, "psi").state == ProbeState::kDegraded);
  CHECK(health(observation, "psi").reason.find(tree.path("/proc/pressure")) != std::string::npos);
  CHECK(health(observation, "proc").state == ProbeState::kDegraded);
  CHECK(health(observation, "log").reason.find("/proc/stat/kmsg") != std::string::npos);
  CHECK(health(observation, "syscalls").state == ProbeState::kOff);
  CHECK(std::isnan(observation.samples[0].gauges[GAUGE_pressure_cpu]));
}

TEST_CASE(
    "Pods are degraded until the API server has told them, and while they cannot be listed, with the "
    "reason") {
  const FileTree tree;
  make_node(tree);
  Latest<PodList> pods;
  std::string error;
  auto options = below(tree);
  options.pods = &pods;
  options.pods_error = [&] { return error; };
  auto source = LiveSource::make(options);
  REQUIRE(source.has_value());
  const auto now = [&] {
    Observation observation;
    REQUIRE((*source)->collect(observation).has_value());
    return health(observation, "pods");
  };
  CHECK(now().reason == "the API server has told no pods of this node yet");
  error = "HTTP 403";
  CHECK(now().reason == "HTTP 403");
  pods.set(PodList{});
  CHECK(now().state == ProbeState::kDegraded);
  error.clear();
  CHECK(now().state == ProbeState::kAttached);
  CHECK(now().reason.empty());
}

TEST_CASE("A node without procfs is refused with one sentence") {
  LiveOptions options;
  options.files.proc = "/nonexistent/proc";
  options.use_kernel_probes = false;
  const auto source = LiveSource::make(options);
  REQUIRE_FALSE(source.has_value());
  CHECK(source.error().text.find("/nonexistent/proc/self/mountinfo") != std::string::npos);
}

}  // namespace
}  // namespace vedette
