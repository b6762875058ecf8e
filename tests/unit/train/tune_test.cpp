#include "tools/train/tune.h"

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <fstream>
#include <limits>
#include <span>
#include <string>
#include <vector>

#include <doctest/doctest.h>

#include "agent/score/exact_math.h"
#include "tests/unit/temporary_folder.h"
#include "tools/train/trainer.h"

namespace {

namespace fs = std::filesystem;
using namespace vedette;

// Two noisy columns; in one row of 50 of the test the first jumps, some rows of it labelled.
LabelledTable noisy(std::uint64_t seed, std::size_t rows) {
  RandomBits random(seed);
  LabelledTable table{.columns = 2, .train = {}, .test = {}, .labels = {}};
  for (std::size_t i = 0; i < 2 * rows; ++i) {
    const bool odd = i >= rows && i % 50 == 7;
    std::vector<float>& part = i < rows ? table.train : table.test;
    part.push_back(random.uniform() + (odd ? 2.F : 0.F));
    part.push_back(random.uniform());
    if (i >= rows) table.labels.push_back(odd || i % 97 == 0 ? 1.F : 0.F);
  }
  return table;
}

LabelledSet noisy_set(std::size_t rows) {
  return {.name = "noise", .rows_a_day = 1440, .tables = {noisy(1, rows), noisy(2, rows), noisy(3, rows)}};
}

void write(const fs::path& path, const std::string& text) {
  fs::create_directories(path.parent_path());
  std::ofstream(path) << text;
}

}  // namespace

TEST_CASE("false alarms are counted where no event is within ten minutes") {
  LabelledTable table = noisy(5, 3000);
  const auto measured = [&](double rows_a_day) {
    return measure({.name = "", .rows_a_day = rows_a_day, .tables = {}}, table, shipped_setting());
  };
  for (std::size_t i = 0; i < table.labels.size(); ++i) table.labels[i] = i % 50 == 7 ? 1.F : 0.F;
  const TableResult all = measured(24);
  std::ranges::fill(table.labels, 0.F);
  table.labels[107] = 1;
  const TableResult one = measured(24);
  CHECK(all.calm_rows == 3000 - 3 * 60);
  CHECK(one.calm_rows == 3000 - 3);
  CHECK(measured(1440).calm_rows == 3000 - 21);
  CHECK(one.alarms[0] > all.alarms[0]);
  CHECK(one.alarms[1] <= one.alarms[0]);
}

TEST_CASE("the shipped setting is what `vedette score` runs with") {
  const LabelledTable table = noisy(5, 800);
  TableScorer scorer(table.columns, {});
  std::vector<float> scores;
  for (const std::vector<float>* part : {&table.train, &table.test}) {
    for (std::size_t at = 0; at < part->size(); at += table.columns) {
      const float rarity = scorer.judge(std::span(*part).subspan(at, table.columns));
      if (part == &table.test) scores.push_back(rarity);
    }
  }
  CHECK(measure(noisy_set(800), table, shipped_setting()).precision ==
        average_precision(scores, table.labels));
}

TEST_CASE(
    "a choice is of the settings that were drawn, the same with any number of threads, another by a seed") {
  const std::vector<LabelledSet> sets{noisy_set(600)};
  TuneOptions options{.settings = 6};
  const Result<TuneReport> one = tune(sets, options);
  options.threads = 3;
  const Result<TuneReport> three = tune(sets, options);
  options.seed = 2;
  const Result<TuneReport> other = tune(sets, options);
  REQUIRE(one);
  REQUIRE(three);
  REQUIRE(other);
  CHECK(one->admissible == 6);  // of 1,800 rows no ten false alarms are wanted
  CHECK(one->chosen == three->chosen);
  CHECK(one->chosen != other->chosen);
  REQUIRE(one->sets.size() == 1);
  CHECK(one->sets[0].left_out == three->sets[0].left_out);
  CHECK(one->sets[0].tables == 3);
  for (std::size_t i = 0; i < kTuned; ++i) {
    const double guess = tuned_constants()[i].guess;
    INFO(tuned_constants()[i].name);
    CHECK(one->chosen[i] > guess / 2);
    CHECK(one->chosen[i] < guess * 2);
  }
  double shipped = 0;
  for (const LabelledTable& table : sets[0].tables)
    shipped += measure(sets[0], table, shipped_setting()).precision / 3;
  CHECK(one->sets[0].shipped == doctest::Approx(shipped));
}

TEST_CASE("settings that raise too few false alarms have no say, and if none is left it is said") {
  LabelledSet set{.name = "missing", .rows_a_day = 1440, .tables = {noisy(1, 12'000)}};
  std::ranges::fill(set.tables[0].test, std::numeric_limits<float>::quiet_NaN());
  std::ranges::fill(set.tables[0].labels, 0.F);
  set.tables[0].labels[5] = 1;
  const Result<TuneReport> report = tune({set}, {.settings = 3});
  REQUIRE_FALSE(report);
  CHECK(report.error().text.find("none of 3 settings raised half to twice") == 0);
}

TEST_CASE("a labelled set that cannot be read is refused with file and field") {
  const TemporaryFolder folder;
  const fs::path set = folder.path() / "set";
  const auto error = [&] {
    const Result<LabelledSet> read = read_labelled_set(set.string(), 1440);
    return read ? std::string() : read.error().text;
  };
  write(set / "train" / "a.csv", "x,y\n1,2\n");
  write(set / "test" / "a.csv", "x,y\n1,2\n");
  CHECK(error() == (set / "test" / "a.csv").string() + ": expected a column named label");
  write(set / "test" / "a.csv", "x,y,label\n1,2,no\n");
  CHECK(error() == (set / "test" / "a.csv").string() + ":2: label: expected a number, found \"no\"");
  write(set / "test" / "a.csv", "x,y,label\n1,2,0\n");
  CHECK(error().find("label: expected rows that are anomalous and rows that are not") != std::string::npos);
  write(set / "test" / "a.csv", "label,x,y\n0,1,2\n1,,nan\n");
  CHECK(error().empty());
  const Result<LabelledSet> read = read_labelled_set(set.string(), 1440);
  REQUIRE(read);
  REQUIRE(read->tables.size() == 1);
  CHECK(read->tables[0].labels == std::vector<float>{0, 1});
  CHECK(read->tables[0].test.size() == 4);
  CHECK(std::isnan(read->tables[0].test[2]));
  CHECK(std::isnan(read->tables[0].test[3]));
}
