// A recording as a Source: it gives back the observations of the live run, and beside each what the live run
// had as ActState and what it concluded. Made by main.cpp for --replay, called by the tick thread.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "agent/collect/source.h"
#include "agent/record/tick_codec.h"

namespace vedette {

class ReplaySource : public Source {
public:
  // Reads the header. An error names the file, and the offset or the version that is wrong.
  static Result<std::unique_ptr<ReplaySource>> open(const std::string& path);
  ~ReplaySource() override;

  // Never waits for time to pass. kEnd: also where a truncated file ends, notes() then says so. A damaged
  // file fails here, with every tick before the damage given out.
  Result<Wait> wait() override;
  Status collect(Observation& observation) override;

  const RecordingHeader& header() const;
  // Of the tick collected last: the writer's state that the live decision was made with, and its verdict.
  const ActState& act() const;
  const RecordedVerdict& verdict() const;

  // Ticks collected so far.
  std::uint64_t ticks() const;
  // True while no tick is known to be missing: only then can verdicts be expected to be equal.
  bool exact() const;
  // What a reader of the replay must know: unknown or absent signals, dropped ticks, a truncated tail. Grows
  // until wait() answered kEnd.
  const std::vector<std::string>& notes() const;

private:
  struct State;
  explicit ReplaySource(std::unique_ptr<State> state);
  std::unique_ptr<State> state_;
};

}  // namespace vedette
