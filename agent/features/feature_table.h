// One row per entity, one named column per feature: the value that features/ hands to the scorers. Columns
// are fixed when the agent is built (they expand from bpf/signals.h); models bind to them by name. A plain
// value owned by the tick thread.
#pragma once

#include <cstddef>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "agent/base/clock.h"
#include "agent/collect/signals.h"
#include "agent/pods/entity.h"

namespace vedette {

// What each kind of signal becomes:
//   counter    NAME.rate      per second, over the last 10 s
//              NAME.rate_2s   the same, over the last 2 s
//   histogram  NAME.p99       seconds, over the last 10 s
//              NAME.p99_2s    the same, over the last 2 s
//   gauge      NAME           as read
//              NAME.slope     change per second, least squares over the last 30 s
//   and for a gauge of unit "ratio"
//              NAME.eta       seconds until it reaches 1 at that slope, at most 3600
struct FeatureInfo {
  std::string name;
  std::string_view signal;  // the row of bpf/signals.h it comes from
  std::string_view unit;
};

// How the columns of the shorter window end.
inline constexpr std::string_view kBriefly = "_2s";
inline bool is_brief(const FeatureInfo& column) {
  return column.name.ends_with(kBriefly);
}

// Columns of one window: each counter's rate, then each histogram's p99.
inline constexpr std::size_t kRateColumns = kCounters.size() + kHistograms.size();

// All columns, in the order of FeatureTable's rows: kRateColumns of the longer window, as many of the shorter
// one, those of gauges.
const std::vector<FeatureInfo>& feature_columns();
std::optional<std::size_t> find_feature(std::string_view name);

struct FeatureTable {
  Instant time;
  std::vector<EntityPtr> entities;  // one per row; [0] is the node
  std::vector<float> values;        // row-major, entities.size() x feature_columns().size(); NaN: missing

  std::span<const float> row(std::size_t index) const {
    const std::size_t columns = feature_columns().size();
    return std::span(values).subspan(index * columns, columns);
  }
  std::span<float> row(std::size_t index) {
    const std::size_t columns = feature_columns().size();
    return std::span(values).subspan(index * columns, columns);
  }
};

}  // namespace vedette
