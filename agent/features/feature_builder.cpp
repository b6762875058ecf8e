#include "agent/features/feature_builder.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <span>
#include <string_view>

namespace vedette {
namespace {

// One second each with the default windows: a rate then covers the last 9 to 10 s.
constexpr std::size_t kRateBins = 10;
constexpr std::size_t kBriefBins = 4;
constexpr std::size_t kTrendBins = 30;
// What an eta can say at most: an hour ahead is beyond any forecast from 30 s.
constexpr double kMaxEtaSeconds = 3600;
constexpr double kQuantile = 0.99;
// Columns of one window: each counter's rate, then each histogram's p99.
constexpr std::size_t kRates = kCounters.size() + kHistograms.size();
// What is summed: each counter, then the buckets of each histogram.
constexpr std::size_t kPlaces = COUNTER_COUNT + HISTOGRAM_COUNT * HISTOGRAM_BUCKETS;
constexpr MonotonicNs kNoPoint = std::numeric_limits<MonotonicNs>::max();
constexpr float kNan = std::numeric_limits<float>::quiet_NaN();
// Probes that fill counters or histograms.
constexpr std::size_t kOrigins = [] {
  std::array<std::string_view, kCounters.size() + kHistograms.size()> seen{};
  std::size_t count = 0;
  const auto note = [&](std::string_view origin) {
    for (std::size_t i = 0; i < count; ++i) {
      if (seen[i] == origin) return;
    }
    seen[count++] = origin;
  };
  for (const SignalInfo& signal : kCounters) note(signal.origin);
  for (const SignalInfo& signal : kHistograms) note(signal.origin);
  return count;
}();

// Rank interpolated linearly inside its bucket; NaN without samples. Seconds.
float p99_seconds(std::span<const std::uint64_t> buckets) {
  std::uint64_t total = 0;
  for (const std::uint64_t count : buckets) total += count;
  if (total == 0) return kNan;
  const double rank = kQuantile * static_cast<double>(total);
  double below = 0;
  for (std::size_t i = 0; i < buckets.size(); ++i) {
    const auto inside = static_cast<double>(buckets[i]);
    if (inside > 0 && below + inside >= rank) {
      const double low = i == 0 ? 0 : histogram_bound_ns(i - 1);
      return static_cast<float>((low + (histogram_bound_ns(i) - low) * (rank - below) / inside) /
                                kNsPerSecond);
    }
    below += inside;
  }
  return static_cast<float>(histogram_bound_ns(buckets.size() - 1) / kNsPerSecond);
}

}  // namespace

// Where each signal's columns are, and which origin its counts come from.
struct FeatureBuilder::Layout {
  struct Gauge {
    std::size_t column = 0;  // value; its slope follows
    bool ratio = false;      // and then its eta
  };
  std::vector<std::string_view> origins;
  std::array<std::uint8_t, COUNTER_COUNT> counter_origin{};
  std::array<std::uint8_t, HISTOGRAM_COUNT> histogram_origin{};
  std::array<Gauge, GAUGE_COUNT> gauges{};

  Layout() {
    for (std::size_t i = 0; i < kCounters.size(); ++i) counter_origin[i] = origin_of(kCounters[i]);
    for (std::size_t i = 0; i < kHistograms.size(); ++i) histogram_origin[i] = origin_of(kHistograms[i]);
    std::size_t column = 2 * kRates;
    for (std::size_t i = 0; i < kGauges.size(); ++i) {
      gauges[i] = {column, kGauges[i].unit == "ratio"};
      column += gauges[i].ratio ? 3 : 2;
    }
  }

private:
  std::uint8_t origin_of(const SignalInfo& signal) {
    const auto found = std::find(origins.begin(), origins.end(), signal.origin);
    const auto index = static_cast<std::uint8_t>(found - origins.begin());
    if (found == origins.end()) origins.push_back(signal.origin);
    return index;
  }
};

// What the newest bins counted, and its sums.
template <std::size_t Bins>
struct FeatureBuilder::Window {
  struct Bin {
    std::vector<Count> counts;              // by place, ascending
    std::array<float, kOrigins> seconds{};  // watched with that probe attached
  };
  std::array<Bin, Bins> bins;
  std::array<std::uint64_t, kPlaces> sums{};
  std::uint64_t newest_bin = 0;

  // Drops the bins that left the window when time reached `bin`.
  void advance(std::uint64_t bin) {
    if (bin <= newest_bin) return;
    const std::uint64_t steps = std::min<std::uint64_t>(bin - newest_bin, Bins);
    for (std::uint64_t step = 0; step < steps; ++step) {
      Bin& old = bins[(bin - step) % Bins];
      for (const Count& each : old.counts) sums[each.place] -= each.count;
      old.counts.clear();
      old.seconds.fill(0);
    }
    newest_bin = bin;
  }

  void add(const std::vector<Count>& counted, const std::vector<bool>& counting, float interval_s) {
    Bin& bin = bins[newest_bin % Bins];
    for (std::size_t i = 0; i < counting.size(); ++i) {
      if (counting[i]) bin.seconds[i] += interval_s;
    }
    for (const Count& added : counted) sums[added.place] += added.count;
    if (bin.counts.empty()) {
      bin.counts = counted;
      return;
    }
    std::size_t at = 0;
    for (const Count& added : counted) {
      while (at < bin.counts.size() && bin.counts[at].place < added.place) ++at;
      if (at == bin.counts.size() || bin.counts[at].place != added.place) {
        // In small steps: doubling would leave a third of all these bins empty for ever.
        constexpr std::size_t kStep = 8;
        if (bin.counts.size() == bin.counts.capacity()) bin.counts.reserve(bin.counts.size() + kStep);
        bin.counts.insert(bin.counts.begin() + static_cast<std::ptrdiff_t>(at), {0, added.place});
      }
      bin.counts[at].count += added.count;
    }
  }

  std::size_t heap_bytes() const {
    std::size_t sum = 0;
    for (const Bin& bin : bins) sum += bin.counts.capacity() * sizeof(Count);
    return sum;
  }
};

struct FeatureBuilder::State {
  Window<kRateBins> lately;
  Window<kBriefBins> now;
  std::array<std::array<float, GAUGE_COUNT>, kTrendBins> points{};  // the newest value of each trend bin
  std::array<MonotonicNs, kTrendBins> point_ns{};
  std::uint64_t seen_in_tick = 0;
};

FeatureBuilder::FeatureBuilder(FeatureOptions options)
    : options_(options),
      rate_bin_ns_(std::max<MonotonicNs>(
          1, static_cast<MonotonicNs>(options.rate_window_s * kNsPerSecond / kRateBins))),
      brief_bin_ns_(std::max<MonotonicNs>(
          1, static_cast<MonotonicNs>(options.brief_window_s * kNsPerSecond / kBriefBins))),
      trend_bin_ns_(std::max<MonotonicNs>(
          1, static_cast<MonotonicNs>(options.trend_window_s * kNsPerSecond / kTrendBins))),
      layout_(std::make_unique<const Layout>()) {}

FeatureBuilder::~FeatureBuilder() = default;

std::size_t FeatureBuilder::bytes() const {
  std::size_t sum = states_.size() * sizeof(State);
  for (const auto& [id, state] : states_) sum += state->lately.heap_bytes() + state->now.heap_bytes();
  return sum;
}

void FeatureBuilder::read_probes(const Observation& observation) {
  absent_counters_ = observation.absent_counters;
  absent_histograms_ = observation.absent_histograms;
  counting_.assign(layout_->origins.size(), false);
  gauge_missing_.assign(GAUGE_COUNT, false);
  for (const ProbeHealth& probe : observation.probes) {
    const bool attached = probe.state == ProbeState::kAttached;
    for (std::size_t i = 0; i < layout_->origins.size(); ++i) {
      if (layout_->origins[i] == probe.name) counting_[i] = attached;
    }
    for (std::size_t i = 0; i < kGauges.size(); ++i) {
      if (!attached && kGauges[i].origin == probe.name) gauge_missing_[i] = true;
    }
  }
}

void FeatureBuilder::add(const Sample& sample, double interval_s, MonotonicNs now, State& state) {
  state.lately.advance(now / rate_bin_ns_);
  state.now.advance(now / brief_bin_ns_);
  // The first tick has no interval: what it carries was counted over an unknown time.
  if (!(interval_s > 0)) return;
  counted_.clear();
  const auto count = [&](std::size_t place, std::uint64_t added) {
    if (added != 0) counted_.push_back({added, static_cast<std::uint32_t>(place)});
  };
  for (std::size_t i = 0; i < COUNTER_COUNT; ++i) {
    if (counting_[layout_->counter_origin[i]]) count(i, sample.counters[i]);
  }
  for (std::size_t h = 0; h < HISTOGRAM_COUNT; ++h) {
    if (!counting_[layout_->histogram_origin[h]]) continue;
    for (std::size_t i = 0; i < HISTOGRAM_BUCKETS; ++i)
      count(COUNTER_COUNT + h * HISTOGRAM_BUCKETS + i, sample.histograms[h][i]);
  }
  state.lately.add(counted_, counting_, static_cast<float>(interval_s));
  state.now.add(counted_, counting_, static_cast<float>(interval_s));
}

template <std::size_t Bins>
void FeatureBuilder::write_rates(const Sample& sample, const Window<Bins>& window,
                                 std::span<float> row) const {
  std::array<double, kOrigins> seconds{};
  for (const auto& bin : window.bins) {
    for (std::size_t i = 0; i < layout_->origins.size(); ++i)
      seconds[i] += static_cast<double>(bin.seconds[i]);
  }
  // The sum of an interval's floats may fall short of the same seconds by their rounding.
  const double enough_s = options_.min_rate_s * (1 - 1e-6);
  for (std::size_t i = 0; i < COUNTER_COUNT; ++i) {
    const std::size_t origin = layout_->counter_origin[i];
    const bool known = counting_[origin] && seconds[origin] >= enough_s && !absent_counters_.test(i) &&
                       !sample.unknown.test(i);
    const std::uint64_t sum = window.sums[i];
    // Most are 0, and a division takes longer than all else here.
    const float rate = sum == 0 ? 0.F : static_cast<float>(static_cast<double>(sum) / seconds[origin]);
    row[i] = known ? rate : kNan;
  }
  for (std::size_t h = 0; h < HISTOGRAM_COUNT; ++h) {
    const bool known = counting_[layout_->histogram_origin[h]] && !absent_histograms_.test(h);
    const std::size_t first = COUNTER_COUNT + h * HISTOGRAM_BUCKETS;
    row[COUNTER_COUNT + h] =
        known ? p99_seconds(std::span(window.sums).subspan(first, HISTOGRAM_BUCKETS)) : kNan;
  }
}

void FeatureBuilder::write(const Sample& sample, MonotonicNs now, State& state, std::span<float> row) const {
  write_rates(sample, state.lately, row);
  write_rates(sample, state.now, row.subspan(kRates));
  std::array<float, GAUGE_COUNT>& gauges = state.points[(now / trend_bin_ns_) % kTrendBins];
  state.point_ns[(now / trend_bin_ns_) % kTrendBins] = now;
  for (std::size_t i = 0; i < GAUGE_COUNT; ++i) {
    const bool known = !gauge_missing_[i] && std::abs(sample.gauges[i]) <= std::numeric_limits<float>::max();
    gauges[i] = known ? static_cast<float>(sample.gauges[i]) : kNan;
  }
  write_trends(gauges, now, state, row);
}

void FeatureBuilder::write_trends(const std::array<float, GAUGE_COUNT>& gauges, MonotonicNs now,
                                  const State& state, std::span<float> row) const {
  // Least squares: slope = sum (t - mean t) x / sum (t - mean t)^2. The left factors are the same for every
  // gauge that has all points; x is taken relative to its newest value, which keeps large gauges exact.
  std::array<double, kTrendBins> weight{};
  std::array<const std::array<float, GAUGE_COUNT>*, kTrendBins> point{};
  std::size_t count = 0;
  double mean = 0;
  double oldest = 0;
  for (std::size_t i = 0; i < kTrendBins; ++i) {
    if (state.point_ns[i] > now || now - state.point_ns[i] > kTrendBins * trend_bin_ns_) continue;
    weight[count] = -static_cast<double>(now - state.point_ns[i]) / kNsPerSecond;
    oldest = std::min(oldest, weight[count]);
    mean += weight[count];
    point[count++] = &state.points[i];
  }
  mean /= static_cast<double>(count);  // at least the newest point is there
  const bool enough = count >= 3 && -oldest >= options_.min_trend_s;

  double square = 0;
  for (std::size_t i = 0; i < count; ++i) {
    weight[i] -= mean;
    square += weight[i] * weight[i];
  }
  std::array<double, GAUGE_COUNT> slope{};
  for (std::size_t i = 0; enough && i < count; ++i) {
    const double factor = weight[i] / square;
    const std::array<float, GAUGE_COUNT>& values = *point[i];
    for (std::size_t g = 0; g < GAUGE_COUNT; ++g) {
      slope[g] += factor * (static_cast<double>(values[g]) - static_cast<double>(gauges[g]));
    }
  }

  for (std::size_t g = 0; g < GAUGE_COUNT; ++g) {
    const auto value = static_cast<double>(gauges[g]);
    double trend = slope[g];
    if (!enough || std::isnan(value)) {
      trend = kMissing;
    } else if (std::isnan(trend)) {  // some points lack this gauge: fit the others
      std::size_t have = 0;
      double gauge_mean = 0;
      double first = 0;
      for (std::size_t i = 0; i < count; ++i) {
        if (std::isnan((*point[i])[g])) continue;
        ++have;
        gauge_mean += weight[i];
        first = std::min(first, weight[i] + mean);
      }
      gauge_mean /= static_cast<double>(have);
      double above = 0;
      double below = 0;
      for (std::size_t i = 0; i < count; ++i) {
        if (std::isnan((*point[i])[g])) continue;
        const double t = weight[i] - gauge_mean;
        above += t * (static_cast<double>((*point[i])[g]) - value);
        below += t * t;
      }
      trend = have >= 3 && -first >= options_.min_trend_s ? above / below : kMissing;
    }

    const Layout::Gauge& place = layout_->gauges[g];
    row[place.column] = gauges[g];
    row[place.column + 1] = static_cast<float>(trend);
    if (!place.ratio) continue;
    double eta = kMaxEtaSeconds;
    if (std::isnan(trend)) {
      eta = kMissing;
    } else if (value >= 1) {
      eta = 0;
    } else if (trend > 0) {
      eta = std::min(kMaxEtaSeconds, (1 - value) / trend);
    }
    row[place.column + 2] = static_cast<float>(eta);
  }
}

void FeatureBuilder::update(const Observation& observation, FeatureTable& out) {
  ++tick_;
  read_probes(observation);
  const MonotonicNs now = observation.time.monotonic_ns;
  const std::size_t rows = std::min(observation.entities.size(), observation.samples.size());
  out.time = observation.time;
  out.entities.resize(rows);
  out.values.resize(rows * feature_columns().size());
  for (std::size_t i = 0; i < rows; ++i) {
    if (out.entities[i] != observation.entities[i]) out.entities[i] = observation.entities[i];
    std::unique_ptr<State>& state = states_[observation.entities[i]->id];
    if (!state) {
      state = std::make_unique<State>();
      state->lately.newest_bin = now / rate_bin_ns_;
      state->now.newest_bin = now / brief_bin_ns_;
      state->point_ns.fill(kNoPoint);
    }
    state->seen_in_tick = tick_;
    add(observation.samples[i], observation.interval_s, now, *state);
    write(observation.samples[i], now, *state, out.row(i));
  }
  if (states_.size() > rows) {
    std::erase_if(states_, [&](const auto& entry) { return entry.second->seen_in_tick != tick_; });
  }
}

}  // namespace vedette
