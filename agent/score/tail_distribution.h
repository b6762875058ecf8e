// How rare is a value among those seen lately? A histogram that forgets, with a generalised Pareto tail above
// its 98 % level (peaks over threshold; a lower one while that would be few peaks), which is trusted as far
// as it has peaks, and which keeps a record of how often it was wrong. A detector has three; no locks of
// their own. Deterministic (exact_math.h).
#pragma once

#include <array>
#include <cstddef>
#include <optional>
#include <vector>

namespace vedette {

struct TailOptions {
  double half_life_rows = 5300;  // its mean age is 7600 rows: five days of minutes
  double refit_rows = 60;
  // So many rows in a row were made of the same events: one independent value in them.
  double overlap_rows = 1;
  // Of the record of false alarms: it must see some, and they are a thousandth of the rows.
  double record_half_life_rows = 20'000;
};

class TailDistribution {
public:
  // Remembers a value (0 or more; beyond 12 all are alike) that stands for so many rows.
  void add(float value, double rows);
  // Remembers what rarity() said of it, for the record.
  void note(float rarity, double rows);
  // Forgets what `rows` rows make it forget, and fits the tail anew when that is due.
  void pass(double rows, const TailOptions& options);
  // -log10 of the share of the rows seen lately that were at or above the value, as far as it can be told; 0
  // as long as too few were seen.
  float rarity(float value) const;
  // The record of false alarms: decades by which what it called rarer than one in a thousand came more often.
  float excess() const { return excess_; }
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
    float peaks = 0;
    float judged = 0;
    float surprises = 0;

    bool operator==(const Memory&) const = default;
  };
  Memory memory() const;
  // Nothing where the numbers are impossible.
  static std::optional<TailDistribution> from(const Memory& memory);
  // What it knows counts from now on as if it were from so many rows: what comes soon weighs more.
  void relearn(double rows);

private:
  static constexpr std::size_t kBins = 400;
  // What is known of a tail before any peak was seen weighs as much as so many.
  static constexpr float kPriorPeaks = 10;

  // The bins from `first` on, and the excess of what is in them over its lower end.
  struct Upper {
    std::size_t first = 0;
    double rows = 0;
    double mean = 0;
    double variance = 0;
  };
  // As many as hold at most so many rows.
  Upper upper(double most) const;
  void fit(const TailOptions& options);
  void review(const TailOptions& options);

  std::array<float, kBins> rows_{};  // seen in each bin
  std::size_t end_ = 0;              // all bins from here on are empty
  float total_ = 0;
  float level_ = 0;  // the tail begins here
  float tail_share_ = 1;
  float shape_ = 0;
  float spread_ = 0;           // 0: not fitted yet
  float peaks_ = kPriorPeaks;  // independent values in the tail, and what was known before
  float judged_ = 0;           // rows
  float surprises_ = 0;        // those of them that were called rarer than one in a thousand
  float excess_ = 0;
  double since_fit_ = 0;
  double age_ = 0;  // rows
};

}  // namespace vedette
