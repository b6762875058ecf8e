#include "agent/features/feature_builder.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <span>
#include <string_view>

namespace vedette {
namespace {

// Half a second each with the default window: a rate then covers the last 9.5 to 10 s, a brief one the last
// 1.5 to 2.
constexpr std::size_t kRateBins = 20;
constexpr std::size_t kBriefBins = 4;
constexpr std::size_t kTrendBins = 30;
// What an eta can say at most: an hour ahead is beyond any forecast from 30 s.
constexpr double kMaxEtaSeconds = 3600;
constexpr double kQuantile = 0.99;
// What is summed: each counter, then the buckets of each histogram.
constexpr std::size_t kPlaces = COUNTER_COUNT + HISTOGRAM_COUNT * HISTOGRAM_BUCKETS;
constexpr MonotonicNs kNoPoint = std::numeric_limits<MonotonicNs>::max();
constexpr float kNan = std::numeric_limits<float>::quiet_NaN();
// Probes that fill counters or histograms.
constexpr std::size_t kOrigins = [] {
  std::array<std::string_view, kRateColumns> seen{};
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
float p99_seconds(std::span<const std::uint64_t, HISTOGRAM_BUCKETS> buckets) {
  std::uint64_t total = 0;
  for (const std::uint64_t count : buckets) total += count;
  if (total == 0) return kNan;
  const double rank = kQuantile * static_cast<double>(total);
  // From above, where it is: the first bucket with fewer than that below it.
  std::size_t i = HISTOGRAM_BUCKETS - 1;
  std::uint64_t below = total - buckets[i];
  while (i > 0 && (buckets[i] == 0 || static_cast<double>(below) >= rank)) below -= buckets[--i];
  const double low = i == 0 ? 0 : histogram_bound_ns(i - 1);
  // Counts that no kernel counts may have wrapped.
  const double share =
      std::clamp((rank - static_cast<double>(below)) / static_cast<double>(buckets[i]), 0.0, 1.0);
  return static_cast<float>((low + (histogram_bound_ns(i) - low) * share) / kNsPerSecond);
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
    std::size_t column = 2 * kRateColumns;
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

struct FeatureBuilder::Bin {
  std::vector<Count> counts;                      // by place, ascending
  std::array<std::uint64_t, kOrigins> watched{};  // with that probe attached, ns
};

struct FeatureBuilder::Sums {
  std::array<std::uint64_t, kPlaces> counts{};
  std::array<std::uint64_t, kOrigins> watched{};

  void drop(const Bin& bin) {
    for (const Count& each : bin.counts) counts[each.place] -= each.count;
    for (std::size_t i = 0; i < kOrigins; ++i) watched[i] -= bin.watched[i];
  }
};

// What the newest bins counted, and the sums of all of them and of the newest few.
struct FeatureBuilder::Window {
  std::array<Bin, kRateBins> bins;
  Sums lately;  // of all bins
  Sums now;     // of the newest kBriefBins
  std::uint64_t newest_bin = 0;

  // Drops the bins that left each window when time reached `bin`.
  void advance(std::uint64_t bin) {
    if (bin <= newest_bin) return;
    const std::uint64_t steps = bin - newest_bin;
    for (std::uint64_t i = 0; i < std::min<std::uint64_t>(steps, kBriefBins); ++i)
      now.drop(bins[(newest_bin + kRateBins + 1 - kBriefBins + i) % kRateBins]);
    for (std::uint64_t i = 0; i < std::min<std::uint64_t>(steps, kRateBins); ++i) {
      Bin& old = bins[(newest_bin + 1 + i) % kRateBins];
      lately.drop(old);
      old.counts.clear();
      old.watched.fill(0);
    }
    newest_bin = bin;
  }

  // `merged` is room to work in.
  void add(std::span<const Count> counted, std::span<const std::uint8_t> counting, std::uint64_t interval,
           std::vector<Count>& merged) {
    Bin& bin = bins[newest_bin % kRateBins];
    for (std::size_t i = 0; i < kOrigins; ++i) {
      const std::uint64_t watched = counting[i] * interval;
      bin.watched[i] += watched;
      lately.watched[i] += watched;
      now.watched[i] += watched;
    }
    for (const Count& added : counted) {
      lately.counts[added.place] += added.count;
      now.counts[added.place] += added.count;
    }
    // In one go, which also leaves no room in the bins that would stay empty for ever.
    merged.clear();
    auto kept = bin.counts.cbegin();
    for (const Count& added : counted) {
      while (kept != bin.counts.cend() && kept->place < added.place) merged.push_back(*kept++);
      merged.push_back(added);
      if (kept != bin.counts.cend() && kept->place == added.place) merged.back().count += (kept++)->count;
    }
    merged.insert(merged.end(), kept, bin.counts.cend());
    bin.counts.assign(merged.begin(), merged.end());
  }

  std::size_t heap_bytes() const {
    std::size_t sum = 0;
    for (const Bin& bin : bins) sum += bin.counts.capacity() * sizeof(Count);
    return sum;
  }
};

struct FeatureBuilder::State {
  Window window;
  std::array<std::array<float, GAUGE_COUNT>, kTrendBins> points{};  // the newest value of each trend bin
  std::array<MonotonicNs, kTrendBins> point_ns{};
  std::uint64_t seen_in_tick = 0;
};

FeatureBuilder::FeatureBuilder(FeatureOptions options)
    : options_(options),
      bin_ns_(std::max<MonotonicNs>(
          1, static_cast<MonotonicNs>(options.rate_window_s * kNsPerSecond / kRateBins))),
      trend_bin_ns_(std::max<MonotonicNs>(
          1, static_cast<MonotonicNs>(options.trend_window_s * kNsPerSecond / kTrendBins))),
      layout_(std::make_unique<const Layout>()),
      counted_(kPlaces) {}

FeatureBuilder::~FeatureBuilder() = default;

std::size_t FeatureBuilder::bytes() const {
  std::size_t sum = states_.size() * sizeof(State);
  for (const auto& [id, state] : states_) sum += state->window.heap_bytes();
  return sum;
}

void FeatureBuilder::read_probes(const Observation& observation) {
  absent_counters_ = observation.absent_counters;
  absent_histograms_ = observation.absent_histograms;
  counting_.assign(kOrigins, 0);
  gauge_missing_.assign(GAUGE_COUNT, false);
  for (const ProbeHealth& probe : observation.probes) {
    const bool attached = probe.state == ProbeState::kAttached;
    for (std::size_t i = 0; i < layout_->origins.size(); ++i) {
      if (layout_->origins[i] == probe.name) counting_[i] = attached ? 1 : 0;
    }
    for (std::size_t i = 0; i < kGauges.size(); ++i) {
      if (!attached && kGauges[i].origin == probe.name) gauge_missing_[i] = true;
    }
  }
}

void FeatureBuilder::add(const Sample& sample, double interval_s, MonotonicNs now, Window& window) {
  window.advance(now / bin_ns_);
  // The first tick has no interval: what it carries was counted over an unknown time.
  if (!(interval_s > 0)) return;
  // Written always and kept if not 0: that is quicker than to guess which of them are.
  std::size_t count = 0;
  const auto note = [&](std::size_t place, std::uint64_t added) {
    counted_[count] = {added, static_cast<std::uint32_t>(place)};
    count += added != 0 ? 1 : 0;
  };
  for (std::size_t i = 0; i < COUNTER_COUNT; ++i)
    note(i, counting_[layout_->counter_origin[i]] != 0 ? sample.counters[i] : 0);
  for (std::size_t h = 0; h < HISTOGRAM_COUNT; ++h) {
    if (counting_[layout_->histogram_origin[h]] == 0) continue;
    for (std::size_t i = 0; i < HISTOGRAM_BUCKETS; ++i)
      note(COUNTER_COUNT + h * HISTOGRAM_BUCKETS + i, sample.histograms[h][i]);
  }
  window.add(std::span(counted_).first(count), counting_,
             static_cast<std::uint64_t>(std::llround(interval_s * kNsPerSecond)), merged_);
}

void FeatureBuilder::write_rates(const Sample& sample, const Sums& sums, std::span<float> row) const {
  std::array<double, kOrigins> per_second;
  for (std::size_t i = 0; i < kOrigins; ++i) {
    const double seconds = static_cast<double>(sums.watched[i]) / kNsPerSecond;
    per_second[i] = counting_[i] != 0 && seconds >= options_.min_rate_s ? 1 / seconds : kMissing;
  }
  for (std::size_t i = 0; i < COUNTER_COUNT; ++i)
    row[i] = static_cast<float>(static_cast<double>(sums.counts[i]) * per_second[layout_->counter_origin[i]]);
  const std::bitset<COUNTER_COUNT> absent = absent_counters_ | sample.unknown;
  for (std::size_t i = 0; absent.any() && i < COUNTER_COUNT; ++i) {
    if (absent.test(i)) row[i] = kNan;
  }
  for (std::size_t h = 0; h < HISTOGRAM_COUNT; ++h) {
    const bool known = counting_[layout_->histogram_origin[h]] != 0 && !absent_histograms_.test(h);
    const std::size_t first = COUNTER_COUNT + h * HISTOGRAM_BUCKETS;
    row[COUNTER_COUNT + h] =
        known ? p99_seconds(std::span(sums.counts).subspan(first).first<HISTOGRAM_BUCKETS>()) : kNan;
  }
}

void FeatureBuilder::write(const Sample& sample, MonotonicNs now, State& state, std::span<float> row) const {
  write_rates(sample, state.window.lately, row);
  write_rates(sample, state.window.now, row.subspan(kRateColumns));
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
      state->window.newest_bin = now / bin_ns_;
      state->point_ns.fill(kNoPoint);
    }
    state->seen_in_tick = tick_;
    add(observation.samples[i], observation.interval_s, now, state->window);
    write(observation.samples[i], now, *state, out.row(i));
  }
  if (states_.size() > rows) {
    std::erase_if(states_, [&](const auto& entry) { return entry.second->seen_in_tick != tick_; });
  }
}

}  // namespace vedette
