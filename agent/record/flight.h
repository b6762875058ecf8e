// The last minutes of the node, always on disk: a folder of short recordings, the oldest dropped; and of each
// incident a slice of them, kept by hard links. Used by the recorder's thread alone.
#pragma once

#include <cstdint>
#include <deque>
#include <map>
#include <memory>
#include <optional>
#include <string>

#include "agent/base/handle.h"
#include "agent/base/result.h"
#include "agent/record/tick_writer.h"
#include "agent/snapshot.h"

namespace vedette {

// Where it is unless the configuration names another place; only where its directory can be written.
inline constexpr const char* kDefaultFlight = "/var/lib/vedette/flight";

struct FlightOptions {
  std::string folder;   // empty: none is kept
  double keep_s = 900;  // at least; a segment is a fifth of it, or of the bytes
  // A node with 100 pods writes some 5 kB a second: 15 minutes are 5 MiB.
  std::uint64_t max_bytes = std::uint64_t{64} << 20;
  // Of all incidents, each counted alone though they may share segments. One may have a quarter of it.
  std::uint64_t max_slice_bytes = std::uint64_t{256} << 20;
  // An incident's slice: what led to it, with time for windows to fill; and how it ended.
  double before_s = 180;
  double after_s = 60;
};

class Flight {
public:
  // `header`: of the run. Nothing is touched before the first tick.
  Flight(FlightOptions options, RecordingHeader header);
  ~Flight();

  // A failure is told by use(), and tried again: the agent goes on. Ticks that were not written are counted
  // in the file that follows.
  void write(const Snapshot& snapshot, std::uint64_t dropped_before);
  // The run is over, after so many more ticks that were not written.
  void end(std::uint64_t dropped);

  const FlightUse& use() const { return use_; }

private:
  struct Segment {
    std::string name;
    std::uint64_t bytes = 0;
    std::int64_t ended_ns = 0;  // CLOCK_MONOTONIC; an earlier boot's are negative
  };
  struct Slice {
    std::optional<MonotonicNs> closed_ns;  // none: the incident is open
    std::uint64_t bytes = 0;               // of segments that have ended
    bool given_up = false;                 // it could not be kept, or was dropped for newer ones
  };

  Status try_write(const Snapshot& snapshot, std::uint64_t dropped_before);
  Status open_folder(const Instant& now);
  Status start_segment(const Instant& now);
  Status end_segment(const Instant& now);
  void drop_old_segments(const Instant& now);
  void read_incidents(const Snapshot& snapshot);
  Slice begin_slice(const std::string& incident, const Instant& now);
  void keep(const std::string& segment, const std::string& incident, Slice& slice);
  void give_up(Slice& slice, const std::string& why);
  void drop_old_slices();
  std::string path(const std::string& name) const { return options_.folder + "/" + name; }

  FlightOptions options_;
  RecordingHeader header_;
  FlightUse use_;
  FileHandle lock_;
  std::deque<Segment> segments_;  // ended, oldest first
  std::optional<TickWriter> writer_;
  std::string name_;  // of the one that is written
  std::uint64_t number_ = 0;
  MonotonicNs started_ns_ = 0;
  std::uint64_t ticks_ = 0;              // of the run
  std::uint64_t lost_ = 0;               // of them not written since the last that was
  MonotonicNs next_try_ns_ = 0;          // after a failure
  std::map<std::string, Slice> slices_;  // that still grow, by the incident's id
};

}  // namespace vedette
