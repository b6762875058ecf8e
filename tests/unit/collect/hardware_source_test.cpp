#include "agent/collect/hardware_source.h"

#include <cmath>
#include <string>
#include <thread>

#include <doctest/doctest.h>

#include "tests/unit/collect/file_tree.h"
#include "tests/unit/second.h"

namespace vedette {
namespace {

void write_cpu(const FileTree& tree, int cpu, int package, int core, int core_count, int package_count) {
  const auto path = "/devices/system/cpu/cpu" + std::to_string(cpu);
  tree.write(path + "/topology/physical_package_id", std::to_string(package) + "\n");
  tree.write(path + "/topology/core_id", std::to_string(core) + "\n");
  tree.write(path + "/thermal_throttle/core_throttle_count", std::to_string(core_count) + "\n");
  tree.write(path + "/thermal_throttle/package_throttle_count", std::to_string(package_count) + "\n");
}

void write_disk(const FileTree& tree, const std::string& name, const std::string& state,
                const std::string& inflight) {
  tree.write("/block/" + name + "/inflight", inflight);
  tree.write("/block/" + name + "/device/model", "x\n");
  if (!state.empty()) tree.write("/block/" + name + "/device/state", state + "\n");
}

TEST_CASE("A machine that has none of it says nothing, which is not zero") {
  const FileTree tree;
  tree.write("/devices/system/cpu/cpu0/topology/core_id", "0\n");
  tree.write("/devices/system/cpu/cpufreq/boost", "1\n");
  tree.write("/block/loop0/inflight", "       0        3\n");
  tree.write("/fs/btrfs/features/raid56", "0\n");
  HardwareReader reader(tree.path());
  const auto reading = reader.read(kSecond);
  CHECK(reading.read_ns == kSecond);
  CHECK_FALSE(reading.memory_errors_corrected.has_value());
  CHECK_FALSE(reading.memory_errors_uncorrected.has_value());
  CHECK_FALSE(reading.thermal_throttles.has_value());
  CHECK_FALSE(reading.btrfs_errors.has_value());
  CHECK_FALSE(reading.disk_queue_depth.has_value());
  CHECK_FALSE(reading.failed_disks.has_value());
}

TEST_CASE("Memory errors of all controllers are counted from the first look on") {
  const FileTree tree;
  const auto mc = std::string("/devices/system/edac/mc");
  tree.write(mc + "/mc0/ce_count", "100\n");
  tree.write(mc + "/mc0/ue_count", "0\n");
  tree.write(mc + "/mc1/ce_count", "5\n");
  tree.write(mc + "/mc1/ue_count", "rubbish\n");
  tree.write(mc + "/power/control", "auto\n");
  HardwareReader reader(tree.path());
  CHECK(reader.read(kSecond).memory_errors_corrected == 0U);
  tree.write(mc + "/mc0/ce_count", "103\n");
  tree.write(mc + "/mc0/ue_count", "1\n");
  tree.write(mc + "/mc1/ce_count", "2\n");  // somebody reset it: two since
  const auto reading = reader.read(2 * kSecond);
  CHECK(reading.memory_errors_corrected == 5U);
  CHECK(reading.memory_errors_uncorrected == 1U);
}

TEST_CASE("Throttling that every CPU of a core or package reports is one") {
  const FileTree tree;
  for (int cpu = 0; cpu < 4; ++cpu) write_cpu(tree, cpu, 0, cpu / 2, 10, 20);
  HardwareReader reader(tree.path());
  CHECK(reader.read(kSecond).thermal_throttles == 0U);
  // One event of core 1, seen by both of its threads, and two of the package, seen by all.
  for (int cpu = 0; cpu < 4; ++cpu) write_cpu(tree, cpu, 0, cpu / 2, cpu < 2 ? 10 : 11, 22);
  CHECK(reader.read(2 * kSecond).thermal_throttles == 3U);
}

TEST_CASE(
    "The errors btrfs counted are those since the first look, whatever a newly mounted one brings along") {
  const FileTree tree;
  tree.write("/fs/btrfs/uuid-a/devinfo/1/error_stats",
             "write_errs 1\nread_errs 2\nflush_errs 0\ncorruption_errs 0\ngeneration_errs 0\n");
  HardwareReader reader(tree.path());
  CHECK(reader.read(kSecond).btrfs_errors == 0U);
  tree.write("/fs/btrfs/uuid-a/devinfo/1/error_stats",
             "write_errs 2\nread_errs 2\nflush_errs 0\ncorruption_errs 4\ngeneration_errs 0\n");
  tree.write("/fs/btrfs/uuid-b/devinfo/1/error_stats", "write_errs 77\n");
  CHECK(reader.read(2 * kSecond).btrfs_errors == 5U);
}

TEST_CASE("Disks: the deepest queue, and those whose driver gave up, wherever it says so") {
  const FileTree tree;
  write_disk(tree, "sda", "running", "       1        2\n");
  write_disk(tree, "sdb", "offline", "       0        0\n");
  write_disk(tree, "vda", "", "       9        4\n");
  write_disk(tree, "nvme0n1", "live", "x\n");
  tree.write("/block/dm-0/inflight", "      99       99\n");
  tree.write("/class/nvme/nvme0/state", "live\n");
  tree.write("/class/nvme/nvme1/state", "dead\n");
  tree.write("/class/nvme/nvme2/state", "resetting\n");
  HardwareReader reader(tree.path());
  auto reading = reader.read(kSecond);
  CHECK(reading.disk_queue_depth == 13);
  CHECK(reading.failed_disks == 2);
  write_disk(tree, "sdb", "running", "       0        0\n");
  tree.remove("/class/nvme/nvme1");
  reading = reader.read(2 * kSecond);
  CHECK(reading.failed_disks == 0);
}

TEST_CASE("The thread's answers reach gauges and counters, and grow old") {
  const FileTree tree;
  tree.write("/devices/system/edac/mc/mc0/ce_count", "7\n");
  write_disk(tree, "sda", "offline", "       1        2\n");
  const HardwareSource source(tree.path(), std::chrono::milliseconds(10));
  Gauges gauges;
  FileCounts counts;
  Sample sample;
  for (int i = 0; i < 500; ++i) {
    source.take(monotonic_now(), gauges, counts);
    if (!std::isnan(gauges[GAUGE_failed_disks])) break;
    std::this_thread::sleep_for(std::chrono::milliseconds(10));
  }
  CHECK(gauges[GAUGE_failed_disks] == 1);
  CHECK(gauges[GAUGE_disk_queue_depth] == 3);
  counts.take(sample);
  CHECK_FALSE(sample.unknown.test(COUNTER_memory_errors_corrected));
  CHECK(sample.unknown.test(COUNTER_memory_errors_uncorrected));

  const auto later = monotonic_now() + 3600 * kSecond;
  CHECK(source.held_s(later) > 3000);
  source.take(later, gauges, counts);
  CHECK(std::isnan(gauges[GAUGE_failed_disks]));
  counts.take(sample);
  CHECK(sample.unknown.test(COUNTER_memory_errors_corrected));
}

}  // namespace
}  // namespace vedette
