#include <algorithm>
#include <cstring>

#include <linux/capability.h>
#include <sys/syscall.h>

#include "agent/collect/probe_object.h"
#include "tests/bpf/bpf_fixture.h"

using namespace vedette;
using namespace vedette::bpf_test;

namespace {

// The shipped probes, with one object changed.
struct Altered {
  std::vector<EmbeddedProbe> probes{embedded_probes()};
  std::vector<unsigned char> bytes;

  Altered(std::string_view name, const std::function<void(std::vector<unsigned char>&)>& change) {
    const auto probe = std::ranges::find(probes, name, &EmbeddedProbe::name);
    REQUIRE(probe != probes.end());
    bytes.assign(probe->object.begin(), probe->object.end());
    change(bytes);
    probe->object = bytes;
  }
};

// Another name of the same length for a tracepoint, as if this kernel had never heard of it.
void rename(std::vector<unsigned char>& object, std::string_view from, std::string_view to) {
  REQUIRE(from.size() == to.size());
  int found = 0;  // in the section's name, and in the names its relocations are listed under
  for (auto at = object.begin();; ++found) {
    at = std::search(at, object.end(), from.begin(), from.end());
    if (at == object.end()) break;
    at = std::copy(to.begin(), to.end(), at);
  }
  REQUIRE(found > 0);
}

void check_that_others_live(KernelProbes& probes, std::string_view broken) {
  for (const ProbeHealth& probe : probes.health()) {
    if (probe.name == broken) continue;
    // Those that this kernel has nothing for: SCSI in a module that is not loaded, locks before 5.19.
    const bool absent = probe.reason.find("has no tracepoint") != std::string::npos;
    CHECK_MESSAGE((absent || probe.state == ProbeState::kAttached), probe.name, ": ", probe.reason);
  }
  Heard heard(probes);
  const Cgroup cgroup(probes.cgroup_mount());
  REQUIRE(run_in(cgroup, [] {
            ::syscall(SYS_getppid);
            return 0;
          }) == 0);
  CHECK(heard.in(cgroup).counters[COUNTER_syscalls] == 2);
}

}  // namespace

TEST_CASE("a probe whose object is damaged is degraded with a reason, and the others count") {
  const Altered altered("tcp", [](auto& bytes) { std::fill(bytes.begin() + 64, bytes.end(), 0xff); });
  KernelOptions options;
  options.probes = altered.probes;
  const auto probes = attach(options);
  const ProbeHealth& tcp = health_of(*probes, "tcp");
  CHECK(tcp.state == ProbeState::kDegraded);
  CHECK(tcp.reason.find("probe tcp") != std::string::npos);
  check_that_others_live(*probes, "tcp");
}

TEST_CASE("a probe whose tracepoint this kernel lacks says which") {
  const Altered altered("tcp",
                        [](auto& bytes) { rename(bytes, "tp_btf/tcp_send_reset", "tp_btf/tcp_sent_reset"); });
  KernelOptions options;
  options.probes = altered.probes;
  const auto probes = attach(options);
  const ProbeHealth& tcp = health_of(*probes, "tcp");
  CHECK(tcp.state == ProbeState::kDegraded);
  CHECK_MESSAGE(tcp.reason.find("no tracepoint tcp_sent_reset") != std::string::npos, tcp.reason);
  check_that_others_live(*probes, "tcp");
}

TEST_CASE(
    "a probe of which this kernel has no tracepoint at all is off, for there is nothing it could miss") {
  if (!find_tracepoints().complete) VEDETTE_SKIP("modules do not tell what they have here (before 5.11)");
  // By type and by name: the two ways to a tracepoint.
  struct {
    const char* probe;
    const char* from;
    const char* to;
  } const cases[] = {{"aer", "tp_btf/aer_event", "tp_btf/aer_evens"},
                     {"ext4", "raw_tp/ext4_error", "raw_tp/ext4_errol"}};
  for (const auto& renamed : cases) {
    const Altered altered(renamed.probe, [&](auto& bytes) { rename(bytes, renamed.from, renamed.to); });
    KernelOptions options;
    options.probes = altered.probes;
    const auto probes = attach(options);
    const ProbeHealth& health = health_of(*probes, renamed.probe);
    CAPTURE(health.reason);
    CHECK(health.state == ProbeState::kOff);
    CHECK(health.reason.find("no tracepoint " + std::string(renamed.to).substr(7)) != std::string::npos);
    check_that_others_live(*probes, renamed.probe);
  }
}

TEST_CASE("where a tracepoint has a fallback, the probe attaches with that") {
  const Altered altered("faults",
                        [](auto& bytes) { rename(bytes, "tp_btf/block_rq_error", "tp_btf/block_rq_erro_"); });
  KernelOptions options;
  options.probes = altered.probes;
  const auto probes = attach(options);
  CHECK_MESSAGE(health_of(*probes, "faults").state == ProbeState::kAttached,
                health_of(*probes, "faults").reason);
}

TEST_CASE("a probe that the configuration switches off is off, with that reason") {
  KernelOptions options;
  options.off = {"sched"};
  const auto probes = attach(options);
  CHECK(health_of(*probes, "sched").state == ProbeState::kOff);
  CHECK(!health_of(*probes, "sched").reason.empty());
  check_that_others_live(*probes, "sched");
}

TEST_CASE("a full ring loses records, and every one of them is counted") {
  KernelOptions options;
  options.ring_bytes = 4096;  // 32 records
  const auto probes = attach(options);
  const Cgroup cgroup(probes->cgroup_mount());
  constexpr int kDeaths = 320;
  REQUIRE(run_in(cgroup, [] {
            for (int i = 0; i < kDeaths; ++i) {
              const pid_t pid = ::fork();
              if (pid == 0) ::kill(::getpid(), SIGKILL);
              ::waitpid(pid, nullptr, 0);
            }
            return 0;
          }) == 0);
  Heard heard(*probes);
  const std::size_t received = heard.events(EVENT_signal_exit, cgroup.id()).size();
  Losses losses;
  probes->read_losses(losses);
  CHECK(received < kDeaths);
  CHECK(losses.produced[EVENT_signal_exit] >= kDeaths);
  CHECK(losses.lost[EVENT_signal_exit] >= kDeaths - 32);
  // Others on this machine send records too: the balance is over all of them.
  CHECK(eventually([&] {
    heard.listen();
    probes->read_losses(losses);
    std::uint64_t produced = 0;
    std::uint64_t lost = 0;
    for (const std::uint64_t count : losses.produced) produced += count;
    for (const std::uint64_t count : losses.lost) lost += count;
    return produced == losses.received + lost;
  }));
}

TEST_CASE("the kernel's own statistics give each probe's cost") {
  KernelOptions options;
  options.cost_sample = std::chrono::milliseconds(100);
  const auto probes = attach(options);
  std::vector<CgroupTotals> totals;
  probes->read_totals(totals);
  CHECK(eventually([&] {
    probes->read_totals(totals);
    return health_of(*probes, "syscalls").runs > 0;
  }));
  const ProbeHealth& syscalls = health_of(*probes, "syscalls");
  CHECK(syscalls.run_ns > 0);
  CHECK(syscalls.sampled_ns >= 100'000'000);
  CHECK(probes->map_bytes() > std::uint64_t{512} * sizeof(::totals));
}

TEST_CASE("the probe of packets says what it misses: a v2 hierarchy, or the right to attach there") {
  const auto packets = std::ranges::find(embedded_probes(), "packets", &EmbeddedProbe::name);
  REQUIRE(packets != embedded_probes().end());
  const auto reason = [&](const std::string& mount) {
    const auto attached = ProbeObject::attach(*packets, {}, probe_config{}, find_tracepoints(), mount);
    return attached ? std::string() : attached.error().text;
  };
  CHECK_MESSAGE(reason("").find("no cgroup v2 hierarchy") != std::string::npos, reason(""));

  const Shared<std::array<char, 256>> text;
  const std::string mount = attach()->cgroup_mount();
  const pid_t pid = ::fork();
  if (pid == 0) {
    // As in a pod that may use BPF and nothing of the network.
    __user_cap_header_struct header{_LINUX_CAPABILITY_VERSION_3, 0};
    std::array<__user_cap_data_struct, _LINUX_CAPABILITY_U32S_3> sets{};
    ::syscall(SYS_capget, &header, sets.data());
    sets[0].effective &= ~(1U << CAP_NET_ADMIN | 1U << CAP_SYS_ADMIN);
    if (::syscall(SYS_capset, &header, sets.data()) != 0) ::_exit(1);
    reason(mount).copy(text->data(), text->size() - 1);
    ::_exit(0);
  }
  int status = 0;
  REQUIRE(::waitpid(pid, &status, 0) == pid);
  REQUIRE(status == 0);
  CHECK_MESSAGE(std::string(text->data()).find("CAP_NET_ADMIN") != std::string::npos, text->data());
}
