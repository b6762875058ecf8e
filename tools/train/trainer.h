// Trains the failure-risk model through XGBoost's C API and measures it on runs it never saw. Used by
// vedette-train and its tests on one thread. Identical data and seed give identical bytes.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "agent/base/result.h"
#include "tools/train/dataset.h"

namespace vedette {

struct TrainOptions {
  std::uint64_t seed = 1;
  // Shares of the runs of each kind; the rest is the test part.
  double train_share = 0.6;
  double validation_share = 0.2;
  int max_rounds = 400;  // far above where early stopping ends; bounds the model's size
  int patience = 30;     // rounds without a better validation loss
  int max_depth = 4;     // a use, its slope, its eta and one circumstance
  double learning_rate = 0.1;
  double min_child_weight = 5;  // rows are a second apart: fewer than five are one moment of one run
  int folds = 5;                // of training and validation runs, to choose the threshold on unseen ones
  // The threshold is the one that announces most among those that flag at most this share of look-alikes out
  // of fold: half of what is tolerated on unseen runs (1 in 20), since the estimate itself is uncertain.
  double flagged_share = 0.025;
  // A risk is an announcement once it was at or above the threshold for so long without a break: the rule and
  // the value of assess/ (AssessOptions::risk_hold_s).
  double hold_s = 2;
};

// How announcements compare with what happened, over whole runs.
struct Announcements {
  std::size_t failing = 0;
  std::size_t announced = 0;   // of them, before the failure
  std::size_t early = 0;       // of these, more than two horizons (120 s) before
  std::vector<double> lead_s;  // of the announced, sorted
  std::size_t lookalike = 0;   // runs that did not fail
  std::size_t flagged = 0;     // of them, announced all the same

  double announced_share() const;
  double flagged_share() const;
  double median_lead_s() const;
};

struct CalibrationBin {
  double from = 0, to = 0;
  std::size_t rows = 0;
  double predicted = 0;  // mean
  double observed = 0;   // share of rows with a failure within the horizon
};

struct Evaluation {
  Announcements runs;
  std::map<std::string, Announcements> kinds;
  Announcements eta_rule;  // the same runs by a rule without model: any eta at or below 60 s, held as long
  std::size_t rows = 0;
  double base_rate = 0;
  double average_precision = 0;  // over rows
  double brier = 0;
  std::vector<CalibrationBin> calibration;
};

struct Part {
  std::size_t train = 0, validation = 0, test = 0;  // runs
};

struct Trained {
  std::string model;  // UBJ with feature names and the attribute alarm_threshold
  double threshold = 0.5;
  int rounds = 0;
  std::map<std::string, Part> split;
  std::vector<std::string> test_runs;
  Announcements out_of_fold;  // training and validation runs, each judged by a model that did not see it
  Evaluation test;
  std::vector<std::pair<std::string, double>> gain;  // per column that is used, largest first
};

// Splits by run, stratified by kind; finds the number of rounds on the validation runs; chooses the threshold
// out of fold; trains the final model on training and validation runs; evaluates it on the test runs. Errors:
// too few runs, runs of one class only, XGBoost's own.
Result<Trained> train(const Dataset& data, const TrainOptions& options);

// First second at which `risk` (one per row) is an announcement; negative if never. Rows at or after
// `end_t_s` do not count.
double announced_at(const std::vector<double>& t_s, const std::vector<float>& risk, double threshold,
                    double hold_s, double end_t_s);

// Area under the precision-recall steps, ties taken together; 0 without positives.
double average_precision(const std::vector<float>& risk, const std::vector<float>& labels);

}  // namespace vedette
