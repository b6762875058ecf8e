#include "agent/collect/cgroup_source.h"

#include <algorithm>
#include <bitset>
#include <cmath>
#include <utility>

namespace vedette {
namespace {

// Limits change when people or kubelet change them; half a minute late is early enough for a forecast of a
// minute, and a round of reading costs three opens for each directory: 50 of them at once took 5 ms, so each
// entity has a period of its own. A directory that was just made gets its limits in the next moment.
constexpr MonotonicNs kTurnNs = 2'000'000'000;
constexpr MonotonicNs kLimitsAgeNs = 20'000'000'000;
constexpr MonotonicNs kNewLimitsAgeNs = 2'000'000'000;

MonotonicNs limits_age(EntityId entity, bool changed) {
  return changed ? kNewLimitsAgeNs + entity % 3 * kTurnNs : kLimitsAgeNs + entity % 5 * kTurnNs;
}

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

void add(double& gauge, double value) {
  gauge = std::isnan(gauge) ? value : gauge + value;
}

// Places in CgroupSource::MemoryCounts.
enum MemoryCount { kFaults, kMajorFaults, kHighEvents, kMaxEvents, kOomEvents, kOomKills };
constexpr std::array<vedette_counter, 6> kMemoryCounters{
    COUNTER_page_faults,       COUNTER_major_faults,      COUNTER_memory_high_events,
    COUNTER_memory_max_events, COUNTER_memory_oom_events, COUNTER_memory_oom_kills};

// memory.stat is the dearest of a pod's files, a tenth of all that the agent costs. One in which nothing
// moved, of a directory whose usage is the same to the byte, is read again only after this many rounds.
constexpr unsigned kStillRounds = 5;

bool has_limit(const CgroupLimits& limits) {
  return limits.memory_bytes || limits.cpu_cores || limits.pids;
}

}  // namespace

CgroupSource::CgroupSource(CgroupMounts mounts, FileBudget& budget)
    : mounts_(std::move(mounts)),
      memory_v2_(mounts_.memory.empty()),
      cpu_v2_(mounts_.cpu.empty()),
      cpuacct_v2_(mounts_.cpuacct.empty()),
      pids_v2_(mounts_.pids.empty()),
      budget_(budget) {
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
      memory_events(mounts.memory + directory +
                        (mounts.memory == mounts.unified ? "/memory.events" : "/memory.failcnt"),
                    budget),
      memory_swap(mounts.memory + directory + "/memory.swap.current", budget),
      cpu_usage(mounts.cpuacct + directory + "/cpuacct.usage", budget),
      cpu_stat(mounts.cpu + directory + "/cpu.stat", budget),
      pids(mounts.pids + directory + "/pids.current", budget) {}

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
  if (!changed && now < watched.limits_due_ns) return;
  watched.roots = entity.roots;
  watched.members = entity.members;
  watched.limits_due_ns = now + limits_age(entity.entity->id, changed);

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

const std::optional<CgroupSource::MemoryStat>& CgroupSource::memory_stat(Point& point, double usage) {
  const bool still = point.stat && !point.stat_moved && usage == point.stat_usage;
  if (still && ++point.stat_rounds < kStillRounds) return point.stat;
  // v1 has each key twice: of the directory itself, and as "total_" with those below it.
  const auto key = [&](const char* v2, const char* v1) { return memory_v2_ ? v2 : v1; };
  std::optional<MemoryStat> stat;
  if (const auto text = point.memory_stat.read(buffer_)) {
    stat = MemoryStat{.inactive_file = find_number(*text, key("inactive_file", "total_inactive_file")),
                      .faults = find_number(*text, key("pgfault", "total_pgfault")),
                      .major_faults = find_number(*text, key("pgmajfault", "total_pgmajfault")),
                      .swap = memory_v2_ ? std::nullopt : find_number(*text, "total_swap")};
  }
  point.stat_moved = stat != point.stat;
  point.stat_usage = usage;
  point.stat_rounds = 0;
  point.stat = stat;
  return point.stat;
}

void CgroupSource::read_memory(Watched& watched, Gauges& gauges, FileCounts& counts) {
  if (mounts_.memory.empty()) return;
  std::bitset<kMemoryCounters.size()> said;
  for (auto& point : watched.points) {
    if (!point.root && !point.limits.memory_bytes) continue;
    const auto usage_text = point.memory_usage.read(buffer_);
    const auto usage = usage_text ? to_double(parse_number(*usage_text)) : std::nullopt;
    if (!usage) continue;
    const auto count = [&](MemoryCount which, std::optional<std::uint64_t> total) {
      if (!total) return;
      auto& last = point.memory[which];
      watched.memory[which] += *total >= last ? *total - last : *total;  // less: a new one of the same name
      last = *total;
      said.set(which);
    };

    if (const auto& stat = memory_stat(point, *usage)) {
      const double working_set = std::max(0.0, *usage - to_double(stat->inactive_file).value_or(0));
      if (point.limits.memory_bytes && *point.limits.memory_bytes > 0) {
        raise_gauge(gauges[GAUGE_memory_use], working_set / *point.limits.memory_bytes);
      }
      if (point.root) {
        add(gauges[GAUGE_memory_bytes], working_set);
        count(kFaults, stat->faults);
        count(kMajorFaults, stat->major_faults);
        if (const auto swap = to_double(stat->swap)) add(gauges[GAUGE_swap_bytes], *swap);
      }
    }
    if (!memory_v2_) {
      const auto failures = point.memory_events.read(buffer_);
      if (failures) count(kMaxEvents, parse_number(*failures));
    } else if (point.root) {
      if (const auto events = point.memory_events.read(buffer_)) {
        count(kHighEvents, find_number(*events, "high"));
        count(kMaxEvents, find_number(*events, "max"));
        count(kOomEvents, find_number(*events, "oom"));
        count(kOomKills, find_number(*events, "oom_kill"));
      }
      const auto swap = point.memory_swap.read(buffer_);
      if (const auto bytes = swap ? to_double(parse_number(*swap)) : std::nullopt) {
        add(gauges[GAUGE_swap_bytes], *bytes);
      }
    }
  }
  for (std::size_t i = 0; i < kMemoryCounters.size(); ++i) {
    if (said.test(i)) {
      counts.set(kMemoryCounters[i], watched.memory[i]);
    } else {
      counts.forget(kMemoryCounters[i]);
    }
  }
}

std::optional<CgroupSource::CpuUse> CgroupSource::cpu_use(Point& point) {
  CpuUse use;
  std::optional<double> used_us;
  // v1's says nothing but what a quota did.
  if (!mounts_.cpu.empty() && (cpuacct_v2_ || point.limits.cpu_cores)) {
    if (const auto text = point.cpu_stat.read(buffer_)) {
      use.throttled_periods = to_double(find_number(*text, "nr_throttled"));
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

void CgroupSource::read(const LivingEntity& entity, MonotonicNs now, Gauges& gauges, FileCounts& counts) {
  auto& watched = entities_[entity.entity->id];
  choose_points(entity, watched, now);
  read_memory(watched, gauges, counts);
  for (auto& point : watched.points) {
    if (point.root || point.limits.cpu_cores) {
      const auto use = cpu_use(point);
      const double passed_us = seconds_between(point.cpu_ns, now) * kUsPerSecond;
      if (use && point.cpu_ns != 0 && passed_us > 0 && use->used_us >= point.cpu.used_us) {
        const double cores = (use->used_us - point.cpu.used_us) / passed_us;
        if (point.root) add(gauges[GAUGE_cpu_cores], cores);
        if (point.limits.cpu_cores) raise_gauge(gauges[GAUGE_cpu_limit_use], cores / *point.limits.cpu_cores);
        // Without a quota there are none, and none is known until the first reading with one.
        const double periods = use->throttled_periods && point.cpu.throttled_periods
                                   ? *use->throttled_periods - *point.cpu.throttled_periods
                                   : 0;
        const double held_us = std::max(0.0, periods) * point.limits.cpu_period_us.value_or(0);
        raise_gauge(gauges[GAUGE_cpu_throttled], std::min(1.0, held_us / passed_us));
      }
      if (use) point.cpu = *use;
      point.cpu_ns = use ? now : 0;
    }
    if ((point.root || point.limits.pids) && !mounts_.pids.empty()) {
      const auto text = point.pids.read(buffer_);
      if (const auto tasks = text ? to_double(parse_number(*text)) : std::nullopt) {
        if (point.root) add(gauges[GAUGE_pids], *tasks);
        if (point.limits.pids && *point.limits.pids > 0) {
          raise_gauge(gauges[GAUGE_pids_use], *tasks / *point.limits.pids);
        }
      }
    }
  }
}

}  // namespace vedette
