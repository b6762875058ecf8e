#include "agent/score/anomaly.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "agent/base/clock.h"
#include "agent/collect/signals.h"
#include "agent/score/exact_math.h"

namespace vedette {
namespace {

// Every rate, every p99, every gauge and its slope.
constexpr std::size_t kJudged = kCounters.size() + kHistograms.size() + 2 * kGauges.size();
constexpr float kDecades = 8;  // of the score's scale
// Ticks come a little early or late.
constexpr double kNearlyARow = 0.8;

}  // namespace

// How a column is compared. Most quantities span decades and are compared as log2(1 + |x| / scale); shares
// and ratios as they are, in units of `scale`. `scale` is the smallest amount that matters to anybody, so a
// signal that never moves may move by that much and is still calm.
struct AnomalyScorer::Column {
  std::size_t feature = 0;
  float scale = 1;
  bool logarithmic = true;

  // In transformed units. Logarithmic: a quarter of a doubling of what is far above the scale.
  float floor() const { return logarithmic ? 0.25F : 1.F; }
  float restored(float y) const {
    if (!logarithmic) return y * scale;
    return std::copysign(scale * (exact_exp2(std::abs(y)) - 1), y);
  }

  static std::vector<Column> all() {
    std::vector<Column> columns;
    columns.reserve(kJudged);
    std::size_t feature = 0;
    // One event in the 10 s of a rate is .1/s: no deviation. Nanoseconds per second: 1 ms each second.
    for (const SignalInfo& signal : kCounters) {
      columns.push_back({feature++, signal.unit == "ns" ? 1e6F : 0.2F, true});
    }
    // 20 us: a timer's slack, below which no latency of a call is remarkable.
    for (std::size_t i = 0; i < kHistograms.size(); ++i) columns.push_back({feature++, 20e-6F, true});
    for (const SignalInfo& signal : kGauges) {
      const bool share = signal.unit == "ratio" || signal.unit == "share";
      // 2 % of a limit; a fiftieth of a core; 4 MiB of memory; two of what is counted.
      const float scale = share                    ? 0.02F
                          : signal.unit == "cores" ? 0.02F
                          : signal.unit == "bytes" ? 4194304.F
                                                   : 2.F;
      columns.push_back({feature++, scale, !share});
      columns.push_back({feature++, scale / 30, !share});  // that much within the trend's window
      if (signal.unit == "ratio") ++feature;               // its eta
    }
    return columns;
  }
};

struct AnomalyScorer::State {
  Detector detector{kJudged};
  double age_s = 0;
  double unjudged_s = 0;
  std::uint64_t seen_in_tick = 0;

  // The newest verdict.
  float rarity = 0;
  float magnitude = 0;
  std::vector<Reason> reasons;
};

AnomalyScorer::AnomalyScorer(AnomalyOptions options)
    : options_(options), columns_(Column::all()), row_(columns_.size()) {
  for (const Column& column : columns_) floors_.push_back(column.floor());
}

AnomalyScorer::~AnomalyScorer() = default;

std::size_t AnomalyScorer::bytes_per_entity() {
  return sizeof(State) - sizeof(Detector) + Detector::bytes(kJudged);
}

void AnomalyScorer::transform(std::span<const float> row) {
  for (std::size_t i = 0; i < kJudged; ++i) {
    const Column& column = columns_[i];
    const float raw = row[column.feature] / column.scale;
    const float logarithm = std::copysign(exact_log2(1 + std::abs(raw)), raw);
    // The logarithm of an infinite or missing value may look like a number.
    const bool finite = std::abs(raw) <= std::numeric_limits<float>::max();
    const float missing = std::numeric_limits<float>::quiet_NaN();
    row_[i] = finite ? (column.logarithmic ? logarithm : raw) : missing;
  }
}

void AnomalyScorer::judge(std::span<const float> row, State& state) const {
  const Detector::Verdict verdict =
      state.detector.judge(row_, floors_, state.unjudged_s / options_.row_s, options_.detector);
  state.rarity = verdict.rarity;
  state.magnitude = 0;
  state.reasons.clear();
  for (const Detector::Part& part : verdict.top) {
    if (part.share <= 0) continue;
    const Column& column = columns_[part.column];
    // The baseline as it is now: one tick's learning is below what a reader can see.
    state.reasons.push_back({static_cast<std::uint32_t>(column.feature), row[column.feature],
                             column.restored(state.detector.usual(part.column)), part.deviation});
    state.magnitude += std::abs(part.deviation) / static_cast<float>(Detector::kTop);
  }
}

void AnomalyScorer::score(const FeatureTable& table, Scores& scores) {
  ++tick_;
  const MonotonicNs now = table.time.monotonic_ns;
  const double elapsed_s = tick_ == 1 ? 0 : seconds_between(last_ns_, now);
  last_ns_ = std::max(last_ns_, now);
  const std::size_t rows = std::min(table.entities.size(), scores.entities.size());
  const float threshold = -exact_log10(static_cast<float>(options_.false_alarm_budget));
  for (std::size_t i = 0; i < rows; ++i) {
    std::unique_ptr<State>& state = states_[table.entities[i]->id];
    if (!state) {
      state = std::make_unique<State>();
      state->unjudged_s = table.entities[i]->id % 2 == 0 ? 0 : options_.row_s / 2;
    }
    state->seen_in_tick = tick_;
    state->age_s += elapsed_s;
    state->unjudged_s += elapsed_s;
    if (state->unjudged_s >= kNearlyARow * options_.row_s) {
      transform(table.row(i));
      judge(table.row(i), *state);
      state->unjudged_s = 0;
    }
    EntityScore& out = scores.entities[i];
    out.warming_up = state->age_s < options_.warm_up_s || !state->detector.known();
    out.anomaly = static_cast<double>(std::clamp(state->rarity / kDecades, 0.F, 1.F));
    out.anomaly_threshold = out.warming_up ? 1 : static_cast<double>(std::min(threshold / kDecades, 1.F));
    out.anomalous = !out.warming_up && state->rarity > threshold &&
                    static_cast<double>(state->magnitude) >= options_.min_deviation;
    out.anomaly_reasons = state->reasons;
  }
  if (states_.size() > rows) {
    std::erase_if(states_, [&](const auto& entry) { return entry.second->seen_in_tick != tick_; });
  }
}

}  // namespace vedette
