// Counters that the kernel keeps and files tell: a source sets totals, the sample gets what was added since
// the reading before. One per entity and one for the node, owned by collect/LiveSource; tick thread only.
// (CountPart: whichever thread reads.)
#pragma once

#include <array>
#include <bitset>
#include <cstddef>
#include <cstdint>
#include <optional>

#include "agent/collect/observation.h"

namespace vedette {

class FileCounts {
public:
  // The newest total of a counter of VEDETTE_FILE_COUNTERS. The first one is where counting begins; one that
  // went backwards (a cgroup made anew under the same name) is counted from 0.
  void set(vedette_counter counter, std::uint64_t total) {
    const std::size_t i = place(counter);
    if (known_.test(i)) added_[i] += total >= last_[i] ? total - last_[i] : total;
    known_.set(i);
    last_[i] = total;
  }

  // `n` more of a counter whose source tells them one by one; 0: none, which is known.
  void add(vedette_counter counter, std::uint64_t n) {
    added_[place(counter)] += n;
    known_.set(place(counter));
  }

  // There is nothing to read any more: unknown until set again.
  void forget(vedette_counter counter) { known_.reset(place(counter)); }

  // What was added may not be all: unknown for once.
  void doubt(vedette_counter counter) { doubted_.set(place(counter)); }

  // Adds to `sample` what came since the last call, and marks what is not known.
  void take(Sample& sample) {
    for (std::size_t i = 0; i < kCount; ++i) {
      sample.counters[SLOT_COUNTER_COUNT + i] += added_[i];
      sample.unknown.set(SLOT_COUNTER_COUNT + i, !known_.test(i) || doubted_.test(i));
    }
    added_.fill(0);
    doubted_.reset();
  }

private:
  static constexpr std::size_t kCount = COUNTER_COUNT - SLOT_COUNTER_COUNT;
  static constexpr std::size_t place(vedette_counter counter) {
    return static_cast<std::size_t>(counter) - SLOT_COUNTER_COUNT;
  }

  std::array<std::uint64_t, kCount> last_{};
  std::array<std::uint64_t, kCount> added_{};
  std::bitset<kCount> known_;
  std::bitset<kCount> doubted_;
};

// One of several counters that are summed up: of a device, a disk, a CPU. It may bring a past along when it
// comes (counting begins with what it has) and leaves no hole when it goes.
class CountPart {
public:
  void set(std::uint64_t value, std::uint64_t& total) {
    if (last_) total += value >= *last_ ? value - *last_ : value;
    last_ = value;
  }

private:
  std::optional<std::uint64_t> last_;
};

}  // namespace vedette
