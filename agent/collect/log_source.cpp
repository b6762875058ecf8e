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

// Trouble that the kernel reports milder than err, or at levels that changed between versions.
constexpr std::array<std::string_view, 17> kTroubleWords{
    "oom-kill:",                // cgroup and node OOM, info
    "Out of memory",            //
    "Memory cgroup out of",     //
    "EXT4-fs error",            // crit
    "EXT4-fs warning",          //
    "XFS (",                    // all that XFS has to say; notices of (un)mounts are filtered by level
    "BTRFS error",              //
    "Remounting filesystem",    // read-only
    "I/O error",                //
    "blocked for more than",    // hung task
    "mce: [Hardware Error]",    //
    "Hardware Error",           //
    "soft lockup",              //
    "hard LOCKUP",              //
    "rcu_sched self-detected",  //
    "rcu: INFO: rcu",           // stalls of all flavours
    "nf_conntrack: table full",
};

constexpr std::string_view kXfs = "XFS (";
constexpr int kLevelWarning = 4;

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

bool is_trouble(const LogRecord& record) {
  if (!record.from_kernel) return false;
  if (record.level <= kLevelError) return true;
  return std::any_of(kTroubleWords.begin(), kTroubleWords.end(), [&](std::string_view words) {
    if (words == kXfs && record.level > kLevelWarning) return false;
    return record.message.find(words) != std::string_view::npos;
  });
}

Result<LogSource> LogSource::make(const std::string& path) {
  FileHandle file(::open(path.c_str(), O_RDONLY | O_NONBLOCK | O_CLOEXEC));
  if (!file) return fail_errno("open " + path);
  if (::lseek(file.get(), 0, SEEK_END) < 0) return fail_errno("seek to the end of " + path);
  return LogSource(std::move(file));
}

Status LogSource::read(MonotonicNs now, std::vector<KernelEvent>& events, std::uint64_t& lost) {
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
    if (!is_trouble(*record)) continue;
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
  return {};
}

}  // namespace vedette
