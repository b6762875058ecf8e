// What must not be asked for on the tick thread, because a sick disk or a dead daemon would hold it: asked
// again and again by a thread of its own. Made and read by the tick thread.
#pragma once

#include <chrono>
#include <functional>
#include <memory>
#include <stop_token>
#include <thread>
#include <utility>

#include "agent/base/clock.h"
#include "agent/base/latest.h"

namespace vedette {

// `Reading` has `MonotonicNs read_ns`, the time at which its reading began.
template <typename Reading>
class Polled {
public:
  // A read shall end soon once its token says stop.
  using Read = std::function<Reading(const std::stop_token&)>;

  // Reads at once, then `interval` after each answer. `stagger` is waited for once, after the first.
  Polled(std::chrono::milliseconds interval, Read read, std::chrono::milliseconds stagger = {})
      : interval_(interval), read_(std::move(read)), stagger_(stagger) {
    thread_ = std::jthread([this](const std::stop_token& stop) { run(stop); });
  }

  // The newest answer; null before the first, and while one is overdue: old figures would lie.
  std::shared_ptr<const Reading> fresh(MonotonicNs now) const {
    auto reading = latest_.get();
    return overdue_s(now) > 0 ? nullptr : reading;
  }
  // Seconds since the last answer, if that is more than three intervals ago; otherwise 0.
  double overdue_s(MonotonicNs now) const {
    const auto reading = latest_.get();
    if (!reading) return 0;
    constexpr int kIntervals = 3;
    const double silent = seconds_between(reading->read_ns, now);
    return silent > std::chrono::duration<double>(kIntervals * interval_ + stagger_).count() ? silent : 0;
  }

private:
  void run(const std::stop_token& stop) {
    std::uint64_t seen = 0;
    auto pause = interval_ + stagger_;
    while (!stop.stop_requested()) {
      auto reading = read_(stop);
      if (stop.stop_requested()) return;
      latest_.set(std::move(reading));
      seen = latest_.version();  // nobody else writes: the wait below ends by time or stop
      latest_.wait(seen, stop, pause);
      pause = interval_;
    }
  }

  std::chrono::milliseconds interval_;
  Read read_;
  std::chrono::milliseconds stagger_;
  Latest<Reading> latest_;
  std::jthread thread_;  // last: it ends before what it uses goes
};

}  // namespace vedette
