// Time and state of the detector for one row of 38 noisy columns, three reasons included: the size of the
// server tables that score-quality judges. All 34 joint columns move, which is the dearest row there is.
// Beside it, in the same rounds, the floor: keeping the second moments of as many dimensions, and nothing
// else. The ratio of the two says what the code costs on any machine, however busy.
#include <algorithm>
#include <array>
#include <chrono>
#include <cstdio>
#include <vector>

#include "agent/score/detector.h"
#include "agent/score/exact_math.h"

using namespace vedette;

namespace {

// S = keep * S + share * x x', a triangle: what any joint distance must do for each row, if it did no more.
class SecondMoments {
public:
  void add(float seed) {
    for (std::size_t i = 0; i < kDims; ++i) x_[i] = seed + static_cast<float>(i);
    float* row = moments_.data();
    for (std::size_t i = 0; i < kDims; row += ++i) {
      const float part = kShare * x_[i];
      for (std::size_t j = 0; j <= i; ++j) row[j] = (1 - kShare) * row[j] + part * x_[j];
    }
  }
  float last() const { return moments_.back(); }

private:
  static constexpr std::size_t kDims = Detector::kMaxJoint * Detector::kParts;
  static constexpr float kShare = 1e-4F;
  std::array<float, kDims> x_{};
  std::array<float, kDims*(kDims + 1) / 2> moments_{};
};

}  // namespace

int main() {
  using Clock = std::chrono::steady_clock;
  constexpr std::size_t kColumns = 38;
  constexpr int kRound = 200;  // rows between two looks at the clock
  constexpr int kRounds = 300;
  RandomBits random(1);
  Detector detector(kColumns);
  const DetectorOptions options;
  const std::vector<float> floors(kColumns, 0.01F);
  std::vector<float> rows(kColumns * kRound);
  std::vector<double> us;
  std::vector<double> ratios;
  SecondMoments floor;
  float rarest = 0;
  for (int round = 0; round < kRounds; ++round) {
    for (float& value : rows) value = random.uniform() + random.uniform();
    const Clock::time_point start = Clock::now();
    for (int i = 0; i < kRound; ++i) {
      const std::span<const float> row(&rows[static_cast<std::size_t>(i) * kColumns], kColumns);
      rarest = std::max(rarest, detector.judge(row, floors, 1, options).rarity);
    }
    const Clock::time_point judged = Clock::now();
    for (int i = 0; i < kRound; ++i) floor.add(rows[static_cast<std::size_t>(i)]);
    const Clock::time_point kept = Clock::now();
    us.push_back(std::chrono::duration<double, std::micro>(judged - start).count() / kRound);
    ratios.push_back(std::chrono::duration<double>(judged - start) / (kept - judged));
  }
  std::sort(us.begin(), us.end());
  std::sort(ratios.begin(), ratios.end());
  std::printf(R"({"name": "score-row", "value": %.2f, "unit": "us", "bar": 5, "better": "lower", )"
              R"("note": "lower quartile of %d rounds of %d rows, %zu columns; rarest row 10^-%.1f"})"
              "\n",
              us[us.size() / 4], kRounds, kRound, kColumns, static_cast<double>(rarest));
  std::printf(
      R"({"name": "score-row-over-floor", "value": %.2f, "unit": "x", "bar": null, "better": "lower", )"
      R"("note": "median; the floor is to keep the second moments of its dimensions; the last is %.0f"})"
      "\n",
      ratios[ratios.size() / 2], static_cast<double>(floor.last()));
  std::printf(R"({"name": "score-state", "value": %.2f, "unit": "KiB", "bar": 32, "better": "lower", )"
              R"("note": "of an entity of %zu columns"})"
              "\n",
              static_cast<double>(Detector::bytes(kColumns)) / 1024, kColumns);
}
