// Memory, CPU and pids of each entity against its limits, from cgroup v1, v2 or both side by side. (The
// node's: collect/kernel_source.h.) Called by collect/FileSources, tick thread only.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "agent/base/clock.h"
#include "agent/collect/cgroup_tree.h"
#include "agent/collect/file_counts.h"
#include "agent/collect/kept_file.h"
#include "agent/collect/psi_source.h"
#include "agent/pods/pod_table.h"

namespace vedette {

// Limits of one directory itself; nothing: unlimited there.
struct CgroupLimits {
  std::optional<double> memory_bytes;
  std::optional<double> cpu_cores;
  std::optional<double> cpu_period_us;
  std::optional<double> pids;
};

class CgroupSource {
public:
  CgroupSource(CgroupMounts mounts, FileBudget& budget);

  // memory_bytes: usage minus inactive_file. The shares are the worst of the entity's directories, each
  // against the lowest limit on its way up to the root; they stay kMissing without a limit. cpu_throttled:
  // throttled periods times the period per time passed. page_faults, major_faults and swap_bytes: of all its
  // roots, with all below them; up to 8 s late where they begin to move in a directory that stood still and
  // whose usage does not change by a byte. memory_high_events, memory_max_events, memory_oom_events and
  // memory_oom_kills: likewise, but never late; v1 has only memory_max_events, and counts a limit only where
  // it stands.
  void read(const LivingEntity& entity, MonotonicNs now, Gauges& gauges, FileCounts& counts);
  void forget(EntityId entity) { entities_.erase(entity); }

  // What the directory itself and those above allow together.
  CgroupLimits effective_limits(const std::string& path, MonotonicNs now);

private:
  // In the order of kMemoryCounters (cgroup_source.cpp).
  using MemoryCounts = std::array<std::uint64_t, 6>;
  struct CpuUse {
    double used_us = 0;
    std::optional<double> throttled_periods;
  };
  // What is taken of memory.stat.
  struct MemoryStat {
    std::optional<std::uint64_t> inactive_file;
    std::optional<std::uint64_t> faults;
    std::optional<std::uint64_t> major_faults;
    std::optional<std::uint64_t> swap;  // v1
    bool operator==(const MemoryStat&) const = default;
  };
  // A directory that is read each round: a root of the entity, or a member with a limit of its own.
  struct Point {
    Point(const CgroupMounts& mounts, const std::string& directory, bool is_root, FileBudget& budget);
    std::string path;
    bool root;
    CgroupLimits limits;
    KeptFile memory_usage;
    KeptFile memory_stat;
    KeptFile memory_events;  // v1: memory.failcnt
    KeptFile memory_swap;    // v2 only
    KeptFile cpu_usage;
    KeptFile cpu_stat;
    KeptFile pids;
    CpuUse cpu;
    MonotonicNs cpu_ns = 0;
    MemoryCounts memory{};  // at the last reading
    std::optional<MemoryStat> stat;
    double stat_usage = 0;     // the usage when it was read
    bool stat_moved = true;    // it differed from the one before
    unsigned stat_rounds = 0;  // since
  };
  struct Watched {
    std::vector<std::string> roots;
    std::vector<std::string> members;
    std::vector<Point> points;
    MonotonicNs limits_due_ns = 0;
    // What all points ever counted: they come and go, and the sum of those that are there would run
    // backwards.
    MemoryCounts memory{};
  };
  struct CachedLimits {
    CgroupLimits limits;
    MonotonicNs read_ns = 0;
  };

  const CgroupLimits& own_limits(const std::string& path, MonotonicNs now);
  void choose_points(const LivingEntity& entity, Watched& watched, MonotonicNs now);
  const std::optional<MemoryStat>& memory_stat(Point& point, double usage);
  void read_memory(Watched& watched, Gauges& gauges, FileCounts& counts);
  std::optional<CpuUse> cpu_use(Point& point);

  CgroupMounts mounts_;
  bool memory_v2_;
  bool cpu_v2_;
  bool cpuacct_v2_;
  bool pids_v2_;
  FileBudget& budget_;
  ReadBuffer buffer_;
  std::unordered_map<EntityId, Watched> entities_;
  std::unordered_map<std::string, CachedLimits> limits_;
  MonotonicNs limits_swept_ns_ = 0;
};

}  // namespace vedette
