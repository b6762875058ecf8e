// A recording as a Source: it gives back the observations of the live run, and beside each what the live run
// had as ActState and what it concluded. A recording is a file, or a folder of a flight recorder's segments,
// which are played one after the other. Made by who replays or inspects one; one thread.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "agent/act/policy.h"
#include "agent/collect/source.h"
#include "agent/record/recording_format.h"
#include "agent/record/verdict.h"

namespace vedette {

class ReplaySource : public Source {
public:
  // Reads the first header. An error names the file, and the offset or the version that is wrong.
  static Result<std::unique_ptr<ReplaySource>> open(const std::string& path);
  ~ReplaySource() override;

  // Never waits for time to pass. kEnd: also where the last file is truncated, notes() then says so. A
  // damaged file fails here, with every tick before the damage given out.
  Result<Wait> wait() override;
  Status collect(Observation& observation) override;

  // Of the part that was read last: it has changed where start() says so.
  const RecordingHeader& header() const;
  // Of the tick collected last: the writer's state that the live decision was made with, its policy (null
  // before format 2), and its verdict.
  const ActState& act() const;
  const std::shared_ptr<const Policy>& policy() const;
  const RecordedVerdict& verdict() const;
  const std::shared_ptr<const Baselines>& taught() const;
  const std::vector<Lesson>& lessons() const;
  // What the agent had when it judged that tick: what it learnt from the tick that is before it here;
  // nothing, for a run begins with it; or what it learnt from ticks that are not here.
  enum class Start : std::uint8_t { kNone, kRun, kContinued };
  Start start() const;
  // Where that tick is: the file, and the number of the part, which counts headers.
  const std::string& file() const;
  std::size_t part() const;

  // Ticks collected so far, and those that are known to be missing between and after them.
  std::uint64_t ticks() const;
  std::uint64_t dropped() const;
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
