// What the kernel says of the whole node in /proc: memory, CPU time, tasks, swap, its own memory. Called by
// collect/FileSources, tick thread only.
#pragma once

#include <array>
#include <string>
#include <string_view>

#include "agent/base/clock.h"
#include "agent/collect/file_counts.h"
#include "agent/collect/kept_file.h"
#include "agent/collect/psi_source.h"

namespace vedette {

class KernelSource {
public:
  // `proc` is where procfs is mounted ("/proc").
  KernelSource(std::string proc, FileBudget& budget);

  // memory_*: MemTotal - MemAvailable, and that of MemTotal. swap_*: of SwapTotal; swap_use is missing where
  // there is no swap. cpu_*, irq_time, softirq_time, steal_time: since the call before, of /proc/stat; the
  // first call leaves them kMissing. pids: threads, of the nearer of pid_max and threads-max. Counters: those
  // of /proc/vmstat. False if stat, meminfo, vmstat or loadavg is not there; a line that this kernel does not
  // have leaves its signal unknown.
  bool read(MonotonicNs now, Gauges& gauges, FileCounts& counts);

private:
  // Columns of the line "cpu" in /proc/stat; guest time, which follows, is already in user.
  enum CpuTime { kUser, kNice, kSystem, kIdle, kIowait, kIrq, kSoftirq, kSteal, kCpuTimes };
  using CpuTimes = std::array<double, kCpuTimes>;

  static bool read_memory(std::string_view meminfo, Gauges& gauges);
  void read_cpu(std::string_view stat, MonotonicNs now, Gauges& gauges);
  static void read_counters(std::string_view vmstat, FileCounts& counts);
  bool read_tasks(MonotonicNs now, Gauges& gauges);

  std::string proc_;
  ReadBuffer buffer_;
  KeptFile meminfo_;
  KeptFile stat_;
  KeptFile vmstat_;
  KeptFile loadavg_;
  KeptFile tainted_;
  CpuTimes cpu_{};
  MonotonicNs cpu_ns_ = 0;
  double max_tasks_ = 0;
  MonotonicNs max_tasks_ns_ = 0;
};

}  // namespace vedette
