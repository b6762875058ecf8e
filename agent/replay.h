// Judges a recording again: as the agent did, or with another policy or model. `vedette replay` makes it and
// takes tick after tick; one thread.
#pragma once

#include <memory>
#include <set>
#include <string>
#include <utility>

#include "agent/base/result.h"
#include "agent/pipeline.h"
#include "agent/record/replay_source.h"

namespace vedette {

struct ReplayOptions {
  std::string path;                      // a file, or a folder of segments
  std::shared_ptr<const Policy> policy;  // null: what was in force then
  std::string model;                     // "builtin", "off" or a file; empty: what was used then
};

// A tick, as it was judged then and as it is judged now.
struct ReplayedTick {
  Snapshot snapshot;  // now; its ActState is what the writer knew then
  RecordedVerdict then, now;
  // The parts of both that can be compared. All of them, where the recording has all that the agent had
  // learnt. Elsewhere not the first kSettleS; no condition that began before that was over; no decision
  // before both had no taint; and no numbers of decisions.
  RecordedVerdict comparable_then, comparable_now;
  ReplaySource::Start start = ReplaySource::Start::kNone;
};

class Replay {
public:
  // As long as a loss lowers confidence, and longer than all windows (the longest: 64 s of what is usual, and
  // another 64 s of how much longer all waited) and the holds of all levels but the clock's, which must be
  // wrong for ten minutes.
  static constexpr double kSettleS = 140;

  static Result<std::unique_ptr<Replay>> open(ReplayOptions options);

  // False: the recording is over.
  Result<bool> next(ReplayedTick& tick);

  const ReplaySource& source() const { return *source_; }
  // Whether some ticks were judged without what the agent had learnt before: with the anomaly scores of then.
  bool took_scores() const { return took_scores_; }

private:
  using Key = std::pair<std::string, EntityId>;  // of a condition

  explicit Replay(ReplayOptions options) : options_(std::move(options)) {}
  Status start(ReplaySource::Start start, const Instant& now);
  void compare(ReplayedTick& tick);

  ReplayOptions options_;
  std::unique_ptr<ReplaySource> source_;
  std::unique_ptr<Pipeline> pipeline_;
  bool took_scores_ = false;
  // Of a part whose beginning is missing.
  bool continued_ = false;
  MonotonicNs settled_ns_ = 0;
  std::set<Key> unknown_;  // conditions that began before
  bool decision_known_ = false;
};

}  // namespace vedette
