// One tick's features, anomaly scores, risks, reasons and causes for 111 entities (a node and 110 pods, the
// kubelet's default), over moving synthetic observations: noise in every signal, four pods that leak towards
// their limits again and again (so that SHAP runs), and a model of 100 trees of depth 4. Prints the figures
// as JSON.
#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdio>
#include <filesystem>
#include <limits>
#include <random>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include <xgboost/c_api.h>

#include "agent/assess/cause_finder.h"
#include "agent/features/feature_builder.h"
#include "agent/score/anomaly.h"
#include "agent/score/risk.h"
#include "tools/train/columns.h"

namespace {

using namespace vedette;

constexpr std::size_t kEntities = 111;
constexpr std::size_t kLeaks = 4;
constexpr double kTickSeconds = 0.25;
// 500 s of warm-up: every baseline, every joint distance and every tail is in full use.
constexpr int kWarmUpTicks = 2000;
constexpr int kTicks = 4000;

// A model of the size that ships, trained on random rows in which a full and rising resource fails.
std::string make_model() {
  constexpr std::size_t kRows = 6000;
  constexpr std::size_t kColumns = kRiskColumns.size();
  std::mt19937 random(1);
  std::uniform_real_distribution<float> unit(0, 1);
  std::vector<float> values(kRows * kColumns);
  std::vector<float> labels(kRows);
  for (std::size_t row = 0; row < kRows; ++row) {
    float* at = &values[row * kColumns];
    for (std::size_t c = 0; c < kColumns; ++c) {
      at[c] = unit(random);
      if (kRiskColumns[c].name.ends_with(".slope")) at[c] = (at[c] - 0.5F) * 0.02F;
      if (kRiskColumns[c].name.ends_with(".eta")) at[c] *= 600;
    }
    labels[row] = (at[0] > 0.7F && at[1] > 0) || (at[3] > 0.7F && at[4] > 0) || (at[8] < 60 && at[7] > 0) ||
                          unit(random) < 0.02F
                      ? 1.F
                      : 0.F;
  }
  DMatrixHandle data = nullptr;
  BoosterHandle booster = nullptr;
  XGDMatrixCreateFromMat_omp(values.data(), kRows, kColumns, std::numeric_limits<float>::quiet_NaN(), &data,
                             1);
  XGDMatrixSetFloatInfo(data, "label", labels.data(), kRows);
  XGBoosterCreate(&data, 1, &booster);
  for (const auto& [key, value] :
       {std::pair{"objective", "binary:logistic"}, std::pair{"max_depth", "4"}, std::pair{"eta", "0.1"},
        std::pair{"nthread", "1"}, std::pair{"tree_method", "hist"}, std::pair{"seed", "1"}}) {
    XGBoosterSetParam(booster, key, value);
  }
  for (int i = 0; i < 100; ++i) XGBoosterUpdateOneIter(booster, i, data);
  std::vector<const char*> names;
  names.reserve(kColumns);
  for (const RiskColumn& column : kRiskColumns) names.push_back(column.name.data());
  XGBoosterSetStrFeatureInfo(booster, "feature_name", names.data(), names.size());
  bst_ulong size = 0;
  const char* bytes = nullptr;
  XGBoosterSaveModelToBuffer(booster, R"({"format":"ubj"})", &size, &bytes);
  std::string model(bytes, size);
  XGBoosterFree(booster);
  XGDMatrixFree(data);
  return model;
}

class Load {
public:
  Load() {
    std::set<std::string_view> origins;
    for (const SignalInfo& signal : kCounters) origins.insert(signal.origin);
    for (const SignalInfo& signal : kHistograms) origins.insert(signal.origin);
    for (const SignalInfo& signal : kGauges) origins.insert(signal.origin);
    for (const std::string_view origin : origins) {
      observation.probes.push_back({std::string(origin), ProbeState::kAttached, "", 0, 0});
    }
    observation.time.monotonic_ns = 1'000'000'000'000;
    for (std::size_t i = 0; i < kEntities; ++i) {
      Entity entity;
      entity.id = static_cast<EntityId>(i);
      observation.entities.push_back(std::make_shared<const Entity>(entity));
      observation.samples.emplace_back();
      observation.samples.back().entity = entity.id;
      busy_.push_back(std::exp2(std::uniform_real_distribution<>(0, 12)(random_)));
    }
  }

  void move(int tick) {
    observation.interval_s = tick == 0 ? 0 : kTickSeconds;
    observation.time.monotonic_ns += static_cast<MonotonicNs>(kTickSeconds * kNsPerSecond);
    for (std::size_t i = 0; i < kEntities; ++i) {
      Sample& sample = observation.samples[i];
      for (std::size_t c = 0; c < COUNTER_COUNT; ++c) {
        const bool frequent = c % 3 == 0;
        sample.counters[c] = std::poisson_distribution<std::uint64_t>(frequent ? busy_[i] : 0.02)(random_);
      }
      for (std::size_t h = 0; h < HISTOGRAM_COUNT; ++h) {
        for (std::size_t b = 0; b < 10; ++b) {
          sample.histograms[h][b] = static_cast<std::uint64_t>(busy_[i] * unit_(random_)) >> b;
        }
      }
      for (double& gauge : sample.gauges) {
        if (!(gauge >= 0.05 && gauge <= 0.6)) gauge = 0.3;
        gauge += (unit_(random_) - 0.5) * 0.01;
      }
      if (i > 0 && i <= kLeaks) {  // a minute from 20 % to the limit, each at its own time
        const double phase = std::fmod(tick * kTickSeconds + static_cast<double>(i) * 15, 60) / 60;
        sample.gauges[i % 2 == 0 ? GAUGE_memory_use : GAUGE_open_files_use] = 0.2 + 0.8 * phase;
      }
    }
  }

  Observation observation;

private:
  std::mt19937 random_{7};
  std::uniform_real_distribution<> unit_{0, 1};
  std::vector<double> busy_;
};

struct Times {
  std::vector<double> ms;
  double quantile(double q) {
    std::sort(ms.begin(), ms.end());
    return ms[static_cast<std::size_t>(q * static_cast<double>(ms.size() - 1))];
  }
};

}  // namespace

int main() {
  Result<std::unique_ptr<RiskScorer>> risk =
      RiskScorer::from_bytes(make_model(), "of the benchmark", RiskOptions{});
  if (!risk) {
    std::fprintf(stderr, "%s\n", risk.error().text.c_str());
    return 1;
  }
  FeatureBuilder features{FeatureOptions{}};
  AnomalyScorer anomaly{AnomalyOptions{}};
  CauseFinder causes;
  std::uint64_t steps = 0;
  Load load;
  Times features_ms;
  Times anomaly_ms;
  Times risk_ms;
  Times cause_ms;
  Times rank_ms;
  Times all_ms;
  std::size_t explained = 0;
  for (int tick = 0; tick < kWarmUpTicks + kTicks; ++tick) {
    load.move(tick);
    using Clock = std::chrono::steady_clock;
    const auto ms = [](Clock::duration span) {
      return std::chrono::duration<double, std::milli>(span).count();
    };
    const Clock::time_point start = Clock::now();
    FeatureTable table;  // new ones each tick, as in the pipeline, where a snapshot owns them
    features.update(load.observation, table);
    const Clock::time_point featured = Clock::now();
    Scores scores;
    scores.entities.resize(table.entities.size());
    anomaly.score(table, scores);
    const Clock::time_point judged = Clock::now();
    (*risk)->score(table, scores);
    const Clock::time_point weighed = Clock::now();
    causes.update(load.observation);
    const Clock::time_point noted = Clock::now();
    // As while an incident is young, after its first two seconds: with each third step.
    const bool asked = causes.steps() >= steps + 3;
    if (asked) {
      steps = causes.steps();
      causes.rank(load.observation.time.monotonic_ns);
    }
    const Clock::time_point done = Clock::now();
    if (tick < kWarmUpTicks) continue;
    features_ms.ms.push_back(ms(featured - start));
    anomaly_ms.ms.push_back(ms(judged - featured));
    risk_ms.ms.push_back(ms(weighed - judged));
    cause_ms.ms.push_back(ms(noted - weighed));
    if (asked) rank_ms.ms.push_back(ms(done - noted));
    all_ms.ms.push_back(ms(done - start));
    for (const EntityScore& score : scores.entities) explained += score.risk_reasons.empty() ? 0 : 1;
  }
  const auto threads = std::distance(std::filesystem::directory_iterator("/proc/self/task"), {});
  std::fprintf(stderr,
               "median ms: features %.3f, anomaly %.3f, risk %.3f, causes %.3f (and %.3f at times while an "
               "incident is young); risky rows per tick %.2f; threads %td\n",
               features_ms.quantile(0.5), anomaly_ms.quantile(0.5), risk_ms.quantile(0.5),
               cause_ms.quantile(0.5), rank_ms.quantile(0.5), static_cast<double>(explained) / kTicks,
               threads);
  std::printf(R"({"name": "tick", "value": %.4f, "unit": "ms", "bar": 1.0, "better": "lower", )"
              R"("note": "median of %d ticks, %zu entities, %zu columns, model of 100 trees of depth 4"})"
              "\n",
              all_ms.quantile(0.5), kTicks, kEntities, feature_columns().size());
  std::printf(
      R"({"name": "tick-p99", "value": %.4f, "unit": "ms", "bar": null, "better": "lower", "note": ""})"
      "\n",
      all_ms.quantile(0.99));
  return explained > 0 ? 0 : 1;
}
