#include "agent/collect/log_source.h"

#include <algorithm>
#include <array>
#include <cerrno>

#include <fcntl.h>
#include <sys/klog.h>
#include <unistd.h>

#include "agent/collect/kept_file.h"

namespace vedette {
namespace {

constexpr int kLevelError = 3;
// The kernel's own bound of one record (CONSOLE_EXT_LOG_MAX).
constexpr std::size_t kRecordBytes = 8192;
// A record costs about a microsecond: a flood may take a few milliseconds of a tick, not all of it.
constexpr int kRecordsPerRead = 2000;

// linux/syslog.h, which user space does not get.
constexpr int kSyslogReadAll = 3;
constexpr int kSyslogSize = 10;
// The kernel goes through its whole log for one answer, some 1.5 ms for 128 kB: a thousandth of a CPU at
// most.
constexpr MonotonicNs kSyslogPause = 1000;
// Enough for a few lines, which with their times are never the same again.
constexpr std::size_t kEndBytes = 512;

Status ask_syslog(std::string& text) {
  const int size = ::klogctl(kSyslogSize, nullptr, 0);
  if (size < 0) return fail_errno("syslog(2)");
  text.resize(static_cast<std::size_t>(size) * 2);  // its bytes, and what each line gets put before it
  const int got = ::klogctl(kSyslogReadAll, text.data(), static_cast<int>(text.size()));
  text.resize(static_cast<std::size_t>(std::max(got, 0)));
  if (got < 0) return fail_errno("syslog(2)");
  return {};
}

std::string last_bytes(std::string_view text) {
  return std::string(text.substr(text.size() - std::min(text.size(), kEndBytes)));
}

void split_priority(std::uint64_t priority, LogRecord& record) {
  constexpr std::uint64_t kLevels = 8;  // syslog(3): priority = facility * 8 + level, facility 0 the kernel
  record.level = static_cast<int>(priority % kLevels);
  record.from_kernel = priority / kLevels == 0;
}

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
  LogRecord parsed;
  split_priority(fields[0], parsed);
  parsed.sequence = fields[1];
  parsed.time_us = fields[2];
  const auto message = record.substr(semicolon + 1);
  parsed.message = message.substr(0, message.find('\n'));
  return parsed;
}

std::optional<LogRecord> parse_syslog_line(std::string_view line) {
  const auto bracket = line.find('>');
  if (!line.starts_with('<') || bracket == std::string_view::npos) return std::nullopt;
  const auto priority = parse_number(line.substr(1, bracket - 1));
  if (!priority) return std::nullopt;
  LogRecord parsed;
  split_priority(*priority, parsed);
  parsed.message = line.substr(bracket + 1);
  // "[    5.140900] ", or with CONFIG_PRINTK_CALLER "[    5.140900][   T1] ".
  const auto end = parsed.message.find("] ");
  if (!parsed.message.starts_with('[') || end == std::string_view::npos) return parsed;
  auto time = parsed.message.substr(1, end - 1);
  time = time.substr(0, time.find(']'));
  time.remove_prefix(std::min(time.find_first_not_of(' '), time.size()));
  const auto point = std::min(time.find('.'), time.size());
  const auto seconds = parse_number(time.substr(0, point));
  const auto micros = parse_number(time.substr(std::min(point + 1, time.size())));
  if (!seconds || !micros) return parsed;
  constexpr std::uint64_t kMicros = 1'000'000;
  parsed.time_us = *seconds * kMicros + *micros;
  parsed.message.remove_prefix(end + 2);
  return parsed;
}

Result<std::string> join_records(std::string_view text) {
  std::string joined;
  std::string_view line;
  std::string_view last_prefix;
  bool cut = false;
  while (next_line(text, line)) {
    const auto record = parse_syslog_line(line);
    if (!record) continue;
    const auto prefix = line.substr(0, line.size() - record->message.size());
    if (!prefix.ends_with("] "))
      return fail("syslog(2): lines without a time (the kernel's printk.time is off)");
    if (prefix == last_prefix && !cut) {
      joined.append("\\x0a").append(record->message);
      continue;
    }
    if (!joined.empty()) joined += '\n';
    joined += line;
    last_prefix = prefix;
    // A record by itself, and names nobody; the next one, which says what is wrong, is made at once.
    cut = record->message == "------------[ cut here ]------------";
  }
  return joined;
}

std::optional<std::string_view> find_news(std::string_view text, std::string_view end) {
  if (end.empty()) return text;
  const auto found = text.rfind(end);
  if (found == std::string_view::npos) return std::nullopt;
  return text.substr(found + end.size());
}

std::string_view named_cgroup(std::string_view message) {
  constexpr std::string_view kBefore = ",cpuset=";
  const auto begin = message.rfind(kBefore);
  if (begin == std::string_view::npos) return {};
  const auto name = message.substr(begin + kBefore.size());
  return name.substr(0, name.find(','));
}

bool is_trouble(const LogRecord& record, const LogRule* rule) {
  if (!record.from_kernel) return false;
  return rule != nullptr ? !rule->reason.empty() : record.level <= kLevelError;
}

Result<LogSource> LogSource::make(const std::string& path, std::shared_ptr<const LogRules> rules) {
  FileHandle file(::open(path.c_str(), O_RDONLY | O_NONBLOCK | O_CLOEXEC));
  if (!file) {
    const bool may_not = errno == EPERM || errno == EACCES || errno == ENOENT;
    const auto refused = fail_errno("open " + path);
    if (!may_not) return refused;
    // A container's devices are few; the call asks for the capability alone.
    LogSource source({}, std::move(rules));
    if (const Status asked = ask_syslog(source.buffer_); !asked) {
      return fail(refused.value().text + "; " + asked.error().text);
    }
    source.end_ = last_bytes(source.buffer_);
    if (const auto records = join_records(source.buffer_); !records) return tl::unexpected(records.error());
    return source;
  }
  if (::lseek(file.get(), 0, SEEK_END) < 0) return fail_errno("seek to the end of " + path);
  return LogSource(std::move(file), std::move(rules));
}

Status LogSource::read(MonotonicNs now, std::vector<KernelEvent>& events, FileCounts& counts,
                       std::uint64_t& lost) {
  const std::uint64_t lost_before = lost;
  of_cgroups_.clear();
  if (Status done = file_ ? read_device(now, events, lost) : read_syslog(now, events, lost); !done) {
    return done;
  }
  if (lost != lost_before) doubt_until_ns_ = now + kDoubtNs;
  for (std::size_t i = 0; i < counted_.size(); ++i) {
    counts.set(log_counters()[i], counted_[i]);
    if (doubts(now)) counts.doubt(log_counters()[i]);
  }
  return {};
}

Status LogSource::read_device(MonotonicNs now, std::vector<KernelEvent>& events, std::uint64_t& lost) {
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
    take(*record, now, events);
  }
  last_read_ns_ = now;
  return {};
}

Status LogSource::read_syslog(MonotonicNs now, std::vector<KernelEvent>& events, std::uint64_t& lost) {
  if (now < due_ns_) return {};
  // Not the time that went by: a call that had to wait for a CPU would silence the log for a minute, just
  // when the node is in trouble.
  const auto began = read_clock_ns(CLOCK_THREAD_CPUTIME_ID);
  if (Status asked = ask_syslog(buffer_); !asked) return asked;
  due_ns_ = now + kSyslogPause * (read_clock_ns(CLOCK_THREAD_CPUTIME_ID) - began);
  const auto news = find_news(buffer_, end_);
  if (!news) lost += 1;  // at least: what was read last is overwritten, or somebody cleared the log
  const auto records = join_records(news.value_or(buffer_));
  if (!records) return tl::unexpected(records.error());
  std::string_view rest = *records;
  std::string_view line;
  while (next_line(rest, line)) {
    auto record = parse_syslog_line(line);
    if (!record) continue;
    record->sequence = last_sequence_.value_or(0) + 1;
    last_sequence_ = record->sequence;
    take(*record, now, events);
  }
  end_ = last_bytes(buffer_);
  last_read_ns_ = now;
  return {};
}

void LogSource::take(const LogRecord& record, MonotonicNs now, std::vector<KernelEvent>& events) {
  if (!record.from_kernel) return;
  const auto rules = rules_->find_all(record.message);
  // Whatever a rule of the user's makes of the line: each counter once.
  for (std::size_t i = 0; i < counted_.size(); ++i) {
    const auto counts = [&](const LogRule* rule) { return rule->counter == log_counters()[i]; };
    if (!std::ranges::any_of(rules, counts)) continue;
    ++counted_[i];
    // An interrupt asked for memory, and the line names the bystander it interrupted.
    const bool bystander = record.message.find("GFP_ATOMIC") != std::string_view::npos;
    if (kCounters[log_counters()[i]].scope != Scope::kPod || bystander) continue;
    if (const auto cgroup = named_cgroup(record.message); !cgroup.empty())
      of_cgroups_.push_back({log_counters()[i], std::string(cgroup)});
  }
  if (!is_trouble(record, rules.empty() ? nullptr : rules.front())) return;
  KernelEvent event;
  event.type = KernelEvent::kLogEvent;
  event.entity = kNodeEntity;
  // It was logged between the last read and this one, whatever the log's clock thinks.
  constexpr MonotonicNs kNsPerUs = 1000;
  event.time_ns = std::clamp(record.time_us * kNsPerUs, std::min(last_read_ns_, now), now);
  event.value = record.level;
  event.extra = static_cast<std::int64_t>(record.sequence);
  event.text = record.message;
  events.push_back(std::move(event));
}

}  // namespace vedette
