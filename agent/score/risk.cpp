#include "agent/score/risk.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <fstream>
#include <limits>
#include <utility>

#include <nlohmann/json.hpp>
#include <spdlog/spdlog.h>
#include <xgboost/c_api.h>

#include "agent/base/clock.h"

namespace vedette {
namespace {

using Json = nlohmann::json;

// Ten thousand trees of depth 6 are 60 MB; a larger file is not a model of ours.
constexpr std::uintmax_t kMaxModelBytes = 64ULL << 20U;
// 1.7.4 does not accept the config without cache_id although its documentation calls it optional.
constexpr const char* kPredict =
    R"({"type":0,"training":false,"iteration_begin":0,"iteration_end":0,"strict_shape":false,"cache_id":0,"missing":NaN})";
constexpr const char* kContributions =
    R"({"type":2,"training":false,"iteration_begin":0,"iteration_end":0,"strict_shape":false})";

// A missing value, which is not equal to itself, is the same.
bool same_float(float a, float b) {
  return std::bit_cast<std::uint32_t>(a) == std::bit_cast<std::uint32_t>(b);
}

// What XGBoost prints by itself goes nowhere: errors reach us as return values, and stderr is the agent's
// log. Both settings are the calling thread's own.
void quiet_xgboost() {
  XGBRegisterLogCallback([](const char*) {});
  XGBSetGlobalConfig(R"({"verbosity":0})");
}

// The first line, without the stack trace.
std::string last_xgboost_error() {
  const std::string_view text = XGBGetLastError();
  return std::string(text.substr(0, text.find('\n')));
}

// XGBoost writes its parameters as strings.
std::int64_t number_at(const Json& json, const char* key) {
  const Json& value = json.at(key);
  if (value.is_number_integer()) return value.get<std::int64_t>();
  return std::stoll(value.get<std::string>());
}

bool all_finite(const Json& array) {
  return std::all_of(array.begin(), array.end(),
                     [](const Json& each) { return each.is_number() && std::isfinite(each.get<double>()); });
}

// XGBoost trusts the indices of a tree it loads; a flipped bit would send it out of bounds or round in
// circles.
bool sound_tree(const Json& tree, std::int64_t id, std::int64_t features) {
  constexpr std::int64_t kNoParent = std::numeric_limits<std::int32_t>::max();
  const Json& parents = tree.at("parents");
  const Json& left = tree.at("left_children");
  const Json& right = tree.at("right_children");
  const Json& split = tree.at("split_indices");
  const Json& type = tree.at("split_type");
  const std::size_t nodes = left.size();
  if (nodes == 0 || number_at(tree.at("tree_param"), "num_nodes") != static_cast<std::int64_t>(nodes))
    return false;
  if (number_at(tree.at("tree_param"), "num_feature") != features) return false;
  for (const char* key : {"right_children", "parents", "split_indices", "split_type", "split_conditions",
                          "default_left", "base_weights", "loss_changes", "sum_hessian"}) {
    if (tree.at(key).size() != nodes || !all_finite(tree.at(key))) return false;
  }
  if (number_at(tree, "id") != id || parents[0].get<std::int64_t>() != kNoParent) return false;
  std::vector<bool> visited(nodes, false);
  std::vector<std::size_t> pending{0};
  while (!pending.empty()) {
    const std::size_t node = pending.back();
    pending.pop_back();
    if (visited[node]) return false;
    visited[node] = true;
    const auto children = {left[node].get<std::int64_t>(), right[node].get<std::int64_t>()};
    if (*children.begin() == -1 && *(children.begin() + 1) == -1) continue;
    const auto column = split[node].get<std::int64_t>();
    if (column < 0 || column >= features || type[node].get<std::int64_t>() != 0) return false;
    for (const std::int64_t child : children) {
      if (child < 0 || child >= static_cast<std::int64_t>(nodes)) return false;
      if (parents[static_cast<std::size_t>(child)].get<std::int64_t>() != static_cast<std::int64_t>(node))
        return false;
      pending.push_back(static_cast<std::size_t>(child));
    }
  }
  // Pruning leaves nodes behind that nothing leads to; ours has none.
  return std::find(visited.begin(), visited.end(), false) == visited.end();
}

struct Inspected {
  std::vector<std::string> names;
  std::optional<double> alarm_threshold;
};

// May throw nlohmann's or std::stoll's exceptions on a damaged document.
Result<Inspected> inspect(const Json& model, const std::string& where) {
  const Json& learner = model.at("learner");
  const auto objective = learner.at("objective").at("name").get<std::string>();
  if (objective != "binary:logistic") {
    return fail(where + ": its objective is " + objective + ", expected binary:logistic");
  }
  const Json& booster = learner.at("gradient_booster");
  if (booster.at("name") != "gbtree") {
    return fail(where + ": its booster is " + booster.at("name").get<std::string>() + ", expected gbtree");
  }
  Inspected found;
  found.names = learner.at("feature_names").get<std::vector<std::string>>();
  const std::int64_t features = number_at(learner.at("learner_model_param"), "num_feature");
  if (found.names.empty())
    return fail(where + ": it carries no feature names; expected them to bind its columns");
  if (static_cast<std::int64_t>(found.names.size()) != features) {
    return fail(where + ": it has " + std::to_string(features) + " features but " +
                std::to_string(found.names.size()) + " feature names, expected as many");
  }
  const Json& trees = booster.at("model").at("trees");
  if (trees.empty() || number_at(booster.at("model").at("gbtree_model_param"), "num_trees") !=
                           static_cast<std::int64_t>(trees.size())) {
    return fail(where + ": damaged: it does not hold the trees it announces");
  }
  const Json& groups = booster.at("model").at("tree_info");
  if (groups.size() != trees.size() ||
      !std::all_of(groups.begin(), groups.end(), [](const Json& group) { return group == 0; })) {
    return fail(where + ": damaged: its trees do not all vote for the one output");
  }
  for (std::size_t i = 0; i < trees.size(); ++i) {
    if (!sound_tree(trees[i], static_cast<std::int64_t>(i), features)) {
      return fail(where + ": damaged: tree " + std::to_string(i) + " is inconsistent");
    }
  }
  const Json& attributes = learner.at("attributes");
  if (attributes.contains("alarm_threshold")) {
    const double threshold = std::stod(attributes.at("alarm_threshold").get<std::string>());
    if (!(threshold > 0 && threshold < 1)) {
      return fail(where + ": its alarm_threshold is not between 0 and 1");
    }
    found.alarm_threshold = threshold;
  }
  return found;
}

Result<Inspected> inspect_bytes(std::string_view bytes, const std::string& where) {
  // '{' and a quote begin XGBoost's JSON, '{' and a length marker its UBJ; its old binary format has neither.
  if (bytes.size() < 2 || bytes[0] != '{')
    return fail(where + ": not an XGBoost model (expected UBJ or JSON)");
  try {
    const bool text = bytes[1] == '"';
    const Json model = text ? Json::parse(bytes) : Json::from_ubjson(bytes);
    if (!model.contains("learner")) return fail(where + ": not an XGBoost model (no field \"learner\")");
    return inspect(model, where);
  } catch (const Json::parse_error&) {
    return fail(where + ": truncated or damaged: expected a whole XGBoost model in UBJ or JSON");
  } catch (const std::exception& error) {
    return fail(where + ": damaged or of another XGBoost version: " + error.what());
  }
}

}  // namespace

struct RiskScorer::Explained {
  MonotonicNs at_ns = 0;
  float risk = 0;
  bool ever = false;
  std::vector<Reason> reasons;
};

RiskScorer::RiskScorer(RiskOptions options, void* booster) : options_(options), booster_(booster) {}

RiskScorer::~RiskScorer() {
  XGBoosterFree(booster_);
}

Result<std::unique_ptr<RiskScorer>> RiskScorer::make(const std::filesystem::path& model,
                                                     RiskOptions options) {
  std::error_code error;
  const std::uintmax_t size = std::filesystem::file_size(model, error);
  if (error) return fail("model " + model.string() + ": " + error.message());
  if (size > kMaxModelBytes) return fail("model " + model.string() + ": larger than 64 MiB, not a model");
  std::string bytes(size, '\0');
  std::ifstream file(model, std::ios::binary);
  if (!file.read(bytes.data(), static_cast<std::streamsize>(size))) {
    return fail("model " + model.string() + ": cannot be read");
  }
  return from_bytes(bytes, model.string(), options);
}

Result<std::unique_ptr<RiskScorer>> RiskScorer::from_bytes(std::string_view bytes, std::string_view name,
                                                           RiskOptions options) {
  std::string where = "model ";
  where += name;
  Result<Inspected> inspected = inspect_bytes(bytes, where);
  if (!inspected) return tl::unexpected(inspected.error());

  const auto unknown = [&](const std::string& column) {
    return fail(where + ": column " + column + " is unknown; expected names of this agent's features");
  };
  std::vector<std::size_t> features;
  for (const std::string& column : inspected->names) {
    const std::optional<std::size_t> feature = find_feature(column);
    if (!feature) return unknown(column);
    features.push_back(*feature);
  }

  quiet_xgboost();
  BoosterHandle booster = nullptr;
  if (XGBoosterCreate(nullptr, 0, &booster) != 0) return fail(where + ": XGBoost: " + last_xgboost_error());
  std::unique_ptr<RiskScorer> scorer(new RiskScorer(options, booster));
  // One thread: the tick's own. A parameter counts once the booster was used, so this one that still is empty
  // is asked for its rounds, which must fail; else loading starts a second thread. Loading resets parameters.
  int rounds = 0;
  if (XGBoosterSetParam(booster, "nthread", "1") != 0 || XGBoosterBoostedRounds(booster, &rounds) == 0 ||
      XGBoosterLoadModelFromBuffer(booster, bytes.data(), bytes.size()) != 0 ||
      XGBoosterSetParam(booster, "nthread", "1") != 0) {
    return fail(where + ": XGBoost refuses it: " + last_xgboost_error());
  }
  scorer->names_ = std::move(inspected->names);
  scorer->features_ = std::move(features);
  scorer->alarm_threshold_ = inspected->alarm_threshold;
  // One prediction now finds what only shows in use, and builds XGBoost's lazy parts before the first tick.
  scorer->moved_ = {0};
  scorer->moved_rows_.assign(scorer->names_.size(), std::numeric_limits<float>::quiet_NaN());
  scorer->probabilities_.resize(1);
  if (!scorer->predict()) return fail(where + ": XGBoost cannot use it: " + scorer->last_error_);
  scorer->probabilities_.clear();
  return scorer;
}

void RiskScorer::note_failure(std::string_view call) {
  std::string error = std::string(call) + ": " + last_xgboost_error();
  if (error == last_error_) return;
  last_error_ = std::move(error);
  spdlog::warn("risk model: {}; what it would say is missing while it fails", last_error_);
}

bool RiskScorer::predict() {
  if (moved_.empty()) return true;
  const std::string values = R"({"data":[)" +
                             std::to_string(reinterpret_cast<std::uintptr_t>(moved_rows_.data())) +
                             R"(,true],"shape":[)" + std::to_string(moved_.size()) + "," +
                             std::to_string(names_.size()) + R"(],"typestr":"<f4","version":3})";
  const bst_ulong* shape = nullptr;
  bst_ulong dimensions = 0;
  const float* result = nullptr;
  if (XGBoosterPredictFromDense(booster_, values.c_str(), kPredict, nullptr, &shape, &dimensions, &result) !=
      0) {
    note_failure("predict");
    return false;
  }
  for (std::size_t i = 0; i < moved_.size(); ++i) probabilities_[moved_[i]] = result[i];
  return true;
}

bool RiskScorer::predict_moved(const FeatureTable& table, std::size_t rows) {
  const std::size_t columns = features_.size();
  matrix_.swap(before_);
  matrix_.resize(rows * columns);
  const std::size_t known = probabilities_.size();
  probabilities_.resize(rows);
  moved_.clear();
  moved_rows_.clear();
  for (std::size_t i = 0; i < rows; ++i) {
    float* const own = &matrix_[i * columns];
    const std::span<const float> row = table.row(i);
    for (std::size_t c = 0; c < columns; ++c) own[c] = row[features_[c]];
    if (i < known && std::equal(own, own + columns, &before_[i * columns], same_float)) continue;
    moved_.push_back(i);
    moved_rows_.insert(moved_rows_.end(), own, own + columns);
  }
  if (predict()) return true;
  probabilities_.clear();
  return false;
}

void RiskScorer::explain(std::size_t row, Explained& cache) {
  cache.reasons.clear();
  const std::size_t columns = names_.size();
  DMatrixHandle matrix = nullptr;
  if (XGDMatrixCreateFromMat_omp(&matrix_[row * columns], 1, columns, std::numeric_limits<float>::quiet_NaN(),
                                 &matrix, 1) != 0) {
    note_failure("explain");
    return;
  }
  const bst_ulong* shape = nullptr;
  bst_ulong dimensions = 0;
  const float* contributions = nullptr;  // one per column, then the bias
  if (XGBoosterPredictFromDMatrix(booster_, matrix, kContributions, &shape, &dimensions, &contributions) !=
      0) {
    note_failure("explain");
  } else {
    for (std::size_t i = 0; i < columns; ++i) {
      if (!(contributions[i] > 0)) continue;
      cache.reasons.push_back({static_cast<std::uint32_t>(features_[i]), 0,
                               std::numeric_limits<float>::quiet_NaN(), contributions[i]});
    }
    std::stable_sort(cache.reasons.begin(), cache.reasons.end(),
                     [](const Reason& a, const Reason& b) { return a.weight > b.weight; });
    if (cache.reasons.size() > options_.reasons) cache.reasons.resize(options_.reasons);
  }
  XGDMatrixFree(matrix);
}

void RiskScorer::score(const FeatureTable& table, Scores& scores) {
  if (!quiet_) {
    quiet_xgboost();
    quiet_ = true;
  }
  const std::size_t rows = std::min(table.entities.size(), scores.entities.size());
  if (rows == 0) return;
  const bool predicted = predict_moved(table, rows);

  // Rows that want an explanation, the most urgent first.
  struct Due {
    MonotonicNs since_ns;  // 0: never explained
    std::size_t row;
    Explained* cache;
  };
  std::vector<Due> due;
  const MonotonicNs now = table.time.monotonic_ns;
  for (std::size_t i = 0; i < rows; ++i) {
    EntityScore& out = scores.entities[i];
    out.risk = predicted ? static_cast<double>(probabilities_[i]) : std::numeric_limits<double>::quiet_NaN();
    out.risk_reasons.clear();
    if (!(out.risk >= options_.explain_threshold)) {
      if (!explained_.empty()) explained_.erase(table.entities[i]->id);
      continue;
    }
    std::unique_ptr<Explained>& cache = explained_[table.entities[i]->id];
    if (!cache) cache = std::make_unique<Explained>();
    const bool stale = seconds_between(cache->at_ns, now) >= options_.explain_every_s ||
                       std::abs(out.risk - static_cast<double>(cache->risk)) >= options_.explain_step;
    if (!cache->ever || stale) due.push_back({cache->ever ? cache->at_ns : 0, i, cache.get()});
  }
  std::stable_sort(due.begin(), due.end(),
                   [](const Due& a, const Due& b) { return a.since_ns < b.since_ns; });
  if (due.size() > options_.explanations_per_tick) due.resize(options_.explanations_per_tick);
  bool refreshed = false;
  for (const Due& each : due) {
    if (each.cache->ever && std::exchange(refreshed, true)) break;
    explain(each.row, *each.cache);
    each.cache->at_ns = now;
    each.cache->risk = probabilities_[each.row];
    each.cache->ever = true;
  }

  if (explained_.empty()) return;
  std::vector<EntityId> living;
  for (std::size_t i = 0; i < rows; ++i) {
    const auto found = explained_.find(table.entities[i]->id);
    if (found == explained_.end()) continue;
    living.push_back(found->first);
    scores.entities[i].risk_reasons = found->second->reasons;
    for (Reason& reason : scores.entities[i].risk_reasons) reason.value = table.row(i)[reason.column];
  }
  if (living.size() < explained_.size()) {
    std::erase_if(explained_, [&](const auto& entry) {
      return std::find(living.begin(), living.end(), entry.first) == living.end();
    });
  }
}

}  // namespace vedette
