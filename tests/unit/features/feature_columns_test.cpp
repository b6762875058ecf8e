#include <set>

#include <doctest/doctest.h>

#include "agent/collect/signals.h"
#include "agent/features/feature_table.h"

TEST_CASE("every signal of the schema has a feature column, and every column its own name") {
  std::set<std::string> names;
  std::set<std::string_view> signals;
  for (const vedette::FeatureInfo& column : vedette::feature_columns()) {
    CHECK(names.insert(column.name).second);
    signals.insert(column.signal);
    CHECK(vedette::find_feature(column.name) == names.size() - 1);
  }
  CHECK(signals.size() == vedette::kCounters.size() + vedette::kHistograms.size() + vedette::kGauges.size());
  CHECK_FALSE(vedette::find_feature("no_such_signal").has_value());
}
