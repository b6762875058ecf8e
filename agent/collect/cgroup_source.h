// Memory, CPU and pids of the node and of each entity against their limits, from cgroup v1, v2 or both side
// by side. Called by collect/LiveSource, tick thread only.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "agent/base/clock.h"
#include "agent/collect/cgroup_tree.h"
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
  // `proc` is where procfs is mounted ("/proc").
  CgroupSource(std::string proc, CgroupMounts mounts, FileBudget& budget);

  // memory_*: MemTotal - MemAvailable, and that of MemTotal. cpu_*: busy time of /proc/stat per second, and
  // that of all CPUs; the first call leaves them kMissing. pids: threads, of the nearer of pid_max and
  // threads-max. False if the files are not there.
  bool read_node(MonotonicNs now, Gauges& gauges);

  // memory_bytes: usage minus inactive_file. The shares are the worst of the entity's directories, each
  // against the lowest limit on its way up to the root; they stay kMissing without a limit. cpu_throttled:
  // throttled periods times the period per time passed.
  void read(const LivingEntity& entity, MonotonicNs now, Gauges& gauges);
  void forget(EntityId entity) { entities_.erase(entity); }

  // What the directory itself and those above allow together.
  CgroupLimits effective_limits(const std::string& path, MonotonicNs now);

private:
  struct CpuUse {
    double used_us = 0;
    double throttled_periods = 0;
  };
  // A directory that is read each round: a root of the entity, or a member with a limit of its own.
  struct Point {
    Point(const CgroupMounts& mounts, const std::string& directory, bool is_root, FileBudget& budget);
    std::string path;
    bool root;
    CgroupLimits limits;
    KeptFile memory_usage;
    KeptFile memory_stat;
    KeptFile cpu_usage;
    KeptFile cpu_stat;
    KeptFile pids;
    CpuUse cpu;
    MonotonicNs cpu_ns = 0;
  };
  struct Watched {
    std::vector<std::string> roots;
    std::vector<std::string> members;
    std::vector<Point> points;
    MonotonicNs limits_ns = 0;
  };
  struct CachedLimits {
    CgroupLimits limits;
    MonotonicNs read_ns = 0;
  };

  const CgroupLimits& own_limits(const std::string& path, MonotonicNs now);
  void choose_points(const LivingEntity& entity, Watched& watched, MonotonicNs now);
  std::optional<double> working_set(Point& point);
  std::optional<CpuUse> cpu_use(Point& point);

  std::string proc_;
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

  KeptFile meminfo_;
  KeptFile stat_;
  KeptFile loadavg_;
  double node_busy_ = 0;
  MonotonicNs node_busy_ns_ = 0;
  double max_tasks_ = 0;
  MonotonicNs max_tasks_ns_ = 0;
};

}  // namespace vedette
