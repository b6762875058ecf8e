// One recording while it is written: its header, ticks told as differences, its end. Used by the recorder's
// thread alone.
#pragma once

#include <cstdint>
#include <memory>
#include <string>

#include "agent/base/result.h"
#include "agent/record/recording_file.h"
#include "agent/record/recording_format.h"
#include "agent/record/tick_encoder.h"

namespace vedette {

namespace recording {
class Message;
}  // namespace recording

class TickWriter {
public:
  // Creates `path` or empties it, and writes the header.
  static Result<TickWriter> create(const std::string& path, const RecordingHeader& header);
  TickWriter(TickWriter&&) noexcept;
  TickWriter& operator=(TickWriter&&) noexcept;
  ~TickWriter();

  // The first tick is told whole, so that the file can be read alone.
  Status write(const Snapshot& snapshot, std::uint64_t dropped_before);
  // Nothing may follow. `dropped`: ticks after the last one that are not in the file. `full`: it reached its
  // bound.
  Status end(std::uint64_t dropped, bool full);

  std::uint64_t bytes() const { return writer_.bytes_written(); }

private:
  TickWriter(std::string path, RecordingWriter writer);
  Status append();

  std::string path_;
  RecordingWriter writer_;
  TickEncoder encoder_;
  std::unique_ptr<recording::Message> message_;
  std::string bytes_;
  std::uint64_t ticks_ = 0, dropped_ = 0;
};

}  // namespace vedette
