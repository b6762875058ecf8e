// The kernel log as events: /dev/kmsg from its end on, only lines that mean trouble. Called by
// collect/LiveSource, tick thread only.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "agent/base/clock.h"
#include "agent/base/handle.h"
#include "agent/base/result.h"
#include "agent/collect/observation.h"

namespace vedette {

struct LogRecord {
  int level = 0;  // 0 emerg ... 3 err ... 7 debug
  // Lines that user space wrote into the kernel log say so here; they prove nothing about the kernel.
  bool from_kernel = false;
  std::uint64_t sequence = 0;
  std::uint64_t time_us = 0;  // the log's clock: near CLOCK_MONOTONIC, not equal to it
  std::string_view message;   // first line, without the dictionary
};
// "6,339,5140900,-;message\n KEY=value\n", see Documentation/ABI/testing/dev-kmsg.
std::optional<LogRecord> parse_log_record(std::string_view record);

// Level err or worse, or a message that says trouble at a milder level.
bool is_trouble(const LogRecord& record);

class LogSource {
public:
  // Opens `path` at its end; needs CAP_SYSLOG where kernel.dmesg_restrict is 1.
  static Result<LogSource> make(const std::string& path = "/dev/kmsg");
  // `file`: non-blocking, each read gives one record.
  explicit LogSource(FileHandle file) : file_(std::move(file)) {}

  // Appends what was logged since the last call as KernelEvent::kLogEvent about the node: `value` is the
  // level, `extra` the sequence number, `text` the message. Adds lines that were overwritten before we read
  // them to `lost`. Reads a bounded number of lines; the rest waits for the next call.
  Status read(MonotonicNs now, std::vector<KernelEvent>& events, std::uint64_t& lost);

private:
  FileHandle file_;
  std::optional<std::uint64_t> last_sequence_;
  MonotonicNs last_read_ns_ = 0;
};

}  // namespace vedette
