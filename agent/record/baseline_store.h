// Keeps what is usual for each workload on disk, and hands the agent what was kept or what somebody imports.
// main.cpp makes it; the tick thread gives it the scorer, a few baselines a tick; the socket's thread imports
// and exports; one thread of its own encodes and writes.
#pragma once

#include <memory>
#include <string>

#include "agent/base/clock.h"
#include "agent/base/result.h"
#include "agent/score/anomaly.h"
#include "agent/snapshot.h"

namespace vedette {

// Where baselines are unless the configuration names another place; only where its directory can be written.
inline constexpr const char* kDefaultBaselines = "/var/lib/vedette/baselines";

struct BaselineStoreOptions {
  std::string path;  // empty: nothing is kept
  std::string seed;  // a file that another node exported, for workloads that are not known here; empty: none
  std::string node;
  std::string agent_version;
  // What a crash may cost. An agent that is told to end saves before.
  double save_every_s = 600;
};

class BaselineStore {
public:
  // A file at `path` that makes no sense is set aside, one that cannot be read stays as it is and nothing is
  // saved; state() tells of both. A seed that cannot be used is an error.
  static Result<std::unique_ptr<BaselineStore>> make(BaselineStoreOptions options);
  // Writes what waits.
  ~BaselineStore();

  // Tick thread. What the scorer is to learn now; mostly null.
  std::shared_ptr<const Baselines> take();
  // Tick thread, after each tick: a few baselines, when it is time to save.
  void tick(MonotonicNs now, const AnomalyScorer& scorer);
  // Tick thread, after its last tick: all of them, on disk when it returns.
  void save(const AnomalyScorer& scorer);

  // Any thread. `bytes` of a file: taken over by one of the next ticks. Returns how many workloads it has.
  Result<std::size_t> import(std::string bytes);
  // Any thread. The bytes of the file saved last.
  Result<std::string> exported() const;
  BaselineUse state() const;  // any thread

private:
  struct Worker;
  explicit BaselineStore(BaselineStoreOptions options);
  void begin_round(const AnomalyScorer& scorer);

  BaselineStoreOptions options_;
  // Of the tick thread: the workloads of a round that are still to be handed over, the next one last.
  std::vector<std::string> round_;
  MonotonicNs next_round_ns_ = 0;
  std::unique_ptr<Worker> worker_;
};

}  // namespace vedette
