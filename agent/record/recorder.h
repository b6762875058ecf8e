// Writes every snapshot into a recording that replays bit for bit. main.cpp makes it and hands it the ticks;
// its own thread encodes, compresses and writes, so publish() never waits for a disk.
#pragma once

#include <cstdint>
#include <memory>
#include <string>

#include "agent/base/result.h"
#include "agent/record/tick_codec.h"
#include "agent/snapshot.h"

namespace vedette {

struct RecorderOptions {
  std::string path;

  // A node with 100 pods records 5 to 20 kB a second: 1 GiB is the better part of a day at least.
  std::uint64_t max_bytes = 1ULL << 30;
  // kRotate: PATH becomes PATH.1 (replacing an older one) and a new file starts; at most two files, twice
  // max_bytes. Only a file that starts with the agent replays exactly, so an incident is better kStop.
  enum class WhenFull : std::uint8_t { kStop, kRotate };
  WhenFull when_full = WhenFull::kRotate;

  // An exact replay needs every tick, so the queue must outlast the longest stall of a disk: 240 are a minute
  // at 4 ticks a second (a journal commit on a busy disk takes seconds), and hold at most some 20 MB when
  // nothing can be written. A tick that finds it full is dropped, counted, and the recording says so.
  std::size_t queue_ticks = 240;

  // Versions, node and hashes as the caller knows them; the format and the schema are filled in.
  RecordingHeader header;
};

struct RecorderState {
  std::uint64_t ticks = 0;    // written, all files
  std::uint64_t dropped = 0;  // not written: the queue or the file was full, or the disk failed
  std::uint64_t bytes = 0;    // of the present file
  bool recording = true;      // false: the file is full (kStop) or could not be written
  std::string error;          // why, empty otherwise
};

class Recorder : public Sink {
public:
  // Creates the file and writes its header; fails if that is not possible.
  static Result<std::unique_ptr<Recorder>> make(RecorderOptions options);
  // Writes what is queued, and the end.
  ~Recorder() override;

  void publish(const std::shared_ptr<const Snapshot>& snapshot) override;  // tick thread
  RecorderState state() const;                                             // any thread

private:
  struct State;
  explicit Recorder(std::unique_ptr<State> state);
  std::unique_ptr<State> state_;
};

}  // namespace vedette
