// The values for a picture of a replay: which entity, which signals told the most, what began and was done
// when. Used by `vedette replay --plot`.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "agent/base/result.h"
#include "agent/replay.h"
#include "tools/cli/plot.h"

namespace vedette {

// What must be known of all ticks before a picture of some can be drawn.
class ReplaySurvey {
public:
  void add(const ReplayedTick& tick);

  // `wanted`: a name, or a part that only it has; empty: whoever was worst, the first of them.
  Result<EntityId> choose(const std::string& wanted) const;
  const std::string& name_of(EntityId id) const { return seen_.at(id).name; }
  // The columns that weighed most, filled up with what anybody asks first.
  std::vector<std::uint32_t> signals_of(EntityId id) const;

private:
  struct Seen {
    std::string name;
    Severity worst = Severity::kInfo;
    bool troubled = false;
    std::map<std::uint32_t, double> weights;  // of columns, over all ticks
  };

  std::map<EntityId, Seen> seen_;
  std::vector<EntityId> order_;  // of the first trouble
};

// Reads the recording again, after `survey` saw all of it. `entity`: as choose() wants it.
Result<Plot> plot_of_replay(const ReplayOptions& options, const ReplaySurvey& survey,
                            const std::string& entity);

}  // namespace vedette
