#include "tools/cli/score_tables.h"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <cstdint>
#include <filesystem>
#include <fstream>
#include <iomanip>
#include <limits>
#include <memory>
#include <optional>
#include <ostream>
#include <set>
#include <string_view>
#include <vector>

#include <zlib.h>

#include "agent/score/detector.h"
#include "agent/score/exact_math.h"

namespace vedette {
namespace {

namespace fs = std::filesystem;

constexpr std::string_view kLabel = "label";  // never read: it is what the scores are judged by
// A table does not say which amounts matter: 2.4 % of the range that a column has shown so far.
constexpr float kFloorOfRange = 0.024F;
constexpr float kLeastFloor = 1e-6F;

std::vector<std::string_view> cells_of(std::string_view line) {
  std::vector<std::string_view> cells;
  for (std::size_t begin = 0;;) {
    const std::size_t end = line.find(',', begin);
    cells.push_back(line.substr(begin, end - begin));
    if (end == std::string_view::npos) return cells;
    begin = end + 1;
  }
}

// A table that is read row by row, plain or compressed (zlib reads both).
class Table {
public:
  static Result<Table> open(const fs::path& path) {
    Table table;
    table.path_ = path;
    table.file_.reset(::gzopen(path.c_str(), "rb"));
    if (table.file_ == nullptr) return fail_errno("open " + path.string());
    const Result<bool> header = table.read_line();
    if (!header) return tl::unexpected(header.error());
    if (!*header) return fail(path.string() + ": expected a header with the names of the columns");
    for (const std::string_view name : cells_of(table.line_)) {
      if (name == kLabel) table.label_ = table.cells_;
      if (name != kLabel) table.names_.emplace_back(name);
      ++table.cells_;
    }
    return table;
  }

  const fs::path& path() const { return path_; }
  const std::vector<std::string>& names() const { return names_; }

  // False at the end. An empty cell and "nan" are missing values.
  Result<bool> next(std::vector<float>& row) {
    Result<bool> more = read_line();
    if (!more || !*more) return more;
    const std::vector<std::string_view> cells = cells_of(line_);
    const std::string where = path_.string() + ":" + std::to_string(line_number_) + ": ";
    if (cells.size() != cells_) {
      return fail(where + "expected " + std::to_string(cells_) + " cells, found " +
                  std::to_string(cells.size()));
    }
    row.clear();
    for (std::size_t i = 0; i < cells.size(); ++i) {
      if (i == label_) continue;
      const std::string_view cell = cells[i];
      float value = std::numeric_limits<float>::quiet_NaN();
      if (!cell.empty()) {
        const auto [end, error] = std::from_chars(cell.data(), cell.data() + cell.size(), value);
        if (error != std::errc{} || end != cell.data() + cell.size()) {
          return fail(where + names_[row.size()] + ": expected a number or nothing, found \"" +
                      std::string(cell) + "\"");
        }
      }
      row.push_back(value);
    }
    return true;
  }

private:
  struct Close {
    void operator()(gzFile file) const { ::gzclose(file); }
  };

  Result<bool> read_line() {
    line_.clear();
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
    return true;
  }

  fs::path path_;
  std::unique_ptr<gzFile_s, Close> file_;
  std::string line_;
  std::size_t line_number_ = 0;
  std::size_t cells_ = 0;
  std::size_t label_ = std::numeric_limits<std::size_t>::max();
  std::vector<std::string> names_;
};

// What a column's smallest amount that matters is, from the rows seen so far.
class Floors {
public:
  explicit Floors(std::size_t columns)
      : lowest_(columns, kNone), highest_(columns, -kNone), floors_(columns, kLeastFloor) {}

  void see(const std::vector<float>& row) {
    for (std::size_t i = 0; i < row.size(); ++i) {
      if (!std::isfinite(row[i])) continue;
      lowest_[i] = std::min(lowest_[i], row[i]);
      highest_[i] = std::max(highest_[i], row[i]);
      floors_[i] = std::max(kFloorOfRange * (highest_[i] - lowest_[i]), kLeastFloor);
    }
  }
  const std::vector<float>& all() const { return floors_; }

private:
  static constexpr float kNone = std::numeric_limits<float>::max();

  std::vector<float> lowest_;
  std::vector<float> highest_;
  std::vector<float> floors_;
};

// The name of the entity: "E" of E.csv and E.csv.gz; nothing for other files.
std::optional<std::string> entity_of(const fs::path& path) {
  std::string name = path.filename().string();
  if (name.ends_with(".gz")) name.resize(name.size() - 3);
  if (!name.ends_with(".csv") || name.size() == 4) return std::nullopt;
  name.resize(name.size() - 4);
  return name;
}

fs::path file_of(const fs::path& folder, const std::string& entity) {
  const fs::path compressed = folder / (entity + ".csv.gz");
  return fs::exists(compressed) ? compressed : folder / (entity + ".csv");
}

Status score_entity(const ScoreTablesOptions& options, const std::string& entity, std::ostream& told) {
  Result<Table> train = Table::open(file_of(fs::path(options.set) / "train", entity));
  if (!train) return tl::unexpected(train.error());
  Result<Table> test = Table::open(file_of(fs::path(options.set) / "test", entity));
  if (!test) return tl::unexpected(test.error());
  if (train->names() != test->names()) {
    return fail(test->path().string() + ": expected the columns of " + train->path().string());
  }
  const fs::path out_path = fs::path(options.out) / (entity + ".csv");
  std::ofstream out(out_path);
  out << "score,alarm\n" << std::setprecision(7);

  Detector detector(train->names().size());
  Floors floors(train->names().size());
  const DetectorOptions memories;
  const float alarm_at = -exact_log10(static_cast<float>(options.false_alarms));
  std::vector<float> row;
  std::size_t rows = 0;
  std::size_t alarms = 0;
  for (Table* table : {&*train, &*test}) {
    for (;;) {
      const Result<bool> more = table->next(row);
      if (!more) return tl::unexpected(more.error());
      if (!*more) break;
      const float rarity = detector.judge(row, floors.all(), 1, memories).rarity;
      floors.see(row);
      if (table == &*train) continue;
      const bool alarm = rarity > alarm_at;
      out << rarity << (alarm ? ",1\n" : ",0\n");
      ++rows;
      alarms += alarm ? 1 : 0;
    }
  }
  if (!out.flush()) return fail_errno("write " + out_path.string());
  told << out_path.string() << ": " << rows << " rows, " << alarms << " alarms\n";
  return {};
}

}  // namespace

Status score_tables(const ScoreTablesOptions& options, std::ostream& told) {
  std::error_code error;
  std::set<std::string> entities;
  const fs::path folder = fs::path(options.set) / "test";
  for (fs::directory_iterator file(folder, error), end; !error && file != end; file.increment(error)) {
    if (const std::optional<std::string> entity = entity_of(file->path())) entities.insert(*entity);
  }
  if (error) return fail(folder.string() + ": " + error.message());
  if (entities.empty()) return fail(folder.string() + ": expected tables named *.csv or *.csv.gz");
  fs::create_directories(options.out, error);
  if (error) return fail(options.out + ": " + error.message());
  for (const std::string& entity : entities) {
    Status scored = score_entity(options, entity, told);
    if (!scored) return scored;
  }
  return {};
}

}  // namespace vedette
