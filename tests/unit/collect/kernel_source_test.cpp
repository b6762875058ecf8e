#include "agent/collect/kernel_source.h"

#include <cmath>
#include <string>

#include <doctest/doctest.h>

#include "tests/unit/collect/file_tree.h"
#include "tests/unit/second.h"

namespace vedette {
namespace {

void write_node(const FileTree& tree, const std::string& cpu, const std::string& vmstat) {
  tree.write("/meminfo",
             "MemTotal:       1000 kB\nMemFree:         10 kB\nMemAvailable:    400 kB\nSwapTotal: 200 kB\n"
             "SwapFree:       150 kB\nSlab:            30 kB\nPageTables:       4 kB\n");
  tree.write("/stat", "cpu  " + cpu + "\ncpu0 1 2\ncpu1 1 2\nintr 5\n");
  tree.write("/vmstat", vmstat);
  tree.write("/loadavg", "0.00 0.01 0.05 1/250 5678\n");
  tree.write("/sys/kernel/pid_max", "1000\n");
  tree.write("/sys/kernel/threads-max", "500\n");
  tree.write("/sys/kernel/tainted", "4609\n");
}

TEST_CASE(
    "The node: memory that is not available, CPU time by what it went to, threads of the nearer limit") {
  const FileTree tree;
  write_node(tree, "100 0 50 1000 7 10 20 30 0 0", "pgfault 5\n");
  FileBudget budget(8);
  KernelSource source(tree.path(), budget);
  auto gauges = Sample().gauges;
  FileCounts counts;
  CHECK(source.read(10 * kSecond, gauges, counts));
  CHECK(gauges[GAUGE_memory_bytes] == 600 * 1024);
  CHECK(gauges[GAUGE_memory_use] == doctest::Approx(0.6));
  CHECK(gauges[GAUGE_swap_bytes] == 50 * 1024);
  CHECK(gauges[GAUGE_swap_use] == doctest::Approx(0.25));
  CHECK(gauges[GAUGE_slab_bytes] == 30 * 1024);
  CHECK(gauges[GAUGE_page_table_bytes] == 4 * 1024);
  CHECK(gauges[GAUGE_kernel_taint] == 4609);
  CHECK(gauges[GAUGE_pids] == 250);
  CHECK(gauges[GAUGE_pids_use] == doctest::Approx(0.5));
  CHECK(std::isnan(gauges[GAUGE_cpu_cores]));
  CHECK(std::isnan(gauges[GAUGE_steal_time]));
  // 400 ticks of 10 ms are what two CPUs have in 2 s: 130 busy, 30 stolen, 40 idle, 200 waiting for disks.
  write_node(tree, "180 0 80 1040 207 14 36 60 0 0", "pgfault 5\n");
  CHECK(source.read(12 * kSecond, gauges, counts));
  CHECK(gauges[GAUGE_cpu_cores] == doctest::Approx(0.65));
  CHECK(gauges[GAUGE_cpu_limit_use] == doctest::Approx(0.325));
  CHECK(gauges[GAUGE_irq_time] == doctest::Approx(0.01));
  CHECK(gauges[GAUGE_softirq_time] == doctest::Approx(0.04));
  CHECK(gauges[GAUGE_steal_time] == doctest::Approx(0.075));
  // A CPU went offline and took its time with it.
  write_node(tree, "90 0 40 500 100 7 18 30 0 0", "pgfault 5\n");
  CHECK(source.read(14 * kSecond, gauges, counts));
  CHECK(gauges[GAUGE_cpu_cores] == 0);
  CHECK(gauges[GAUGE_steal_time] == 0);
}

TEST_CASE("The node's counters are what vmstat gained, and those it does not have are unknown") {
  const FileTree tree;
  const std::string cpu = "1 0 1 1 1 1 1 1 0 0";
  write_node(tree, cpu, "pgfault 1000\npgmajfault 10\npswpin 7\npswpout 8\npgfault_x 1\n");
  FileBudget budget(8);
  KernelSource source(tree.path(), budget);
  auto gauges = Sample().gauges;
  FileCounts counts;
  CHECK(source.read(kSecond, gauges, counts));
  write_node(tree, cpu, "pgfault 1500\npgmajfault 11\npswpin 7\npswpout 108\n");
  CHECK(source.read(2 * kSecond, gauges, counts));
  Sample sample;
  counts.take(sample);
  CHECK(sample.counters[COUNTER_page_faults] == 500);
  CHECK(sample.counters[COUNTER_major_faults] == 1);
  CHECK(sample.counters[COUNTER_swapped_in_pages] == 0);
  CHECK_FALSE(sample.unknown.test(COUNTER_swapped_in_pages));
  CHECK(sample.counters[COUNTER_swapped_out_pages] == 100);
  CHECK(sample.unknown.test(COUNTER_huge_page_splits));
}

TEST_CASE("A node without swap has no share of it, and rubbish is missing, not zero") {
  const FileTree tree;
  write_node(tree, "1 1 1 1", "");
  tree.write("/meminfo", "MemTotal: 0 kB\nMemAvailable: x\nSwapTotal: 0 kB\nSwapFree: 0 kB\n");
  tree.write("/sys/kernel/tainted", "-\n");
  tree.write("/loadavg", "no slash\n");
  FileBudget budget(8);
  KernelSource source(tree.path(), budget);
  auto gauges = Sample().gauges;
  FileCounts counts;
  CHECK_FALSE(source.read(kSecond, gauges, counts));
  CHECK(std::isnan(gauges[GAUGE_memory_use]));
  CHECK(std::isnan(gauges[GAUGE_memory_bytes]));
  CHECK(gauges[GAUGE_swap_bytes] == 0);
  CHECK(std::isnan(gauges[GAUGE_swap_use]));
  CHECK(std::isnan(gauges[GAUGE_kernel_taint]));
  CHECK(std::isnan(gauges[GAUGE_pids]));

  const FileTree empty;
  KernelSource nothing(empty.path(), budget);
  gauges = Sample().gauges;
  CHECK_FALSE(nothing.read(kSecond, gauges, counts));
  for (const double gauge : gauges) CHECK(std::isnan(gauge));
}

}  // namespace
}  // namespace vedette
