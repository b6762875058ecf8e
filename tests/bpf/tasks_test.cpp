#include <iterator>
#include <vector>

#include <sys/syscall.h>

#include "tests/bpf/bpf_fixture.h"

using namespace vedette;
using namespace vedette::bpf_test;

namespace {

std::uint64_t surveyed(KernelProbes& probes, const Cgroup& cgroup, vedette_gauge gauge) {
  std::uint64_t sum = 0;
  probes.survey([&](const survey_record& record) {
    if (record.cgroup_id == cgroup.id() && record.gauge == gauge) sum += record.value;
  });
  return sum;
}

// Runs in the child. A parent in vfork() is blocked until its child ends or executes something: here never.
// (Through the library: it may not return twice from a function that returned once.)
void block_in_vfork() {
  // NOLINTBEGIN(clang-analyzer-security.insecureAPI.vfork,clang-analyzer-unix.Vfork): the block is what is
  // wanted.
  if (::vfork() == 0) {
    for (;;) ::pause();
  }
  // NOLINTEND(clang-analyzer-security.insecureAPI.vfork,clang-analyzer-unix.Vfork)
}

}  // namespace

TEST_CASE("blocked tasks are those in uninterruptible sleep now, threads too, and gone when they go") {
  const auto probes = attach();
  if (health_of(*probes, "tasks").state != ProbeState::kAttached)
    VEDETTE_SKIP("no iterator of tasks in this kernel");
  const Cgroup cgroup(probes->cgroup_mount());
  const Cgroup other(probes->cgroup_mount());
  CHECK(surveyed(*probes, cgroup, GAUGE_blocked_tasks) == 0);
  {
    Child child({&cgroup}, [] {
      std::vector<std::thread> threads;
      threads.reserve(3);
      for (int i = 0; i < 3; ++i) threads.emplace_back(block_in_vfork);
      for (;;) ::pause();
      return 0;
    });
    // Not the pausing thread, not those that pause in the children.
    CHECK(eventually([&] { return surveyed(*probes, cgroup, GAUGE_blocked_tasks) == 3; }));
    std::this_thread::sleep_for(std::chrono::milliseconds(50));
    CHECK(surveyed(*probes, cgroup, GAUGE_blocked_tasks) == 3);
    CHECK(surveyed(*probes, cgroup, GAUGE_zombies) == 0);
    CHECK(surveyed(*probes, other, GAUGE_blocked_tasks) == 0);
    std::ifstream members(cgroup.path() + "/cgroup.procs");
    for (pid_t pid = 0; members >> pid;) ::kill(pid, SIGKILL);
  }
  CHECK(eventually([&] { return surveyed(*probes, cgroup, GAUGE_blocked_tasks) == 0; }));
}

TEST_CASE("zombies are counted in the cgroup they died in, until their parent asks for them") {
  const auto probes = attach();
  if (health_of(*probes, "tasks").state != ProbeState::kAttached)
    VEDETTE_SKIP("no iterator of tasks in this kernel");
  const Cgroup cgroup(probes->cgroup_mount());
  // The parent is this test, outside: what is counted is where the children were.
  std::vector<std::unique_ptr<Child>> children;
  children.reserve(5);
  for (int i = 0; i < 5; ++i) {
    children.push_back(std::make_unique<Child>(std::vector<const Cgroup*>{&cgroup}, [] { return 0; }));
  }
  CHECK(eventually([&] { return surveyed(*probes, cgroup, GAUGE_zombies) == 5; }));
  children[0]->wait();
  children[1]->wait();
  CHECK(surveyed(*probes, cgroup, GAUGE_zombies) == 3);
  children.clear();
  CHECK(surveyed(*probes, cgroup, GAUGE_zombies) == 0);
}

TEST_CASE("a process whose first thread ended while others run is no zombie") {
  const auto probes = attach();
  if (health_of(*probes, "tasks").state != ProbeState::kAttached)
    VEDETTE_SKIP("no iterator of tasks in this kernel");
  const Cgroup cgroup(probes->cgroup_mount());
  Child child({&cgroup}, []() -> int {
    std::thread([] {
      for (;;) ::pause();
    }).detach();
    ::syscall(SYS_exit, 0);  // this thread only, and at once
    return 1;
  });
  const std::string proc = "/proc/" + std::to_string(child.pid());
  REQUIRE(eventually([&] { return read_text(proc + "/stat").find(") Z ") != std::string::npos; }));
  REQUIRE(std::distance(std::filesystem::directory_iterator(proc + "/task"), {}) == 2);
  CHECK(surveyed(*probes, cgroup, GAUGE_zombies) == 0);
  ::kill(child.pid(), SIGKILL);
  CHECK(eventually([&] { return surveyed(*probes, cgroup, GAUGE_zombies) == 1; }));
}

TEST_CASE("a survey of more than a buffer's worth of tasks misses none") {
  const auto probes = attach();
  if (health_of(*probes, "tasks").state != ProbeState::kAttached)
    VEDETTE_SKIP("no iterator of tasks in this kernel");
  const Cgroup cgroup(probes->cgroup_mount());
  // 300 records of 16 bytes: more than the 4 KiB that one read of the agent takes.
  constexpr int kZombies = 300;
  Child child({&cgroup}, [] {
    for (int i = 0; i < kZombies; ++i) {
      if (::fork() == 0) ::_exit(0);
    }
    for (;;) ::pause();
    return 0;
  });
  CHECK(eventually([&] { return surveyed(*probes, cgroup, GAUGE_zombies) == kZombies; }));
}
