// The one cross-thread slot: a writer replaces the value, readers take the newest. Older values that nobody
// took are dropped on purpose: whoever waits wants the present. All members are safe from any thread.
#pragma once

#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <memory>
#include <mutex>
#include <stop_token>
#include <utility>

namespace vedette {

template <typename T>
class Latest {
public:
  void set(std::shared_ptr<const T> value) {
    {
      const std::lock_guard lock(mutex_);
      value_ = std::move(value);
      ++version_;
    }
    changed_.notify_all();
  }
  void set(T value) { set(std::make_shared<const T>(std::move(value))); }

  // Null until the first set().
  std::shared_ptr<const T> get() const {
    const std::lock_guard lock(mutex_);
    return value_;
  }

  // Grows by one with each set(); 0 before the first.
  std::uint64_t version() const {
    const std::lock_guard lock(mutex_);
    return version_;
  }

  // Waits until version() differs from `seen`, `stop` is requested or `limit` has passed; updates `seen` and
  // returns the newest value (which may be the one already seen).
  std::shared_ptr<const T> wait(std::uint64_t& seen, const std::stop_token& stop,
                                std::chrono::milliseconds limit) const {
    std::unique_lock lock(mutex_);
    changed_.wait_for(lock, stop, limit, [&] { return version_ != seen; });
    seen = version_;
    return value_;
  }

private:
  mutable std::mutex mutex_;
  mutable std::condition_variable_any changed_;
  std::shared_ptr<const T> value_;
  std::uint64_t version_ = 0;
};

// Sleeps for `limit`, or until `stop` is requested.
inline void sleep_for(std::chrono::milliseconds limit, const std::stop_token& stop) {
  const Latest<int> nothing;
  std::uint64_t seen = 0;
  nothing.wait(seen, stop, limit);
}

}  // namespace vedette
