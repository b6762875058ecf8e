// How much of what the features say can be believed: less of a column after counts of it were lost, nothing
// while its probe is degraded or shed. A pure function of the observations it was shown: no clock, no I/O.
// Kept by Assessor, called by the tick thread only.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "agent/collect/observation.h"
#include "agent/score/scorer.h"

namespace vedette {

class ColumnTrust {
public:
  // `continues`: the first tick is not the agent's first, so what was lost until then was not lost in it.
  explicit ColumnTrust(bool continues) : continues_(continues) {}

  // Every tick, before it is asked.
  void update(const Observation& observation);

  // 0..1, of a feature column.
  double of(std::size_t column) const { return columns_[column]; }
  // 0..1, of a score: 1 while nothing was lost and all that it rests on is watched.
  double of(const std::vector<Reason>& reasons) const;

private:
  struct Loss {
    std::uint64_t seen = 0;
    MonotonicNs at_ns = 0;  // of the newest; 0: never
  };

  // Whether `count`, which only grows, did so lately by more than `noise` in a tick.
  bool lost_lately(Loss& loss, std::uint64_t count, double noise, MonotonicNs now) const;
  void read_lost_starts(const Observation& observation);
  void read_probes(const Observation& observation);

  bool continues_;
  bool first_ = true;  // tick
  Loss lost_;          // by anybody
  double after_losses_ = 1;
  std::map<std::string, Loss> missed_;  // by probe: runs
  std::array<Loss, SLOT_COUNTER_COUNT> lost_starts_{};
  std::vector<double> columns_;
};

}  // namespace vedette
