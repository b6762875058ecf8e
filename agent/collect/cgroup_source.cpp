#include "agent/collect/cgroup_source.h"

#include <algorithm>
#include <cmath>
#include <utility>

#include <unistd.h>

namespace vedette {
namespace {

constexpr double kUsPerSecond = 1e6;
// Limits change when people or kubelet change them; ten seconds late is early enough for a forecast, and a
// round of reading costs three opens for each directory.
constexpr MonotonicNs kLimitsAgeNs = 10'000'000'000;
// Entities take turns, so that not all are asked in one round: 50 of them at once took 5 ms.
constexpr MonotonicNs kTurnNs = 2'000'000'000;
constexpr MonotonicNs kTurns = kLimitsAgeNs / kTurnNs;
// Entities read in the same round share what stands above them.
constexpr MonotonicNs kSharedLimitsNs = 1'000'000'000;
// cgroup v1 writes "no limit" as the largest multiple of the page size.
constexpr double kUnlimitedBytes = 1e18;

std::optional<double> to_double(std::optional<std::uint64_t> number) {
  if (!number) return std::nullopt;
  return static_cast<double>(*number);
}

void lower(std::optional<double>& limit, const std::optional<double>& other) {
  if (other && (!limit || *other < *limit)) limit = other;
}

void raise(double& gauge, double value) {
  if (std::isnan(gauge) || value > gauge) gauge = value;
}

void add(double& gauge, double value) {
  gauge = std::isnan(gauge) ? value : gauge + value;
}

bool has_limit(const CgroupLimits& limits) {
  return limits.memory_bytes || limits.cpu_cores || limits.pids;
}

}  // namespace

CgroupSource::CgroupSource(std::string proc, CgroupMounts mounts, FileBudget& budget)
    : proc_(std::move(proc)),
      mounts_(std::move(mounts)),
      memory_v2_(mounts_.memory.empty()),
      cpu_v2_(mounts_.cpu.empty()),
      cpuacct_v2_(mounts_.cpuacct.empty()),
      pids_v2_(mounts_.pids.empty()),
      budget_(budget),
      meminfo_(proc_ + "/meminfo", budget),
      stat_(proc_ + "/stat", budget),
      loadavg_(proc_ + "/loadavg", budget) {
  if (memory_v2_) mounts_.memory = mounts_.unified;
  if (cpu_v2_) mounts_.cpu = mounts_.unified;
  if (cpuacct_v2_) mounts_.cpuacct = mounts_.unified;
  if (pids_v2_) mounts_.pids = mounts_.unified;
}

CgroupSource::Point::Point(const CgroupMounts& mounts, const std::string& directory, bool is_root,
                           FileBudget& budget)
    : path(directory),
      root(is_root),
      memory_usage(mounts.memory + directory +
                       (mounts.memory == mounts.unified ? "/memory.current" : "/memory.usage_in_bytes"),
                   budget),
      memory_stat(mounts.memory + directory + "/memory.stat", budget),
      cpu_usage(mounts.cpuacct + directory + "/cpuacct.usage", budget),
      cpu_stat(mounts.cpu + directory + "/cpu.stat", budget),
      pids(mounts.pids + directory + "/pids.current", budget) {}

bool CgroupSource::read_node(MonotonicNs now, Gauges& gauges) {
  bool complete = true;
  if (const auto text = meminfo_.read(buffer_)) {
    const auto total = find_number(*text, "MemTotal:");
    const auto available = find_number(*text, "MemAvailable:");
    if (total && available && *total > 0) {
      constexpr double kBytesPerKb = 1024;
      const double used = static_cast<double>(*total) - static_cast<double>(*available);
      gauges[GAUGE_memory_bytes] = used * kBytesPerKb;
      gauges[GAUGE_memory_use] = used / static_cast<double>(*total);
    }
  } else {
    complete = false;
  }

  if (const auto text = stat_.read(buffer_)) {
    // user nice system idle iowait irq softirq steal; guest time is already in user.
    auto line = find_line(*text, "cpu").value_or("");
    constexpr int kIdle = 3;
    constexpr int kIowait = 4;
    constexpr int kFields = 8;
    double busy = 0;
    for (int i = 0; i < kFields; ++i) {
      const auto ticks = parse_number(next_word(line));
      if (ticks && i != kIdle && i != kIowait) busy += static_cast<double>(*ticks);
    }
    double cpus = 0;
    auto rest = *text;
    std::string_view row;
    while (next_line(rest, row) && row.starts_with("cpu")) ++cpus;
    cpus = std::max(1.0, cpus - 1);
    busy /= static_cast<double>(::sysconf(_SC_CLK_TCK));
    const double passed = seconds_between(node_busy_ns_, now);
    if (node_busy_ns_ != 0 && passed > 0) {
      const double cores = std::max(0.0, busy - node_busy_) / passed;
      gauges[GAUGE_cpu_cores] = cores;
      gauges[GAUGE_cpu_limit_use] = std::min(1.0, cores / cpus);
    }
    node_busy_ = busy;
    node_busy_ns_ = now;
  } else {
    complete = false;
  }

  if (max_tasks_ns_ == 0 || now > max_tasks_ns_ + kLimitsAgeNs) {
    std::optional<double> limit;
    for (const auto* name : {"/sys/kernel/pid_max", "/sys/kernel/threads-max"}) {
      const auto text = buffer_.read_path(proc_ + name);
      if (text) lower(limit, to_double(parse_number(*text)));
    }
    max_tasks_ = limit.value_or(0);
    max_tasks_ns_ = now;
  }
  if (const auto text = loadavg_.read(buffer_)) {
    // "0.00 0.01 0.05 1/234 5678": 234 threads exist.
    const auto slash = text->find('/');
    if (slash != std::string_view::npos) {
      if (const auto tasks = to_double(parse_number(text->substr(slash + 1)))) {
        gauges[GAUGE_pids] = *tasks;
        if (max_tasks_ > 0) gauges[GAUGE_pids_use] = *tasks / max_tasks_;
      }
    }
  } else {
    complete = false;
  }
  return complete;
}

const CgroupLimits& CgroupSource::own_limits(const std::string& path, MonotonicNs now) {
  auto& cached = limits_[path];
  if (cached.read_ns != 0 && now < cached.read_ns + kSharedLimitsNs) return cached.limits;
  cached.read_ns = now;
  cached.limits = {};
  auto& limits = cached.limits;
  const auto directory = path == "/" ? std::string() : path;

  if (!mounts_.memory.empty()) {
    const auto text = buffer_.read_path(mounts_.memory + directory +
                                        (memory_v2_ ? "/memory.max" : "/memory.limit_in_bytes"));
    if (text) limits.memory_bytes = to_double(parse_number(*text));
    if (limits.memory_bytes && *limits.memory_bytes > kUnlimitedBytes) limits.memory_bytes.reset();
  }
  if (!mounts_.cpu.empty()) {
    std::optional<double> quota;
    std::optional<double> period;
    if (cpu_v2_) {
      if (const auto text = buffer_.read_path(mounts_.cpu + directory + "/cpu.max")) {
        auto rest = *text;
        quota = to_double(parse_number(next_word(rest)));
        period = to_double(parse_number(rest));
      }
    } else {
      if (const auto text = buffer_.read_path(mounts_.cpu + directory + "/cpu.cfs_quota_us")) {
        quota = to_double(parse_number(*text));
      }
      if (quota) {
        if (const auto text = buffer_.read_path(mounts_.cpu + directory + "/cpu.cfs_period_us")) {
          period = to_double(parse_number(*text));
        }
      }
    }
    if (quota && period && *period > 0) {
      limits.cpu_cores = *quota / *period;
      limits.cpu_period_us = period;
    }
  }
  if (!mounts_.pids.empty()) {
    if (const auto text = buffer_.read_path(mounts_.pids + directory + "/pids.max")) {
      limits.pids = to_double(parse_number(*text));
    }
  }
  return limits;
}

CgroupLimits CgroupSource::effective_limits(const std::string& path, MonotonicNs now) {
  CgroupLimits effective;
  for (std::string at = path;;) {
    const auto& own = own_limits(at, now);
    lower(effective.memory_bytes, own.memory_bytes);
    lower(effective.pids, own.pids);
    if (own.cpu_cores && (!effective.cpu_cores || *own.cpu_cores < *effective.cpu_cores)) {
      effective.cpu_cores = own.cpu_cores;
      effective.cpu_period_us = own.cpu_period_us;
    }
    if (at == "/") return effective;
    const auto slash = at.rfind('/');
    at = slash == 0 || slash == std::string::npos ? "/" : at.substr(0, slash);
  }
}

void CgroupSource::choose_points(const LivingEntity& entity, Watched& watched, MonotonicNs now) {
  const bool changed = watched.roots != entity.roots || watched.members != entity.members;
  if (!changed && watched.limits_ns != 0 && now < watched.limits_ns + kLimitsAgeNs) return;
  const bool first = watched.limits_ns == 0;
  const MonotonicNs turn = first ? entity.entity->id % kTurns * kTurnNs : 0;
  watched.roots = entity.roots;
  watched.members = entity.members;
  watched.limits_ns = now > turn ? now - turn : now;

  std::vector<Point> points;
  const auto take = [&](const std::string& path, bool root) {
    const auto old = std::find_if(watched.points.begin(), watched.points.end(),
                                  [&](const Point& point) { return point.path == path; });
    if (old != watched.points.end()) {
      points.push_back(std::move(*old));
      watched.points.erase(old);
    } else {
      points.emplace_back(mounts_, path, root, budget_);
    }
    points.back().limits = effective_limits(path, now);
  };
  for (const auto& root : entity.roots) take(root, true);
  for (const auto& member : entity.members) {
    const bool root = std::find(entity.roots.begin(), entity.roots.end(), member) != entity.roots.end();
    if (!root && has_limit(own_limits(member, now))) take(member, false);
  }
  watched.points = std::move(points);

  if (now > limits_swept_ns_ + 6 * kLimitsAgeNs) {  // of directories that nobody asks for any more
    limits_swept_ns_ = now;
    std::erase_if(limits_, [&](const auto& entry) { return now > entry.second.read_ns + 6 * kLimitsAgeNs; });
  }
}

std::optional<double> CgroupSource::working_set(Point& point) {
  if (mounts_.memory.empty()) return std::nullopt;
  const auto usage_text = point.memory_usage.read(buffer_);
  const auto usage = usage_text ? to_double(parse_number(*usage_text)) : std::nullopt;
  if (!usage) return std::nullopt;
  const auto stat = point.memory_stat.read(buffer_);
  if (!stat) return std::nullopt;
  const auto inactive =
      to_double(find_number(*stat, memory_v2_ ? "inactive_file" : "total_inactive_file")).value_or(0);
  return std::max(0.0, *usage - inactive);
}

std::optional<CgroupSource::CpuUse> CgroupSource::cpu_use(Point& point) {
  CpuUse use;
  std::optional<double> used_us;
  if (!mounts_.cpu.empty()) {
    if (const auto text = point.cpu_stat.read(buffer_)) {
      use.throttled_periods = to_double(find_number(*text, "nr_throttled")).value_or(0);
      used_us = to_double(find_number(*text, "usage_usec"));
    }
  }
  if (!cpuacct_v2_) {
    const auto text = point.cpu_usage.read(buffer_);
    used_us = text ? to_double(parse_number(*text)) : std::nullopt;
    constexpr double kNsPerUs = 1000;
    if (used_us) *used_us /= kNsPerUs;
  }
  if (!used_us) return std::nullopt;
  use.used_us = *used_us;
  return use;
}

void CgroupSource::read(const LivingEntity& entity, MonotonicNs now, Gauges& gauges) {
  auto& watched = entities_[entity.entity->id];
  choose_points(entity, watched, now);
  for (auto& point : watched.points) {
    if (point.root || point.limits.memory_bytes) {
      if (const auto bytes = working_set(point)) {
        if (point.root) add(gauges[GAUGE_memory_bytes], *bytes);
        if (point.limits.memory_bytes && *point.limits.memory_bytes > 0) {
          raise(gauges[GAUGE_memory_use], *bytes / *point.limits.memory_bytes);
        }
      }
    }
    if (point.root || point.limits.cpu_cores) {
      const auto use = cpu_use(point);
      const double passed_us = seconds_between(point.cpu_ns, now) * kUsPerSecond;
      if (use && point.cpu_ns != 0 && passed_us > 0 && use->used_us >= point.cpu.used_us) {
        const double cores = (use->used_us - point.cpu.used_us) / passed_us;
        if (point.root) add(gauges[GAUGE_cpu_cores], cores);
        if (point.limits.cpu_cores) raise(gauges[GAUGE_cpu_limit_use], cores / *point.limits.cpu_cores);
        const double periods = std::max(0.0, use->throttled_periods - point.cpu.throttled_periods);
        const double held_us = periods * point.limits.cpu_period_us.value_or(0);
        raise(gauges[GAUGE_cpu_throttled], std::min(1.0, held_us / passed_us));
      }
      if (use) point.cpu = *use;
      point.cpu_ns = use ? now : 0;
    }
    if ((point.root || point.limits.pids) && !mounts_.pids.empty()) {
      const auto text = point.pids.read(buffer_);
      if (const auto tasks = text ? to_double(parse_number(*text)) : std::nullopt) {
        if (point.root) add(gauges[GAUGE_pids], *tasks);
        if (point.limits.pids && *point.limits.pids > 0) {
          raise(gauges[GAUGE_pids_use], *tasks / *point.limits.pids);
        }
      }
    }
  }
}

}  // namespace vedette
