// Whether the node's clock can be trusted: steps of the wall clock, and what the kernel says of its
// synchronization. Called by collect/FileSources, tick thread only.
#pragma once

#include <cstdint>
#include <optional>

#include "agent/collect/file_counts.h"
#include "agent/collect/psi_source.h"

namespace vedette {

struct ClockReading {
  // The same moment by both clocks. CLOCK_BOOTTIME goes on while the machine sleeps, as the wall clock does:
  // a suspend moves neither against the other.
  std::int64_t wall_ns = 0;
  std::int64_t boot_ns = 0;
  std::optional<bool> unsynchronized;  // nothing: adjtimex(2) was refused
  double error_s = 0;
};
// Reads only: adjtimex(2) needs no privilege for that. Nothing if we were held up between the two clocks.
std::optional<ClockReading> read_clocks();

class ClockSource {
public:
  // clock_jumps: the wall clock moved by more than a second against the other since the last reading. A
  // daemon that slews moves both.
  void take(const std::optional<ClockReading>& reading, Gauges& gauges, FileCounts& counts);

private:
  std::optional<std::int64_t> offset_ns_;
  std::uint64_t jumps_ = 0;
};

}  // namespace vedette
