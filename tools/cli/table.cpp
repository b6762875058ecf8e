#include "tools/cli/table.h"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <optional>
#include <set>
#include <utility>

#include <zlib.h>

namespace vedette {
namespace {

namespace fs = std::filesystem;

constexpr std::string_view kLabel = "label";
constexpr float kLeastFloor = 1e-6F;
constexpr float kNone = std::numeric_limits<float>::max();

void split(std::string_view line, std::vector<std::string_view>& cells) {
  cells.clear();
  for (std::size_t begin = 0;;) {
    const std::size_t end = line.find(',', begin);
    cells.push_back(line.substr(begin, end - begin));
    if (end == std::string_view::npos) return;
    begin = end + 1;
  }
}

// "E" of E.csv and E.csv.gz; nothing for other files.
std::optional<std::string> entity_of(const fs::path& path) {
  std::string name = path.filename().string();
  if (name.ends_with(".gz")) name.resize(name.size() - 3);
  if (!name.ends_with(".csv") || name.size() == 4) return std::nullopt;
  name.resize(name.size() - 4);
  return name;
}

}  // namespace

void Table::Close::operator()(gzFile_s* file) const {
  ::gzclose(file);
}

Result<Table> Table::open(const fs::path& set, const std::string& part, const std::string& entity) {
  Table table;
  table.path_ = set / part / (entity + ".csv.gz");
  if (!fs::exists(table.path_)) table.path_ = set / part / (entity + ".csv");
  table.file_.reset(::gzopen(table.path_.c_str(), "rb"));  // reads what is not compressed as well
  if (table.file_ == nullptr) return fail_errno("open " + table.path_.string());
  const Result<bool> header = table.read_line();
  if (!header) return tl::unexpected(header.error());
  if (!*header) return fail(table.path_.string() + ": expected a header with the names of the columns");
  for (const std::string_view name : table.cells_) {
    if (name == kLabel) table.label_ = table.columns_;
    if (name != kLabel) table.names_.emplace_back(name);
    ++table.columns_;
  }
  table.cells_.clear();  // they are no row's
  return table;
}

Result<bool> Table::next(std::vector<float>& row) {
  Result<bool> more = read_line();
  if (!more || !*more) return more;
  if (cells_.size() != columns_) {
    return fail(path_.string() + ":" + std::to_string(line_number_) + ": expected " +
                std::to_string(columns_) + " cells, found " + std::to_string(cells_.size()));
  }
  row.clear();
  for (std::size_t i = 0; i < cells_.size(); ++i) {
    if (i == label_) continue;
    float value = std::numeric_limits<float>::quiet_NaN();
    if (!cells_[i].empty()) {
      const Result<float> read = number(cells_[i], names_[row.size()], "a number or nothing");
      if (!read) return tl::unexpected(read.error());
      value = *read;
    }
    row.push_back(value);
  }
  return true;
}

Result<bool> Table::label() const {
  if (label_ >= cells_.size()) return fail(path_.string() + ": expected a column named label");
  const Result<float> read = number(cells_[label_], kLabel, "a number");
  if (!read) return tl::unexpected(read.error());
  return *read > 0;
}

Result<float> Table::number(std::string_view cell, std::string_view column, std::string_view expected) const {
  float value = 0;
  const auto [end, error] = std::from_chars(cell.data(), cell.data() + cell.size(), value);
  if (error == std::errc{} && end == cell.data() + cell.size()) return value;
  return fail(path_.string() + ":" + std::to_string(line_number_) + ": " + std::string(column) +
              ": expected " + std::string(expected) + ", found \"" + std::string(cell) + "\"");
}

Result<bool> Table::read_line() {
  line_.clear();
  cells_.clear();
  ++line_number_;
  for (char part[4096]; ::gzgets(file_.get(), part, sizeof part) != nullptr;) {
    line_ += part;
    if (line_.ends_with('\n')) break;
  }
  int error = Z_OK;
  const std::string text = ::gzerror(file_.get(), &error);
  if (error != Z_OK && error != Z_STREAM_END) {
    return fail(path_.string() + ":" + std::to_string(line_number_) + ": " + text);
  }
  if (line_.empty()) return false;
  while (line_.ends_with('\n') || line_.ends_with('\r')) line_.pop_back();
  split(line_, cells_);
  return true;
}

Result<EntityTables> open_tables(const fs::path& set, const std::string& entity) {
  Result<Table> train = Table::open(set, "train", entity);
  if (!train) return tl::unexpected(train.error());
  Result<Table> test = Table::open(set, "test", entity);
  if (!test) return tl::unexpected(test.error());
  if (train->names() != test->names())
    return fail(test->path().string() + ": expected the columns of " + train->path().string());
  return EntityTables{std::move(*train), std::move(*test)};
}

Result<std::vector<std::string>> entities_of(const fs::path& set) {
  std::error_code error;
  std::set<std::string> entities;
  const fs::path folder = set / "test";
  for (fs::directory_iterator file(folder, error), end; !error && file != end; file.increment(error)) {
    if (const std::optional<std::string> entity = entity_of(file->path())) entities.insert(*entity);
  }
  if (error) return fail(folder.string() + ": " + error.message());
  if (entities.empty()) return fail(folder.string() + ": expected tables named *.csv or *.csv.gz");
  return std::vector<std::string>(entities.begin(), entities.end());
}

TableScorer::TableScorer(std::size_t columns, const TableOptions& options)
    : options_(options),
      detector_(columns),
      lowest_(columns, kNone),
      highest_(columns, -kNone),
      floors_(columns, kLeastFloor) {}

float TableScorer::judge(std::span<const float> row) {
  const float rarity = detector_.judge(row, floors_, 1, options_.detector).rarity;
  for (std::size_t i = 0; i < row.size(); ++i) {
    if (!std::isfinite(row[i])) continue;
    lowest_[i] = std::min(lowest_[i], row[i]);
    highest_[i] = std::max(highest_[i], row[i]);
    floors_[i] = std::max(options_.floor_of_range * (highest_[i] - lowest_[i]), kLeastFloor);
  }
  return rarity;
}

}  // namespace vedette
