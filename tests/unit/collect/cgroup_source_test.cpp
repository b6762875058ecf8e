#include "agent/collect/cgroup_source.h"

#include <cmath>
#include <memory>
#include <string>

#include <doctest/doctest.h>

#include "tests/unit/collect/file_tree.h"
#include "tests/unit/second.h"

namespace vedette {
namespace {

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
  CgroupSource source(CgroupMounts{.unified = tree.path()}, budget);
  auto gauges = Sample().gauges;
  FileCounts counts;
  source.read(living({"/top/job"}, {"/top/job"}), kSecond, gauges, counts);
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
  CgroupSource source(CgroupMounts{.unified = tree.path()}, budget);
  auto gauges = Sample().gauges;
  FileCounts counts;
  source.read(living({"/pod"}, {"/pod", "/pod/app", "/pod/pause"}), kSecond, gauges, counts);
  CHECK(gauges[GAUGE_memory_bytes] == 1000);
  CHECK(gauges[GAUGE_memory_use] == doctest::Approx(0.9));
}

TEST_CASE("cgroup v2: CPU is a rate, against its quota, with the time it was held back") {
  const FileTree tree;
  tree.write("/job/cpu.max", "50000 100000\n");
  tree.write("/job/cpu.stat", "usage_usec 1000000\nnr_periods 10\nnr_throttled 5\nthrottled_usec 100\n");
  FileBudget budget(64);
  CgroupSource source(CgroupMounts{.unified = tree.path()}, budget);
  auto gauges = Sample().gauges;
  FileCounts counts;
  const auto entity = living({"/job"}, {"/job"});
  source.read(entity, 10 * kSecond, gauges, counts);
  CHECK(std::isnan(gauges[GAUGE_cpu_cores]));
  tree.write("/job/cpu.stat", "usage_usec 1800000\nnr_periods 30\nnr_throttled 15\nthrottled_usec 900\n");
  gauges = Sample().gauges;
  source.read(entity, 12 * kSecond, gauges, counts);
  CHECK(gauges[GAUGE_cpu_cores] == doctest::Approx(0.4));
  CHECK(gauges[GAUGE_cpu_limit_use] == doctest::Approx(0.8));
  CHECK(gauges[GAUGE_cpu_throttled] == doctest::Approx(0.5));

  // A restarted unit: the same path, a new cgroup that used less.
  tree.write("/job/cpu.stat", "usage_usec 10\nnr_periods 0\nnr_throttled 0\nthrottled_usec 0\n");
  gauges = Sample().gauges;
  source.read(entity, 14 * kSecond, gauges, counts);
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
  CgroupSource source(CgroupMounts{.unified = tree.path("/unified"),
                                   .memory = tree.path("/memory"),
                                   .cpu = tree.path("/cpu"),
                                   .cpuacct = tree.path("/cpuacct"),
                                   .pids = tree.path("/pids")},
                      budget);
  auto gauges = Sample().gauges;
  FileCounts counts;
  const auto entity = living({"/job"}, {"/job"});
  source.read(entity, 10 * kSecond, gauges, counts);
  CHECK(gauges[GAUGE_memory_bytes] == 500);
  CHECK(std::isnan(gauges[GAUGE_memory_use]));
  CHECK(gauges[GAUGE_pids] == 4);
  CHECK(std::isnan(gauges[GAUGE_pids_use]));
  tree.write("/cpuacct/job/cpuacct.usage", "3000000000\n");
  tree.write("/memory/job/memory.limit_in_bytes", "1000\n");
  gauges = Sample().gauges;
  source.read(entity, 12 * kSecond, gauges, counts);
  CHECK(gauges[GAUGE_cpu_cores] == doctest::Approx(1));
  CHECK(gauges[GAUGE_cpu_limit_use] == doctest::Approx(0.5));
  // Limits are read again after half a minute, not at once.
  CHECK(std::isnan(gauges[GAUGE_memory_use]));
  gauges = Sample().gauges;
  source.read(entity, 41 * kSecond, gauges, counts);
  CHECK(gauges[GAUGE_memory_use] == doctest::Approx(0.5));
}

TEST_CASE("Hybrid: a controller that v1 does not have is v2's") {
  const FileTree tree;
  tree.write("/memory/job/memory.usage_in_bytes", "800\n");
  tree.write("/memory/job/memory.stat", "total_inactive_file 0\n");
  tree.write("/unified/job/cpu.stat", "usage_usec 1000000\n");
  tree.write("/unified/job/pids.current", "7\n");
  FileBudget budget(64);
  CgroupSource source(CgroupMounts{.unified = tree.path("/unified"), .memory = tree.path("/memory")}, budget);
  auto gauges = Sample().gauges;
  FileCounts counts;
  const auto entity = living({"/job"}, {"/job"});
  source.read(entity, 10 * kSecond, gauges, counts);
  CHECK(gauges[GAUGE_memory_bytes] == 800);
  CHECK(gauges[GAUGE_pids] == 7);
  tree.write("/unified/job/cpu.stat", "usage_usec 2000000\n");
  source.read(entity, 12 * kSecond, gauges, counts);
  CHECK(gauges[GAUGE_cpu_cores] == doctest::Approx(0.5));
}

TEST_CASE("A directory that is gone leaves its gauges missing") {
  const FileTree tree;
  write_v2(tree, "/job", "1", "0", "max");
  FileBudget budget(64);
  CgroupSource source(CgroupMounts{.unified = tree.path()}, budget);
  tree.remove("/job");
  auto gauges = Sample().gauges;
  FileCounts counts;
  source.read(living({"/job"}, {"/job"}), kSecond, gauges, counts);
  for (const double gauge : gauges) CHECK(std::isnan(gauge));
  Sample sample;
  counts.take(sample);
  CHECK(sample.unknown.test(COUNTER_page_faults));
}

TEST_CASE("cgroup v2: faults, limit hits and swap are those of its roots, with all below them") {
  const FileTree tree;
  const auto write = [&](const std::string& path, int faults, int high, int max) {
    write_v2(tree, path, "900", "0", "1000");
    tree.write(path + "/memory.stat", "anon 1\npgfault " + std::to_string(faults) + "\npgmajfault 2\n");
    tree.write(path + "/memory.events", "low 9\nhigh " + std::to_string(high) + "\nmax " +
                                            std::to_string(max) + "\noom " + std::to_string(max / 2) +
                                            "\noom_kill " + std::to_string(max / 3) + "\noom_group_kill 0\n");
    tree.write(path + "/memory.swap.current", "4096\n");
  };
  write("/a", 100, 1, 2);
  write("/a/app", 90, 1, 2);
  write("/b", 1000, 0, 0);
  FileBudget budget(64);
  CgroupSource source(CgroupMounts{.unified = tree.path()}, budget);
  auto gauges = Sample().gauges;
  FileCounts counts;
  const auto both = living({"/a", "/b"}, {"/a", "/a/app", "/b"});
  source.read(both, kSecond, gauges, counts);
  CHECK(gauges[GAUGE_swap_bytes] == 8192);
  Sample sample;
  counts.take(sample);
  CHECK(sample.counters[COUNTER_page_faults] == 0);  // counting begins here
  CHECK_FALSE(sample.unknown.test(COUNTER_page_faults));

  write("/a", 160, 4, 7);
  write("/a/app", 150, 4, 7);
  write("/b", 1001, 0, 1);
  source.read(both, 3 * kSecond, gauges, counts);
  counts.take(sample);
  CHECK(sample.counters[COUNTER_page_faults] == 61);
  CHECK(sample.counters[COUNTER_major_faults] == 0);
  CHECK(sample.counters[COUNTER_memory_high_events] == 3);
  CHECK(sample.counters[COUNTER_memory_oom_events] == 2);
  CHECK(sample.counters[COUNTER_memory_oom_kills] == 2);
  CHECK(sample.counters[COUNTER_memory_max_events] == 6);

  // One root ends, another begins: what is left behind is no new fault, what the new one did is.
  write("/c", 5, 0, 0);
  sample = {};
  source.read(living({"/a", "/c"}, {"/a", "/a/app", "/c"}), 5 * kSecond, gauges, counts);
  counts.take(sample);
  CHECK(sample.counters[COUNTER_page_faults] == 5);
}

TEST_CASE("memory.stat that stands still is read again when the usage moves, or after a while") {
  const FileTree tree;
  const auto write = [&](const char* usage, const char* faults) {
    tree.write("/job/memory.current", usage);
    tree.write("/job/memory.stat", std::string("inactive_file 0\npgfault ") + faults + "\npgmajfault 0\n");
  };
  FileBudget budget(64);
  CgroupSource source(CgroupMounts{.unified = tree.path()}, budget);
  FileCounts counts;
  const auto job = living({"/job"}, {"/job"});
  MonotonicNs now = 0;
  const auto faults = [&] {  // of one more round
    auto gauges = Sample().gauges;
    source.read(job, now += 2 * kSecond, gauges, counts);
    CHECK_FALSE(std::isnan(gauges[GAUGE_memory_bytes]));
    Sample sample;
    counts.take(sample);
    CHECK_FALSE(sample.unknown.test(COUNTER_page_faults));
    return sample.counters[COUNTER_page_faults];
  };
  write("900", "100");
  CHECK(faults() == 0);
  write("900", "107");  // nothing is known of its rest yet
  CHECK(faults() == 7);
  CHECK(faults() == 0);
  write("904", "110");
  CHECK(faults() == 3);
  CHECK(faults() == 0);
  write("904", "115");  // none of it shows in the usage
  std::uint64_t seen = 0;
  for (int round = 0; round < 5; ++round) seen += faults();
  CHECK(seen == 5);
  write("904", "116");  // it moves: each round is looked at
  CHECK(faults() == 1);
  write("904", "118");
  CHECK(faults() == 2);
}

TEST_CASE("cgroup v1: faults of the whole subtree, limit hits where the limit stands, no memory.high") {
  const FileTree tree;
  const auto write = [&](const std::string& path, const std::string& stat, int failures, const char* limit) {
    tree.write(path + "/memory.usage_in_bytes", "800\n");
    tree.write(path + "/memory.stat", stat);
    tree.write(path + "/memory.failcnt", std::to_string(failures) + "\n");
    tree.write(path + "/memory.limit_in_bytes", limit);
  };
  write("/pod", "pgfault 1\npgmajfault 0\ntotal_pgfault 50\ntotal_pgmajfault 6\ntotal_swap 12\n", 0, "-1");
  write("/pod/app", "total_pgfault 49\n", 3, "1000\n");
  FileBudget budget(64);
  CgroupSource source(CgroupMounts{.memory = tree.path()}, budget);
  auto gauges = Sample().gauges;
  FileCounts counts;
  const auto pod = living({"/pod"}, {"/pod", "/pod/app"});
  source.read(pod, kSecond, gauges, counts);
  write("/pod", "pgfault 1\npgmajfault 0\ntotal_pgfault 80\ntotal_pgmajfault 7\ntotal_swap 12\n", 0, "-1");
  write("/pod/app", "total_pgfault 79\n", 8, "1000\n");
  gauges = Sample().gauges;
  source.read(pod, 3 * kSecond, gauges, counts);
  Sample sample;
  counts.take(sample);
  CHECK(sample.counters[COUNTER_page_faults] == 30);
  CHECK(sample.counters[COUNTER_major_faults] == 1);
  CHECK(sample.counters[COUNTER_memory_max_events] == 5);
  for (const auto only_v2 : {COUNTER_memory_high_events, COUNTER_memory_oom_events, COUNTER_memory_oom_kills})
    CHECK(sample.unknown.test(only_v2));
  CHECK(gauges[GAUGE_swap_bytes] == 12);
}

}  // namespace
}  // namespace vedette
