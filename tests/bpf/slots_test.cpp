#include <algorithm>
#include <set>

#include <bpf/bpf.h>
#include <linux/sched.h>
#include <sched.h>
#include <sys/syscall.h>

#include "tests/bpf/bpf_fixture.h"

using namespace vedette;
using namespace vedette::bpf_test;

TEST_SUITE_BEGIN("cgroups");

namespace {

int some_calls() {
  for (int i = 0; i < 500; ++i) ::syscall(SYS_getppid);
  return 0;
}

const CgroupTotals* find(const std::vector<CgroupTotals>& all, std::uint64_t id) {
  const auto found = std::ranges::find(all, id, &CgroupTotals::cgroup_id);
  return found == all.end() ? nullptr : &*found;
}

}  // namespace

TEST_CASE("arrays of whole cache lines begin at one") {
  const std::set<__u32> before = map_ids();
  const auto probes = attach();
  std::set<std::string> found;
  for (const OpenMap& map : maps_since(before)) {
    const bpf_map_info& info = map.info;
    if (info.type != BPF_MAP_TYPE_ARRAY || info.max_entries == 1 || info.value_size % 64 != 0) continue;
    found.insert(info.name);
    // Those of others begin 56 bytes into one.
    CHECK_MESSAGE((info.map_flags & BPF_F_MMAPABLE) != 0, info.name);
  }
  CHECK(found.contains("memos"));
  CHECK(found.contains("totals"));
}

TEST_CASE("a cgroup older than the agent has a slot, with its name and parent") {
  const std::string mount = attach()->cgroup_mount();
  const Cgroup cgroup(mount);
  const auto probes = attach();
  bool known = false;
  probes->known_cgroups([&](const KnownCgroup& one) {
    if (one.cgroup_id != cgroup.id()) return;
    known = true;
    CHECK(mount + "/" + std::string(one.name) == cgroup.path());
    CHECK(one.parent_id == 1);
    CHECK(!one.removed);
  });
  CHECK(known);
  Heard heard(*probes);
  REQUIRE(run_in(cgroup, some_calls) == 0);
  // It failed once on 7.2, where the kernel skips the runs of a program that a task was preempted in.
  Losses losses;
  probes->read_losses(losses);
  CAPTURE(health_of(*probes, "syscalls").reason);
  CAPTURE(losses.no_slot);
  CAPTURE(heard.everywhere(COUNTER_syscalls));
  CAPTURE(heard.in(cgroup).counters[COUNTER_forks]);
  CHECK(all_calls(*probes, heard.in(cgroup).counters[COUNTER_syscalls], 501));
}

TEST_CASE("a process born in a new cgroup is counted from its first moment") {
  const auto probes = attach();
  Heard heard(*probes);
  const Cgroup cgroup(probes->cgroup_mount());
  const FileHandle directory(::open(cgroup.path().c_str(), O_RDONLY | O_DIRECTORY));
  clone_args arguments{};
  arguments.flags = CLONE_INTO_CGROUP;
  arguments.exit_signal = SIGCHLD;
  arguments.cgroup = static_cast<std::uint64_t>(directory.get());
  const auto pid = static_cast<pid_t>(::syscall(SYS_clone3, &arguments, sizeof(arguments)));
  REQUIRE(pid >= 0);
  if (pid == 0) ::_exit(some_calls());
  int status = 0;
  ::waitpid(pid, &status, 0);
  REQUIRE(status == 0);
  CHECK(heard.in(cgroup).counters[COUNTER_forks] == 1);
  CHECK(heard.in(cgroup).counters[COUNTER_exits] == 1);
  // clone3() returns in the child, too.
  CHECK(all_calls(*probes, heard.in(cgroup).counters[COUNTER_syscalls], 501));
  probes->known_cgroups([&](const KnownCgroup& one) {
    if (one.cgroup_id == cgroup.id()) CHECK(cgroup.path().ends_with("/" + std::string(one.name)));
  });
}

TEST_CASE("a dead cgroup's last counts are read once, and its slot starts at zero for the next one") {
  const auto probes = attach();
  std::vector<CgroupTotals> totals;
  probes->read_totals(totals);
  Cgroup first(probes->cgroup_mount());
  const std::uint64_t first_id = first.id();
  REQUIRE(run_in(first, some_calls) == 0);
  first.remove();

  probes->read_totals(totals);
  const CgroupTotals* dead = find(totals, first_id);
  REQUIRE(dead != nullptr);
  CHECK(dead->removed);
  CHECK(all_calls(*probes, dead->counters[COUNTER_syscalls], 501));
  probes->read_totals(totals);
  dead = find(totals, first_id);
  REQUIRE(dead != nullptr);  // until forget(), so that nobody misses it
  CHECK(dead->removed);
  CHECK(dead->counters[COUNTER_syscalls] == 0);

  probes->forget(first_id);
  REQUIRE(eventually([&] {
    probes->read_totals(totals);
    bool gone = true;
    probes->known_cgroups([&](const KnownCgroup& one) { gone &= one.cgroup_id != first_id; });
    return gone;
  }));
  std::this_thread::sleep_for(std::chrono::milliseconds(30));
  probes->read_totals(totals);
  CHECK(find(totals, first_id) == nullptr);

  const Cgroup second(probes->cgroup_mount());  // pops the slot that was pushed last: the same one
  REQUIRE(run_in(second, some_calls) == 0);
  probes->read_totals(totals);
  const CgroupTotals* next = find(totals, second.id());
  REQUIRE(next != nullptr);
  CHECK(all_calls(*probes, next->counters[COUNTER_syscalls], 501));
  CHECK(!next->removed);
}

TEST_CASE("cgroups beyond the slots are counted as nobody's, and as lost") {
  const auto with_room = attach();
  std::uint32_t living = 0;
  with_room->known_cgroups([&](const KnownCgroup&) { ++living; });
  KernelOptions options;
  options.slots = 2;  // slot 0 and the root
  const auto probes = attach(options);
  Heard heard(*probes);
  Losses before;
  probes->read_losses(before);
  const Cgroup cgroup(probes->cgroup_mount());
  REQUIRE(run_in(cgroup, some_calls) == 0);
  CHECK(heard.in(cgroup).counters[COUNTER_syscalls] == 0);
  CHECK(heard.in(std::uint64_t{0}).counters[COUNTER_syscalls] >= 501);
  Losses after;
  probes->read_losses(after);
  CHECK(after.no_slot >= before.no_slot + 501);
}

TEST_SUITE_END();

TEST_CASE("CPUs that share a row lose no count to each other") {
  if (::sysconf(_SC_NPROCESSORS_ONLN) < 2) VEDETTE_SKIP("one CPU only");
  KernelOptions options;
  options.lanes = 1;
  const auto probes = attach(options);
  Heard heard(*probes);
  const Cgroup cgroup(probes->cgroup_mount());
  constexpr std::uint64_t kCalls = 300'000;
  const auto call_on = [](int cpu) {
    return [cpu] {
      cpu_set_t one;
      CPU_ZERO(&one);
      CPU_SET(cpu, &one);
      ::syscall(SYS_sched_setaffinity, 0, sizeof(one), &one);
      for (std::uint64_t i = 0; i < kCalls; ++i) ::syscall(SYS_getppid);
      return 0;
    };
  };
  Child first({&cgroup}, call_on(0));
  Child second({&cgroup}, call_on(1));
  REQUIRE(first.wait() == 0);
  REQUIRE(second.wait() == 0);
  // Each was let go by a read() and then chose its CPU.
  CHECK(all_calls(*probes, heard.in(cgroup).counters[COUNTER_syscalls], 2 * (kCalls + 2)));
  CHECK(all_calls(*probes, heard.in(cgroup).counters[COUNTER_syscalls_process], 2 * (kCalls + 1)));
}
