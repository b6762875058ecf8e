#include "agent/score/isolation_forest.h"

#include <algorithm>
#include <vector>

#include <doctest/doctest.h>

namespace {

using namespace vedette;

std::vector<float> cloud_row(RandomBits& random, std::size_t columns) {
  std::vector<float> row(columns);
  for (float& value : row) value = random.uniform() + random.uniform() + random.uniform() - 1.5F;
  return row;
}

IsolationForest grown(std::uint64_t seed, std::size_t columns = 10) {
  ForestOptions options;
  options.seed = seed;
  IsolationForest forest(columns, options);
  RandomBits random(3);
  for (std::size_t i = 0; i < options.reservoir + 50; ++i) forest.remember(cloud_row(random, columns));
  for (std::size_t i = 0; i < options.trees; ++i) forest.grow();
  return forest;
}

}  // namespace

TEST_CASE("a row far from all others is isolated sooner than any of them") {
  const IsolationForest forest = grown(1);
  REQUIRE(forest.ready());
  RandomBits random(99);
  float highest = 0;
  for (int i = 0; i < 300; ++i) highest = std::max(highest, forest.score(cloud_row(random, 10)));
  std::vector<float> odd(10, 0);
  CHECK(forest.score(odd) < 0.5F);
  odd[2] = 8;
  odd[7] = -8;
  odd[9] = 8;
  CHECK(forest.score(odd) > 0.5F);
  std::fill(odd.begin(), odd.end(), 8.F);
  CHECK(forest.score(odd) > highest);
}

TEST_CASE("the same seed and rows give the same scores, another seed others") {
  const IsolationForest a = grown(1);
  const IsolationForest b = grown(1);
  const IsolationForest c = grown(2);
  RandomBits random(5);
  bool differs = false;
  for (int i = 0; i < 100; ++i) {
    const std::vector<float> row = cloud_row(random, 10);
    CHECK(a.score(row) == b.score(row));
    differs |= a.score(row) != c.score(row);
  }
  CHECK(differs);
}

TEST_CASE("a forest without enough rows says nothing, and rows that are all alike are no reason to split") {
  IsolationForest forest(4, ForestOptions{});
  const std::vector<float> row(4, 1.F);
  for (int i = 0; i < 127; ++i) forest.remember(row);
  forest.grow();
  CHECK_FALSE(forest.ready());
  CHECK(forest.score(row) == 0.5F);
  forest.remember(row);
  for (int i = 0; i < 32; ++i) forest.grow();
  CHECK(forest.ready());
  const std::vector<float> other{100, -100, 0, 5};
  CHECK(forest.score(row) == forest.score(other));
}

TEST_CASE("the forest follows what it sees: a new normal becomes as ordinary as the old one was") {
  IsolationForest forest = grown(1);
  RandomBits random(4);
  const auto shifted = [&] {
    std::vector<float> row = cloud_row(random, 10);
    for (float& value : row) value += 6;
    return row;
  };
  const float before = forest.score(shifted());
  for (int i = 0; i < 4000; ++i) forest.remember(shifted());
  for (int i = 0; i < 32; ++i) forest.grow();
  CHECK(forest.score(shifted()) < before - 0.1F);
}
