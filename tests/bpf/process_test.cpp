#include <algorithm>

#include <linux/sched.h>
#include <sys/syscall.h>

#include "tests/bpf/bpf_fixture.h"

using namespace vedette;
using namespace vedette::bpf_test;

namespace {

// Forks a child that does `work`, and waits for it.
void spawn(const std::function<void()>& work) {
  const pid_t pid = ::fork();
  if (pid == 0) {
    work();
    ::_exit(0);
  }
  ::waitpid(pid, nullptr, 0);
}

}  // namespace

TEST_CASE("forks, threads, execs, exits and deaths by signal are counted exactly") {
  const auto probes = attach();
  Heard heard(*probes);
  const Cgroup cgroup(probes->cgroup_mount());
  const int status = run_in(cgroup, [] {
    for (int i = 0; i < 3; ++i) spawn([] {});
    for (int i = 0; i < 2; ++i) spawn([] { ::execl("/bin/true", "true", nullptr); });
    spawn([] { ::kill(::getpid(), SIGKILL); });
    spawn([] { ::kill(::getpid(), SIGTERM); });
    std::thread([] {}).join();
    return 7;
  });
  REQUIRE(WEXITSTATUS(status) == 7);

  const CgroupTotals& totals = heard.in(cgroup);
  CHECK(totals.counters[COUNTER_forks] == 3 + 2 + 2 + 1);
  CHECK(totals.counters[COUNTER_execs] == 2);
  CHECK(totals.counters[COUNTER_exits] == 3 + 2 + 2 + 1);  // the thread is none, the child itself is one
  CHECK(totals.counters[COUNTER_exits_by_signal] == 2);
  CHECK(heard.detail(DETAIL_deaths_by_signal, SIGKILL, cgroup.id()) == 1);
  CHECK(heard.detail(DETAIL_deaths_by_signal, SIGTERM, cgroup.id()) == 1);
  CHECK(heard.detail(DETAIL_deaths_by_signal, SIGSEGV, cgroup.id()) == 0);

  const std::vector<RawEvent> execs = heard.events(EVENT_exec, cgroup.id());
  REQUIRE(execs.size() == 2);
  CHECK(std::string(execs[0].text) == "/bin/true");
  CHECK(std::string(execs[0].comm) == "true");
  const std::vector<RawEvent> deaths = heard.events(EVENT_signal_exit, cgroup.id());
  REQUIRE(deaths.size() == 2);
  CHECK(deaths[0].value == SIGKILL);
  CHECK(deaths[1].value == SIGTERM);
}

TEST_CASE("a process of many threads that is killed counts as one exit by signal") {
  const auto probes = attach();
  Heard heard(*probes);
  const Cgroup cgroup(probes->cgroup_mount());
  const int status = run_in(cgroup, [] {
    std::vector<std::thread> threads;
    threads.reserve(8);
    for (int i = 0; i < 8; ++i) threads.emplace_back([] { ::pause(); });
    ::kill(::getpid(), SIGKILL);
    for (std::thread& thread : threads) thread.join();
    return 0;
  });
  REQUIRE(WIFSIGNALED(status));
  CHECK(heard.in(cgroup).counters[COUNTER_exits] == 1);
  CHECK(heard.in(cgroup).counters[COUNTER_exits_by_signal] == 1);
  CHECK(heard.events(EVENT_signal_exit, cgroup.id()).size() == 1);
}

TEST_CASE("exits with an error are counted by their code; codes of 0 and signals are none") {
  const auto probes = attach();
  Heard heard(*probes);
  const Cgroup cgroup(probes->cgroup_mount());
  const int status = run_in(cgroup, [] {
    spawn([] {});
    for (int i = 0; i < 3; ++i) spawn([] { ::_exit(1); });
    for (int i = 0; i < 2; ++i) spawn([] { ::_exit(137); });
    spawn([] { ::kill(::getpid(), SIGKILL); });
    // The code is the process's, whichever thread says it.
    spawn([] {
      std::thread([] { ::_exit(42); }).detach();
      for (;;) ::pause();
    });
    return 0;
  });
  REQUIRE(status == 0);
  CHECK(heard.in(cgroup).counters[COUNTER_exits] == 1 + 3 + 2 + 1 + 1 + 1);
  CHECK(heard.in(cgroup).counters[COUNTER_exits_with_error] == 3 + 2 + 1);
  CHECK(heard.in(cgroup).counters[COUNTER_exits_by_signal] == 1);
  std::map<int, std::uint64_t> codes;
  probes->read_details([&](const detail_key& key, std::uint64_t count) {
    if (key.detail == DETAIL_exits_by_code && key.cgroup_id == cgroup.id()) codes[key.label] += count;
  });
  CHECK(codes == std::map<int, std::uint64_t>{{1, 3}, {42, 1}, {137, 2}});
}

TEST_CASE("runnable tasks that share one CPU wait for it, and the wait is theirs" *
          doctest::test_suite("sched")) {
  const auto probes = attach();
  Heard heard(*probes);
  const Cgroup cgroup(probes->cgroup_mount());
  // Both begin at once: on a slow machine the first would be done before the second is made.
  std::array<int, 2> gate{};
  REQUIRE(::pipe2(gate.data(), O_CLOEXEC) == 0);
  const auto spin = [&gate] {
    char go = 0;
    if (::read(gate[0], &go, 1) != 1) return 1;
    cpu_set_t first;
    CPU_ZERO(&first);
    CPU_SET(0, &first);
    ::sched_setaffinity(0, sizeof(first), &first);
    timespec used{};
    do {
      ::clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &used);
    } while (used.tv_sec == 0 && used.tv_nsec < 200'000'000);
    return 0;
  };
  Child one({&cgroup}, spin);
  Child two({&cgroup}, spin);
  CHECK(::write(gate[1], "gg", 2) == 2);
  one.wait();
  two.wait();
  ::close(gate[0]);
  ::close(gate[1]);
  // Each burnt .2 s on the same CPU, so one of them waited nearly that long while the other ran.
  CHECK(heard.in(cgroup).counters[COUNTER_runqueue_wait_ns] > 100'000'000);
  CHECK(heard.in(cgroup).counters[COUNTER_context_switches] >= 2);
  CHECK(heard.observed(cgroup.id(), HISTOGRAM_runqueue_latency) >= 2);
  CHECK(heard.in(cgroup).counters[COUNTER_blocked_disk_ns] < 100'000'000);
}
