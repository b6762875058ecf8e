// Turns observations into the feature table: windows, quantiles and trends of every entity. Called by the
// tick thread once per tick; state is its own. Only + - * / on integers and doubles, in a fixed order, so a
// replay gives the same bits with any compiler and libm.
#pragma once

#include <array>
#include <bitset>
#include <cstdint>
#include <memory>
#include <unordered_map>
#include <vector>

#include "agent/collect/observation.h"
#include "agent/features/feature_table.h"

namespace vedette {

// Models are trained with the defaults: other values shift every column they were fitted on.
struct FeatureOptions {
  // .rate and .p99: long enough for one rare event to be seen by several ticks. A fifth of it, .rate_2s and
  // .p99_2s, is what happens now, for whoever must be quick.
  double rate_window_s = 10;
  double trend_window_s = 30;  // .slope: half the horizon of the failure risk (60 s)
  double min_rate_s = 1;       // less seen than this says nothing about a second: the rate is missing
  double min_trend_s = 3;      // a slope over less is mostly the noise of its two ends
};

class FeatureBuilder {
public:
  explicit FeatureBuilder(FeatureOptions options);
  ~FeatureBuilder();
  FeatureBuilder(const FeatureBuilder&) = delete;
  FeatureBuilder& operator=(const FeatureBuilder&) = delete;

  // Fills `out` (its memory is reused) with one row per entity of `observation`, in the same order. NaN:
  //   - signals whose probe is degraded or off; counters and histograms also when it is not listed at all
  //   - signals that a recording of an older schema does not have; counters the entity has no file for
  //   - rates of an entity watched for less than min_rate_s; the part of a window in which the probe was not
  //     attached counts neither as time nor as events
  //   - p99 of a window without a sample: a quantile of nothing is missing, not 0
  //   - slopes and etas over less than min_trend_s or of a gauge that is missing now
  // An eta is 3600 when the gauge does not rise and 0 once it has reached 1.
  // Windows are measured in time, in bins of a twentieth (rates) and a thirtieth (trends), so extra ticks of
  // urgent events change nothing. State of an entity that is no longer in the observation is freed.
  void update(const Observation& observation, FeatureTable& out);

  std::size_t entities() const { return states_.size(); }
  // Memory kept for them.
  std::size_t bytes() const;

private:
  struct State;
  struct Layout;
  // Of some 400 places a second of a pod touches a few dozen: only those are kept, without padding.
  struct [[gnu::packed]] Count {
    std::uint64_t count;
    std::uint32_t place;
  };
  struct Bin;
  struct Sums;
  struct Window;

  void read_probes(const Observation& observation);
  void add(const Sample& sample, double interval_s, MonotonicNs now, Window& window);
  void write(const Sample& sample, MonotonicNs now, State& state, std::span<float> row) const;
  void write_rates(const Sample& sample, const Sums& sums, std::span<float> row) const;
  void write_trends(const std::array<float, GAUGE_COUNT>& gauges, MonotonicNs now, const State& state,
                    std::span<float> row) const;

  FeatureOptions options_;
  MonotonicNs bin_ns_;
  MonotonicNs trend_bin_ns_;
  std::unique_ptr<const Layout> layout_;
  std::vector<std::uint8_t> counting_;  // by origin of the layout, 1: counters and histograms may be read
  std::vector<bool> gauge_missing_;     // by gauge: its source said that it is down
  std::vector<Count> counted_;          // by the sample being added, places ascending; as long as all places
  std::vector<Count> merged_;           // room to work in
  std::bitset<COUNTER_COUNT> absent_counters_;
  std::bitset<HISTOGRAM_COUNT> absent_histograms_;
  std::unordered_map<EntityId, std::unique_ptr<State>> states_;
  std::uint64_t tick_ = 0;
};

}  // namespace vedette
