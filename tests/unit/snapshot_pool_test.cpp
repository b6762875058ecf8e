#include "agent/snapshot_pool.h"

#include <thread>

#include <doctest/doctest.h>

namespace vedette {

TEST_CASE("a snapshot that nobody reads any more lends its memory to a new one, and nothing else") {
  SnapshotPool pool;
  std::shared_ptr<Snapshot> first = pool.take();
  first->observation.samples.resize(500);
  first->features.values.resize(100'000);
  first->conditions.resize(3);
  first->self.ticks = 7;
  first->act.known = true;
  const Sample* const memory = first->observation.samples.data();
  std::shared_ptr<const Snapshot> reader = first;
  first.reset();
  // While it is read another one is given.
  CHECK(pool.take()->observation.samples.data() != memory);
  std::thread([&] { reader.reset(); }).join();
  const std::shared_ptr<Snapshot> again = pool.take();
  CHECK(again->observation.samples.data() == memory);
  CHECK(again->conditions.empty());
  CHECK(again->self.ticks == 0);
  CHECK_FALSE(again->act.known);
}

TEST_CASE("pods that came and went by the thousand leave no memory behind") {
  SnapshotPool pool;
  std::shared_ptr<Snapshot> crowd = pool.take();
  crowd->observation.samples.resize(500);
  crowd->observation.samples.resize(20);
  crowd->features.values.resize(100'000);
  crowd->features.values.resize(4'000);
  crowd.reset();
  const std::shared_ptr<Snapshot> again = pool.take();
  CHECK(again->observation.samples.capacity() == 20);
  CHECK(again->features.values.capacity() == 4'000);
}

TEST_CASE("a reader may outlive the pool") {
  std::shared_ptr<const Snapshot> reader;
  {
    SnapshotPool pool;
    reader = pool.take();
  }
  CHECK(reader->observation.samples.empty());
}

}  // namespace vedette
