#include "agent/score/detector.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <vector>

#include <doctest/doctest.h>

#include "agent/score/exact_math.h"

namespace {

using namespace vedette;

constexpr std::size_t kColumns = 6;
constexpr float kNan = std::numeric_limits<float>::quiet_NaN();

// Six columns of noise, of which the second follows the first.
struct Noise {
  RandomBits random{5};
  std::vector<float> floors = std::vector<float>(kColumns, 0.01F);
  DetectorOptions options = {.smooth_half_life_rows = 0.5};

  float bell() { return random.uniform() + random.uniform() + random.uniform() - 1.5F; }
  std::vector<float> row() {
    std::vector<float> values(kColumns);
    for (float& value : values) value = 10 + bell();
    values[1] = values[0] + 0.05F * bell();
    return values;
  }
  Detector::Verdict judge(Detector& detector, const std::vector<float>& values) {
    return detector.judge(values, floors, 1, options);
  }
  void feed(Detector& detector, int rows) {
    for (int i = 0; i < rows; ++i) judge(detector, row());
  }
};

}  // namespace

TEST_CASE("two columns that part are unusual although each is where it always is") {
  Noise noise;
  Detector detector(kColumns);
  noise.feed(detector, 4000);
  std::vector<float> parted = noise.row();
  parted[0] = 10.6F;
  parted[1] = 9.4F;
  const Detector::Verdict verdict = noise.judge(detector, parted);
  CHECK(verdict.rarity > 4);
  CHECK(verdict.top[0].column <= 1);
  CHECK(std::abs(verdict.top[0].deviation) > 3);
}

TEST_CASE("a jump is unusual at once although its level is within the usual range") {
  Noise noise;
  Detector detector(kColumns);
  float level = 10;
  std::vector<float> values;
  for (int i = 0; i < 6000; ++i) {  // the last column wanders slowly and far
    values = noise.row();
    level += 0.02F * noise.bell() + 0.0005F * (10 - level);
    values[5] = level;
    noise.judge(detector, values);
  }
  values = noise.row();
  values[5] = level + (level > 10 ? -0.5F : 0.5F);
  const Detector::Verdict verdict = noise.judge(detector, values);
  CHECK(verdict.rarity > 4);
  CHECK(verdict.top[0].column == 5);
}

TEST_CASE("an incident stays visible while it lasts, and a step that stays becomes the new normal") {
  Noise noise;
  Detector detector(kColumns);
  noise.feed(detector, 4000);
  float rarity = 0;
  for (int i = 0; i < 20000; ++i) {
    std::vector<float> values = noise.row();
    values[3] += 5;
    rarity = noise.judge(detector, values).rarity;
    if (i == 5) CHECK(rarity > 4);
    if (i == 60) CHECK(rarity > 2);
  }
  CHECK(rarity < 2);
}

TEST_CASE("what is usual for a row is rare when it holds for some") {
  const auto rarest = [](std::size_t held_rows, int rows) {
    Noise noise;
    noise.options.held_rows = held_rows;
    Detector detector(kColumns);
    const auto row = [&](bool spike) {
      std::vector<float> values = noise.row();
      for (const std::size_t column : {2, 3, 4, 5}) values[column] += spike ? 3 : 0;
      return values;
    };
    for (int i = 0; i < 6000; ++i) noise.judge(detector, row(noise.random.uniform() < 0.03F));
    float most = 0;
    for (int i = 0; i < rows; ++i) most = std::max(most, noise.judge(detector, row(true)).rarity);
    return most;
  };
  CHECK(rarest(1, 8) < 4.5F);
  CHECK(rarest(6, 2) < 4.5F);
  CHECK(rarest(6, 8) > 4.8F);
}

TEST_CASE("steps have a scale of their own: twice the variance of noise, little of what wanders") {
  Noise noise;
  Detector detector(kColumns);
  for (int i = 0; i < 8000; ++i) {
    std::vector<float> values = noise.row();
    // Until it is among the joint columns it is noise like the others.
    if (i > 1000) values[5] = 10 + 0.5F * std::sin(static_cast<float>(i) / 50);
    noise.judge(detector, values);
  }
  const Detector::Memory memory = detector.memory();
  REQUIRE(memory.step_square.size() == memory.joint.size());
  for (std::size_t place = 0; place < memory.joint.size(); ++place) {
    const std::size_t column = memory.joint[place];
    CAPTURE(column);
    const float share = memory.step_square[place] / memory.columns[column].variance;
    if (column == 5)
      CHECK(share < 0.05F);
    else
      CHECK(share == doctest::Approx(2).epsilon(0.15));
  }
  CHECK(std::ranges::find(memory.joint, 5U) != memory.joint.end());
}

TEST_CASE("columns that never moved wait outside of the joint distance, and their first step is named") {
  Noise noise;
  Detector detector(60);
  std::vector<float> floors(60, 0.01F);
  std::vector<float> values(60, 3.F);
  for (int i = 0; i < 20'000; ++i) {
    for (std::size_t c = 0; c < 50; ++c)
      values[c] = noise.bell();  // more than the joint distance has room for
    detector.judge(values, floors, 1, noise.options);
  }
  values[55] = 4;
  const Detector::Verdict verdict = detector.judge(values, floors, 1, noise.options);
  CHECK(verdict.rarity > 4);
  CHECK(verdict.top[0].column == 55);
  CHECK(verdict.top[0].deviation == 16);
}

TEST_CASE("missing values, constant columns and gaps leave every number finite and the next fault visible") {
  Noise noise;
  Detector detector(kColumns);
  for (int i = 0; i < 4000; ++i) {
    std::vector<float> values = noise.row();
    values[2] = 7;
    if (i % 3 == 0) values[4] = kNan;
    if (i % 500 == 7) values.assign(kColumns, kNan);
    if (i % 700 == 9) values[5] = std::numeric_limits<float>::infinity();
    const double rows = i == 2000 ? 1e6 : i % 50 == 3 ? 0 : 1;  // a long pause; two rows at one moment
    const Detector::Verdict verdict = detector.judge(values, noise.floors, rows, noise.options);
    REQUIRE(std::isfinite(verdict.rarity));
    for (const Detector::Part& part : verdict.top) {
      REQUIRE(std::isfinite(part.deviation));
      REQUIRE(std::isfinite(part.share));
      REQUIRE((part.share == 0 || std::isfinite(values[part.column])));
    }
  }
  std::vector<float> values = noise.row();
  values[2] = 9;
  CHECK(noise.judge(detector, values).rarity > 3.5F);
}
