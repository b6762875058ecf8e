#include "agent/collect/log_source.h"

#include <array>
#include <string>
#include <vector>

#include <doctest/doctest.h>
#include <sys/socket.h>
#include <unistd.h>

#include "tests/unit/second.h"

namespace vedette {
namespace {

LogRecord record(int level, std::string_view message) {
  return {level, true, 1, 1, message};
}

bool trouble(const LogRecord& line) {
  return is_trouble(line, LogRules::builtin()->find(line.message));
}

TEST_CASE("A record of the kernel log is taken apart") {
  const auto parsed =
      parse_log_record("2,339,5140900,-;EXT4-fs error (device loop0): x;y\n SUBSYSTEM=block\n");
  REQUIRE(parsed.has_value());
  CHECK(parsed->level == 2);
  CHECK(parsed->from_kernel);
  CHECK(parsed->sequence == 339);
  CHECK(parsed->time_us == 5140900);
  CHECK(parsed->message == "EXT4-fs error (device loop0): x;y");
  REQUIRE(parse_log_record("12,1,2,-,caller=T1;from a program").has_value());
  CHECK_FALSE(parse_log_record("12,1,2,-,caller=T1;from a program")->from_kernel);
  CHECK_FALSE(parse_log_record("").has_value());
  CHECK_FALSE(parse_log_record("no semicolon").has_value());
  CHECK_FALSE(parse_log_record("6,x,3,-;text").has_value());
}

TEST_CASE("A line of syslog(2) is taken apart, with or without its time") {
  const auto parsed = parse_syslog_line("<2>[    5.140900] EXT4-fs error (device loop0): [x] y");
  REQUIRE(parsed.has_value());
  CHECK(parsed->level == 2);
  CHECK(parsed->from_kernel);
  CHECK(parsed->time_us == 5140900);
  CHECK(parsed->message == "EXT4-fs error (device loop0): [x] y");
  CHECK(parse_syslog_line("<6>[15847.072779][  T123] text")->message == "text");
  CHECK(parse_syslog_line("<6>[    5.140900][   C1] text")->message == "text");
  CHECK(parse_syslog_line("<3>[drm] text")->message == "[drm] text");
  CHECK(parse_syslog_line("<3>[    5.140900] [drm] text")->message == "[drm] text");
  CHECK(parse_syslog_line("<3>text")->time_us == 0);
  REQUIRE(parse_syslog_line("<12>from a program").has_value());
  CHECK_FALSE(parse_syslog_line("<12>from a program")->from_kernel);
  CHECK_FALSE(parse_syslog_line("").has_value());
  CHECK_FALSE(parse_syslog_line("no priority").has_value());
  CHECK_FALSE(parse_syslog_line("<x>text").has_value());
}

TEST_CASE("A line break in the name of a task begins no record of syslog(2)") {
  // As the kernel prints "Killed process 77 (\nOops: 0002 [#1] )": each line with what all of the record
  // begin with.
  const auto joined = join_records(
      "<3>[    5.140900][  T123] Memory cgroup out of memory: Killed process 77 (\n"
      "<3>[    5.140900][  T123] kernel BUG at a.c:1!\n"
      "<3>[    5.140900][  T123] ) total-vm:9kB\n"
      "<3>[    5.140901][  T123] next\n"
      "<6>[    5.140901][  T123] another level\n"
      "<6>[    5.140901][  T124] another task\n"
      "no record\n"
      "<6>[    5.140903] \n"
      "<6>[    5.140903] hard LOCKUP[77]: segfault at 0\n");
  REQUIRE(joined.has_value());
  CHECK(*joined ==
        "<3>[    5.140900][  T123] Memory cgroup out of memory: Killed process 77 (\\x0akernel BUG at a.c:1!"
        "\\x0a) total-vm:9kB\n"
        "<3>[    5.140901][  T123] next\n"
        "<6>[    5.140901][  T123] another level\n"
        "<6>[    5.140901][  T124] another task\n"
        "<6>[    5.140903] \\x0ahard LOCKUP[77]: segfault at 0");
  const std::string cut = "<4>[    5.140900][  T123] ------------[ cut here ]------------\n";
  const std::string bug = "<2>[    5.140900][  T123] kernel BUG at a.c:1!\n";
  const std::string warning = "<4>[    5.140900][  T123] WARNING: CPU: 1 PID: 2 at a.c:1 f+0x1\n";
  CHECK(join_records(cut + warning).value() + "\n" == cut + warning);
  CHECK(join_records(cut + bug).value() + "\n" == cut + bug);
  // Such a line in a name is no record.
  CHECK(join_records("<4>[    5.140900][  T123] a[7]: segfault at 0 in b\n" + cut + warning).value() ==
        "<4>[    5.140900][  T123] a[7]: segfault at 0 in b\\x0a------------[ cut here ]------------"
        "\\x0aWARNING: CPU: 1 PID: 2 at a.c:1 f+0x1");
  CHECK(join_records("").value().empty());
  CHECK_FALSE(join_records("<3>[    5.140900] with a time\n<3>without\n").has_value());
  CHECK(join_records("<3>kernel BUG at a.c:1!\n").error().text ==
        "syslog(2): lines without a time (the kernel's printk.time is off)");
}

TEST_CASE("What is new in a log is what follows the end of the last reading") {
  CHECK(find_news("one\ntwo\nthree\n", "one\ntwo\n").value() == "three\n");
  CHECK(find_news("one\ntwo\n", "two\n").value().empty());
  CHECK(find_news("one\n", "").value() == "one\n");  // it was empty
  CHECK_FALSE(find_news("three\n", "two\n").has_value());
}

TEST_CASE("Errors and known words are trouble, chatter and user space are not") {
  CHECK(trouble(record(3, "anything")));
  CHECK(trouble(record(6, "oom-kill:constraint=CONSTRAINT_MEMCG")));
  CHECK(trouble(record(4, "blk_update_request: I/O error, dev sda")));
  CHECK(trouble(record(4, "watchdog: BUG: soft lockup - CPU#1 stuck")));
  CHECK_FALSE(trouble(record(6, "eth0: link up")));
  CHECK_FALSE(trouble(record(5, "XFS (sda1): Mounting V5 Filesystem")));
  CHECK(trouble(record(1, "XFS (sda1): log mount/recovery failed: error -117")));
  auto user = record(2, "EXT4-fs error: says a program");
  user.from_kernel = false;
  CHECK_FALSE(trouble(user));
}

TEST_CASE("Lines become events of the node in order, and overwritten ones are counted") {
  std::array<int, 2> ends{};
  REQUIRE(::socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_NONBLOCK, 0, ends.data()) == 0);
  const FileHandle writer(ends[0]);
  LogSource log(FileHandle(ends[1]), LogRules::builtin());
  FileCounts counts;
  const auto say = [&](const std::string& text) {
    REQUIRE(::send(writer.get(), text.data(), text.size(), 0) == static_cast<ssize_t>(text.size()));
  };
  std::vector<KernelEvent> events;
  std::uint64_t lost = 0;
  say("3,10,1500000,-;first\n");
  say("6,11,1600000,-;chatter\n");
  say("rubbish\n");
  REQUIRE(log.read(2 * kSecond, events, counts, lost).has_value());
  REQUIRE(events.size() == 1);
  CHECK(events[0].type == KernelEvent::kLogEvent);
  CHECK(events[0].entity == kNodeEntity);
  CHECK(events[0].time_ns == 1'500'000'000);
  CHECK(events[0].value == 3);
  CHECK(events[0].extra == 10);
  CHECK(events[0].text == "first");
  CHECK(lost == 0);

  say("3,15,1700000,-;after a gap, by a clock that is behind\n");
  say("3,16,9900000,-;by a clock that is ahead\n");
  REQUIRE(log.read(3 * kSecond, events, counts, lost).has_value());
  REQUIRE(events.size() == 3);
  CHECK(lost == 3);
  CHECK(events[1].time_ns == 2 * kSecond);
  CHECK(events[2].time_ns == 3 * kSecond);
}

TEST_CASE("The cgroup that a line of the kernel names is found") {
  CHECK(named_cgroup("nginx: page allocation failure: order:9, mode:0x0(), "
                     "nodemask=(null),cpuset=cri-containerd-0123.scope,mems_allowed=0-1") ==
        "cri-containerd-0123.scope");
  CHECK(named_cgroup("x: vmalloc error: size 1, nodemask=(null),cpuset=/,mems_allowed=0") == "/");
  CHECK(named_cgroup("cpuset=").empty());
  CHECK(named_cgroup("").empty());
}

TEST_CASE("Lines of the kernel are counted by what they tell, whatever is made of them") {
  std::array<int, 2> ends{};
  REQUIRE(::socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_NONBLOCK, 0, ends.data()) == 0);
  const FileHandle writer(ends[0]);
  LogRule silence;
  silence.pattern = "page allocation failure";
  LogSource log(FileHandle(ends[1]), LogRules::make({silence}).value());
  FileCounts counts;
  std::vector<KernelEvent> events;
  std::uint64_t lost = 0;
  int line = 0;
  const auto say = [&](const std::string& priority, const std::string& text) {
    const std::string record = priority + "," + std::to_string(++line) + ",1,-;" + text + "\n";
    REQUIRE(::send(writer.get(), record.data(), record.size(), 0) == static_cast<ssize_t>(record.size()));
  };
  Sample sample;
  const auto read = [&](MonotonicNs now) {
    REQUIRE(log.read(now, events, counts, lost).has_value());
    sample = {};
    counts.take(sample);
  };
  read(kSecond);
  CHECK(sample.counters[COUNTER_kernel_bugs] == 0);
  CHECK(!sample.unknown.test(COUNTER_kernel_bugs));
  say("4",
      "kworker/u4:1: page allocation failure: order:5, mode:0x40a20(GFP_ATOMIC), "
      "nodemask=(null),cpuset=b.scope,mems_allowed=0");
  say("4",
      "nginx: vmalloc error: size 9, mode:0xcc0(GFP_KERNEL), nodemask=(null),cpuset=a.scope,mems_allowed=0");
  say("0", "watchdog: BUG: soft lockup - CPU#1 stuck for 26s! [stress:1234]");
  say("3", "rcu: INFO: rcu_preempt self-detected stall on CPU");
  say("3", "rcu: \t1-....: (5249 ticks this GP) idle=4f2/1/0x4000000000000000");
  // An oops, a warning: each has one last line.
  say("1", "BUG: kernel NULL pointer dereference, address: 0000000000000000");
  say("4", "Oops: 0002 [#1] PREEMPT SMP");
  say("4", "---[ end trace 0000000000000000 ]---");
  say("4", "WARNING: CPU: 1 PID: 22 at net/core/dev.c:3210 skb_warn_bad_offload+0xc3/0x120");
  say("4", "---[ end trace 5f3c2c1d7a1b9e10 ]---");
  say("1", "BUG: Bad page state in process kworker/0:1  pfn:12345");
  say("1", "XFS (dm-0): Metadata corruption detected at xfs_agf_read_verify+0x6d/0x110 [xfs], block 0x1");
  say("12", "XFS (dm-0): Metadata corruption detected, says a program");
  read(2 * kSecond);
  CHECK(sample.counters[COUNTER_allocation_failures] == 2);
  REQUIRE(log.of_cgroups().size() == 1);  // whom an interrupt interrupted is a bystander
  CHECK(log.of_cgroups()[0].counter == COUNTER_allocation_failures);
  CHECK(log.of_cgroups()[0].cgroup == "a.scope");
  CHECK(sample.counters[COUNTER_soft_lockups] == 1);
  CHECK(sample.counters[COUNTER_rcu_stalls] == 1);
  CHECK(sample.counters[COUNTER_kernel_bugs] == 3);
  CHECK(sample.counters[COUNTER_xfs_errors] == 1);
  for (const KernelEvent& event : events) CHECK(event.text.find("allocation failure") == std::string::npos);

  line += 7;
  say("4", "---[ end trace 0000000000000000 ]---");
  read(3 * kSecond);
  CHECK(sample.counters[COUNTER_kernel_bugs] == 1);
  CHECK(sample.unknown.test(COUNTER_kernel_bugs));  // there may have been more in what was overwritten
  read(12 * kSecond);
  CHECK(sample.unknown.test(COUNTER_kernel_bugs));  // a rate of the last 10 s lacks it still
  read(13 * kSecond);
  CHECK(!sample.unknown.test(COUNTER_kernel_bugs));
}

TEST_CASE("A log that cannot be opened says which and why") {
  const auto log = LogSource::make("/dev/null/kmsg", LogRules::builtin());
  REQUIRE_FALSE(log.has_value());
  CHECK(log.error().text == "open /dev/null/kmsg: Not a directory");
}

}  // namespace
}  // namespace vedette
