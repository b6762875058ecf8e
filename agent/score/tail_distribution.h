// How rare is a value among those seen lately? A histogram that forgets, with a generalised Pareto tail above
// its 98 % level (peaks over threshold). Each detector has one; no locks of its own. Deterministic
// (exact_math.h).
#pragma once

#include <array>
#include <cstddef>
#include <optional>
#include <vector>

namespace vedette {

struct TailOptions {
  double half_life_rows = 5000;  // its mean age is 7200 rows: five days of minutes, an hour of half seconds
  double refit_rows = 60;
  double overlap_rows =
      1;  // so many rows in a row were made of the same events: one independent value in them
};

class TailDistribution {
public:
  // Remembers a value (0 or more; beyond 12 all are alike) that stands for so many rows.
  void add(float value, double rows);
  // Forgets what `rows` rows make it forget, and fits the tail anew when that is due.
  void pass(double rows, const TailOptions& options);
  // -log10 of the share of the rows seen lately that were at or above the value, as far as it can be told; 0
  // as long as too few were seen.
  float rarity(float value) const;
  bool known() const { return spread_ > 0; }

  // What outlives a process.
  struct Memory {
    std::vector<float> rows;  // of each bin, up to the last that is not empty
    double age_rows = 0;
    // As fitted last.
    float level = 0;
    float tail_share = 1;
    float shape = 0;
    float spread = 0;
  };
  Memory memory() const;
  // Nothing where the numbers are impossible.
  static std::optional<TailDistribution> from(const Memory& memory);
  // What it knows counts from now on as if it were from so many rows: what comes soon weighs more.
  void relearn(double rows);

private:
  static constexpr std::size_t kBins = 400;

  void fit(const TailOptions& options);

  std::array<float, kBins> rows_{};  // seen in each bin
  std::size_t end_ = 0;              // all bins from here on are empty
  float total_ = 0;
  float level_ = 0;  // the tail begins here
  float tail_share_ = 1;
  float shape_ = 0;
  float spread_ = 0;  // 0: not fitted yet
  double since_fit_ = 0;
  double age_ = 0;  // rows
};

}  // namespace vedette
