// The last minute of every entity, for the CLI's sparklines and its list of recent kernel events: bounded,
// and forgotten with the entity. add() is called by the tick thread, the readers by the socket thread: one
// lock, held for microseconds.
#pragma once

#include <array>
#include <cstdint>
#include <mutex>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "agent/snapshot.h"

namespace vedette {

// The headline columns. All are features of that name but errors.rate (the sum of errors_*.rate), anomaly and
// risk (the scores).
struct TrailColumn {
  std::string_view name;
  std::string_view unit;
};
inline constexpr std::array<TrailColumn, 10> kTrailColumns{{{"cpu_cores", "cores"},
                                                            {"memory_bytes", "bytes"},
                                                            {"memory_use", "ratio"},
                                                            {"open_files_use", "ratio"},
                                                            {"disk_space_use", "ratio"},
                                                            {"syscalls.rate", "calls"},
                                                            {"errors.rate", "calls"},
                                                            {"runqueue_latency.p99", "s"},
                                                            {"anomaly", "share"},
                                                            {"risk", "share"}}};
using TrailPoint = std::array<float, kTrailColumns.size()>;

// The present values of a row of a snapshot; NaN: missing.
TrailPoint trail_point(const Snapshot& snapshot, std::size_t row);

struct RecentEvent {
  KernelEvent event;  // the newest of equal ones in a row
  std::uint32_t count = 1;
};

class History {
public:
  void add(const Snapshot& snapshot);

  // One point a second, oldest first, at most 60.
  std::vector<TrailPoint> trail(EntityId entity) const;
  // Newest first, at most 16.
  std::vector<RecentEvent> events(EntityId entity) const;

private:
  struct Memory {
    // A ring, made at once: blocks that come and go each minute would spread over the whole heap.
    std::vector<TrailPoint> points;
    std::size_t oldest = 0;
    std::vector<RecentEvent> events;  // newest last
    std::uint64_t seen = 0;           // round_ in which the entity was last alive
  };

  mutable std::mutex mutex_;
  std::unordered_map<EntityId, Memory> memories_;
  MonotonicNs sampled_ns_ = 0;
  std::uint64_t round_ = 0;
};

}  // namespace vedette
