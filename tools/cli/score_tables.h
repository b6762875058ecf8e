// `vedette score SET OUT`: the agent's own detector on tables of measurements, without an agent. Reads
// SET/train/E.csv as warm-up, then judges SET/test/E.csv row by row, and writes OUT/E.csv (README.md).
#pragma once

#include <iosfwd>
#include <string>

#include "agent/base/result.h"

namespace vedette {

struct ScoreTablesOptions {
  std::string set;
  std::string out;
  double false_alarms = 1e-4;  // an alarm: a row as rare as that
};

// Scores every table of the set and says on `told` what was written. The error names file, line and column.
Status score_tables(const ScoreTablesOptions& options, std::ostream& told);

}  // namespace vedette
