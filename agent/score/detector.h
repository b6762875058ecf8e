// How unusual is a row of numbers, compared with the rows of the same entity before it? The one scorer behind
// both doors: the agent's feature rows (anomaly.h) and the tables of `vedette score`. One detector per
// entity, called row by row by one thread; it never looks ahead. Deterministic bit for bit (exact_math.h).
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "agent/base/result.h"
#include "agent/score/tail_distribution.h"

namespace vedette {

// All memories are told in rows: what a row stands for is the door's business. The constants are means of
// many settings that do well (README.md; tools/train/vedette-tune draws such settings): their third digits
// say nothing, and are kept so that what was measured is what runs.
struct DetectorOptions {
  // Levels, and how the columns usually move together: two weeks of minutes, or three hours of half seconds.
  double slow_half_life_rows = 20'100;
  // How large steps usually are.
  double step_half_life_rows = 963;
  // What it was just now: short deviations are told from it.
  double short_half_life_rows = 21.2;
  // The distance is smoothed: an incident lasts longer than a row. Rows that overlap are smooth already.
  double smooth_half_life_rows = 4.14;
  // Of so many rows the least counts as well, 8 at most: what holds is rarer than what flickers.
  std::size_t held_rows = 3;
  // A column is judged only after so many rows of it; the distribution of the score begins at twice that.
  double min_history_rows = 60;
  TailOptions tail = {};

  // Deviations are compared by asinh(z / bend): "how much" says less and less, and one column must not drown
  // the others.
  float bend = 2.81F;
  // A baseline learns at most so many deviations at once: an incident moves it, but does not become it.
  float learn_clip = 7.92F;
  // A column that moved by so much of what is usual or matters from one row to the next belongs to those that
  // move.
  float moves = 0.276F;
  // Added to the variance of each dimension: what is nearly a copy of others must not be judged by its last
  // digits.
  float ridge = 0.0176F;
  // The distance adds calm * log(1 + r^2 / calm) for each dimension, not r^2: many dimensions that are
  // unusual together count for more than one alone.
  float calm = 33.9F;
  // Steps that are large for their column, whatever usually steps with it, count beside the distance: what
  // shakes is ill, wherever it is.
  float energy_weight = 0.157F;
  // An entity in the upper 4 % of its distance (a rarity, -log10 p) for more than 9 independent rows is in an
  // incident: what follows weighs next to nothing in the distribution, so that the incident stays visible.
  // What is shorter counts in full, as chance does.
  float incident_rarity = 1.36F;
  double incident_rows = 9.15;
  double incident_weight = 0.0228;
};

class Detector {
public:
  // Columns that may be in the joint distance: 34 of three dimensions each are 21 KiB.
  static constexpr std::size_t kMaxJoint = 34;
  static constexpr std::size_t kTop = 3;
  static constexpr std::size_t kParts = 3;  // dimensions of a joint column: level, short deviation, last step
  // What is looked up in a distribution of its own: the joint distance, the strongest deviations, the
  // distance that held.
  enum Judge : std::uint8_t { kJoint, kStrongest, kHeld, kJudges };

  struct Part {
    std::uint32_t column = 0;
    float deviation = 0;  // signed, in what is usual for the column; clipped at 16
    float share = 0;      // of the distance; 0: there is no such part
  };
  struct Verdict {
    float rarity = 0;            // -log10 of the tail probability; 0 while too little is known
    std::array<Part, kTop> top;  // largest share first
  };

  explicit Detector(std::size_t columns);

  // `row` has one float per column, NaN where it is missing; `floors` the smallest amounts that matter, above
  // 0. `rows` is how many rows of time went by since the last call. `typical`: the row counts among the
  // scores that are usual; a beginning, say, does not.
  Verdict judge(std::span<const float> row, std::span<const float> floors, double rows,
                const DetectorOptions& options, bool typical = true);
  bool known() const { return tails_[kJoint].known(); }
  // What the column usually is.
  float usual(std::size_t column) const { return columns_[column].mean; }
  double age_rows() const { return age_rows_; }
  static std::size_t bytes(std::size_t columns);

  // What outlives a process, and what a sibling of the entity can use.
  struct Memory {
    struct Column {
      float mean = 0;
      float variance = 0;
      float weight = 0;
    };
    std::vector<Column> columns;
    std::vector<std::uint32_t> joint;
    std::vector<float> step_square;  // of each joint column; empty: not known
    std::vector<float> factor;       // of kParts dimensions for each joint column
    float factor_weight = 0;
    double age_rows = 0;
    std::array<TailDistribution::Memory, kJudges> tails;
  };
  Memory memory() const;
  // An error names the field that is impossible.
  static Result<Detector> from(const Memory& memory);
  // Keeps what is usual and forgets the moment: the next row is of another process, or of another time.
  void begin_anew();
  // What it knows counts from now on as if it were from so many rows: its own new rows soon count for more.
  void relearn(double rows, const DetectorOptions& options);
  // The same of how rare its scores are alone: they were of other columns.
  void relearn_rarity(double rows);

private:
  static constexpr std::size_t kMaxDims = kMaxJoint * kParts;
  static constexpr std::uint8_t kApart = 255;
  static constexpr std::size_t kMostHeld = 8;
  static constexpr std::size_t kBlock = 32;

  struct Column {
    float mean = 0;
    float variance = 0;
    float weight = 0;             // 0..1: how much of a full memory it has
    float last = 0;               // the last value seen
    float brief = 0;              // short mean of its z-score
    std::uint8_t place = kApart;  // in the joint distance

    // Has had one value only.
    bool is_still() const { return variance == 0 && brief == 0 && last == mean && place == kApart; }
  };

  // How much a row of now counts in each memory, and from which weight on a column is judged.
  struct Gains {
    float slow, step, brief, smooth, mature;
    const DetectorOptions& options;
  };
  // The joint columns of this row, by their places.
  struct Moment {
    std::array<float, kMaxDims> x{};      // level, short deviation and step of each; 0 where it is missing
    std::array<float, kMaxJoint> level;   // NaN where it is missing
    std::array<float, kMaxJoint> jolt{};  // steps, in what is usual for the column's steps
  };

  // Among the joint columns.
  void take_place(std::size_t column);
  void admit(std::size_t column, float ridge);
  // How far off the column is, for itself: NaN where it is joint, or not judged. The column learns.
  float read_column(std::size_t index, float value, float floor, const Gains& gains, Moment& moment);
  // `distance` and that of the columns from `first` on that are apart; `raw` is how far off they are, NaN
  // where they are not judged.
  float judge_apart(std::size_t first, const std::array<float, kBlock>& raw, const Gains& gains,
                    float distance, Verdict& verdict);
  // The distance of the joint columns. Uses the moment up.
  float judge_jointly(Moment& moment, const Gains& gains, Verdict& verdict);
  // S becomes keep * S + share * x x', x being 0 before `from`; leaves in x what no dimension before it
  // explains, and in `spread` the variance of that, as it was.
  void turn(std::size_t from, float keep, float share, std::span<float> x, std::span<float> spread);
  static void offer(const Part& part, Verdict& verdict);
  // The rarity of this row by each judge, and what it teaches them.
  float judge_rarity(const std::array<float, kJudges>& values, double rows, const DetectorOptions& options,
                     bool typical);

  std::vector<Column> columns_;
  std::vector<std::uint32_t> joint_;  // the columns in the joint distance, in the order they first moved
  // Of these, the mean square of the steps from row to row.
  std::array<float, kMaxJoint> step_square_{};
  // S = L D L', the weighted mean of outer products of rows: the columns of L, each from its diagonal on,
  // which holds the element of D in place of the 1.
  std::vector<float> factor_;
  float factor_weight_ = 0;
  std::uint32_t next_ridge_ = 0;
  std::uint32_t rows_since_ridge_ = 0;
  float distance_ = 0;                     // smoothed, as the next two
  float top_ = 0;                          // mean of the three strongest deviations
  float energy_ = 0;                       // of the steps
  std::array<float, kMostHeld> recent_{};  // what was joined of these three
  std::uint8_t next_recent_ = 0;
  double age_rows_ = 0;
  double above_rows_ = 0;  // for how long it is in its tail
  double below_rows_ = 0;  // for how long it is out of it again
  std::array<TailDistribution, kJudges> tails_;
};

}  // namespace vedette
