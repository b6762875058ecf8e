#include "tools/train/trainer.h"

#include <cmath>
#include <filesystem>
#include <fstream>
#include <limits>
#include <set>

#include <doctest/doctest.h>
#include <nlohmann/json.hpp>
#include <unistd.h>

#include "agent/score/exact_math.h"
#include "agent/score/risk.h"
#include "tools/train/dataset.h"
#include "tools/train/report.h"

namespace {

using namespace vedette;

struct TemporaryFile {
  std::filesystem::path path;
  explicit TemporaryFile(const std::string& text) {
    static int count = 0;
    path = std::filesystem::temp_directory_path() /
           ("vedette_train_test." + std::to_string(::getpid()) + "." + std::to_string(count++) + ".csv");
    std::ofstream(path) << text;
  }
  ~TemporaryFile() { std::filesystem::remove(path); }
};

std::string head() {
  std::string line = "run,kind,t_s,label,failure_t_s,syscalls.rate";
  for (const RiskColumn& column : kRiskColumns) line += "," + std::string(column.name);
  return line + "\n";
}

// Leaks that end at their limit and caches that stop below theirs, a row a second; only memory moves.
std::string campaign(std::uint64_t seed, int runs_per_kind) {
  RandomBits random(seed);
  std::string text = head();
  int run = 0;
  for (const bool leak : {true, false}) {
    for (int i = 0; i < runs_per_kind; ++i, ++run) {
      const double slope = 0.004 + 0.01 * static_cast<double>(random.uniform());
      const double ceiling = leak ? 1.0 : 0.45 + 0.35 * static_cast<double>(random.uniform());
      const double start = 0.1 + 0.2 * static_cast<double>(random.uniform());
      const int full = static_cast<int>(std::ceil((ceiling - start) / slope));
      const int end = leak ? full : full + 90;
      for (int t = 0; t < end; ++t) {
        const double use =
            std::min(ceiling, start + slope * t) + 0.004 * static_cast<double>(random.uniform());
        const double trend = t > full + 15 ? 0 : slope;
        const double eta = trend > 0 ? std::min(3600.0, (1 - use) / trend) : 3600;
        text += std::to_string(run) + (leak ? ",leak," : ",cache,") + std::to_string(t) + "," +
                (leak && full - t <= 60 ? "1" : "0") + "," + (leak ? std::to_string(full) : "") + ",12";
        for (const RiskColumn& column : kRiskColumns) {
          text += ",";
          if (column.name == "memory_use") text += std::to_string(use);
          if (column.name == "memory_use.slope") text += std::to_string(trend);
          if (column.name == "memory_use.eta") text += std::to_string(eta);
          if (column.name == "errors_space.rate") text += "0";
        }
        text += "\n";
      }
    }
  }
  return text;
}

Dataset read(const std::string& text) {
  const TemporaryFile file(text);
  Result<Dataset> data = read_dataset({file.path});
  REQUIRE_MESSAGE(data.has_value(), (data ? "" : data.error().text));
  return std::move(*data);
}

std::string error_of(const std::string& text) {
  const TemporaryFile file(text);
  const Result<Dataset> data = read_dataset({file.path});
  return data ? "" : data.error().text;
}

}  // namespace

TEST_CASE("a dataset keeps runs apart, finds its columns by name and reads an empty field as missing") {
  const Dataset data = read(campaign(1, 2));
  REQUIRE(data.runs.size() == 4);
  CHECK(data.runs[0].kind == "leak");
  CHECK(data.runs[0].fails());
  CHECK(data.runs[0].failure_t_s > data.runs[0].t_s.back());
  CHECK(data.runs[0].labels.back() == 1);
  CHECK_FALSE(data.runs[3].fails());
  CHECK(data.runs[3].kind == "cache");
  CHECK(data.runs[0].values.size() == data.runs[0].rows() * kRiskColumns.size());
  CHECK(data.runs[0].values[0] > 0.05F);
  CHECK(std::isnan(data.runs[0].values[3]));
  CHECK(read(campaign(1, 2)).fingerprint == data.fingerprint);
  CHECK(read(campaign(2, 2)).fingerprint != data.fingerprint);
}

TEST_CASE("a broken dataset is refused with its file, line and column") {
  std::string empty_row;
  for (std::size_t i = 0; i < kRiskColumns.size(); ++i) empty_row += ",";
  const auto refused = [](const std::string& text, std::string_view part) {
    CAPTURE(error_of(text));
    CHECK(error_of(text).find(part) != std::string::npos);
  };
  refused("", "cannot be read, or is empty");
  refused("run,kind,t_s,label\n", "column failure_t_s is missing");
  refused(head() + "1,leak\n", ":2: 2 fields");
  refused(head() + "1,leak,x,0,,5" + empty_row + "\n", ":2: column t_s");
  refused(head() + "1,leak,0,2,,5" + empty_row + "\n", ":2: column label");
  refused(head() + "1,leak,0,0,-3,5" + empty_row + "\n", ":2: column failure_t_s");
  refused(head() + "1,leak,0,0,,5" + empty_row + "\n1,cache,1,0,,5" + empty_row + "\n",
          ":3: kind or failure_t_s");
  refused(head() + "1,leak,5,0,,5" + empty_row + "\n1,leak,5,0,,5" + empty_row + "\n", ":3: column t_s");
  refused(head() + "1,leak,0,0,,5,abc" + empty_row.substr(1) + "\n", ":2: column memory_use");
  CHECK_FALSE(read_dataset({"/no/such.csv"}).has_value());
}

TEST_CASE("a model trained on ramps announces failures of runs it never saw and leaves look-alikes alone") {
  const Dataset data = read(campaign(7, 20));
  const Result<Trained> trained = train(data, TrainOptions{});
  REQUIRE_MESSAGE(trained.has_value(), (trained ? "" : trained.error().text));
  CHECK(trained->split.at("leak").train == 12);
  CHECK(trained->split.at("leak").validation == 4);
  CHECK(trained->split.at("leak").test == 4);
  CHECK(std::set<std::string>(trained->test_runs.begin(), trained->test_runs.end()).size() == 8);
  const Announcements& test = trained->test.runs;
  CHECK(test.failing == 4);
  CHECK(test.lookalike == 4);
  CHECK(test.announced == 4);
  CHECK(test.flagged == 0);
  CHECK(test.median_lead_s() > 20);
  CHECK(trained->test.average_precision > 2 * trained->test.base_rate);
  CHECK(trained->test.brier < trained->test.base_rate * (1 - trained->test.base_rate));
  CHECK(trained->threshold > 0);
  CHECK(trained->threshold < 1);
  CHECK(trained->out_of_fold.failing == 16);

  const Result<std::unique_ptr<RiskScorer>> scorer = RiskScorer::from_bytes(trained->model, "trained", {});
  REQUIRE(scorer.has_value());
  CHECK((*scorer)->columns().size() == kRiskColumns.size());
  CHECK((*scorer)->alarm_threshold() == doctest::Approx(trained->threshold));

  const ReportContext context{"2026-01-02", "Made by a test."};
  const nlohmann::json metrics = nlohmann::json::parse(metrics_json(data, TrainOptions{}, *trained, context));
  CHECK(metrics["test"]["runs"]["announced"] == 4);
  CHECK(metrics["alarm"]["threshold"] == trained->threshold);
  const std::string card = model_card(data, TrainOptions{}, *trained, context);
  CHECK(card.find("2026-01-02") != std::string::npos);
  CHECK(card.find("4 of 4 failures announced") != std::string::npos);
}

TEST_CASE("identical data and seed give an identical model, another seed another split") {
  const Dataset data = read(campaign(7, 10));
  TrainOptions options;
  const Result<Trained> first = train(data, options);
  const Result<Trained> second = train(data, options);
  REQUIRE(first.has_value());
  REQUIRE(second.has_value());
  CHECK(first->model == second->model);
  options.seed = 3;
  const Result<Trained> other = train(data, options);
  REQUIRE(other.has_value());
  CHECK(other->test_runs != first->test_runs);
}

TEST_CASE("too few runs to learn or to judge from are an error, not a model") {
  CHECK_FALSE(train(read(campaign(1, 1)), {}).has_value());
  CHECK_FALSE(train(Dataset{}, {}).has_value());
  Dataset calm = read(campaign(1, 10));
  for (Run& run : calm.runs) run.labels.assign(run.rows(), 0.F);
  CHECK(train(calm, {}).error().text.find("0 rows before a failure") != std::string::npos);
}

TEST_CASE("an announcement needs the risk to hold, and counts before the failure only") {
  const std::vector<double> t{0, 1, 2, 3, 4, 5, 6};
  const double never = std::numeric_limits<double>::infinity();
  CHECK(announced_at(t, {0, 1, 1, 0, 1, 1, 1}, 0.5, 2, never) == 6);
  CHECK(announced_at(t, {0, 1, 1, 1, 0, 0, 0}, 0.5, 2, never) == 3);
  CHECK(announced_at(t, {0, 1, 1, 0, 1, 1, 1}, 0.5, 2, 6) < 0);
  CHECK(announced_at(t, {0, 0, 0, 0, 0, 0, 0}, 0.5, 0, never) < 0);
  CHECK(announced_at(t, {0.5F, 0, 0, 0, 0, 0, 0}, 0.5, 0, never) == 0);
}

TEST_CASE("average precision agrees with hand-made rankings") {
  CHECK(average_precision({0.9F, 0.8F, 0.7F}, {1, 1, 0}) == doctest::Approx(1));
  CHECK(average_precision({0.9F, 0.8F, 0.7F}, {0, 1, 1}) == doctest::Approx((1.0 / 2 + 2.0 / 3) / 2));
  CHECK(average_precision({0.5F, 0.5F, 0.5F, 0.5F}, {0, 1, 0, 0}) == doctest::Approx(0.25));
  CHECK(average_precision({0.5F}, {0}) == 0);
}
