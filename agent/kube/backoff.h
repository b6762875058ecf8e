// How long to wait before the next try of something that failed: doubled each time up to a bound, with jitter
// so that a cluster's agents spread, and as long as the server asked for. Plain values; one thread per
// object.
#pragma once

#include <algorithm>
#include <chrono>
#include <random>

#include "agent/base/clock.h"

namespace vedette {

class Backoff {
public:
  Backoff(std::chrono::milliseconds first, std::chrono::milliseconds most)
      : first_(first), most_(most), next_(first) {}

  // `at_most`: a lower bound than usual, this time.
  std::chrono::milliseconds next(std::chrono::seconds retry_after,
                                 std::chrono::milliseconds at_most = std::chrono::milliseconds::max()) {
    // A server that asks for more is not believed.
    constexpr std::chrono::milliseconds kMaxRetryAfter{60'000};
    const auto pause = jittered(std::min(next_, at_most), 0.5);
    next_ = std::min(next_ * 2, most_);
    return std::max(pause, std::min<std::chrono::milliseconds>(retry_after, kMaxRetryAfter));
  }
  void reset() { next_ = first_; }

  // From this share of `limit` to all of it.
  std::chrono::milliseconds jittered(std::chrono::milliseconds limit, double least_share) {
    std::uniform_real_distribution<double> share(least_share, 1.0);
    return std::chrono::duration_cast<std::chrono::milliseconds>(limit * share(random_));
  }

private:
  std::chrono::milliseconds first_, most_, next_;
  std::minstd_rand random_{static_cast<std::minstd_rand::result_type>(monotonic_now())};
};

}  // namespace vedette
