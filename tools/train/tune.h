// What the detector's constants owe to the tables they were chosen on: settings are drawn without a look at
// labels, chosen by them, and what is chosen without a table is measured on that table (leave one out). The
// way the shipped constants came to be (agent/score/README.md). For vedette-tune; starts its own threads.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "agent/base/result.h"
#include "tools/cli/table.h"

namespace vedette {

// One entity: rows x columns.
struct LabelledTable {
  std::size_t columns = 0;
  std::vector<float> train;
  std::vector<float> test;
  std::vector<float> labels;  // of the rows of `test`: 1 where it is anomalous, else 0
};

struct LabelledSet {
  std::string name;
  double rows_a_day = 0;
  std::vector<LabelledTable> tables;
};

// Reads SET/train and SET/test (tools/cli/table.h). Errors name the file; each table needs rows of both
// labels.
Result<LabelledSet> read_labelled_set(const std::string& folder, double rows_a_day);

// The constants that are drawn: a value for each of tuned_constants(), in their order.
inline constexpr std::size_t kTuned = 15;
using Setting = std::array<double, kTuned>;
struct TunedConstant {
  const char* name = nullptr;
  double guess = 0;  // a round number; drawn from half to twice of it, evenly by the logarithm
};
const std::array<TunedConstant, kTuned>& tuned_constants();
Setting shipped_setting();

// False alarms that are wanted: shares of the rows.
inline constexpr std::array<double, 2> kBudgets{1e-3, 1e-4};

struct TableResult {
  double precision = 0;  // average precision, point by point (trainer.h)
  // Raised at each of kBudgets, and rows in which they would be false: further than ten minutes from an
  // event.
  std::array<double, kBudgets.size()> alarms{};
  double calm_rows = 0;
};
// Judges `train`, then `test`, by the setting. Any thread.
TableResult measure(const LabelledSet& set, const LabelledTable& table, const Setting& setting);

struct TuneOptions {
  std::size_t settings = 400;
  std::uint64_t seed = 1;
  unsigned threads = 1;
  std::function<void(std::size_t measured)> progress = [](std::size_t) {};  // of the settings; any thread
};

struct TuneReport {
  std::size_t admissible = 0;  // settings that raise half to twice of the false alarms that are wanted
  Setting chosen{};            // by all tables
  struct Set {
    std::string name;
    std::size_t tables = 0;
    // Mean average precision over the tables.
    double shipped = 0;
    double chosen = 0;
    double left_out = 0;  // of each table, by what is chosen without it
  };
  std::vector<Set> sets;
};

// The choice: the mean (of logarithms) of the better half, by the sum of the sets' mean average precision, of
// the admissible settings. A set has a say in what is admissible where ten false alarms or more are wanted of
// it. An error: no setting was admissible.
Result<TuneReport> tune(const std::vector<LabelledSet>& sets, const TuneOptions& options);

}  // namespace vedette
