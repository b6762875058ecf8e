// Feature rows with labels, as the campaign writes them, read into runs. Used by vedette-train on one thread.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

#include "agent/base/result.h"
#include "tools/train/columns.h"

namespace vedette {

// One recorded run of a workload: rows in the order of time.
struct Run {
  std::string name;  // FILE-NUMBER:run
  std::string kind;
  double failure_t_s = -1;    // seconds into the run; -1: it did not fail
  std::vector<double> t_s;    // seconds into the run, rising
  std::vector<float> labels;  // 1: a failure was observed within the next 60 s
  std::vector<float> values;  // rows x kRiskColumns.size(), NaN: missing

  bool fails() const { return failure_t_s >= 0; }
  std::size_t rows() const { return t_s.size(); }
};

struct Dataset {
  std::vector<Run> runs;          // in the order of the files
  std::uint64_t fingerprint = 0;  // FNV-1a of the files' bytes

  std::size_t rows() const;
};

// Reads CSV files with the columns run, kind, t_s, label, failure_t_s and every one of kRiskColumns, in any
// order among any others; an empty field is missing. Errors name file, line and column.
Result<Dataset> read_dataset(const std::vector<std::filesystem::path>& files);

}  // namespace vedette
