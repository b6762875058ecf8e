// The CPUs' own counters (PMU): cycles, instructions and cache misses of the whole node. They run by
// themselves and cost nothing until they are read. Called by collect/FileSources, tick thread only.
#pragma once

#include <array>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "agent/base/handle.h"
#include "agent/collect/file_counts.h"
#include "bpf/signals.h"

namespace vedette {

// As perf_event_open(2) has it.
struct PmuEvent {
  vedette_counter counter;
  std::uint32_t type;
  std::uint64_t config;
};
std::span<const PmuEvent> hardware_events();

class PmuSource {
public:
  // Counts `events` on every CPU that is online now.
  explicit PmuSource(std::span<const PmuEvent> events = hardware_events());

  // Sets what is counted; counters this machine does not have stay unknown.
  void read(FileCounts& counts);

  // Nothing is counted: no such counters here (most virtual machines), or no right to them.
  bool absent() const { return absent_; }
  bool works() const { return !open_.empty(); }
  const std::string& reason() const { return reason_; }

private:
  struct Value {  // as the kernel writes it
    std::uint64_t count = 0, enabled_ns = 0, running_ns = 0;
  };
  struct Open {
    FileHandle file;
    std::size_t event;
    Value last;
  };

  std::span<const PmuEvent> events_;
  std::vector<Open> open_;
  std::vector<std::uint64_t> totals_;  // by event
  std::string reason_;
  bool absent_ = false;
};

}  // namespace vedette
