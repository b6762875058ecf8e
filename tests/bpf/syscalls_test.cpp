#include <linux/memfd.h>
#include <sys/mman.h>
#include <sys/ptrace.h>
#include <sys/resource.h>
#include <sys/syscall.h>

#include "tests/bpf/bpf_fixture.h"

using namespace vedette;
using namespace vedette::bpf_test;

TEST_CASE("every system call is counted, and every error in its group") {
  const auto probes = attach();
  Heard heard(*probes);
  const Cgroup cgroup(probes->cgroup_mount());
  const FileHandle full(::open("/dev/full", O_WRONLY));
  const FileHandle empty(::memfd_create("empty", 0));
  std::array<int, 2> broken{};
  REQUIRE(::pipe(broken.data()) == 0);
  ::close(broken[0]);
  std::array<int, 2> quiet{};
  REQUIRE(::pipe2(quiet.data(), O_NONBLOCK) == 0);
  ::signal(SIGPIPE, SIG_IGN);

  const int status = run_in(cgroup, [&] {
    char byte = 0;
    for (int i = 0; i < 1000; ++i) ::syscall(SYS_getppid);
    for (int i = 0; i < 3; ++i) ::syscall(SYS_open, "/no/such/file", O_RDONLY);
    for (int i = 0; i < 4; ++i) ::syscall(SYS_ptrace, PTRACE_ATTACH, ::getpid(), 0, 0);  // 4 getpid() too
    for (int i = 0; i < 5; ++i) ::syscall(SYS_write, full.get(), &byte, 1);
    for (int i = 0; i < 2; ++i)
      ::syscall(SYS_mmap, nullptr, 1UL << 62, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    for (int i = 0; i < 2; ++i) ::syscall(SYS_lseek, empty.get(), 100, SEEK_DATA);
    for (int i = 0; i < 3; ++i) ::syscall(SYS_write, broken[1], &byte, 1);
    for (int i = 0; i < 7; ++i) ::syscall(SYS_close, -1);
    for (int i = 0; i < 6; ++i) ::syscall(SYS_read, quiet[0], &byte, 1);  // EAGAIN: no failure
    const rlimit none{0, 0};
    ::syscall(SYS_prlimit64, 0, RLIMIT_NOFILE, &none, nullptr);
    for (int i = 0; i < 3; ++i) ::syscall(SYS_dup, 0);
    ::syscall(SYS_prlimit64, 0, RLIMIT_NPROC, &none, nullptr);
    ::syscall(SYS_setresuid, 65534, 65534, 65534);
    for (int i = 0; i < 2; ++i) {
      if (::syscall(SYS_fork) == 0) ::_exit(0);
    }
    return 0;
  });
  ::close(broken[1]);
  ::close(quiet[0]);
  ::close(quiet[1]);
  REQUIRE(status == 0);

  const CgroupTotals& totals = heard.in(cgroup);
  const auto count = [&](vedette_counter counter) { return totals.counters[counter]; };
  CHECK(count(COUNTER_errors_file) == 3);
  CHECK(count(COUNTER_errors_permission) == 4);
  CHECK(count(COUNTER_errors_space) == 5);
  CHECK(count(COUNTER_errors_memory) == 2);
  CHECK(count(COUNTER_errors_io) == 2);
  CHECK(count(COUNTER_errors_network) == 3);
  CHECK(count(COUNTER_errors_descriptors) == 3);
  CHECK(count(COUNTER_errors_processes) == 2);
  CHECK(count(COUNTER_errors_other) == 7);
  // The read() it waited in, 1000, 3, 4 with getpid(), 5, 2, 2, 3, 7, 6, a limit, 3, a limit, setresuid, 2.
  CHECK(all_calls(*probes, count(COUNTER_syscalls),
                  1 + 1000 + 3 + 8 + 5 + 2 + 2 + 3 + 7 + 6 + 1 + 3 + 1 + 1 + 2));
}

TEST_CASE("calls are sorted into classes, failed ones too, and every fsync is timed") {
  const auto probes = attach();
  Heard heard(*probes);
  const Cgroup cgroup(probes->cgroup_mount());
  const FileHandle file(::memfd_create("file", 0));
  const int status = run_in(cgroup, [&] {
    constexpr std::size_t kPage = 4096;
    for (int i = 0; i < 9; ++i) ::syscall(SYS_fsync, file.get());
    for (int i = 0; i < 4; ++i) ::syscall(SYS_lseek, file.get(), 0, SEEK_SET);
    for (int i = 0; i < 6; ++i) ::syscall(SYS_getsockname, -1, nullptr, nullptr);  // EBADF
    void* page = ::mmap(nullptr, kPage, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    for (int i = 0; i < 3; ++i) ::syscall(SYS_madvise, page, kPage, MADV_NORMAL);
    for (int i = 0; i < 2; ++i) ::syscall(SYS_madvise, page, kPage, 12345);  // EINVAL
    for (int i = 0; i < 5; ++i) ::syscall(SYS_getppid);
    for (int i = 0; i < 7; ++i) ::syscall(SYS_sched_yield);
    for (int i = 0; i < 2; ++i) ::syscall(SYS_lseek, -1, 0, SEEK_SET);   // EBADF
    for (int i = 0; i < 3; ++i) ::syscall(SYS_kill, ::getpid(), 12345);  // EINVAL; and getpid()
    for (int i = 0; i < 4; ++i) ::syscall(SYS_semop, -1, nullptr, 1);    // EINVAL
    return 0;
  });
  REQUIRE(status == 0);
  const CgroupTotals& totals = heard.in(cgroup);
  const auto count = [&](vedette_counter counter) { return totals.counters[counter]; };
  CHECK(count(COUNTER_syscalls_file) == 1 + 9 + 4 + 2);  // and the read() it waited in
  CHECK(count(COUNTER_syscalls_network) == 6);
  CHECK(count(COUNTER_syscalls_memory) == 1 + 3 + 2);
  CHECK(count(COUNTER_syscalls_process) == 5 + 2 * 3);
  CHECK(count(COUNTER_syscalls_sync) == 7 + 4);
  CHECK(count(COUNTER_failed_file) == 2);
  CHECK(count(COUNTER_failed_network) == 6);
  CHECK(count(COUNTER_failed_memory) == 2);
  CHECK(count(COUNTER_failed_process) == 3);
  CHECK(count(COUNTER_failed_sync) == 4);
  CHECK(heard.observed(cgroup.id(), HISTOGRAM_fsync_latency) == 9);
}

TEST_CASE("one call in about 32 is timed, and a call that sleeps lands in the bucket of its sleep") {
  const auto probes = attach();
  Heard heard(*probes);
  const Cgroup busy(probes->cgroup_mount());
  constexpr int kCalls = 65'000;
  REQUIRE(run_in(busy, [] {
            for (int i = 0; i < kCalls; ++i) ::syscall(SYS_getppid);
            return 0;
          }) == 0);
  // Gaps are uniform in 1 ... 64: 2000 samples expected, their standard deviation is 25.
  const std::uint64_t samples = heard.observed(busy.id(), HISTOGRAM_syscall_latency);
  CHECK(samples > 1850);
  CHECK(samples < 2150);

  const Cgroup sleepy(probes->cgroup_mount());
  constexpr int kSleeps = 660;
  REQUIRE(run_in(sleepy, [] {
            const timespec two_ms{0, 2'000'000};
            for (int i = 0; i < kSleeps; ++i) ::syscall(SYS_nanosleep, &two_ms, nullptr);
            return 0;
          }) == 0);
  // 2 ms and what the timer adds: from bucket 11 (1.05 to 2.1 ms) on; of 20 expected, some must be there.
  const Buckets& buckets = heard.in(sleepy).histograms[HISTOGRAM_syscall_latency];
  std::uint64_t slept = 0;
  for (std::size_t bucket = 11; bucket < buckets.size(); ++bucket) slept += buckets[bucket];
  CHECK(slept >= 3);
  CHECK(slept <= 100);
}
