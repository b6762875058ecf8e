// Time as values. Only main.cpp, the sources and the threads at the edges read a clock; every stage is handed
// the time of its tick, so that a replay is exact. Pure values, any thread.
#pragma once

#include <chrono>
#include <cstdint>
#include <ctime>

namespace vedette {

// Nanoseconds of CLOCK_MONOTONIC: the clock of bpf_ktime_get_ns(), so kernel and agent times compare.
using MonotonicNs = std::uint64_t;
// Nanoseconds since 1970: only for what people and the API server read.
using WallNs = std::uint64_t;

inline std::uint64_t read_clock_ns(clockid_t clock) {
  timespec now{};
  ::clock_gettime(clock, &now);
  return static_cast<std::uint64_t>(now.tv_sec) * 1'000'000'000ULL + static_cast<std::uint64_t>(now.tv_nsec);
}
inline MonotonicNs monotonic_now() {
  return read_clock_ns(CLOCK_MONOTONIC);
}
inline WallNs wall_now() {
  return read_clock_ns(CLOCK_REALTIME);
}

// The two clocks read together: the time of one tick.
struct Instant {
  MonotonicNs monotonic_ns = 0;
  WallNs wall_ns = 0;
};
inline Instant read_instant() {
  return {monotonic_now(), wall_now()};
}

constexpr double kNsPerSecond = 1e9;
constexpr double kUsPerSecond = 1e6;
// Of a configured time, which is never negative.
constexpr std::uint64_t to_ns(std::chrono::nanoseconds duration) {
  return static_cast<std::uint64_t>(duration.count());
}
// Seconds from `earlier` to `later`; 0 when they are reversed (events may carry a time just after the
// tick's).
constexpr double seconds_between(MonotonicNs earlier, MonotonicNs later) {
  return later > earlier ? static_cast<double>(later - earlier) / kNsPerSecond : 0.0;
}

}  // namespace vedette
