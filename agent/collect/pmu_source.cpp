#include "agent/collect/pmu_source.h"

#include <cerrno>
#include <cstring>
#include <set>
#include <utility>
#include <vector>

#include <linux/perf_event.h>
#include <sys/syscall.h>
#include <unistd.h>

namespace vedette {
namespace {

FileHandle open_event(const PmuEvent& event, int cpu) {
  perf_event_attr attr{};
  attr.size = sizeof(attr);
  attr.type = event.type;
  attr.config = event.config;
  attr.read_format = PERF_FORMAT_TOTAL_TIME_ENABLED | PERF_FORMAT_TOTAL_TIME_RUNNING;
  constexpr pid_t kEverybody = -1;
  constexpr int kNoGroup = -1;
  return FileHandle(static_cast<int>(
      ::syscall(SYS_perf_event_open, &attr, kEverybody, cpu, kNoGroup, PERF_FLAG_FD_CLOEXEC)));
}

}  // namespace

std::span<const PmuEvent> hardware_events() {
  static constexpr std::array<PmuEvent, 3> kHardware{{
      {COUNTER_cpu_cycles, PERF_TYPE_HARDWARE, PERF_COUNT_HW_CPU_CYCLES},
      {COUNTER_cpu_instructions, PERF_TYPE_HARDWARE, PERF_COUNT_HW_INSTRUCTIONS},
      {COUNTER_cache_misses, PERF_TYPE_HARDWARE, PERF_COUNT_HW_CACHE_MISSES},
  }};
  return kHardware;
}

PmuSource::PmuSource(std::span<const PmuEvent> events) : events_(events), totals_(events.size()) {
  std::set<int> errors;
  const auto cpus = static_cast<int>(::sysconf(_SC_NPROCESSORS_CONF));
  for (std::size_t i = 0; i < events_.size(); ++i) {
    for (int cpu = 0; cpu < cpus; ++cpu) {
      FileHandle file = open_event(events_[i], cpu);
      if (file) {
        open_.push_back({std::move(file), i, {}});
      } else if (errno != ENODEV) {  // that CPU is offline
        errors.insert(errno);
        break;  // the others will say the same
      }
    }
  }
  if (!open_.empty()) return;
  if (errors.contains(EACCES) || errors.contains(EPERM)) {
    reason_ = "the kernel refuses its performance counters: CAP_PERFMON is missing";
    return;
  }
  absent_ = true;
  reason_ = "the CPUs of this machine show no performance counters";
}

void PmuSource::read(FileCounts& counts) {
  std::vector<bool> heard(events_.size());
  for (Open& open : open_) {
    Value value;
    // Nothing to read: its CPU is offline now.
    if (::read(open.file.get(), &value, sizeof(value)) != sizeof(value)) continue;
    const Value last = std::exchange(open.last, value);
    const std::uint64_t count = value.count - last.count;
    const std::uint64_t enabled_ns = value.enabled_ns - last.enabled_ns;
    const std::uint64_t running_ns = value.running_ns - last.running_ns;
    // Where others use the counters too, the kernel lets them take turns.
    const bool turns = running_ns != 0 && running_ns < enabled_ns;
    totals_[open.event] +=
        turns ? static_cast<std::uint64_t>(static_cast<double>(count) * static_cast<double>(enabled_ns) /
                                           static_cast<double>(running_ns))
              : count;
    heard[open.event] = true;
  }
  // Of all CPUs together: the first total is where counting begins.
  for (std::size_t i = 0; i < events_.size(); ++i) {
    if (heard[i]) counts.set(events_[i].counter, totals_[i]);
  }
}

}  // namespace vedette
