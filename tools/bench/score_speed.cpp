// Time and state of the detector for one row of 38 noisy columns, three reasons included: the size of the
// server tables that score-quality judges. All 36 joint columns move, which is the dearest row there is.
#include <algorithm>
#include <chrono>
#include <cstdio>
#include <vector>

#include "agent/score/detector.h"
#include "agent/score/exact_math.h"

int main() {
  using namespace vedette;
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
  float rarest = 0;
  for (int round = 0; round < kRounds; ++round) {
    for (float& value : rows) value = random.uniform() + random.uniform();
    const Clock::time_point start = Clock::now();
    for (int i = 0; i < kRound; ++i) {
      const std::span<const float> row(&rows[static_cast<std::size_t>(i) * kColumns], kColumns);
      rarest = std::max(rarest, detector.judge(row, floors, 1, options).rarity);
    }
    us.push_back(std::chrono::duration<double, std::micro>(Clock::now() - start).count() / kRound);
  }
  std::sort(us.begin(), us.end());
  std::printf(R"({"name": "score-row", "value": %.2f, "unit": "us", "bar": 5, "better": "lower", )"
              R"("note": "lower quartile of %d rounds of %d rows, %zu columns; rarest row 10^-%.1f"})"
              "\n",
              us[us.size() / 4], kRounds, kRound, kColumns, static_cast<double>(rarest));
  std::printf(R"({"name": "score-state", "value": %.2f, "unit": "KiB", "bar": 32, "better": "lower", )"
              R"("note": "of an entity of %zu columns"})"
              "\n",
              static_cast<double>(Detector::bytes(kColumns)) / 1024, kColumns);
}
