#include "agent/collect/cgroup_source.h"

#include <cmath>
#include <memory>
#include <string>

#include <doctest/doctest.h>

#include "tests/unit/collect/file_tree.h"

namespace vedette {
namespace {

constexpr MonotonicNs kSecond = 1'000'000'000;

Gauges no_gauges() {
  Gauges gauges;
  gauges.fill(kMissing);
  return gauges;
}

LivingEntity living(std::vector<std::string> roots, std::vector<std::string> members) {
  auto entity = std::make_shared<Entity>();
  entity->id = 1;
  return {entity, std::move(roots), std::move(members)};
}

void write_v2(const FileTree& tree, const std::string& path, const std::string& memory,
              const std::string& inactive, const std::string& max) {
  tree.write(path + "/memory.current", memory + "\n");
  tree.write(path + "/memory.stat", "anon 1\nfile 2\ninactive_file " + inactive + "\n");
  tree.write(path + "/memory.max", max + "\n");
}

TEST_CASE("cgroup v2: the working set stands against the lowest limit on the way up") {
  const FileTree tree;
  write_v2(tree, "/top", "9000", "0", "1000");
  write_v2(tree, "/top/job", "700", "200", "max");
  tree.write("/top/job/pids.current", "30\n");
  tree.write("/top/job/pids.max", "60\n");
  tree.write("/top/pids.max", "max\n");
  FileBudget budget(64);
  CgroupSource source("/nowhere", CgroupMounts{.unified = tree.path()}, budget);
  auto gauges = no_gauges();
  source.read(living({"/top/job"}, {"/top/job"}), kSecond, gauges);
  CHECK(gauges[GAUGE_memory_bytes] == 500);
  CHECK(gauges[GAUGE_memory_use] == doctest::Approx(0.5));
  CHECK(gauges[GAUGE_pids] == 30);
  CHECK(gauges[GAUGE_pids_use] == doctest::Approx(0.5));
  CHECK(std::isnan(gauges[GAUGE_cpu_cores]));
}

TEST_CASE("cgroup v2: a container near its own limit shows, though its pod has none") {
  const FileTree tree;
  write_v2(tree, "/pod", "1000", "0", "max");
  write_v2(tree, "/pod/app", "900", "0", "1000");
  write_v2(tree, "/pod/pause", "10", "0", "max");
  FileBudget budget(64);
  CgroupSource source("/nowhere", CgroupMounts{.unified = tree.path()}, budget);
  auto gauges = no_gauges();
  source.read(living({"/pod"}, {"/pod", "/pod/app", "/pod/pause"}), kSecond, gauges);
  CHECK(gauges[GAUGE_memory_bytes] == 1000);
  CHECK(gauges[GAUGE_memory_use] == doctest::Approx(0.9));
}

TEST_CASE("cgroup v2: CPU is a rate, against its quota, with the time it was held back") {
  const FileTree tree;
  tree.write("/job/cpu.max", "50000 100000\n");
  tree.write("/job/cpu.stat", "usage_usec 1000000\nnr_periods 10\nnr_throttled 5\nthrottled_usec 100\n");
  FileBudget budget(64);
  CgroupSource source("/nowhere", CgroupMounts{.unified = tree.path()}, budget);
  auto gauges = no_gauges();
  const auto entity = living({"/job"}, {"/job"});
  source.read(entity, 10 * kSecond, gauges);
  CHECK(std::isnan(gauges[GAUGE_cpu_cores]));
  tree.write("/job/cpu.stat", "usage_usec 1800000\nnr_periods 30\nnr_throttled 15\nthrottled_usec 900\n");
  gauges = no_gauges();
  source.read(entity, 12 * kSecond, gauges);
  CHECK(gauges[GAUGE_cpu_cores] == doctest::Approx(0.4));
  CHECK(gauges[GAUGE_cpu_limit_use] == doctest::Approx(0.8));
  CHECK(gauges[GAUGE_cpu_throttled] == doctest::Approx(0.5));

  // A restarted unit: the same path, a new cgroup that used less.
  tree.write("/job/cpu.stat", "usage_usec 10\nnr_periods 0\nnr_throttled 0\nthrottled_usec 0\n");
  gauges = no_gauges();
  source.read(entity, 14 * kSecond, gauges);
  CHECK(std::isnan(gauges[GAUGE_cpu_cores]));
}

TEST_CASE("cgroup v1: each controller is read in its own hierarchy") {
  const FileTree tree;
  tree.write("/memory/job/memory.usage_in_bytes", "800\n");
  tree.write("/memory/job/memory.stat", "inactive_file 1\ntotal_inactive_file 300\n");
  tree.write("/memory/job/memory.limit_in_bytes", "9223372036854771712\n");
  tree.write("/memory/memory.limit_in_bytes", "9223372036854771712\n");
  tree.write("/cpuacct/job/cpuacct.usage", "1000000000\n");
  tree.write("/cpu/job/cpu.stat", "nr_periods 0\nnr_throttled 0\nthrottled_time 0\n");
  tree.write("/cpu/job/cpu.cfs_quota_us", "200000\n");
  tree.write("/cpu/job/cpu.cfs_period_us", "100000\n");
  tree.write("/cpu/cpu.cfs_quota_us", "-1\n");
  tree.write("/pids/job/pids.current", "4\n");
  tree.write("/pids/job/pids.max", "max\n");
  FileBudget budget(64);
  CgroupSource source("/nowhere",
                      CgroupMounts{.unified = tree.path("/unified"),
                                   .memory = tree.path("/memory"),
                                   .cpu = tree.path("/cpu"),
                                   .cpuacct = tree.path("/cpuacct"),
                                   .pids = tree.path("/pids")},
                      budget);
  auto gauges = no_gauges();
  const auto entity = living({"/job"}, {"/job"});
  source.read(entity, 10 * kSecond, gauges);
  CHECK(gauges[GAUGE_memory_bytes] == 500);
  CHECK(std::isnan(gauges[GAUGE_memory_use]));
  CHECK(gauges[GAUGE_pids] == 4);
  CHECK(std::isnan(gauges[GAUGE_pids_use]));
  tree.write("/cpuacct/job/cpuacct.usage", "3000000000\n");
  tree.write("/memory/job/memory.limit_in_bytes", "1000\n");
  gauges = no_gauges();
  source.read(entity, 12 * kSecond, gauges);
  CHECK(gauges[GAUGE_cpu_cores] == doctest::Approx(1));
  CHECK(gauges[GAUGE_cpu_limit_use] == doctest::Approx(0.5));
  // Limits are read again after ten seconds, not at once.
  CHECK(std::isnan(gauges[GAUGE_memory_use]));
  gauges = no_gauges();
  source.read(entity, 21 * kSecond, gauges);
  CHECK(gauges[GAUGE_memory_use] == doctest::Approx(0.5));
}

TEST_CASE("Hybrid: a controller that v1 does not have is v2's") {
  const FileTree tree;
  tree.write("/memory/job/memory.usage_in_bytes", "800\n");
  tree.write("/memory/job/memory.stat", "total_inactive_file 0\n");
  tree.write("/unified/job/cpu.stat", "usage_usec 1000000\n");
  tree.write("/unified/job/pids.current", "7\n");
  FileBudget budget(64);
  CgroupSource source("/nowhere",
                      CgroupMounts{.unified = tree.path("/unified"), .memory = tree.path("/memory")}, budget);
  auto gauges = no_gauges();
  const auto entity = living({"/job"}, {"/job"});
  source.read(entity, 10 * kSecond, gauges);
  CHECK(gauges[GAUGE_memory_bytes] == 800);
  CHECK(gauges[GAUGE_pids] == 7);
  tree.write("/unified/job/cpu.stat", "usage_usec 2000000\n");
  source.read(entity, 12 * kSecond, gauges);
  CHECK(gauges[GAUGE_cpu_cores] == doctest::Approx(0.5));
}

TEST_CASE("A directory that is gone leaves its gauges missing") {
  const FileTree tree;
  write_v2(tree, "/job", "1", "0", "max");
  FileBudget budget(64);
  CgroupSource source("/nowhere", CgroupMounts{.unified = tree.path()}, budget);
  tree.remove("/job");
  auto gauges = no_gauges();
  source.read(living({"/job"}, {"/job"}), kSecond, gauges);
  for (const double gauge : gauges) CHECK(std::isnan(gauge));
  CHECK_FALSE(source.read_node(kSecond, gauges));
}

TEST_CASE("The node: memory that is not available, busy CPUs, threads of the nearer limit") {
  const FileTree tree;
  tree.write("/meminfo", "MemTotal:       1000 kB\nMemFree:         10 kB\nMemAvailable:    400 kB\n");
  tree.write("/stat", "cpu  100 0 50 1000 7 0 0 0 0 0\ncpu0 1 2\ncpu1 1 2\nintr 5\n");
  tree.write("/loadavg", "0.00 0.01 0.05 1/250 5678\n");
  tree.write("/sys/kernel/pid_max", "1000\n");
  tree.write("/sys/kernel/threads-max", "500\n");
  FileBudget budget(8);
  CgroupSource source(tree.path(), {}, budget);
  auto gauges = no_gauges();
  CHECK(source.read_node(10 * kSecond, gauges));
  CHECK(gauges[GAUGE_memory_bytes] == 600 * 1024);
  CHECK(gauges[GAUGE_memory_use] == doctest::Approx(0.6));
  CHECK(gauges[GAUGE_pids] == 250);
  CHECK(gauges[GAUGE_pids_use] == doctest::Approx(0.5));
  CHECK(std::isnan(gauges[GAUGE_cpu_cores]));
  tree.write("/stat", "cpu  200 0 150 1500 9 0 0 0 0 0\ncpu0 1 2\ncpu1 1 2\nintr 5\n");
  CHECK(source.read_node(12 * kSecond, gauges));
  CHECK(gauges[GAUGE_cpu_cores] == doctest::Approx(1));  // 200 ticks of 10 ms in 2 s
  CHECK(gauges[GAUGE_cpu_limit_use] == doctest::Approx(0.5));
}

}  // namespace
}  // namespace vedette
