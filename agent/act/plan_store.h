// The newest recovery plans, in a file beside the socket, so that an evacuation goes on after a restart of
// the agent. Of each it keeps what carrying it out takes. Used by act/evacuator's thread alone.
#pragma once

#include <deque>
#include <string>

#include "agent/act/plan.h"
#include "agent/base/result.h"

namespace vedette {

class PlanStore {
public:
  // Reads what `file` has of plans of `node`; empty: plans are kept in memory alone. A file that is damaged,
  // or of a newer format, is set aside as FILE.damaged, and said.
  PlanStore(std::string file, std::string node);

  // Null: it was never made, or so many others since. Valid until the next add().
  const Plan* find(const std::string& id) const;
  // On disk when it returns; an error leaves it in memory.
  Status add(Plan plan);

private:
  Status read();

  const std::string file_, node_;
  std::deque<Plan> plans_;  // the newest first
};

}  // namespace vedette
