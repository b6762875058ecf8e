// Where observations come from: the live node (collect/live_source.h) or a recording
// (record/replay_source.h). Called by the tick thread only.
#pragma once

#include "agent/base/result.h"
#include "agent/collect/observation.h"

namespace vedette {

class Source {
public:
  Source() = default;
  Source(const Source&) = delete;
  Source& operator=(const Source&) = delete;
  virtual ~Source() = default;

  enum class Wait : std::uint8_t { kTick, kEnd };
  // Waits for the next tick: the timer, an urgent record, or the next one of a recording. kEnd: the recording
  // is over or the process was asked to stop.
  virtual Result<Wait> wait() = 0;

  // Fills `observation` (reused between ticks, so its memory is) with what happened since the last call.
  virtual Status collect(Observation& observation) = 0;
};

}  // namespace vedette
