#include "agent/score/anomaly.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <limits>
#include <string_view>

#include "agent/base/clock.h"
#include "agent/collect/signals.h"
#include "agent/score/exact_math.h"

namespace vedette {
namespace {

constexpr float kNan = std::numeric_limits<float>::quiet_NaN();
// Every rate, every p99, every gauge and its slope; padded to whole vectors of four.
constexpr std::size_t kJudged = kCounters.size() + kHistograms.size() + 2 * kGauges.size();
constexpr std::size_t kWidth = (kJudged + 3) / 4 * 4;
using Lane = std::array<float, kWidth>;

// Deviations are clipped here: beyond, "how much" says no more, and one column must not drown the others.
constexpr float kClip = 16;
// A baseline learns at most four deviations at once: an incident moves it, but does not become it.
constexpr float kLearnClip = 4;
// A calm minute must not make the fast baseline more nervous than half of what the slow one knows.
constexpr float kFastFloor = 0.5F;
constexpr std::size_t kTop = 3;

// The forest finds unusual combinations; alone it is the weaker detector by far, so it may add at most 2.
constexpr float kForestWeight = 0.25F;
constexpr float kForestClip = 8;
constexpr float kForestFloor = 0.01F;  // its score repeats within that from tree to tree
// One row per tick until the reservoir is full, then one in 5 s: 512 rows are then 40 minutes of the node.
constexpr double kRememberEveryS = 5;
// All 32 trees renew in about five minutes.
constexpr double kGrowEveryS = 10;

// The distribution of the joined statistic: fine where calm entities live, coarse above.
constexpr float kFineEnd = 6;
constexpr float kFinePerUnit = 16;
constexpr float kCoarsePerUnit = 2;
constexpr std::size_t kFineBins = 96;
constexpr std::size_t kBins = kFineBins + 24;  // up to 18 = kClip + kForestWeight * kForestClip
// Peaks over threshold: a generalised Pareto tail on the largest 2 %, refitted every few seconds.
constexpr double kTailShare = 0.02;
constexpr double kRefitEveryS = 10;
constexpr double kMinHistoryS = 30;   // no tail before so much of the distribution is known
constexpr double kIndependentS = 10;  // rates overlap within their window: one independent value in that time
constexpr double kPriorPeaks = 10;    // the shape starts exponential and moves with the peaks it has
// An alarm of chance belongs to the distribution in full, or the tail would be estimated too thin; one that
// holds is an incident, and weighs little so that it stays visible.
constexpr double kIncidentAfterS = 30;
constexpr double kIncidentWeight = 0.1;
constexpr double kSmallestTail = 1e-8;
constexpr double kDecades = 8;  // of the score's scale

std::size_t bin_of(float x) {
  const float place =
      x < kFineEnd ? x * kFinePerUnit : static_cast<float>(kFineBins) + (x - kFineEnd) * kCoarsePerUnit;
  return std::min(static_cast<std::size_t>(std::max(place, 0.F)), kBins - 1);
}
double bin_start(std::size_t bin) {
  return bin < kFineBins ? static_cast<double>(bin) / static_cast<double>(kFinePerUnit)
                         : static_cast<double>(kFineEnd) +
                               static_cast<double>(bin - kFineBins) / static_cast<double>(kCoarsePerUnit);
}

// log10(p) for p in (0, 1].
double log10_of(double p) {
  constexpr double kLog10Of2 = 0.3010299956639812;
  return static_cast<double>(exact_log2(static_cast<float>(p))) * kLog10Of2;
}

struct Baseline {
  Lane mean{};
  Lane variance{};
  Lane weight{};  // 0..1: how much of a full memory it has
};

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

struct AnomalyScorer::Deviation {
  Lane z{};           // clipped; 0 where there is nothing to say
  Lane known{};       // 1 where it was judged
  Lane slow_share{};  // 1 where the slow baseline gave z, 0 where the fast one did
  std::array<std::size_t, kTop> top{};
  float magnitude = 0;  // mean of the three largest |z|
};

struct AnomalyScorer::State {
  Baseline slow;
  Baseline fast;
  double age_s = 0;

  float isolation_mean = 0;
  float isolation_variance = 0;
  float isolation_weight = 0;

  // Seconds at each value of the joined statistic, and what was fitted to them.
  std::array<float, kBins> seconds{};
  std::array<float, kBins> tail{};  // share of time above the bin's start
  double level = 0;                 // the tail begins here
  double tail_share = 0;
  double shape = 0;
  double spread = 0;  // 0: not fitted yet
  double since_fit_s = kRefitEveryS;
  double alarm_s = 0;  // for how long it has been flagged without a break
  std::uint64_t seen_in_tick = 0;

  void fit(double half_life_s) {
    const float keep = 1 - forgetting(since_fit_s, half_life_s);
    since_fit_s = 0;
    double total = 0;
    for (float& each : seconds) total += static_cast<double>(each *= keep);
    if (total < kMinHistoryS) return;
    double above = 0;
    std::size_t first = kBins;  // lowest bin of the tail
    for (std::size_t i = kBins; i-- > 0;) {
      above += static_cast<double>(seconds[i]);
      tail[i] = static_cast<float>(above / total);
      if (above <= kTailShare * total) first = i;
    }
    first = std::min(first, kBins - 1);
    level = bin_start(first);
    // A tail of nothing still has the share that one unseen second would have.
    tail_share = std::max(static_cast<double>(tail[first]), 1 / (total + 1));
    double peaks = 0;
    double sum = 0;
    double squares = 0;
    for (std::size_t i = first; i < kBins; ++i) {
      const double middle = (bin_start(i) + bin_start(i + 1)) / 2 - level;
      const auto weight = static_cast<double>(seconds[i]);
      peaks += weight;
      sum += weight * middle;
      squares += weight * middle * middle;
    }
    // Moments: mean m = s / (1 - k), variance v = m^2 / (1 - 2 k) (Hosking, Wallis 1987). The least spread is
    // two fine bins: below, the histogram itself is too coarse to know.
    constexpr double kLeastMean = 0.125;
    const double mean = std::max(peaks > 0 ? sum / peaks : 0.0, kLeastMean);
    const double variance = std::max(peaks > 0 ? squares / peaks - mean * mean : 0.0, mean * mean / 2);
    const double independent = peaks / kIndependentS;
    const double from_moments = (1 - mean * mean / variance) / 2;
    shape = std::clamp(from_moments * independent / (independent + kPriorPeaks), -0.2, 0.4);
    spread = mean * (1 - shape);
  }

  // Share of the entity's recent time that was as unusual as `x` or more, as far as it can be told.
  double tail_probability(float x) const {
    if (!(spread > 0)) return 1;
    const double over = static_cast<double>(x) - level;
    if (over <= 0) {
      const std::size_t bin = bin_of(x);
      const double start = bin_start(bin);
      const double part = (static_cast<double>(x) - start) / (bin_start(bin + 1) - start);
      const auto high = static_cast<double>(tail[bin]);
      const double low = bin + 1 < kBins ? static_cast<double>(tail[bin + 1]) : 0.0;
      return std::clamp(high + (low - high) * part, tail_share, 1.0);
    }
    constexpr double kLog2E = 1.4426950408889634;
    constexpr double kNearlyExponential = 0.01;
    double exponent = 0;  // of 2
    if (std::abs(shape) < kNearlyExponential) {
      exponent = -over / spread * kLog2E;
    } else {
      const double base = 1 + shape * over / spread;
      if (base <= 0) return kSmallestTail;
      exponent = -static_cast<double>(exact_log2(static_cast<float>(base))) / shape;
    }
    return std::max(tail_share * static_cast<double>(exact_exp2(static_cast<float>(exponent))),
                    kSmallestTail);
  }
};

AnomalyScorer::AnomalyScorer(AnomalyOptions options)
    : options_(options), columns_(Column::all()), forest_(kJudged, options.forest) {}

AnomalyScorer::~AnomalyScorer() = default;

std::size_t AnomalyScorer::bytes_per_entity() {
  return sizeof(State);
}

AnomalyScorer::Deviation AnomalyScorer::deviate(std::span<const float> row, double elapsed_s, State& state) {
  Lane raw;
  raw.fill(kNan);
  Lane floor{};
  floor.fill(1);
  for (std::size_t i = 0; i < kJudged; ++i) {
    const Column& column = columns_[i];
    const float x = row[column.feature];
    raw[i] = x / column.scale;
    floor[i] = column.floor();
  }
  for (std::size_t i = 0; i < kJudged; ++i) {
    const float magnitude = std::abs(raw[i]);
    const float logarithm = std::copysign(exact_log2(1 + magnitude), raw[i]);
    const float y = columns_[i].logarithmic ? logarithm : raw[i];
    raw[i] = magnitude <= std::numeric_limits<float>::max() ? y : kNan;
  }

  const float slow_gain = forgetting(elapsed_s, options_.slow_half_life_s);
  const float fast_gain = forgetting(elapsed_s, options_.fast_half_life_s);
  const float enough = forgetting(options_.min_history_s, options_.slow_half_life_s);
  constexpr float kTiny = 1e-30F;  // keeps 0 / 0 of a tick without time out
  Deviation out;
  for (std::size_t i = 0; i < kWidth; ++i) {
    const bool here = raw[i] == raw[i];
    const float y = here ? raw[i] : 0.F;
    const float there = here ? 1.F : 0.F;
    const float floor_square = floor[i] * floor[i];
    const float mature = state.slow.weight[i] >= enough ? 1.F : 0.F;

    const float slow_square = state.slow.variance[i] + floor_square;
    const float slow_sd = std::sqrt(slow_square);
    const float slow_step = y - state.slow.mean[i];
    const float fast_square =
        std::max(state.fast.variance[i], kFastFloor * kFastFloor * state.slow.variance[i]) + floor_square;
    const float fast_sd = std::sqrt(fast_square);
    const float fast_step = y - state.fast.mean[i];

    const float slow_z = slow_step / slow_sd;
    const float fast_z = fast_step / fast_sd;
    const bool slower = std::abs(slow_z) >= std::abs(fast_z);
    const float z = std::clamp(slower ? slow_z : fast_z, -kClip, kClip);
    out.known[i] = there * mature;
    out.z[i] = z * out.known[i];
    out.slow_share[i] = slower ? 1.F : 0.F;

    // While young a baseline takes what comes; later an outlier teaches it no more than kLearnClip.
    const float slow_bound = mature > 0 ? kLearnClip * slow_sd : std::numeric_limits<float>::max();
    const float fast_bound = mature > 0 ? kLearnClip * fast_sd : std::numeric_limits<float>::max();
    const float slow_learn = std::clamp(slow_step, -slow_bound, slow_bound);
    const float fast_learn = std::clamp(fast_step, -fast_bound, fast_bound);
    const float slow_weight = state.slow.weight[i] + there * slow_gain * (1 - state.slow.weight[i]);
    const float fast_weight = state.fast.weight[i] + there * fast_gain * (1 - state.fast.weight[i]);
    const float slow_part = there * slow_gain / (slow_weight + kTiny);
    const float fast_part = there * fast_gain / (fast_weight + kTiny);
    state.slow.mean[i] += slow_part * slow_learn;
    state.fast.mean[i] += fast_part * fast_learn;
    state.slow.variance[i] = (1 - slow_part) * (state.slow.variance[i] + slow_part * slow_learn * slow_learn);
    state.fast.variance[i] = (1 - fast_part) * (state.fast.variance[i] + fast_part * fast_learn * fast_learn);
    state.slow.weight[i] = slow_weight;
    state.fast.weight[i] = fast_weight;
  }

  std::array<float, kTop> top{-1, -1, -1};
  for (std::size_t i = 0; i < kJudged; ++i) {
    const float magnitude = std::abs(out.z[i]);
    if (magnitude <= top[kTop - 1]) continue;
    std::size_t place = kTop - 1;
    for (; place > 0 && magnitude > top[place - 1]; --place) {
      top[place] = top[place - 1];
      out.top[place] = out.top[place - 1];
    }
    top[place] = magnitude;
    out.top[place] = i;
  }
  out.magnitude = (top[0] + top[1] + top[2]) / 3;
  return out;
}

// One entity per tick offers its deviations, in turn, so that a busy node pays no more than a small one.
void AnomalyScorer::grow_forest(const Deviation& deviation, double elapsed_s) {
  since_remembered_s_ += elapsed_s;
  since_grown_s_ += elapsed_s;
  if (!forest_.full() || since_remembered_s_ >= kRememberEveryS) {
    forest_.remember(std::span(deviation.z).first(kJudged));
    since_remembered_s_ = 0;
  }
  if (!forest_.ready() || since_grown_s_ >= kGrowEveryS) {
    forest_.grow();
    since_grown_s_ = 0;
  }
}

void AnomalyScorer::judge(const Deviation& deviation, float isolation, double elapsed_s, State& state,
                          EntityScore& out) const {
  // How much easier to isolate than this entity usually is.
  float alone = 0;
  if (forest_.ready()) {
    const float step = isolation - state.isolation_mean;
    alone = std::clamp(step / std::sqrt(state.isolation_variance + kForestFloor * kForestFloor), 0.F,
                       kForestClip);
    const float gain = forgetting(elapsed_s, options_.slow_half_life_s);
    alone *=
        state.isolation_weight >= forgetting(options_.min_history_s, options_.slow_half_life_s) ? 1.F : 0.F;
    state.isolation_weight += gain * (1 - state.isolation_weight);
    const float part = gain / (state.isolation_weight + 1e-30F);
    state.isolation_mean += part * step;
    state.isolation_variance = (1 - part) * (state.isolation_variance + part * step * step);
  }
  const float joined = deviation.magnitude + kForestWeight * alone;

  state.since_fit_s += elapsed_s;
  if (state.since_fit_s >= kRefitEveryS) state.fit(options_.distribution_half_life_s);
  const double p = state.tail_probability(joined);
  out.warming_up = state.age_s < options_.warm_up_s || !(state.spread > 0);
  out.anomaly = std::clamp(-log10_of(p) / kDecades, 0.0, 1.0);
  out.anomaly_threshold =
      out.warming_up ? 1 : std::min(1.0, -log10_of(options_.false_alarm_budget) / kDecades);
  out.anomalous = !out.warming_up && p < options_.false_alarm_budget &&
                  static_cast<double>(deviation.magnitude) >= options_.min_deviation;

  state.alarm_s = out.anomalous ? state.alarm_s + elapsed_s : 0;

  // Before the baselines have their history every deviation is 0 and would teach a false calm.
  if (state.age_s >= 2 * options_.min_history_s) {
    const double weight = state.alarm_s > kIncidentAfterS ? kIncidentWeight : 1.0;
    state.seconds[bin_of(joined)] += static_cast<float>(elapsed_s * weight);
  }
}

void AnomalyScorer::explain(std::span<const float> row, const Deviation& deviation, const State& state,
                            EntityScore& out) const {
  out.anomaly_reasons.clear();
  for (const std::size_t i : deviation.top) {
    if (deviation.known[i] == 0 || deviation.z[i] == 0) continue;
    const Column& column = columns_[i];
    // The baseline as it is now: one tick's learning is below what a reader can see.
    const float mean = deviation.slow_share[i] > 0 ? state.slow.mean[i] : state.fast.mean[i];
    out.anomaly_reasons.push_back({static_cast<std::uint32_t>(column.feature), row[column.feature],
                                   column.restored(mean), deviation.z[i]});
  }
}

void AnomalyScorer::score(const FeatureTable& table, Scores& scores) {
  ++tick_;
  const MonotonicNs now = table.time.monotonic_ns;
  const double elapsed_s = tick_ == 1 ? 0 : seconds_between(last_ns_, now);
  last_ns_ = std::max(last_ns_, now);
  const std::size_t rows = std::min(table.entities.size(), scores.entities.size());
  const std::size_t contributor = rows > 0 ? next_contributor_++ % rows : 0;
  for (std::size_t i = 0; i < rows; ++i) {
    std::unique_ptr<State>& state = states_[table.entities[i]->id];
    if (!state) state = std::make_unique<State>();
    state->seen_in_tick = tick_;
    state->age_s += elapsed_s;
    const Deviation deviation = deviate(table.row(i), elapsed_s, *state);
    const float isolation = forest_.score(std::span(deviation.z).first(kJudged));
    judge(deviation, isolation, elapsed_s, *state, scores.entities[i]);
    explain(table.row(i), deviation, *state, scores.entities[i]);
    // Rows of entities still without history would teach the forest that all zeros are common.
    if (i == contributor && state->age_s >= 2 * options_.min_history_s) grow_forest(deviation, elapsed_s);
  }
  if (states_.size() > rows) {
    std::erase_if(states_, [&](const auto& entry) { return entry.second->seen_in_tick != tick_; });
  }
}

}  // namespace vedette
