#include "agent/collect/clock_source.h"

#include <cstdlib>

#include <sys/timex.h>

#include "agent/base/clock.h"

namespace vedette {

std::optional<ClockReading> read_clocks() {
  const auto before = static_cast<std::int64_t>(read_clock_ns(CLOCK_BOOTTIME));
  ClockReading reading;
  reading.wall_ns = static_cast<std::int64_t>(wall_now());
  reading.boot_ns = static_cast<std::int64_t>(read_clock_ns(CLOCK_BOOTTIME));
  // A busy hypervisor may stop us right here for seconds, which would look like a step.
  constexpr std::int64_t kHeldUpNs = 100'000'000;
  if (reading.boot_ns - before > kHeldUpNs) return std::nullopt;

  timex clock{};  // modes 0: nothing is set
  if (::adjtimex(&clock) >= 0) {
    reading.unsynchronized = (clock.status & STA_UNSYNC) != 0;
    reading.error_s = static_cast<double>(clock.esterror) / kUsPerSecond;
  }
  return reading;
}

void ClockSource::take(const std::optional<ClockReading>& reading, Gauges& gauges, FileCounts& counts) {
  if (reading) {
    constexpr std::int64_t kJumpNs = 1'000'000'000;
    const auto offset_ns = reading->wall_ns - reading->boot_ns;
    if (offset_ns_ && std::llabs(offset_ns - *offset_ns_) > kJumpNs) ++jumps_;
    offset_ns_ = offset_ns;
    if (reading->unsynchronized) {
      gauges[GAUGE_clock_unsynchronized] = *reading->unsynchronized ? 1 : 0;
      gauges[GAUGE_clock_error_s] = reading->error_s;
    }
  }
  counts.set(COUNTER_clock_jumps, jumps_);
}

}  // namespace vedette
