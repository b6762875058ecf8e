#include "tools/train/trainer.h"

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <limits>
#include <memory>
#include <numeric>
#include <utility>

#include <xgboost/c_api.h>

#include "agent/score/exact_math.h"
#include "agent/score/risk.h"

namespace vedette {
namespace {

constexpr std::size_t kColumns = kRiskColumns.size();
constexpr double kHorizonS = 60;  // of the label
constexpr float kNan = std::numeric_limits<float>::quiet_NaN();

using Indices = std::vector<std::size_t>;  // of runs

tl::unexpected<Error> xgboost_failed(std::string_view call) {
  const std::string_view text = XGBGetLastError();
  return fail("XGBoost: " + std::string(call) + ": " + std::string(text.substr(0, text.find('\n'))));
}

// Rows of some runs as XGBoost's matrix.
class Matrix {
public:
  static Result<Matrix> make(const Dataset& data, const Indices& runs) {
    std::vector<float> values;
    std::vector<float> labels;
    for (const std::size_t i : runs) {
      values.insert(values.end(), data.runs[i].values.begin(), data.runs[i].values.end());
      labels.insert(labels.end(), data.runs[i].labels.begin(), data.runs[i].labels.end());
    }
    Matrix matrix;
    if (XGDMatrixCreateFromMat_omp(values.data(), labels.size(), kColumns, kNan, &matrix.handle_, 1) != 0 ||
        XGDMatrixSetFloatInfo(matrix.handle_, "label", labels.data(), labels.size()) != 0) {
      return xgboost_failed("matrix");
    }
    return matrix;
  }
  Matrix(Matrix&& other) noexcept : handle_(std::exchange(other.handle_, nullptr)) {}
  Matrix& operator=(Matrix&&) = delete;
  ~Matrix() {
    if (handle_ != nullptr) XGDMatrixFree(handle_);
  }
  DMatrixHandle get() const { return handle_; }

private:
  Matrix() = default;
  DMatrixHandle handle_ = nullptr;
};

class Booster {
public:
  static Result<Booster> make(const Matrix& matrix, const TrainOptions& options) {
    Booster booster;
    const DMatrixHandle handle = matrix.get();
    if (XGBoosterCreate(&handle, 1, &booster.handle_) != 0) return xgboost_failed("create");
    std::string directions = "(";
    for (const RiskColumn& column : kRiskColumns) directions += std::to_string(column.direction) + ",";
    directions.back() = ')';
    // One thread and one seed: sums of floats then have one order, and the model one value.
    const std::pair<const char*, std::string> parameters[] = {
        {"objective", "binary:logistic"},
        {"eval_metric", "logloss"},
        {"tree_method", "hist"},
        {"nthread", "1"},
        {"verbosity", "0"},
        {"seed", std::to_string(options.seed & 0x7fffffffU)},
        {"max_depth", std::to_string(options.max_depth)},
        {"eta", std::to_string(options.learning_rate)},
        {"min_child_weight", std::to_string(options.min_child_weight)},
        // Each tree sees a part of rows and columns, so that no single run or column carries the model.
        {"subsample", "0.7"},
        {"colsample_bytree", "0.7"},
        {"monotone_constraints", directions},
    };
    for (const auto& [name, value] : parameters) {
      if (XGBoosterSetParam(booster.handle_, name, value.c_str()) != 0) return xgboost_failed(name);
    }
    return booster;
  }
  Booster(Booster&& other) noexcept : handle_(std::exchange(other.handle_, nullptr)) {}
  Booster& operator=(Booster&&) = delete;
  ~Booster() {
    if (handle_ != nullptr) XGBoosterFree(handle_);
  }
  BoosterHandle get() const { return handle_; }

  Status add_rounds(const Matrix& matrix, int from, int to) {
    for (int round = from; round < to; ++round) {
      if (XGBoosterUpdateOneIter(handle_, round, matrix.get()) != 0) return xgboost_failed("update");
    }
    return {};
  }
  Result<std::vector<float>> predict(const Matrix& matrix) const {
    const bst_ulong* shape = nullptr;
    bst_ulong dimensions = 0;
    const float* out = nullptr;
    constexpr const char* kConfig =
        R"({"type":0,"training":false,"iteration_begin":0,"iteration_end":0,"strict_shape":false})";
    if (XGBoosterPredictFromDMatrix(handle_, matrix.get(), kConfig, &shape, &dimensions, &out) != 0) {
      return xgboost_failed("predict");
    }
    return std::vector<float>(out, out + shape[0]);
  }

private:
  Booster() = default;
  BoosterHandle handle_ = nullptr;
};

template <typename T>
void shuffle(std::vector<T>& items, RandomBits& random) {
  for (std::size_t i = items.size(); i > 1; --i) {
    std::swap(items[i - 1], items[random.below(static_cast<std::uint32_t>(i))]);
  }
}

std::map<std::string, Indices> runs_by_kind(const Dataset& data, const Indices& runs) {
  std::map<std::string, Indices> kinds;
  for (const std::size_t i : runs) kinds[data.runs[i].kind].push_back(i);
  return kinds;
}

struct Split {
  Indices train, validation, test;
};

Split split_runs(const Dataset& data, const TrainOptions& options, std::map<std::string, Part>& parts) {
  Indices all(data.runs.size());
  std::iota(all.begin(), all.end(), std::size_t{0});
  RandomBits random(options.seed);
  Split split;
  for (auto& [kind, runs] : runs_by_kind(data, all)) {
    shuffle(runs, random);
    const auto count = static_cast<double>(runs.size());
    const auto train_end = static_cast<std::size_t>(std::lround(count * options.train_share));
    const auto validation_end =
        static_cast<std::size_t>(std::lround(count * (options.train_share + options.validation_share)));
    for (std::size_t i = 0; i < runs.size(); ++i) {
      (i < train_end ? split.train : i < validation_end ? split.validation : split.test).push_back(runs[i]);
    }
    parts[kind] = {train_end, validation_end - train_end, runs.size() - validation_end};
  }
  return split;
}

Status check_classes(const Dataset& data, const Indices& runs, std::string_view part) {
  std::size_t positive = 0;
  std::size_t rows = 0;
  for (const std::size_t i : runs) {
    rows += data.runs[i].rows();
    positive +=
        static_cast<std::size_t>(std::count(data.runs[i].labels.begin(), data.runs[i].labels.end(), 1.F));
  }
  if (positive > 0 && positive < rows) return {};
  return fail("the " + std::string(part) + " runs hold " + std::to_string(positive) +
              " rows before a failure of " + std::to_string(rows) +
              ", expected some of both: more runs are needed");
}

// Rounds until the validation loss is lowest.
Result<int> find_rounds(const Matrix& train, const Matrix& validation, const TrainOptions& options) {
  Result<Booster> booster = Booster::make(train, options);
  if (!booster) return tl::unexpected(booster.error());
  double best = std::numeric_limits<double>::infinity();
  int best_rounds = 1;
  for (int round = 0; round < options.max_rounds && round < best_rounds + options.patience; ++round) {
    if (Status status = booster->add_rounds(train, round, round + 1); !status)
      return tl::unexpected(status.error());
    DMatrixHandle evaluated[] = {validation.get()};
    const char* names[] = {"validation"};
    const char* result = nullptr;
    if (XGBoosterEvalOneIter(booster->get(), round, evaluated, names, 1, &result) != 0) {
      return xgboost_failed("evaluate");
    }
    const std::string_view text = result;  // "[12]\tvalidation-logloss:0.1234"
    const double loss = std::strtod(text.substr(text.rfind(':') + 1).data(), nullptr);
    if (loss < best) {
      best = loss;
      best_rounds = round + 1;
    }
  }
  return best_rounds;
}

// Risk of every row of `judged`, by a model of `rounds` rounds on `seen`; runs keep their place.
Status judge_unseen(const Dataset& data, const Indices& seen, const Indices& judged, int rounds,
                    const TrainOptions& options, std::vector<std::vector<float>>& risks) {
  Result<Matrix> train = Matrix::make(data, seen);
  if (!train) return tl::unexpected(train.error());
  Result<Booster> booster = Booster::make(*train, options);
  if (!booster) return tl::unexpected(booster.error());
  if (Status status = booster->add_rounds(*train, 0, rounds); !status) return status;
  for (const std::size_t i : judged) {
    Result<Matrix> rows = Matrix::make(data, {i});
    if (!rows) return tl::unexpected(rows.error());
    Result<std::vector<float>> risk = booster->predict(*rows);
    if (!risk) return tl::unexpected(risk.error());
    risks[i] = std::move(*risk);
  }
  return {};
}

void note(const Run& run, double announced_t_s, Announcements& out) {
  if (!run.fails()) {
    ++out.lookalike;
    out.flagged += announced_t_s >= 0 ? 1 : 0;
    return;
  }
  ++out.failing;
  if (announced_t_s < 0) return;
  ++out.announced;
  const double lead_s = run.failure_t_s - announced_t_s;
  out.early += lead_s > 2 * kHorizonS ? 1 : 0;
  out.lead_s.insert(std::upper_bound(out.lead_s.begin(), out.lead_s.end(), lead_s), lead_s);
}

double end_of(const Run& run) {
  return run.fails() ? run.failure_t_s : std::numeric_limits<double>::infinity();
}

Announcements announce(const Dataset& data, const Indices& runs, const std::vector<std::vector<float>>& risks,
                       double threshold, double hold_s) {
  Announcements out;
  for (const std::size_t i : runs) {
    const Run& run = data.runs[i];
    note(run, announced_at(run.t_s, risks[i], threshold, hold_s, end_of(run)), out);
  }
  return out;
}

// Of the thresholds that flag few enough look-alikes, those that announce most; of these the middle one,
// which is farthest from both mistakes.
double choose_threshold(const Dataset& data, const Indices& runs,
                        const std::vector<std::vector<float>>& risks, const TrainOptions& options) {
  struct Candidate {
    double threshold, announced, flagged;
  };
  std::vector<Candidate> candidates;
  for (int percent = 5; percent <= 98; ++percent) {
    const double threshold = percent / 100.0;
    const Announcements found = announce(data, runs, risks, threshold, options.hold_s);
    candidates.push_back({threshold, found.announced_share(), found.flagged_share()});
  }
  double fewest = 1;
  for (const Candidate& each : candidates) fewest = std::min(fewest, each.flagged);
  const double allowed = std::max(fewest, options.flagged_share);
  double most = 0;
  for (const Candidate& each : candidates) {
    if (each.flagged <= allowed) most = std::max(most, each.announced);
  }
  std::vector<double> best;
  for (const Candidate& each : candidates) {
    if (each.flagged <= allowed && each.announced >= most) best.push_back(each.threshold);
  }
  return best[best.size() / 2];
}

// The rule to beat: any of the etas within the label's horizon.
std::vector<float> eta_rule(const Run& run) {
  std::vector<float> alarm(run.rows(), 0);
  for (std::size_t row = 0; row < run.rows(); ++row) {
    for (std::size_t c = 0; c < kColumns; ++c) {
      if (!kRiskColumns[c].name.ends_with(".eta")) continue;
      if (static_cast<double>(run.values[row * kColumns + c]) <= kHorizonS) alarm[row] = 1;
    }
  }
  return alarm;
}

std::vector<CalibrationBin> calibrate(const std::vector<float>& risk, const std::vector<float>& labels) {
  constexpr std::size_t kBins = 10;
  std::vector<CalibrationBin> bins(kBins);
  for (std::size_t i = 0; i < kBins; ++i) {
    bins[i].from = static_cast<double>(i) / kBins;
    bins[i].to = static_cast<double>(i + 1) / kBins;
  }
  for (std::size_t i = 0; i < risk.size(); ++i) {
    CalibrationBin& bin = bins[std::min(static_cast<std::size_t>(risk[i] * kBins), kBins - 1)];
    ++bin.rows;
    bin.predicted += static_cast<double>(risk[i]);
    bin.observed += static_cast<double>(labels[i]);
  }
  for (CalibrationBin& bin : bins) {
    if (bin.rows == 0) continue;
    bin.predicted /= static_cast<double>(bin.rows);
    bin.observed /= static_cast<double>(bin.rows);
  }
  return bins;
}

Evaluation evaluate(const Dataset& data, const Indices& runs, const std::vector<std::vector<float>>& risks,
                    double threshold, double hold_s) {
  Evaluation out;
  std::vector<float> risk;
  std::vector<float> labels;
  for (const std::size_t i : runs) {
    const Run& run = data.runs[i];
    const double at = announced_at(run.t_s, risks[i], threshold, hold_s, end_of(run));
    note(run, at, out.runs);
    note(run, at, out.kinds[run.kind]);
    note(run, announced_at(run.t_s, eta_rule(run), 0.5, hold_s, end_of(run)), out.eta_rule);
    risk.insert(risk.end(), risks[i].begin(), risks[i].end());
    labels.insert(labels.end(), run.labels.begin(), run.labels.end());
  }
  out.rows = risk.size();
  for (std::size_t i = 0; i < risk.size(); ++i) {
    const double miss = static_cast<double>(risk[i]) - static_cast<double>(labels[i]);
    out.brier += miss * miss;
    out.base_rate += static_cast<double>(labels[i]);
  }
  if (out.rows > 0) {
    out.brier /= static_cast<double>(out.rows);
    out.base_rate /= static_cast<double>(out.rows);
  }
  out.average_precision = average_precision(risk, labels);
  out.calibration = calibrate(risk, labels);
  return out;
}

Result<std::vector<std::pair<std::string, double>>> gains(const Booster& booster) {
  bst_ulong count = 0;
  bst_ulong dimensions = 0;
  const char** names = nullptr;
  const bst_ulong* shape = nullptr;
  const float* scores = nullptr;
  if (XGBoosterFeatureScore(booster.get(), R"({"importance_type":"total_gain"})", &count, &names, &dimensions,
                            &shape, &scores) != 0) {
    return xgboost_failed("importance");
  }
  std::vector<std::pair<std::string, double>> out;
  for (std::size_t i = 0; i < count; ++i) out.emplace_back(names[i], static_cast<double>(scores[i]));
  std::sort(out.begin(), out.end(), [](const auto& a, const auto& b) { return a.second > b.second; });
  return out;
}

Result<std::string> save(const Booster& booster, double threshold) {
  std::vector<const char*> names;
  names.reserve(kColumns);
  for (const RiskColumn& column : kRiskColumns) names.push_back(column.name.data());
  char text[32];
  std::snprintf(text, sizeof text, "%.2f", threshold);
  bst_ulong size = 0;
  const char* bytes = nullptr;
  if (XGBoosterSetStrFeatureInfo(booster.get(), "feature_name", names.data(), names.size()) != 0 ||
      XGBoosterSetAttr(booster.get(), "alarm_threshold", text) != 0 ||
      XGBoosterSaveModelToBuffer(booster.get(), R"({"format":"ubj"})", &size, &bytes) != 0) {
    return xgboost_failed("save");
  }
  return std::string(bytes, size);
}

}  // namespace

double Announcements::announced_share() const {
  return failing == 0 ? 0 : static_cast<double>(announced) / static_cast<double>(failing);
}
double Announcements::flagged_share() const {
  return lookalike == 0 ? 0 : static_cast<double>(flagged) / static_cast<double>(lookalike);
}
double Announcements::median_lead_s() const {
  if (lead_s.empty()) return 0;
  return (lead_s[(lead_s.size() - 1) / 2] + lead_s[lead_s.size() / 2]) / 2;
}

double announced_at(const std::vector<double>& t_s, const std::vector<float>& risk, double threshold,
                    double hold_s, double end_t_s) {
  double since = -1;
  for (std::size_t i = 0; i < t_s.size() && t_s[i] < end_t_s; ++i) {
    if (static_cast<double>(risk[i]) < threshold) {
      since = -1;
      continue;
    }
    if (since < 0) since = t_s[i];
    if (t_s[i] - since >= hold_s) return t_s[i];
  }
  return -1;
}

double average_precision(const std::vector<float>& risk, const std::vector<float>& labels) {
  std::vector<std::size_t> order(risk.size());
  std::iota(order.begin(), order.end(), std::size_t{0});
  std::stable_sort(order.begin(), order.end(),
                   [&](std::size_t a, std::size_t b) { return risk[a] > risk[b]; });
  double positives = 0;
  for (const float label : labels) positives += static_cast<double>(label);
  if (positives <= 0) return 0;
  double area = 0;
  double hits = 0;
  double counted = 0;
  for (std::size_t i = 0; i < order.size();) {
    const float level = risk[order[i]];
    double more = 0;
    for (; i < order.size() && risk[order[i]] == level; ++i) {
      more += static_cast<double>(labels[order[i]]);
      ++counted;
    }
    hits += more;
    area += more / positives * hits / counted;
  }
  return area;
}

Result<Trained> train(const Dataset& data, const TrainOptions& options) {
  XGBRegisterLogCallback([](const char*) {});
  Trained out;
  Split split = split_runs(data, options, out.split);
  for (const auto& [runs, part] :
       {std::pair{&split.train, "training"}, std::pair{&split.validation, "validation"},
        std::pair{&split.test, "test"}}) {
    if (Status status = check_classes(data, *runs, part); !status) return tl::unexpected(status.error());
  }

  const Result<Matrix> training = Matrix::make(data, split.train);
  if (!training) return tl::unexpected(training.error());
  const Result<Matrix> validation = Matrix::make(data, split.validation);
  if (!validation) return tl::unexpected(validation.error());
  const Result<int> rounds = find_rounds(*training, *validation, options);
  if (!rounds) return tl::unexpected(rounds.error());
  out.rounds = *rounds;

  Indices known = split.train;
  known.insert(known.end(), split.validation.begin(), split.validation.end());
  std::vector<std::vector<float>> risks(data.runs.size());
  // Folds stratified by kind: each run goes to the next fold, kind after kind.
  std::vector<Indices> folds(static_cast<std::size_t>(std::max(2, options.folds)));
  std::size_t next = 0;
  for (const auto& [kind, runs] : runs_by_kind(data, known)) {
    for (const std::size_t run : runs) folds[next++ % folds.size()].push_back(run);
  }
  for (const Indices& fold : folds) {
    Indices others;
    for (const std::size_t run : known) {
      if (std::find(fold.begin(), fold.end(), run) == fold.end()) others.push_back(run);
    }
    if (Status status = judge_unseen(data, others, fold, out.rounds, options, risks); !status) {
      return tl::unexpected(status.error());
    }
  }
  out.threshold = choose_threshold(data, known, risks, options);
  out.out_of_fold = announce(data, known, risks, out.threshold, options.hold_s);

  // The final model: as many rounds, from all runs but the test's.
  const Result<Matrix> all = Matrix::make(data, known);
  if (!all) return tl::unexpected(all.error());
  Result<Booster> booster = Booster::make(*all, options);
  if (!booster) return tl::unexpected(booster.error());
  if (Status status = booster->add_rounds(*all, 0, out.rounds); !status)
    return tl::unexpected(status.error());
  for (const std::size_t i : split.test) {
    const Result<Matrix> rows = Matrix::make(data, {i});
    if (!rows) return tl::unexpected(rows.error());
    Result<std::vector<float>> risk = booster->predict(*rows);
    if (!risk) return tl::unexpected(risk.error());
    risks[i] = std::move(*risk);
    out.test_runs.push_back(data.runs[i].name);
  }
  out.test = evaluate(data, split.test, risks, out.threshold, options.hold_s);

  Result<std::string> model = save(*booster, out.threshold);
  if (!model) return tl::unexpected(model.error());
  out.model = std::move(*model);
  Result<std::vector<std::pair<std::string, double>>> gain = gains(*booster);
  if (!gain) return tl::unexpected(gain.error());
  out.gain = std::move(*gain);
  // What the agent would refuse must not be written.
  const Result<std::unique_ptr<RiskScorer>> loaded =
      RiskScorer::from_bytes(out.model, "just trained", RiskOptions{});
  if (!loaded) return tl::unexpected(loaded.error());
  return out;
}

}  // namespace vedette
