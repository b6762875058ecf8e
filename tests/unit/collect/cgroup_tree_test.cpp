#include "agent/collect/cgroup_tree.h"

#include <filesystem>
#include <string>

#include <doctest/doctest.h>
#include <sys/stat.h>

#include "tests/unit/collect/file_tree.h"

namespace vedette {
namespace {

const std::string kHybrid =
    "31 23 0:28 / /sys/fs/cgroup rw,relatime - tmpfs tmpfs rw,mode=755\n"
    "32 31 0:29 / /sys/fs/cgroup/cpu,cpuacct rw,relatime shared:9 - cgroup cgroup rw,cpu,cpuacct\n"
    "35 31 0:32 / /sys/fs/cgroup/memory rw,relatime - cgroup cgroup rw,memory\n"
    "39 31 0:36 / /sys/fs/cgroup/pids rw,relatime - cgroup cgroup rw,pids\n"
    "40 31 0:37 / /sys/fs/cgroup/systemd rw,relatime - cgroup cgroup rw,name=systemd\n"
    "41 31 0:38 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw\n";

TEST_CASE("Hierarchies are found on v1, v2 and hybrid nodes") {
  const auto hybrid = find_cgroup_mounts(kHybrid);
  CHECK(hybrid.unified == "/sys/fs/cgroup/unified");
  CHECK(hybrid.memory == "/sys/fs/cgroup/memory");
  CHECK(hybrid.cpu == "/sys/fs/cgroup/cpu,cpuacct");
  CHECK(hybrid.cpuacct == "/sys/fs/cgroup/cpu,cpuacct");
  CHECK(hybrid.pids == "/sys/fs/cgroup/pids");
  CHECK(hybrid.primary() == hybrid.unified);

  const auto v2 =
      find_cgroup_mounts("30 23 0:26 / /sys/fs/cgroup rw,nosuid - cgroup2 cgroup2 rw,nsdelegate\n");
  CHECK(v2.unified == "/sys/fs/cgroup");
  CHECK(v2.memory.empty());
  CHECK(v2.primary() == "/sys/fs/cgroup");

  const auto v1 = find_cgroup_mounts(kHybrid.substr(0, kHybrid.rfind("41 31")));
  CHECK(v1.unified.empty());
  CHECK(v1.primary() == "/sys/fs/cgroup/memory");
  CHECK(find_cgroup_mounts("").primary().empty());
}

TEST_CASE("A container's own mounts do not count when the host's are named") {
  const std::string both =
      "50 49 0:26 /../.. /sys/fs/cgroup ro,nosuid - cgroup2 cgroup rw\n"
      "51 49 0:26 / /host/cgroup ro,nosuid - cgroup2 cgroup rw\n"
      "52 49 0:26 / /host/cgroups rw - cgroup2 cgroup rw\n";
  CHECK(find_cgroup_mounts(both, "/host/cgroup/").unified == "/host/cgroup");
  CHECK(find_cgroup_mounts(both).unified == "/sys/fs/cgroup");
}

TEST_CASE("A scan lists each directory with its inode, parents first, and no files") {
  const FileTree tree;
  tree.write("/a/b/cgroup.procs", "");
  tree.write("/c/cgroup.procs", "");
  tree.write("/cgroup.stat", "nr_descendants 3\nnr_dying_descendants 1\n");
  CgroupTree cgroups(tree.path());
  const auto entries = cgroups.scan();
  REQUIRE(entries.size() == 4);
  CHECK(entries[0].path == "/");
  bool found = false;
  for (const auto& entry : entries) {
    struct stat status {};
    REQUIRE(::stat((tree.path() + entry.path).c_str(), &status) == 0);
    CHECK(entry.id == status.st_ino);
    found = found || entry.path == "/a/b";
  }
  CHECK(found);
  const auto before = cgroups.population();
  tree.write("/cgroup.stat", "nr_descendants 3\nnr_dying_descendants 2\n");
  CHECK(cgroups.population() != before);
}

TEST_CASE("A tree that is gone has no cgroups") {
  CgroupTree cgroups("/nonexistent/vedette");
  CHECK(cgroups.scan().empty());
  CHECK(cgroups.population() == 0);
}

}  // namespace
}  // namespace vedette
