#include "agent/collect/budget.h"

#include <algorithm>
#include <filesystem>

#include <sys/syscall.h>

#include "tests/bpf/bpf_fixture.h"

using namespace vedette;
using namespace vedette::bpf_test;

namespace {

constexpr int kPerRound = 2000;

int calls() {
  for (int i = 0; i < kPerRound; ++i) ::syscall(SYS_getppid);
  return 0;
}

bool comes_to(Heard& heard, const KernelProbes& probes, std::string_view name, ProbeState state) {
  constexpr int kLimitS =
      60;  // a second or two; to attach all again takes an emulated CPU of old kernels twenty
  return eventually(
      [&] {
        // Twice: where it went and came back between two looks, it is said to be away once more.
        for (int look = 0; look < 2; ++look) {
          heard.listen();
          if (health_of(probes, name).state != state) return false;
        }
        return true;
      },
      kLimitS);
}

}  // namespace

TEST_CASE("a probe that is shed stops counting, and goes on where it stopped when it comes back") {
  KernelOptions options;
  options.budget = {.step = static_cast<unsigned>(kBudgetSteps.size() - 1),
                    .watch = std::chrono::seconds(2),
                    .period = std::chrono::seconds(4)};
  const auto probes = attach(options);
  Heard heard(*probes);
  const Cgroup cgroup(probes->cgroup_mount());
  std::uint64_t runs = 0;
  // What was counted of the calls, which have to be made again where the probe goes or comes meanwhile.
  const auto counted_while = [&](ProbeState state) {
    std::uint64_t counted = 0;
    int tries = 0;
    for (bool whole = false; !whole;) {
      REQUIRE(++tries <= 20);
      REQUIRE(comes_to(heard, *probes, "syscalls", state));
      const std::uint64_t before = heard.in(cgroup).counters[COUNTER_syscalls];
      const ProbeHealth then = health_of(*probes, "syscalls");
      REQUIRE(run_in(cgroup, calls) == 0);
      ++runs;
      counted = heard.in(cgroup).counters[COUNTER_syscalls] - before;
      const ProbeHealth now = health_of(*probes, "syscalls");
      whole = then.state == state && now.state == state &&
              (state == ProbeState::kAttached || then.watched_ns == now.watched_ns);
    }
    return counted;
  };
  for (int turn = 0; turn < 2; ++turn) {
    // It is said to be shed from when it begins to be.
    REQUIRE(eventually([&] { return counted_while(ProbeState::kShed) == 0; }, 60));
    const ProbeHealth shed = health_of(*probes, "syscalls");
    CHECK(shed.reason.find("over the CPU budget") != std::string::npos);
    // Others go on.
    CHECK(health_of(*probes, "process").state == ProbeState::kAttached);
    CHECK(heard.in(cgroup).counters[COUNTER_exits] == runs);

    CHECK(counted_while(ProbeState::kAttached) == kPerRound + 1);
    CHECK(health_of(*probes, "syscalls").watched_ns > shed.watched_ns);
  }
  CHECK(probes->budget().step == kBudgetSteps.size() - 1);
}

TEST_CASE("a pause of the probes is not taken for a wait of the tasks") {
  KernelOptions options;
  options.budget = {.step = static_cast<unsigned>(kBudgetSteps.size() - 1),
                    .watch = std::chrono::seconds(6),  // to come back takes seconds on an emulated CPU
                    .period = std::chrono::seconds(10)};
  const Cgroup cgroup(attach()->cgroup_mount());
  // Calls and sleeps, of which some are under way when the pause begins; few, for an emulated CPU has to
  // attach the probes again beside them. They are there first: a child would hold the links open that it
  // inherits, and before 6.10 no program is attached twice.
  std::vector<std::unique_ptr<Child>> busy;
  busy.reserve(4);
  for (int i = 0; i < 3; ++i) {
    busy.push_back(std::make_unique<Child>(std::vector{&cgroup}, [] {
      for (;;) {
        for (int k = 0; k < 20; ++k) ::syscall(SYS_getppid);
        ::usleep(5'000);
      }
      return 0;
    }));
  }
  const auto probes = attach(options);
  Heard heard(*probes);
  for (int turn = 0; turn < 2; ++turn) {
    REQUIRE(comes_to(heard, *probes, "sched", ProbeState::kShed));
    REQUIRE(comes_to(heard, *probes, "sched", ProbeState::kAttached));
  }
  busy.clear();
  const CgroupTotals& totals = heard.in(cgroup);
  CHECK(totals.counters[COUNTER_context_switches] > 0);
  // The pause is 4 s: bucket 22 begins at 2.1 s.
  for (const vedette_histogram histogram : {HISTOGRAM_syscall_latency, HISTOGRAM_runqueue_latency}) {
    for (std::size_t bucket = 22; bucket < HISTOGRAM_BUCKETS; ++bucket)
      CHECK_MESSAGE(totals.histograms[histogram][bucket] == 0, int(histogram), " ", bucket);
  }
}

TEST_CASE("a wider gap times fewer calls and counts all of them") {
  std::array<std::uint64_t, 3> timed{};
  for (unsigned step = 0; step < timed.size(); ++step) {
    KernelOptions options;
    options.budget.step = step;
    const auto probes = attach(options);
    Heard heard(*probes);
    heard.listen();
    const Cgroup cgroup(probes->cgroup_mount());
    REQUIRE(run_in(cgroup, [] {
              for (int i = 0; i < 10; ++i) calls();
              return 0;
            }) == 0);
    CHECK(heard.in(cgroup).counters[COUNTER_syscalls] == 10 * kPerRound + 1);
    timed[step] = heard.observed(cgroup.id(), HISTOGRAM_syscall_latency);
  }
  // One in 32.5, 128.5 and 2048.5 on average.
  CHECK(timed[0] > 20'000 / 40);
  CHECK(timed[1] < 20'000 / 64);
  CHECK(timed[1] > 20'000 / 512);
  CHECK(timed[2] < 20'000 / 512);
}

TEST_CASE("the maps take no more memory than their budget reckons with, and shrink to it") {
  KernelOptions options;
  const auto probes = attach(options);
  const MapSizes sizes{.slots = options.slots,
                       .lanes = std::min(32U, static_cast<std::uint32_t>(::sysconf(_SC_NPROCESSORS_CONF))),
                       .ring_bytes = options.ring_bytes,
                       .cpus = static_cast<unsigned>(::sysconf(_SC_NPROCESSORS_CONF))};
  CHECK(probes->map_bytes() <= sizes.bytes());
  CHECK(probes->budget().maps.empty());

  options.slots = 16'384;
  options.budget.map_mib = 16;
  const auto reduced = attach(options);
  CHECK(reduced->map_bytes() <= std::uint64_t{16} << 20);
  CHECK(reduced->budget().maps.find("budget.map_mib is 16") != std::string::npos);
}

TEST_CASE("over a budget that cannot be kept the agent gives up step after step, and says what it costs") {
  KernelOptions options;
  options.budget.cpu_share = 1e-6;
  options.cost_sample = std::chrono::milliseconds(100);
  const auto probes = attach(options);
  Heard heard(*probes);
  const Cgroup cgroup(probes->cgroup_mount());
  const Child busy({&cgroup}, [] {
    for (;;) calls();
    return 0;
  });
  CHECK(eventually(
      [&] {
        heard.listen();
        return probes->budget().step >= 1;
      },
      40));
  CHECK(probes->budget().kernel_share.value_or(0) > 1e-6);
  CHECK(probes->budget().agent_share > 0);
}

TEST_CASE("a probe whose tracepoint comes with a module is attached when the module is loaded") {
  std::vector<EmbeddedProbe> shipped = embedded_probes();
  const auto tcp = std::ranges::find(shipped, "tcp", &EmbeddedProbe::name);
  REQUIRE(tcp != shipped.end());
  const std::vector<unsigned char> whole(tcp->object.begin(), tcp->object.end());
  std::vector<unsigned char> bytes = whole;
  constexpr std::string_view kName = "tcp_send_reset";
  for (auto at = bytes.begin();; *at = 'T') {
    at = std::search(at, bytes.end(), kName.begin(), kName.end());
    if (at == bytes.end()) break;
  }
  tcp->object = bytes;
  const std::filesystem::path modules =
      std::filesystem::temp_directory_path() / ("vedette-modules-" + std::to_string(::getpid()));
  std::filesystem::create_directories(modules);
  KernelOptions options;
  options.probes = shipped;
  options.modules = modules;
  options.modules_period = std::chrono::milliseconds(50);
  const auto probes = attach(options);
  Heard heard(*probes);
  heard.listen();
  CHECK(health_of(*probes, "tcp").state == ProbeState::kDegraded);
  // As if the module were there now.
  std::ranges::copy(whole, bytes.begin());
  std::ofstream(modules / "tcp_reset").put('\n');
  CHECK(comes_to(heard, *probes, "tcp", ProbeState::kAttached));
  CHECK(health_of(*probes, "tcp").reason.empty());
  CHECK(health_of(*probes, "tcp").since_ns != 0);
  std::filesystem::remove_all(modules);
}
