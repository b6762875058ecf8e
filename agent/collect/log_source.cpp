#include "agent/collect/log_source.h"

#include <algorithm>
#include <array>
#include <cerrno>

#include <fcntl.h>
#include <unistd.h>

#include "agent/collect/kept_file.h"

namespace vedette {
namespace {

constexpr int kLevelError = 3;
// The kernel's own bound of one record (CONSOLE_EXT_LOG_MAX).
constexpr std::size_t kRecordBytes = 8192;
// A record costs about a microsecond: a flood may take a few milliseconds of a tick, not all of it.
constexpr int kRecordsPerRead = 2000;

// warn_alloc() in mm/page_alloc.c: "kworker/0:1: page allocation failure: order:4, mode:..."
constexpr std::string_view kAllocationFailure = "page allocation failure";

}  // namespace

std::optional<LogRecord> parse_log_record(std::string_view record) {
  const auto semicolon = record.find(';');
  if (semicolon == std::string_view::npos) return std::nullopt;
  auto prefix = record.substr(0, semicolon);
  std::array<std::uint64_t, 3> fields{};
  for (auto& field : fields) {
    const auto comma = prefix.find(',');
    const auto number = parse_number(prefix.substr(0, comma));
    if (!number) return std::nullopt;
    field = *number;
    prefix.remove_prefix(comma == std::string_view::npos ? prefix.size() : comma + 1);
  }
  constexpr std::uint64_t kLevels = 8;  // syslog(3): priority = facility * 8 + level, facility 0 the kernel
  LogRecord parsed;
  parsed.level = static_cast<int>(fields[0] % kLevels);
  parsed.from_kernel = fields[0] / kLevels == 0;
  parsed.sequence = fields[1];
  parsed.time_us = fields[2];
  const auto message = record.substr(semicolon + 1);
  parsed.message = message.substr(0, message.find('\n'));
  return parsed;
}

bool is_trouble(const LogRecord& record, const LogRules& rules) {
  if (!record.from_kernel) return false;
  const auto* rule = rules.find(record.message);
  return rule != nullptr ? !rule->reason.empty() : record.level <= kLevelError;
}

Result<LogSource> LogSource::make(const std::string& path, std::shared_ptr<const LogRules> rules) {
  FileHandle file(::open(path.c_str(), O_RDONLY | O_NONBLOCK | O_CLOEXEC));
  if (!file) return fail_errno("open " + path);
  if (::lseek(file.get(), 0, SEEK_END) < 0) return fail_errno("seek to the end of " + path);
  return LogSource(std::move(file), std::move(rules));
}

Status LogSource::read(MonotonicNs now, std::vector<KernelEvent>& events, FileCounts& counts,
                       std::uint64_t& lost) {
  std::array<char, kRecordBytes> buffer;  // NOLINT: filled by read()
  bool overwritten = false;
  for (int i = 0; i < kRecordsPerRead; ++i) {
    const auto got = ::read(file_.get(), buffer.data(), buffer.size());
    if (got < 0 && errno == EINTR) continue;
    if (got < 0 && errno == EPIPE) {
      overwritten = true;  // the next record's sequence number says how many
      continue;
    }
    if (got < 0 && errno == EAGAIN) break;
    if (got < 0) return fail_errno("read the kernel log");
    if (got == 0) break;
    const auto record = parse_log_record({buffer.data(), static_cast<std::size_t>(got)});
    if (!record) continue;
    if (last_sequence_ && record->sequence > *last_sequence_ + 1) {
      lost += record->sequence - *last_sequence_ - 1;
    } else if (overwritten && !last_sequence_) {
      lost += 1;  // at least; nothing was read before to count from
    }
    overwritten = false;
    last_sequence_ = record->sequence;
    if (record->from_kernel && record->message.find(kAllocationFailure) != std::string_view::npos) {
      ++allocation_failures_;
    }
    if (!is_trouble(*record, *rules_)) continue;
    KernelEvent event;
    event.type = KernelEvent::kLogEvent;
    event.entity = kNodeEntity;
    // It was logged between the last read and this one, whatever the log's clock thinks.
    constexpr MonotonicNs kNsPerUs = 1000;
    event.time_ns = std::clamp(record->time_us * kNsPerUs, std::min(last_read_ns_, now), now);
    event.value = record->level;
    event.extra = static_cast<std::int64_t>(record->sequence);
    event.text = record->message;
    events.push_back(std::move(event));
  }
  last_read_ns_ = now;
  counts.set(COUNTER_allocation_failures, allocation_failures_);
  return {};
}

}  // namespace vedette
