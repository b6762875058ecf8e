// Snapshots whose largest parts are used again: a tick of 1,000 pods fills 6 MB, and fresh memory would have
// to be mapped and cleared by the kernel each time. main.cpp takes one a tick; whoever drops the last
// reference, on any thread, gives it back. Readers see an ordinary snapshot that never changes.
#pragma once

#include <memory>
#include <mutex>
#include <utility>

#include "agent/snapshot.h"

namespace vedette {

class SnapshotPool {
public:
  // New, but for the samples and the features' values: these are of an older tick, and collect/ and features/
  // write over all of them.
  std::shared_ptr<Snapshot> take() {
    std::unique_ptr<Snapshot> snapshot;
    {
      const std::lock_guard lock(shelf_->mutex);
      snapshot = std::move(shelf_->free);
    }
    if (!snapshot) snapshot = std::make_unique<Snapshot>();
    return {snapshot.release(), [shelf = shelf_](Snapshot* given) { shelf->give_back(given); }};
  }

private:
  // Pods that came and went by the thousand leave no memory behind that nobody needs any more.
  template <typename Rows>
  static void fit(Rows& rows) {
    if (rows.capacity() / 2 > rows.size()) rows.shrink_to_fit();
  }

  // One at rest is enough: the other is with the readers.
  struct Shelf {
    std::mutex mutex;
    std::unique_ptr<Snapshot> free;

    void give_back(Snapshot* given) {
      std::unique_ptr<Snapshot> used(given);
      auto samples = std::move(used->observation.samples);
      auto values = std::move(used->features.values);
      fit(samples);
      fit(values);
      *used = Snapshot{};
      used->observation.samples = std::move(samples);
      used->features.values = std::move(values);
      const std::lock_guard lock(mutex);
      free.swap(used);
    }
  };

  // Outlives the pool while somebody reads.
  std::shared_ptr<Shelf> shelf_ = std::make_shared<Shelf>();
};

}  // namespace vedette
