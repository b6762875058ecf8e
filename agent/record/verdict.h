// What one tick concluded, small enough to be recorded, and the comparison of a replay with it. Made by the
// recorder and by replay; plain values, any thread.
#pragma once

#include <string>
#include <vector>

#include "agent/snapshot.h"

namespace vedette {

struct RecordedVerdict {
  struct EntityVerdict {
    EntityId entity = kNodeEntity;
    double anomaly = 0;
    double anomaly_threshold = 1;
    double risk = 0;
    bool anomalous = false;
    Learning learning = Learning::kNew;
    // Only where they matter (EntityScore).
    std::vector<Reason> anomaly_reasons;
  };
  struct ConditionVerdict {
    std::string reason;
    EntityId entity = kNodeEntity;
    Severity severity = Severity::kInfo;
    MonotonicNs since_ns = 0;
    double confidence = 1;
    std::uint32_t count = 0;
    bool recovering = false;
  };

  std::vector<EntityVerdict> entities;  // in the order of the tick's rows
  std::vector<ConditionVerdict> conditions;
  std::uint64_t generation = 0;
  bool taint = false;
  std::string reason;
  std::string held_back, effect;
};

RecordedVerdict verdict_of(const Snapshot& snapshot);

// One sentence for each difference, none if `replayed` is the same to the bit (every NaN is the same NaN);
// for names: the `entities` of the tick. Reasons are not compared: what they lead to is in the conditions. At
// most `limit` sentences; the last one then says how many more there are.
std::vector<std::string> verdict_differences(const RecordedVerdict& recorded, const RecordedVerdict& replayed,
                                             const std::vector<EntityPtr>& entities, std::size_t limit = 10);

// Equal to the bit, so that 0 and -0 differ; every NaN equals every NaN, for all mean "missing".
bool same_bits(double a, double b);

}  // namespace vedette
