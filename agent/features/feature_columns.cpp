#include "agent/collect/signals.h"
#include "agent/features/feature_table.h"

namespace vedette {

const std::vector<FeatureInfo>& feature_columns() {
  static const std::vector<FeatureInfo> columns = [] {
    std::vector<FeatureInfo> list;
    list.reserve(2 * kRateColumns + 3 * kGauges.size());
    for (const std::string_view window : {std::string_view(), kBriefly}) {
      for (const SignalInfo& signal : kCounters) {
        list.push_back({std::string(signal.name) + ".rate" + std::string(window), signal.name, signal.unit});
      }
      for (const SignalInfo& signal : kHistograms) {
        list.push_back({std::string(signal.name) + ".p99" + std::string(window), signal.name, "s"});
      }
    }
    for (const SignalInfo& signal : kGauges) {
      list.push_back({std::string(signal.name), signal.name, signal.unit});
      list.push_back({std::string(signal.name) + ".slope", signal.name, signal.unit});
      if (signal.unit == "ratio") list.push_back({std::string(signal.name) + ".eta", signal.name, "s"});
    }
    return list;
  }();
  return columns;
}

std::optional<std::size_t> find_feature(std::string_view name) {
  const std::vector<FeatureInfo>& columns = feature_columns();
  for (std::size_t i = 0; i < columns.size(); ++i) {
    if (columns[i].name == name) return i;
  }
  return std::nullopt;
}

}  // namespace vedette
