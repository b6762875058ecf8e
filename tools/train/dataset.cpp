#include "tools/train/dataset.h"

#include <charconv>
#include <cmath>
#include <fstream>
#include <limits>
#include <map>
#include <optional>
#include <string_view>

#include "agent/base/fnv1a.h"

namespace vedette {
namespace {

// Comma-separated; quotes around a field are taken off, quotes within are not expected in names of runs.
void split(std::string_view line, std::vector<std::string_view>& fields) {
  fields.clear();
  if (!line.empty() && line.back() == '\r') line.remove_suffix(1);
  while (true) {
    const std::size_t comma = line.find(',');
    std::string_view field = line.substr(0, comma);
    if (field.size() >= 2 && field.front() == '"' && field.back() == '"')
      field = field.substr(1, field.size() - 2);
    fields.push_back(field);
    if (comma == std::string_view::npos) return;
    line.remove_prefix(comma + 1);
  }
}

std::optional<double> number(std::string_view field) {
  double value = 0;
  const auto [end, error] = std::from_chars(field.data(), field.data() + field.size(), value);
  if (error != std::errc() || end != field.data() + field.size()) return std::nullopt;
  return value;
}

class Reader {
public:
  Reader(const std::filesystem::path& file, std::size_t index, Dataset& out)
      : file_(file), prefix_(std::to_string(index) + ":"), out_(out) {}

  Status read() {
    std::ifstream stream(file_, std::ios::binary);
    std::string line;
    if (!stream || !std::getline(stream, line)) return fail(file_.string() + ": cannot be read, or is empty");
    hash(line);
    if (Status head = read_head(line); !head) return head;
    while (std::getline(stream, line)) {
      ++line_number_;
      hash(line);
      if (line.empty()) continue;
      if (Status row = read_row(line); !row) return row;
    }
    return {};
  }

private:
  void hash(std::string_view bytes) { out_.fingerprint = fnv1a(bytes, out_.fingerprint); }
  std::string where() const { return file_.string() + ":" + std::to_string(line_number_); }

  Status read_head(std::string_view line) {
    split(line, fields_);
    width_ = fields_.size();
    const auto place = [&](std::string_view name) -> Result<std::size_t> {
      for (std::size_t i = 0; i < fields_.size(); ++i) {
        if (fields_[i] == name) return i;
      }
      return fail(file_.string() + ": column " + std::string(name) + " is missing in its head");
    };
    for (const std::string_view name : {"run", "kind", "t_s", "label", "failure_t_s"}) {
      const Result<std::size_t> found = place(name);
      if (!found) return tl::unexpected(found.error());
      fixed_.push_back(*found);
    }
    for (const RiskColumn& column : kRiskColumns) {
      const Result<std::size_t> found = place(column.name);
      if (!found) return tl::unexpected(found.error());
      columns_.push_back(*found);
    }
    return {};
  }

  Status read_row(std::string_view line) {
    split(line, fields_);
    if (fields_.size() != width_) {
      return fail(where() + ": " + std::to_string(fields_.size()) + " fields, expected " +
                  std::to_string(width_));
    }
    const std::string name = prefix_ + std::string(fields_[fixed_[0]]);
    const auto [known, added] = run_index_.try_emplace(name, out_.runs.size());
    if (added) out_.runs.emplace_back();
    Run& run = out_.runs[known->second];

    const std::optional<double> t_s = number(fields_[fixed_[2]]);
    if (!t_s || !std::isfinite(*t_s)) return fail(where() + ": column t_s: expected seconds");
    const std::string_view label = fields_[fixed_[3]];
    if (label != "0" && label != "1") return fail(where() + ": column label: expected 0 or 1");
    double failure_t_s = -1;
    if (!fields_[fixed_[4]].empty()) {
      const std::optional<double> given = number(fields_[fixed_[4]]);
      if (!given || !(*given >= 0))
        return fail(where() + ": column failure_t_s: expected seconds, or nothing");
      failure_t_s = *given;
    }
    if (added) {
      run.name = name;
      run.kind = std::string(fields_[fixed_[1]]);
      run.failure_t_s = failure_t_s;
    } else if (run.kind != fields_[fixed_[1]] || run.failure_t_s != failure_t_s) {
      return fail(where() + ": kind or failure_t_s differs from that run's rows before");
    } else if (*t_s <= run.t_s.back()) {
      return fail(where() + ": column t_s: not after that run's row before");
    }
    run.t_s.push_back(*t_s);
    run.labels.push_back(label == "1" ? 1.F : 0.F);
    for (std::size_t i = 0; i < columns_.size(); ++i) {
      const std::string_view field = fields_[columns_[i]];
      if (field.empty()) {
        run.values.push_back(std::numeric_limits<float>::quiet_NaN());
        continue;
      }
      const std::optional<double> value = number(field);
      if (!value)
        return fail(where() + ": column " + std::string(kRiskColumns[i].name) + ": expected a number");
      run.values.push_back(static_cast<float>(*value));
    }
    return {};
  }

  const std::filesystem::path& file_;
  std::string prefix_;
  Dataset& out_;
  std::size_t line_number_ = 1;
  std::size_t width_ = 0;
  std::vector<std::size_t> fixed_;
  std::vector<std::size_t> columns_;
  std::vector<std::string_view> fields_;
  std::map<std::string, std::size_t> run_index_;
};

}  // namespace

std::size_t Dataset::rows() const {
  std::size_t sum = 0;
  for (const Run& run : runs) sum += run.rows();
  return sum;
}

Result<Dataset> read_dataset(const std::vector<std::filesystem::path>& files) {
  Dataset data;
  data.fingerprint = kFnv1aBasis;
  for (std::size_t i = 0; i < files.size(); ++i) {
    if (Status status = Reader(files[i], i, data).read(); !status) return tl::unexpected(status.error());
  }
  return data;
}

}  // namespace vedette
