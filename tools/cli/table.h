// Tables of measurements as `vedette score` and vedette-tune read them: SET/train/E.csv and SET/test/E.csv
// for each entity E, plain or compressed, one column per metric and perhaps `label`. One thread each.
#pragma once

#include <cstddef>
#include <filesystem>
#include <limits>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "agent/base/result.h"
#include "agent/score/detector.h"

struct gzFile_s;

namespace vedette {

// Read row by row. Errors name file, line, column and what was expected.
class Table {
public:
  // `part`: "train" or "test".
  static Result<Table> open(const std::filesystem::path& set, const std::string& part,
                            const std::string& entity);

  const std::filesystem::path& path() const { return path_; }
  // Of the columns but the label.
  const std::vector<std::string>& names() const { return names_; }

  // False at the end. `row` has one value for each name; an empty cell and "nan" are missing: NaN.
  Result<bool> next(std::vector<float>& row);
  // Whether the row that next() read is labelled as anomalous. The label is looked at only here: a detector
  // is judged by it.
  Result<bool> label() const;

private:
  struct Close {
    void operator()(gzFile_s* file) const;
  };

  Result<bool> read_line();
  Result<float> number(std::string_view cell, std::string_view column, std::string_view expected) const;

  std::filesystem::path path_;
  std::unique_ptr<gzFile_s, Close> file_;
  std::string line_;
  std::vector<std::string_view> cells_;  // of `line_`
  std::size_t line_number_ = 0;
  std::size_t columns_ = 0;
  std::size_t label_ = std::numeric_limits<std::size_t>::max();
  std::vector<std::string> names_;
};

// The two of an entity. They have the same columns, or it is an error.
struct EntityTables {
  Table train;
  Table test;
};
Result<EntityTables> open_tables(const std::filesystem::path& set, const std::string& entity);

// The entities of a set, sorted: "E" of test/E.csv and test/E.csv.gz.
Result<std::vector<std::string>> entities_of(const std::filesystem::path& set);

struct TableOptions {
  DetectorOptions detector = {};
  // A table does not say which amounts matter: so much of the range that a column has shown so far.
  float floor_of_range = 0.024F;
};

// The agent's detector on the rows of a table: a row is a row whatever its step.
class TableScorer {
public:
  TableScorer(std::size_t columns, const TableOptions& options);

  // -log10 of the tail probability of the next row. What the row itself shows counts from the next one on.
  float judge(std::span<const float> row);

private:
  TableOptions options_;
  Detector detector_;
  std::vector<float> lowest_;
  std::vector<float> highest_;
  std::vector<float> floors_;
};

}  // namespace vedette
