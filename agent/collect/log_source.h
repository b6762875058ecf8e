// The kernel log as events, from its end on, only lines that mean trouble: /dev/kmsg, or syslog(2) where a
// container may not open that. Called by collect/LiveSource, tick thread only.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "agent/base/clock.h"
#include "agent/base/handle.h"
#include "agent/base/result.h"
#include "agent/collect/file_counts.h"
#include "agent/collect/log_rules.h"
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

// "<6>[    5.140900] message" as syslog(2) has it: without a sequence number, and without a time where
// printk.time is off.
std::optional<LogRecord> parse_syslog_line(std::string_view line);

// Each record of such a text in one line. The kernel begins a line of its own wherever a record has a line
// break, which the name of a task may hold, too; but all lines of a record begin alike, down to the
// microsecond. What follows the first is put behind it, after "\x0a" as in /dev/kmsg. (Two records of one
// microsecond become one as well.) Fails where lines have no time, so that nothing tells one record from the
// next.
Result<std::string> join_records(std::string_view text);

// What follows `end`, the last bytes of an earlier reading, in `text`; nothing if that is no longer there.
std::optional<std::string_view> find_news(std::string_view text, std::string_view end);

// "…,cpuset=NAME,mems_allowed=0": the directory of the task's cgroup, where a line names it so; else empty.
// The last one counts: what stands before is the task's own choice.
std::string_view named_cgroup(std::string_view message);

// A line of the kernel that `rule` names, or of level err or worse that no rule knows (null).
bool is_trouble(const LogRecord& record, const LogRule* rule);

// A line that was counted, of a task in a cgroup.
struct LogCount {
  vedette_counter counter;
  std::string cgroup;  // the last part of its path
};

class LogSource {
public:
  // Opens `path` at its end, or, where it is there and may not be opened, asks syslog(2) from now on; needs
  // CAP_SYSLOG where kernel.dmesg_restrict is 1.
  static Result<LogSource> make(const std::string& path, std::shared_ptr<const LogRules> rules);
  // `file`: non-blocking, each read gives one record.
  LogSource(FileHandle file, std::shared_ptr<const LogRules> rules)
      : file_(std::move(file)), rules_(std::move(rules)) {}

  // Appends what was logged since the last call as KernelEvent::kLogEvent about the node: `value` is the
  // level, `extra` the sequence number, `text` the message. Adds lines that were overwritten before we read
  // them to `lost`; what may have stood there is not known then. Counts log_counters(). Reads a bounded
  // number of lines; the rest waits for the next call.
  Status read(MonotonicNs now, std::vector<KernelEvent>& events, FileCounts& counts, std::uint64_t& lost);
  // What the last read() counted by signals that pods have, too, where the line says whose task it was.
  const std::vector<LogCount>& of_cgroups() const { return of_cgroups_; }
  // Whether lines were lost so short ago that no count is known.
  bool doubts(MonotonicNs now) const { return now < doubt_until_ns_; }

private:
  Status read_device(MonotonicNs now, std::vector<KernelEvent>& events, std::uint64_t& lost);
  Status read_syslog(MonotonicNs now, std::vector<KernelEvent>& events, std::uint64_t& lost);
  void take(const LogRecord& record, MonotonicNs now, std::vector<KernelEvent>& events);

  FileHandle file_;  // none: syslog(2)
  std::shared_ptr<const LogRules> rules_;
  std::string buffer_;  // the whole log, as syslog(2) gives it
  std::string end_;     // of what was read
  MonotonicNs due_ns_ = 0;
  MonotonicNs doubt_until_ns_ = 0;
  std::vector<std::uint64_t> counted_ = std::vector<std::uint64_t>(log_counters().size());
  std::vector<LogCount> of_cgroups_;
  std::optional<std::uint64_t> last_sequence_;
  MonotonicNs last_read_ns_ = 0;
};

}  // namespace vedette
