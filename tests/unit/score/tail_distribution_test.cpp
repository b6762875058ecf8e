#include "agent/score/tail_distribution.h"

#include <algorithm>

#include <doctest/doctest.h>

#include "agent/score/exact_math.h"

namespace {

using namespace vedette;

// Exponential with the given mean: -mean * ln(u).
float exponential(RandomBits& random, float mean) {
  return -mean * 0.693147181F * exact_log2(random.uniform() + 1e-7F);
}

TailDistribution filled(float mean, int rows, const TailOptions& options, RandomBits& random) {
  TailDistribution tail;
  for (int i = 0; i < rows; ++i) {
    tail.add(2 + exponential(random, mean), 1);
    tail.pass(1, options);
  }
  return tail;
}

}  // namespace

TEST_CASE("rarity is -log10 of the share of rows at or above, within the rows seen and beyond them") {
  RandomBits random(3);
  const TailDistribution tail = filled(0.4F, 20000, TailOptions{}, random);
  REQUIRE(tail.known());
  // An exponential of mean .4 falls by ten every .921.
  for (const int decades : {1, 2, 3, 4, 6}) {
    CAPTURE(decades);
    CHECK(tail.rarity(2 + 0.921F * static_cast<float>(decades)) == doctest::Approx(decades).epsilon(0.15));
  }
  CHECK(tail.rarity(0) == 0);
}

TEST_CASE("nothing is rare before some rows are known, and rarity never falls as the value rises") {
  RandomBits random(3);
  const TailDistribution young = filled(0.4F, 30, TailOptions{}, random);
  CHECK_FALSE(young.known());
  CHECK(young.rarity(100) == 0);
  const TailDistribution tail = filled(0.4F, 3000, TailOptions{}, random);
  float last = 0;
  for (int hundredths = 0; hundredths < 2000; ++hundredths) {
    const float rarity = tail.rarity(static_cast<float>(hundredths) / 100);
    CHECK(rarity >= last);
    last = rarity;
  }
}

TEST_CASE("the distribution forgets: what was rare becomes ordinary after some half-lives of it") {
  RandomBits random(3);
  TailOptions options;
  options.half_life_rows = 500;
  TailDistribution tail = filled(0.1F, 3000, options, random);
  CHECK(tail.rarity(4) > 4);
  for (int i = 0; i < 2000; ++i) {
    tail.add(4 + exponential(random, 0.1F), 1);
    tail.pass(1, options);
  }
  CHECK(tail.rarity(4) < 1);
}

TEST_CASE("values that are all alike have a tail as well, and anything above them is rare") {
  TailDistribution tail;
  for (int i = 0; i < 500; ++i) {
    tail.add(0, 1);
    tail.pass(1, TailOptions{});
  }
  CHECK(tail.rarity(0) == 0);
  CHECK(tail.rarity(1.5F) > 4);
}
