#include "agent/score/tail_distribution.h"

#include <algorithm>
#include <cmath>

#include <doctest/doctest.h>

#include "agent/score/exact_math.h"

namespace {

using namespace vedette;

// Exponential with the given mean: -mean * ln(u).
float exponential(RandomBits& random, float mean) {
  return -mean * 0.693147181F * exact_log2(random.uniform() + 1e-7F);
}

// As a detector does with each row.
void judge(TailDistribution& tail, float value, const TailOptions& options) {
  tail.note(tail.rarity(value), 1);
  tail.add(value, 1);
  tail.pass(1, options);
}

TailDistribution filled(float mean, int rows, const TailOptions& options, RandomBits& random) {
  TailDistribution tail;
  for (int i = 0; i < rows; ++i) judge(tail, 2 + exponential(random, mean), options);
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

TEST_CASE("a tail of few independent values is trusted less than one of many") {
  RandomBits random(3);
  TailOptions overlapping;
  overlapping.overlap_rows = 20;
  // The same values: once each is its own, once twenty are one.
  RandomBits again(3);
  const TailDistribution many = filled(0.4F, 3000, TailOptions{}, random);
  const TailDistribution few = filled(0.4F, 3000, overlapping, again);
  float last = 0;
  for (const int decades : {3, 4, 6}) {
    CAPTURE(decades);
    const float value = 2 + 0.921F * static_cast<float>(decades);
    const float doubt = many.rarity(value) - few.rarity(value);
    CHECK(doubt > last);
    last = doubt;
  }
}

TEST_CASE("a young tail flags little more often than it says, and an older one as often") {
  // Each of many workloads judges what comes next by only so many independent values, 20 rows each.
  TailOptions options;
  options.overlap_rows = 20;
  const auto realised = [&](int values, int workloads) {
    RandomBits random(5);
    int above = 0;
    for (int workload = 0; workload < workloads; ++workload) {
      TailDistribution tail;
      for (int value = 0; value < values; ++value) {
        tail.add(2 + exponential(random, 0.75F), options.overlap_rows);
        tail.pass(options.overlap_rows, options);
      }
      if (tail.rarity(2 + exponential(random, 0.75F)) > 3) ++above;
    }
    return above / (1e-3 * workloads);
  };
  const double young = realised(30, 40'000);
  CAPTURE(young);
  CHECK(young > 0.2);
  CHECK(young < 5);
  const double older = realised(300, 20'000);
  CAPTURE(older);
  CHECK(older > 0.5);
  CHECK(older < 2);
}

TEST_CASE("values beyond the histogram's end count as such, however many they are") {
  for (const double share : {0.01, 0.3}) {
    CAPTURE(share);
    RandomBits random(7);
    TailDistribution tail;
    for (int row = 0; row < 5000; ++row) {
      const bool beyond = static_cast<double>(random.uniform()) < share;
      tail.add(beyond ? 20 : 2 + exponential(random, 0.4F), 1);
      tail.pass(1, TailOptions{});
    }
    CHECK(tail.rarity(12) == doctest::Approx(-std::log10(share)).epsilon(0.2));
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

TEST_CASE(
    "who called too much rare is believed less, who did not is neither, and a half-life forgives half") {
  RandomBits random(3);
  TailOptions options;
  options.record_half_life_rows = 4000;
  // Every 50th value is in a shape that no tail has: a peak as high as the last ones, and then some.
  TailDistribution tail = filled(0.4F, 4000, options, random);
  CHECK(tail.excess() < 0.3F);
  float wrong = 0;
  for (int burst = 0; burst < 20; ++burst) {
    for (int row = 0; row < 50; ++row) {
      // Higher each time than what was seen.
      judge(tail, row == 0 ? 5 + 0.3F * static_cast<float>(burst) : 2 + exponential(random, 0.4F), options);
    }
    wrong = std::max(wrong, tail.excess());
  }
  // Some twenty in a thousand or two, where one or two were said.
  CHECK(wrong > 0.3F);
  CHECK(wrong < 1.5F);
  const TailDistribution again = TailDistribution::from(tail.memory()).value();
  CHECK(again.memory() == tail.memory());
  for (int row = 0; row < 40'000; ++row) judge(tail, 2 + exponential(random, 0.4F), options);
  CHECK(tail.excess() < wrong / 3);
}
