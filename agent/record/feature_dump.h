// Rows of a feature table as CSV, for training and for looking at: used by tools that replay a recording.
// Not shared between threads.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "agent/base/result.h"
#include "agent/collect/observation.h"
#include "agent/features/feature_table.h"

namespace vedette {

struct FeatureDumpOptions {
  std::string path;
  // Only entities whose name contains one of these; empty: all.
  std::vector<std::string> entities;
  // Counters whose additions of the tick are written beside the features, each as a column count.NAME: the
  // failures a label is made of need the tick they were counted in, which a rate over 10 s blurs.
  std::vector<std::string> counters = {"oom_kills", "errors_descriptors", "errors_space"};
};

class FeatureDump {
public:
  // Writes the head: t_s,entity, feature_columns(), count.…; an unknown counter is an error.
  static Result<FeatureDump> open(const FeatureDumpOptions& options);
  FeatureDump(FeatureDump&&) noexcept;
  FeatureDump& operator=(FeatureDump&&) noexcept;
  ~FeatureDump();

  // One row for each matching entity. t_s: CLOCK_MONOTONIC of the live run; floats with the 9 digits that
  // give them back exactly; a missing value is an empty field.
  Status write(const Observation& observation, const FeatureTable& table);
  Status close();

private:
  struct State;
  explicit FeatureDump(std::unique_ptr<State> state);
  std::unique_ptr<State> state_;
};

}  // namespace vedette
