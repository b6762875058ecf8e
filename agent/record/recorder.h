// Writes every snapshot to disk: into one recording that replays bit for bit, into the flight recorder's
// folder, or both. main.cpp makes it and hands it the ticks; its own thread encodes, compresses and writes,
// so publish() never waits for a disk.
#pragma once

#include <cstdint>
#include <memory>
#include <string>

#include "agent/base/result.h"
#include "agent/record/flight.h"
#include "agent/record/recording_format.h"
#include "agent/snapshot.h"

namespace vedette {

struct RecorderOptions {
  std::string path;  // of the recording; empty: none

  // A node with 100 pods records 5 to 20 kB a second: 1 GiB is the better part of a day at least. Then it
  // ends, for only what starts with the agent replays exactly; the last minutes are the flight recorder's.
  std::uint64_t max_bytes = 1ULL << 30;

  FlightOptions flight;

  // An exact replay needs every tick, so the queue must outlast the longest stall of a disk: 240 are a minute
  // at 4 ticks a second (a journal commit on a busy disk takes seconds), and hold at most some 20 MB when
  // nothing can be written. A tick that finds it full is dropped, counted, and the recording says so.
  std::size_t queue_ticks = 240;

  // Of the run, as the caller knows it; format and schema are filled in.
  RecordingHeader header;
};

class Recorder : public Sink {
public:
  // Creates the recording and writes its header; fails if that is not possible. The flight recorder's folder
  // is touched by the first tick.
  static Result<std::unique_ptr<Recorder>> make(RecorderOptions options);
  // Writes what is queued, and the end.
  ~Recorder() override;

  void publish(const std::shared_ptr<const Snapshot>& snapshot) override;  // tick thread
  FlightUse flight() const;                                                // any thread

private:
  struct State;
  explicit Recorder(std::unique_ptr<State> state);
  std::unique_ptr<State> state_;
};

}  // namespace vedette
