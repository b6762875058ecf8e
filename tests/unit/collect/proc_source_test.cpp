#include "agent/collect/proc_source.h"

#include <algorithm>
#include <cmath>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include <doctest/doctest.h>
#include <fcntl.h>
#include <sys/resource.h>
#include <unistd.h>

#include "tests/skip.h"
#include "tests/unit/collect/file_tree.h"
#include "tests/unit/second.h"

namespace vedette {
namespace {

std::string limits(const std::string& soft) {
  return "Limit                     Soft Limit           Hard Limit           Units     \n"
         "Max processes             100                  100                  processes \n"
         "Max open files            " +
         soft + "                 4096                 files     \n";
}

void make_process(const FileTree& tree, int pid, int files, const std::string& soft) {
  const auto process = "/proc/" + std::to_string(pid);
  tree.write(process + "/limits", limits(soft));
  for (int i = 0; i < files; ++i) tree.write(process + "/fd/" + std::to_string(i), "");
}

LivingEntity living(std::vector<std::string> members) {
  auto entity = std::make_shared<Entity>();
  entity->id = 3;
  return {entity, {"/pod"}, std::move(members)};
}

TEST_CASE("The limit of open files is the soft one") {
  CHECK(parse_open_files_limit(limits("1024")) == 1024);
  CHECK_FALSE(parse_open_files_limit(limits("unlimited")).has_value());
  CHECK_FALSE(parse_open_files_limit("").has_value());
}

TEST_CASE("Few descriptors are listed, of many the highest is found") {
  const auto count = [] {
    const DirectoryHandle directory(::opendir("/proc/self/fd"));
    REQUIRE(directory);
    return descriptors_in(directory.get());
  };
  rlimit before{};
  REQUIRE(::getrlimit(RLIMIT_NOFILE, &before) == 0);
  constexpr int kHighest = 9000;
  if (before.rlim_max <= kHighest) VEDETTE_SKIP("no process may have 9,000 descriptors here");
  const rlimit enough{.rlim_cur = kHighest + 1, .rlim_max = before.rlim_max};
  REQUIRE(::setrlimit(RLIMIT_NOFILE, &enough) == 0);
  {
    const auto few = count();
    std::vector<FileHandle> files;
    files.reserve(5001);
    for (int i = 0; i < 1000; ++i) files.emplace_back(::dup(0));
    files.emplace_back(::fcntl(0, F_DUPFD_CLOEXEC, kHighest));
    CHECK(files.back().get() == kHighest);
    CHECK(count() == few + 1001);
    for (int i = 0; i < 4000; ++i) files.emplace_back(::dup(0));
    CHECK(count() == kHighest + 1);
    std::swap(files[1000], files.back());
    files.pop_back();
    const int highest = std::ranges::max_element(files, {}, &FileHandle::get)->get();
    CHECK(highest < kHighest);
    CHECK(count() == static_cast<std::uint64_t>(highest) + 2);  // the directory itself comes after it
  }
  CHECK(::setrlimit(RLIMIT_NOFILE, &before) == 0);
}

TEST_CASE("An entity's descriptors are summed, its use is that of the worst process") {
  const FileTree tree;
  make_process(tree, 10, 5, "10");
  make_process(tree, 11, 6, "100");
  tree.write("/cgroup/pod/cgroup.procs", "");
  tree.write("/cgroup/pod/a/cgroup.procs", "10\n11\n");
  tree.write("/cgroup/pod/b/cgroup.procs", "0\n99\n");
  FileBudget budget(16);
  ProcSource source({.proc = tree.path("/proc"), .cgroups = tree.path("/cgroup")}, budget);
  Gauges gauges;
  gauges.fill(kMissing);
  const auto entity = living({"/pod", "/pod/a", "/pod/b", "/pod/gone"});
  source.read(entity, kSecond, gauges);
  CHECK(gauges[GAUGE_open_files] == 11);
  CHECK(gauges[GAUGE_open_files_use] == doctest::Approx(0.5));
  CHECK(source.processes(3) == std::vector<std::uint32_t>{10, 11, 99});
  CHECK(source.processes(4).empty());

  // A limit is asked for again when it is old.
  tree.write("/proc/10/limits", limits("5"));
  gauges.fill(kMissing);
  source.read(entity, 2 * kSecond, gauges);
  CHECK(gauges[GAUGE_open_files_use] == doctest::Approx(0.5));
  gauges.fill(kMissing);
  source.read(entity, 40 * kSecond, gauges);
  CHECK(gauges[GAUGE_open_files_use] == doctest::Approx(1));
}

TEST_CASE("Processes are listed again when their number changes, one is gone, or after a while") {
  const FileTree tree;
  for (int pid = 10; pid < 15; ++pid) make_process(tree, pid, pid, "100");
  FileBudget budget(16);
  ProcSource source({.proc = tree.path("/proc"), .cgroups = tree.path("/cgroup")}, budget);
  const auto entity = living({"/pod"});
  MonotonicNs now = 0;
  const auto open_files = [&](double tasks) {  // of one more round
    Gauges gauges;
    gauges.fill(kMissing);
    gauges[GAUGE_pids] = tasks;
    source.read(entity, now += 2 * kSecond, gauges);
    return gauges[GAUGE_open_files];
  };
  tree.write("/cgroup/pod/cgroup.procs", "10\n11\n");
  CHECK(open_files(5) == 10 + 11);
  tree.write("/cgroup/pod/cgroup.procs", "10\n11\n12\n");
  CHECK(open_files(6) == 10 + 11 + 12);
  tree.write("/cgroup/pod/cgroup.procs", "10\n11\n13\n");
  CHECK(open_files(6) == 10 + 11 + 12);  // moved away from the cgroup, and still there
  tree.remove("/proc/12");
  CHECK(open_files(6) == 10 + 11 + 13);
  tree.write("/cgroup/pod/cgroup.procs", "10\n14\n13\n");
  int rounds = 1;
  while (open_files(6) != 10 + 14 + 13 && rounds < 100) ++rounds;
  CHECK(rounds == 5);
}

TEST_CASE("An entity without processes has no descriptors to speak of") {
  const FileTree tree;
  tree.write("/cgroup/pod/cgroup.procs", "");
  tree.write("/proc/version", "");
  FileBudget budget(16);
  ProcSource source({.proc = tree.path("/proc"), .cgroups = tree.path("/cgroup")}, budget);
  Gauges gauges;
  gauges.fill(kMissing);
  source.read(living({"/pod"}), kSecond, gauges);
  CHECK(std::isnan(gauges[GAUGE_open_files]));
  CHECK_FALSE(source.read_node(gauges));
}

TEST_CASE("The node's descriptors stand against file-max") {
  const FileTree tree;
  tree.write("/proc/sys/fs/file-nr", "1500\t0\t6000\n");
  FileBudget budget(16);
  ProcSource source({.proc = tree.path("/proc"), .cgroups = tree.path("/cgroup")}, budget);
  Gauges gauges;
  gauges.fill(kMissing);
  CHECK(source.read_node(gauges));
  CHECK(gauges[GAUGE_open_files] == 1500);
  CHECK(gauges[GAUGE_open_files_use] == doctest::Approx(0.25));
}

}  // namespace
}  // namespace vedette
