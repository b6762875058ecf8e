#include <atomic>

#include <linux/mempolicy.h>
#include <sys/mman.h>
#include <sys/syscall.h>

#include "tests/bpf/bpf_fixture.h"

using namespace vedette;
using namespace vedette::bpf_test;

namespace {

constexpr std::size_t kLimit = std::size_t{16} << 20;

// A memory cgroup of 16 MiB, in whichever hierarchy has the controller; null: nowhere.
std::unique_ptr<Cgroup> limited(const std::string& v2_mount) {
  const std::string v1 = "/sys/fs/cgroup/memory";
  if (std::filesystem::exists(v1 + "/memory.limit_in_bytes")) {
    auto cgroup = std::make_unique<Cgroup>(v1);
    REQUIRE(write_text(cgroup->path() + "/memory.limit_in_bytes", std::to_string(kLimit)));
    return cgroup;
  }
  if (!write_text(v2_mount + "/cgroup.subtree_control", "+memory")) return nullptr;
  auto cgroup = std::make_unique<Cgroup>(v2_mount);
  REQUIRE(write_text(cgroup->path() + "/memory.max", std::to_string(kLimit)));
  write_text(cgroup->path() + "/memory.swap.max", "0");
  return cgroup;
}

int eat_memory(std::size_t bytes = 4 * kLimit) {
  constexpr int kFlags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE;
  auto* memory = static_cast<char*>(::mmap(nullptr, bytes, PROT_READ | PROT_WRITE, kFlags, -1, 0));
  for (std::size_t at = 0; at < bytes; at += 4096) memory[at] = 1;
  return 0;
}

// The last NUMA node, if it is not the only one and small enough to be filled; 0: there is none such.
struct SmallNode {
  int number = 0;
  std::size_t bytes = 0;
};
SmallNode small_node() {
  SmallNode node;
  for (int number = 1;; ++number) {
    std::ifstream info("/sys/devices/system/node/node" + std::to_string(number) + "/meminfo");
    std::size_t kilobytes = 0;
    for (std::string word; info >> word && kilobytes == 0;) {
      if (word == "MemTotal:") info >> kilobytes;
    }
    if (kilobytes == 0) break;
    node = {number, kilobytes * 1024};
  }
  constexpr std::size_t kMost = std::size_t{1} << 30;
  return node.bytes < kMost ? node : SmallNode{};
}

// One process fills a NUMA node beyond which `confine` does not let it allocate: what cause is told of its
// end?
std::int64_t cause_of_full_node(const SmallNode& node, KernelProbes& probes, const Cgroup& cgroup,
                                const std::function<bool()>& confine) {
  Heard heard(probes);
  const int status = run_in(cgroup, [&] {
    if (!write_text("/proc/self/oom_score_adj", "1000") || !confine()) return 1;
    return eat_memory(node.bytes);
  });
  REQUIRE(WIFSIGNALED(status));
  REQUIRE(WTERMSIG(status) == SIGKILL);
  CHECK(heard.in(cgroup).counters[COUNTER_oom_kills] == 1);
  const std::vector<RawEvent> kills = heard.events(EVENT_oom_kill, cgroup.id());
  REQUIRE(kills.size() == 1);
  return kills[0].value;
}

}  // namespace

TEST_CASE(
    "an OOM kill at a cgroup's own limit is its, with the cause, the victim and the reclaim before it") {
  const auto probes = attach();
  Heard heard(*probes);
  const auto memory = limited(probes->cgroup_mount());
  if (!memory) VEDETTE_SKIP("no memory controller in any hierarchy");
  const bool separate = !memory->path().starts_with(probes->cgroup_mount());
  std::unique_ptr<Cgroup> own = separate ? std::make_unique<Cgroup>(probes->cgroup_mount()) : nullptr;
  const Cgroup& counted = separate ? *own : *memory;
  std::vector<const Cgroup*> cgroups{memory.get()};
  if (separate) cgroups.push_back(own.get());

  // What it shares with this process counts as its too.
  std::int64_t shared_pages = 0;
  std::ifstream("/proc/self/statm").ignore(64, ' ') >> shared_pages;
  Child child(cgroups, [] { return eat_memory(); });
  const pid_t pid = child.pid();
  const int status = child.wait();
  REQUIRE(WIFSIGNALED(status));
  REQUIRE(WTERMSIG(status) == SIGKILL);

  const CgroupTotals& totals = heard.in(counted);
  CHECK(totals.counters[COUNTER_oom_kills] == 1);
  CHECK(totals.counters[COUNTER_exits_by_signal] == 1);
  CHECK(totals.counters[COUNTER_direct_reclaims] >= 1);
  CHECK(totals.counters[COUNTER_direct_reclaim_ns] > 0);
  CHECK(heard.observed(counted.id(), HISTOGRAM_direct_reclaim_latency) ==
        heard.in(counted).counters[COUNTER_direct_reclaims]);

  const std::vector<RawEvent> kills = heard.events(EVENT_oom_kill, counted.id());
  REQUIRE(kills.size() == 1);
  CHECK(kills[0].value == OOM_CGROUP_LIMIT);
  CHECK(kills[0].pid == static_cast<unsigned>(pid));
  CHECK(kills[0].extra > 8L * 1024);  // kB resident: most of the 16 MiB
  CHECK(kills[0].extra < 24L * 1024 + shared_pages * ::sysconf(_SC_PAGESIZE) / 1024);
}

TEST_CASE("an OOM kill is its victim's, whoever asked for the memory") {
  const auto probes = attach();
  Heard heard(*probes);
  const auto memory = limited(probes->cgroup_mount());
  if (!memory) VEDETTE_SKIP("no memory controller in any hierarchy");
  const bool separate = !memory->path().starts_with(probes->cgroup_mount());
  const std::string& above = separate ? probes->cgroup_mount() : memory->path();
  const Cgroup victims(above);
  const Cgroup askers(above);
  const auto in = [&](const Cgroup& cgroup) {
    return separate ? std::vector<const Cgroup*>{memory.get(), &cgroup} : std::vector<const Cgroup*>{&cgroup};
  };
  const Shared<std::atomic<bool>> full;
  Child victim(in(victims), [&] {
    if (!write_text("/proc/self/oom_score_adj", "1000")) return 1;
    eat_memory(kLimit * 5 / 8);
    *full = true;
    ::pause();
    return 0;
  });
  const pid_t pid = victim.pid();
  REQUIRE(eventually([&] { return full->load(); }));
  Child asker(in(askers), [] { return eat_memory(kLimit / 2); });
  const int status = victim.wait();
  REQUIRE(WIFSIGNALED(status));
  CHECK(WTERMSIG(status) == SIGKILL);
  const bool followed = WIFSIGNALED(asker.wait());  // where the kernel was slow to take the victim's memory

  CHECK(heard.in(victims).counters[COUNTER_oom_kills] == 1);
  CHECK(heard.in(askers).counters[COUNTER_oom_kills] == (followed ? 1 : 0));
  const std::vector<RawEvent> kills = heard.events(EVENT_oom_kill, victims.id());
  REQUIRE(kills.size() == 1);
  CHECK(kills[0].value == OOM_CGROUP_LIMIT);
  CHECK(kills[0].pid == static_cast<unsigned>(pid));
  CHECK(kills[0].extra >= 8L * 1024);
  CHECK(std::string(kills[0].comm) == std::string("bpf_tests").substr(0, 15));
}

TEST_CASE("an OOM kill for want of memory on some NUMA nodes is told from one of the whole node") {
  const SmallNode node = small_node();
  if (node.number == 0) VEDETTE_SKIP("no second NUMA node small enough to be filled");
  const auto probes = attach();
  REQUIRE(health_of(*probes, "memory").state == ProbeState::kAttached);
  const std::string& mount = probes->cgroup_mount();
  const Cgroup of_policy(mount);
  CHECK(cause_of_full_node(node, *probes, of_policy, [&] {
          const unsigned long nodes = 1UL << node.number;
          return ::syscall(SYS_set_mempolicy, MPOL_BIND, &nodes, 8 * sizeof(nodes)) == 0;
        }) == OOM_POLICY);
  if (!write_text(mount + "/cgroup.subtree_control", "+cpuset")) VEDETTE_SKIP("no cpuset controller in v2");
  const Cgroup of_cpuset(mount);
  REQUIRE(write_text(of_cpuset.path() + "/cpuset.mems", std::to_string(node.number)));
  CHECK(cause_of_full_node(node, *probes, of_cpuset, [] { return true; }) == OOM_CPUSET);
}

TEST_CASE("each zone that a task compacts is a stall of its cgroup, with its time") {
  const std::string trigger = "/proc/sys/vm/compact_memory";
  if (!std::filesystem::exists(trigger)) VEDETTE_SKIP("no compaction in this kernel");
  const auto probes = attach();
  Heard heard(*probes);
  const Cgroup cgroup(probes->cgroup_mount());
  // The write returns when every zone that has pages is compacted, in the writer's own time.
  std::uint64_t zones = 0;
  std::ifstream zoneinfo("/proc/zoneinfo");
  for (std::string word; zoneinfo >> word;) {
    std::uint64_t pages = 0;
    if (word == "present" && zoneinfo >> pages && pages > 0) ++zones;
  }
  REQUIRE(zones > 0);
  const auto begin = std::chrono::steady_clock::now();
  REQUIRE(run_in(cgroup, [&] { return write_text(trigger, "1") && write_text(trigger, "1") ? 0 : 1; }) == 0);
  const std::chrono::nanoseconds took = std::chrono::steady_clock::now() - begin;

  const CgroupTotals& totals = heard.in(cgroup);
  CHECK(totals.counters[COUNTER_compaction_stalls] == 2 * zones);
  CHECK(totals.counters[COUNTER_compaction_ns] > 0);
  CHECK(totals.counters[COUNTER_compaction_ns] < static_cast<std::uint64_t>(took.count()));
  CHECK(heard.observed(cgroup.id(), HISTOGRAM_compaction_latency) == 2 * zones);
  CHECK(totals.counters[COUNTER_direct_reclaims] == 0);
}
