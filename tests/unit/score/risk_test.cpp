#include "agent/score/risk.h"

#include <cmath>
#include <filesystem>
#include <fstream>

#include <doctest/doctest.h>
#include <nlohmann/json.hpp>
#include <unistd.h>
#include <xgboost/c_api.h>

#include "agent/score/exact_math.h"

namespace {

using namespace vedette;

struct Recipe {
  std::vector<const char*> names{"memory_use", "memory_use.slope", "errors_descriptors.rate"};
  const char* objective = "binary:logistic";
  const char* format = R"({"format":"ubj"})";
  const char* booster = "gbtree";
  bool named = true;
  const char* threshold = nullptr;
};

// A real model: fails where memory is above 80 %, or where descriptors run out.
std::string trained(const Recipe& recipe = {}) {
  constexpr std::size_t kRows = 800;
  const std::size_t columns = recipe.names.size();
  RandomBits random(1);
  std::vector<float> values(kRows * columns);
  std::vector<float> labels(kRows);
  for (std::size_t i = 0; i < kRows; ++i) {
    for (std::size_t c = 0; c < columns; ++c) values[i * columns + c] = random.uniform();
    if (i % 9 == 0) values[i * columns + 1] = NAN;
    labels[i] = values[i * columns] > 0.8F || (columns > 2 && values[i * columns + 2] > 0.9F) ? 1.F : 0.F;
  }
  DMatrixHandle data = nullptr;
  BoosterHandle booster = nullptr;
  REQUIRE(XGDMatrixCreateFromMat_omp(values.data(), kRows, columns, NAN, &data, 1) == 0);
  REQUIRE(XGDMatrixSetFloatInfo(data, "label", labels.data(), kRows) == 0);
  REQUIRE(XGBoosterCreate(&data, 1, &booster) == 0);
  for (const auto& [key, value] :
       {std::pair{"objective", recipe.objective}, std::pair{"booster", recipe.booster},
        std::pair{"max_depth", "3"}, std::pair{"nthread", "1"}, std::pair{"eta", "0.3"}}) {
    REQUIRE(XGBoosterSetParam(booster, key, value) == 0);
  }
  for (int i = 0; i < 20; ++i) REQUIRE(XGBoosterUpdateOneIter(booster, i, data) == 0);
  std::vector<const char*> names = recipe.names;
  if (recipe.named)
    REQUIRE(XGBoosterSetStrFeatureInfo(booster, "feature_name", names.data(), names.size()) == 0);
  if (recipe.threshold != nullptr)
    REQUIRE(XGBoosterSetAttr(booster, "alarm_threshold", recipe.threshold) == 0);
  bst_ulong size = 0;
  const char* bytes = nullptr;
  REQUIRE(XGBoosterSaveModelToBuffer(booster, recipe.format, &size, &bytes) == 0);
  std::string model(bytes, size);
  XGBoosterFree(booster);
  XGDMatrixFree(data);
  return model;
}

std::string error_of(std::string_view bytes) {
  const Result<std::unique_ptr<RiskScorer>> made = RiskScorer::from_bytes(bytes, "m.ubj", RiskOptions{});
  return made ? "" : made.error().text;
}

bool has(const std::string& text, std::string_view part) {
  return text.find(part) != std::string::npos;
}

// Rows of calm entities: nothing used, nothing failing.
struct Node {
  FeatureTable table;
  Scores scores;

  explicit Node(std::size_t entities) {
    table.time.monotonic_ns = 1'000'000'000;
    for (std::size_t i = 0; i < entities; ++i) {
      Entity entity;
      entity.id = static_cast<EntityId>(i);
      table.entities.push_back(std::make_shared<const Entity>(entity));
    }
    table.values.assign(entities * feature_columns().size(), 0.F);
    scores.entities.resize(entities);
  }
  float& at(std::size_t row, std::string_view name) { return table.row(row)[*find_feature(name)]; }
  void judge(RiskScorer& scorer, double seconds = 0.25) {
    table.time.monotonic_ns += static_cast<MonotonicNs>(seconds * 1e9);
    scorer.score(table, scores);
  }
};

std::unique_ptr<RiskScorer> loaded(const Recipe& recipe = {}, RiskOptions options = {}) {
  Result<std::unique_ptr<RiskScorer>> made = RiskScorer::from_bytes(trained(recipe), "m.ubj", options);
  REQUIRE_MESSAGE(made.has_value(), (made ? "" : made.error().text));
  return std::move(*made);
}

}  // namespace

TEST_CASE("a model judges each row by its own columns, in any order of the agent's") {
  for (const char* format : {R"({"format":"ubj"})", R"({"format":"json"})"}) {
    Recipe recipe;
    recipe.format = format;
    const std::unique_ptr<RiskScorer> scorer = loaded(recipe);
    Node node(5);
    node.at(3, "memory_use") = 0.95F;
    node.at(4, "errors_descriptors.rate") = 0.97F;
    node.judge(*scorer);
    for (const std::size_t calm : {0, 1, 2}) {
      CHECK(node.scores.entities[calm].risk < 0.1);
      CHECK(node.scores.entities[calm].risk_reasons.empty());
    }
    for (const std::size_t risky : {3, 4}) {
      CHECK(node.scores.entities[risky].risk > 0.8);
      REQUIRE_FALSE(node.scores.entities[risky].risk_reasons.empty());
      const Reason& first = node.scores.entities[risky].risk_reasons[0];
      CHECK(feature_columns()[first.column].name == (risky == 3 ? "memory_use" : "errors_descriptors.rate"));
      CHECK(first.value == (risky == 3 ? 0.95F : 0.97F));
      CHECK(first.weight > 1);
      CHECK(std::isnan(first.usual));
    }
    CHECK(scorer->last_error().empty());
    CHECK_FALSE(scorer->alarm_threshold().has_value());
  }
}

TEST_CASE(
    "columns are bound by name, so two models that differ in their order agree on the column they share") {
  Recipe recipe;
  recipe.names = {"disk_space_use", "disk_space_use.slope"};
  const std::unique_ptr<RiskScorer> disk = loaded(recipe);
  recipe.names = {"memory_use", "memory_use.slope"};
  const std::unique_ptr<RiskScorer> memory = loaded(recipe);
  CHECK(disk->columns() == std::vector<std::string>{"disk_space_use", "disk_space_use.slope"});
  Node node(2);
  node.at(1, "disk_space_use") = 0.95F;
  node.judge(*memory);
  CHECK(node.scores.entities[1].risk < 0.1);
  node.judge(*disk);
  CHECK(node.scores.entities[1].risk > 0.8);
}

TEST_CASE("whichever rows move, leave or come, each has the risk it would have alone, to the bit") {
  const std::unique_ptr<RiskScorer> scorer = loaded();
  const std::unique_ptr<RiskScorer> alone = loaded();
  RandomBits random(9);
  std::vector<float> memory;
  Node single(1);
  for (int tick = 0; tick < 60; ++tick) {
    const std::size_t rows = 70 + random.below(60);  // more than XGBoost takes at once
    Node node(rows);
    memory.resize(rows);
    for (std::size_t i = 0; i < rows; ++i) {
      if (random.uniform() < 0.1F) memory[i] = random.uniform() < 0.2F ? NAN : random.uniform();
      node.at(i, "memory_use") = memory[i];
    }
    node.judge(*scorer);
    for (std::size_t i = 0; i < rows; i += 7) {
      single.at(0, "memory_use") = memory[i];
      single.judge(*alone);
      CHECK(node.scores.entities[i].risk == single.scores.entities[0].risk);
    }
  }
}

TEST_CASE("a row of missing values has a risk all the same") {
  const std::unique_ptr<RiskScorer> scorer = loaded();
  Node node(1);
  for (float& value : node.table.row(0)) value = NAN;
  node.judge(*scorer);
  CHECK(node.scores.entities[0].risk >= 0);
  CHECK(node.scores.entities[0].risk <= 1);
}

TEST_CASE("no tick explains more rows than it may, and all have their reasons after some ticks") {
  RiskOptions options;
  options.explanations_per_tick = 2;
  const std::unique_ptr<RiskScorer> scorer = loaded({}, options);
  Node node(7);
  for (std::size_t i = 0; i < 7; ++i) node.at(i, "memory_use") = 0.95F;
  for (std::size_t tick = 1; tick <= 4; ++tick) {
    node.judge(*scorer, 0.1);
    std::size_t explained = 0;
    for (const EntityScore& score : node.scores.entities) explained += score.risk_reasons.empty() ? 0 : 1;
    CHECK(explained == std::min<std::size_t>(7, 2 * tick));
  }
  // Of seven old ones that all changed, one is explained anew.
  const auto weight = [&](std::size_t row) { return node.scores.entities[row].risk_reasons.at(0).weight; };
  std::vector<float> before;
  for (std::size_t i = 0; i < 7; ++i) {
    before.push_back(weight(i));
    node.at(i, "errors_descriptors.rate") = 0.95F;
  }
  node.judge(*scorer, 2 * options.explain_every_s);
  std::size_t renewed = 0;
  for (std::size_t i = 0; i < 7; ++i) renewed += weight(i) == before[i] ? 0 : 1;
  CHECK(renewed == 1);
  // A calm row loses its reasons at once, and shows today's value while it has them.
  node.at(0, "memory_use") = 0.1F;
  node.at(0, "errors_descriptors.rate") = 0;
  node.at(1, "memory_use") = 0.99F;
  node.judge(*scorer);
  CHECK(node.scores.entities[0].risk_reasons.empty());
  CHECK(node.scores.entities[1].risk_reasons[0].value == 0.99F);
}

TEST_CASE("the alarm threshold comes from the model, if it is a probability") {
  Recipe recipe;
  recipe.threshold = "0.625";
  CHECK(loaded(recipe)->alarm_threshold() == 0.625);
  recipe.threshold = "7";
  CHECK(has(error_of(trained(recipe)), "alarm_threshold"));
}

TEST_CASE("a model of another kind is refused with one sentence that names the file and what was expected") {
  Recipe recipe;
  recipe.names = {"memory_use", "no_such.rate", "pids_use"};
  CHECK(error_of(trained(recipe)) ==
        "model m.ubj: column no_such.rate is unknown; expected names of this agent's features");
  recipe = {};
  recipe.objective = "reg:squarederror";
  CHECK(error_of(trained(recipe)) ==
        "model m.ubj: its objective is reg:squarederror, expected binary:logistic");
  recipe = {};
  recipe.booster = "gblinear";
  CHECK(error_of(trained(recipe)) == "model m.ubj: its booster is gblinear, expected gbtree");
  recipe = {};
  recipe.named = false;
  CHECK(has(error_of(trained(recipe)), "no feature names"));

  recipe = {};
  recipe.format = R"({"format":"json"})";
  nlohmann::json model = nlohmann::json::parse(trained(recipe));
  model["learner"]["feature_names"].push_back("pids_use");
  CHECK(error_of(model.dump()) == "model m.ubj: it has 3 features but 4 feature names, expected as many");
}

TEST_CASE("what is no model is refused: an absent file, an empty one, text, a directory") {
  CHECK(
      has(RiskScorer::make("/no/such/model.ubj", {}).error().text, "model /no/such/model.ubj: No such file"));
  CHECK_FALSE(RiskScorer::make("/tmp", {}).has_value());
  for (const std::string_view bytes :
       {"", "{", "hello, world", "binf\1\2\3", "{}", "{\"a\":1}", "{L", "[1,2]"}) {
    CAPTURE(bytes);
    CHECK(has(error_of(bytes), "model m.ubj: "));
  }
  const std::filesystem::path path =
      std::filesystem::temp_directory_path() / ("vedette_risk_test." + std::to_string(::getpid()));
  std::ofstream(path, std::ios::binary) << trained();
  CHECK(RiskScorer::make(path, {}).has_value());
  std::filesystem::remove(path);
}

TEST_CASE("a model cut off anywhere is refused") {
  const std::string model = trained();
  for (std::size_t length = 0; length < model.size(); length += length < 600 ? 1 : 97) {
    CHECK_FALSE(error_of(std::string_view(model).substr(0, length)).empty());
  }
  CHECK_FALSE(error_of(std::string_view(model).substr(0, model.size() - 1)).empty());
}

TEST_CASE("a model with flipped bytes is refused or still answers with probabilities, and never crashes") {
  const std::string model = trained();
  RandomBits random(11);
  Node node(3);
  node.at(1, "memory_use") = 0.95F;
  for (int round = 0; round < 400; ++round) {
    std::string broken = model;
    for (std::uint32_t flips = 1 + random.below(3); flips > 0; --flips) {
      char& byte = broken[random.below(static_cast<std::uint32_t>(broken.size()))];
      byte = static_cast<char>(byte ^ (1 << random.below(8)));
    }
    Result<std::unique_ptr<RiskScorer>> made = RiskScorer::from_bytes(broken, "m.ubj", {});
    if (!made) {
      CHECK(has(made.error().text, "model m.ubj: "));
      CHECK_FALSE(has(made.error().text, "\n"));
      continue;
    }
    node.judge(**made);
    for (const EntityScore& score : node.scores.entities) {
      CHECK(score.risk >= 0);
      CHECK(score.risk <= 1);
    }
  }
}
