// The Prometheus exposition of one snapshot: which families there are, their names, units and labels. A pure
// function: any thread.
#pragma once

#include <functional>
#include <string>
#include <string_view>

#include "agent/snapshot.h"
#include "exporter/totals.h"

namespace prometheus {
struct MetricFamily;
}

namespace vedette {

// The name in Prometheus' conventions, base units in the suffix: runqueue_wait_ns ->
// vedette_runqueue_wait_seconds_total, memory_use -> vedette_memory_use_ratio.
std::string metric_name(const SignalInfo& signal);
std::string metric_name(const DetailInfo& detail);

struct MetricsInput {
  const Snapshot& snapshot;
  const TotalsCopy& totals;
  double age_s = 0;         // of the snapshot
  double cpu_s = 0;         // of the process
  double start_time_s = 0;  // of the process, since 1970
};

// Calls `emit` once per family, one after the other, so that a scrape of thousands of series needs the memory
// of one family. A missing value (NaN, or a counter whose probe is not attached) has no series. Histogram
// sums are estimated from the buckets (geometric middle), as their help says.
void for_each_family(const MetricsInput& input,
                     const std::function<void(const prometheus::MetricFamily&)>& emit);

}  // namespace vedette
