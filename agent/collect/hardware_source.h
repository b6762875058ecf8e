// What the hardware's drivers keep books of in sysfs: memory errors, throttling, disks. Most machines lack
// some of it: that is unknown, not zero, and no fault. A thread of its own reads (a file of a sick disk may
// block); the tick thread takes the newest answer.
#pragma once

#include <chrono>
#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "agent/base/clock.h"
#include "agent/collect/file_counts.h"
#include "agent/collect/kept_file.h"
#include "agent/collect/polled.h"
#include "agent/collect/psi_source.h"

namespace vedette {

struct HardwareReading {
  MonotonicNs read_ns = 0;
  // Totals since the first reading; nothing: this machine does not say.
  std::optional<std::uint64_t> memory_errors_corrected;
  std::optional<std::uint64_t> memory_errors_uncorrected;
  std::optional<std::uint64_t> thermal_throttles;
  std::optional<std::uint64_t> btrfs_errors;
  std::optional<double> disk_queue_depth;
  std::optional<double> failed_disks;
};

// One look, without a thread: for tests and for the thread itself.
class HardwareReader {
public:
  // `sys` is where sysfs is mounted ("/sys").
  explicit HardwareReader(std::string sys) : sys_(std::move(sys)) {}
  HardwareReading read(MonotonicNs now);

private:
  // Counters of one kind, by whose they are; each look brings those that are there.
  struct Books {
    std::map<std::string, CountPart> parts;
    std::uint64_t total = 0;
  };
  using Entries = std::map<std::string, std::uint64_t>;

  std::optional<std::uint64_t> number(const std::string& path);
  static std::optional<std::uint64_t> enter(Books& books, const Entries& entries);
  void read_memory(HardwareReading& reading);
  void read_throttles(HardwareReading& reading);
  void read_btrfs(HardwareReading& reading);
  void read_disks(HardwareReading& reading);

  std::string sys_;
  ReadBuffer buffer_;
  Books corrected_;
  Books uncorrected_;
  Books throttles_;
  Books btrfs_;
};

class HardwareSource {
public:
  HardwareSource(const std::string& sys, std::chrono::milliseconds interval);

  // Sets what the newest answer says, or kMissing and unknown.
  void take(MonotonicNs now, Gauges& gauges, FileCounts& counts) const;
  // Seconds for which the thread has been held by a device; 0: all is well.
  double held_s(MonotonicNs now) const { return polled_.overdue_s(now); }

private:
  Polled<HardwareReading> polled_;
};

}  // namespace vedette
