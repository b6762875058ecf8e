// How likely is an observed failure (OOM kill, EMFILE, ENOSPC) of each entity within 60 s: a gradient-boosted
// model run by XGBoost's C API. Called by the tick thread once per tick; make() by any one thread before.
#pragma once

#include <filesystem>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "agent/base/result.h"
#include "agent/score/scorer.h"

namespace vedette {

struct RiskOptions {
  // Rows at or above it are explained. Well below any alarm threshold, so that a rising risk has its reasons
  // before it is an alarm.
  double explain_threshold = 0.2;
  // Exact SHAP costs over a hundred times a prediction: a row's contributions are kept so long, unless its
  // risk moved by explain_step meanwhile.
  double explain_every_s = 2;
  double explain_step = 0.1;
  // Bounds the tick when many pods fail together (130 us each with 100 trees of depth 4): the newly risky
  // come first; of those that were explained before it is one a tick, the oldest.
  std::size_t explanations_per_tick = 2;
  std::size_t reasons = 3;
};

class RiskScorer : public Scorer {
public:
  // Loads a model (XGBoost's UBJ or JSON, binary:logistic, trees) and binds its columns by name. Errors name
  // the file: not a model, truncated or damaged, another objective, a column this agent does not have, names
  // and number of features that disagree. A damaged file is found before XGBoost sees it.
  static Result<std::unique_ptr<RiskScorer>> make(const std::filesystem::path& model, RiskOptions options);
  // The same from memory; `name` stands for the file in errors.
  static Result<std::unique_ptr<RiskScorer>> from_bytes(std::string_view bytes, std::string_view name,
                                                        RiskOptions options);
  ~RiskScorer() override;

  // Fills `risk` of every row (missing columns take the way the model learned for them) and `risk_reasons`:
  // the largest contributions in log-odds that raise the risk, for rows at or above explain_threshold, with
  // today's `value` and the weight of when the row was last explained; empty below. Should XGBoost fail, risk
  // is NaN, and the log says why.
  void score(const FeatureTable& table, Scores& scores) override;

  // The model's columns in its order.
  const std::vector<std::string>& columns() const { return names_; }
  // The probability at which vedette-train says that an announcement begins; none in foreign models.
  std::optional<double> alarm_threshold() const { return alarm_threshold_; }
  // What XGBoost said when it failed last; empty: it never did.
  const std::string& last_error() const { return last_error_; }

private:
  struct Explained;

  RiskScorer(RiskOptions options, void* booster);
  // The model's columns of each row and its probability, which is a function of them alone: only rows that
  // moved are asked for. False: XGBoost failed, and no probability is known.
  bool predict_moved(const FeatureTable& table, std::size_t rows);
  bool predict();
  void explain(std::size_t row, Explained& cache);
  void note_failure(std::string_view call);

  RiskOptions options_;
  void* booster_;  // BoosterHandle; owned
  std::vector<std::string> names_;
  std::vector<std::size_t> features_;  // by model column: index into feature_columns()
  std::optional<double> alarm_threshold_;
  std::vector<float> matrix_, before_;  // rows x names_.size(), of this tick and of the last
  std::vector<float> probabilities_;
  std::vector<std::size_t> moved_;  // rows
  std::vector<float> moved_rows_;   // moved_.size() x names_.size()
  std::unordered_map<EntityId, std::unique_ptr<Explained>> explained_;
  std::string last_error_;  // told once
  bool quiet_ = false;
};

}  // namespace vedette
