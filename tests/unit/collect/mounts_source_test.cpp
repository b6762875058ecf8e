#include "agent/collect/mounts_source.h"

#include <filesystem>
#include <string>

#include <doctest/doctest.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <sys/sysmacros.h>

#include "tests/unit/collect/file_tree.h"
#include "tests/unit/second.h"

namespace vedette {
namespace {

Mount mount(const std::string& type, const std::string& point, bool writable = true) {
  Mount made;
  made.type = type;
  made.point = point;
  made.writable = writable;
  return made;
}

TEST_CASE("Mount lines become values, with their escapes resolved") {
  const auto mounts = parse_mountinfo(
      "36 35 98:2 /mnt1 /mnt\\040two rw,noatime master:1 shared:7 - ext4 /dev/root rw,errors=continue\n"
      "37 35 0:5 / /ro ro,relatime - tmpfs none rw,size=4k\n"
      "38 35 0:6 / /ro2 rw - ext4 /dev/x ro\n"
      "rubbish\n"
      "39 35 0:7 / /no-end rw shared:1\n"
      "40 35 zero:7 / /device rw - ext4 x rw\n");
  REQUIRE(mounts.size() == 3);
  CHECK(mounts[0].device == ((98ULL << 20) | 2));
  CHECK(mounts[0].root == "/mnt1");
  CHECK(mounts[0].point == "/mnt two");
  CHECK(mounts[0].type == "ext4");
  CHECK(mounts[0].super_options == "rw,errors=continue");
  CHECK(mounts[0].writable);
  CHECK_FALSE(mounts[1].writable);
  CHECK_FALSE(mounts[2].writable);
  CHECK(has_option("rw,cpu,cpuacct", "cpu"));
  CHECK_FALSE(has_option("rw,cpuacct", "cpu"));
}

TEST_CASE("Network, FUSE, overlay and read-only filesystems are left alone") {
  CHECK(is_local_writable(mount("ext4", "/")));
  CHECK(is_local_writable(mount("tmpfs", "/run")));
  CHECK_FALSE(is_local_writable(mount("ext4", "/", false)));
  for (const auto* type :
       {"nfs", "nfs4", "cifs", "fuse.sshfs", "fuse", "ceph", "9p", "overlay", "proc", "autofs"}) {
    CHECK_FALSE(is_local_writable(mount(type, "/mnt")));
  }
}

TEST_CASE("What kubelet and runtimes mount for pods is not the node's") {
  CHECK(is_made_for_pod(
      mount("tmpfs", "/var/lib/kubelet/pods/0c3a8f1e/volumes/kubernetes.io~empty-dir/cache")));
  CHECK(is_made_for_pod(mount("ext4", "/var/lib/kubelet/plugins/kubernetes.io/csi/pv/globalmount")));
  CHECK(is_made_for_pod(mount(
      "tmpfs",
      "/run/containerd/sandboxes/3f4e1c0a9b8d7e6f5a4b3c2d1e0f9a8b7c6d5e4f3a2b1c0d9e8f7a6b5c4d3e2f/shm")));
  CHECK_FALSE(is_made_for_pod(mount("ext4", "/var/lib/kubelet")));
  CHECK_FALSE(is_made_for_pod(mount("ext4", "/")));
}

TEST_CASE("A real directory of this machine is found as full as statfs says") {
  // A process tree whose root is the test's directory, seen through links as procfs has them.
  const FileTree tree;
  std::filesystem::create_directories(tree.path("/proc/1/ns"));
  std::filesystem::create_directories(tree.path("/root/data"));
  std::filesystem::create_directory_symlink(tree.path("/root"), tree.path("/proc/1/root"));
  tree.write("/proc/1/ns/mnt", "");
  struct stat status {};
  REQUIRE(::stat(tree.path("/root/data").c_str(), &status) == 0);
  const auto device = std::to_string(major(status.st_dev)) + ":" + std::to_string(minor(status.st_dev));
  const auto other = std::to_string(major(status.st_dev) + 1) + ":" + std::to_string(minor(status.st_dev));
  tree.write("/proc/1/mountinfo",
             "1 0 " + device + " / /data rw - ext4 /dev/a rw\n" + "2 0 " + other +
                 " / / rw - ext4 /dev/b rw\n" +  // not what stands there: left out
                 "3 0 0:99 / /missing rw - ext4 /dev/c rw\n");
  MountsReader reader({.proc = tree.path("/proc")});
  const auto reading = reader.read({}, kSecond);
  struct statfs space {};
  REQUIRE(::statfs(tree.path("/root/data").c_str(), &space) == 0);
  const double used = static_cast<double>(space.f_blocks - space.f_bfree);
  REQUIRE(reading.node.space.has_value());
  CHECK(*reading.node.space ==
        doctest::Approx(used / (used + static_cast<double>(space.f_bavail))).epsilon(0.05));
  CHECK(reading.node.space_mount == "/data");
  CHECK(reading.entities.empty());
}

TEST_CASE("A mount that only an entity's process sees is that entity's, and not the node's") {
  const FileTree tree;
  for (const auto* pid : {"1", "20", "21"}) {
    const auto process = std::string("/proc/") + pid;
    std::filesystem::create_directories(tree.path(process));
    std::filesystem::create_directory_symlink(tree.path("/root"), tree.path(process + "/root"));
    tree.write(process + "/ns/mnt", "");
  }
  std::filesystem::create_directories(tree.path("/root/data"));
  struct stat status {};
  REQUIRE(::stat(tree.path("/root/data").c_str(), &status) == 0);
  const auto device = std::to_string(major(status.st_dev)) + ":" + std::to_string(minor(status.st_dev));
  const auto line = "5 0 " + device + " / /data rw - ext4 /dev/a rw\n";
  tree.write("/proc/1/mountinfo", "1 0 0:77 / / rw - ext4 /dev/c rw\n");
  tree.write("/proc/20/mountinfo", "1 0 0:77 / / rw - ext4 /dev/c rw\n" + line);
  tree.write("/proc/21/mountinfo", "1 0 0:77 / / rw - ext4 /dev/c rw\n");
  MountsReader reader({.proc = tree.path("/proc")});
  const MountsRequest request{{{7, {20, 404}}, {8, {21}}}};
  auto reading = reader.read(request, kSecond);
  CHECK_FALSE(reading.node.space.has_value());
  REQUIRE(reading.entities.contains(7));
  CHECK(reading.entities[7].space.has_value());
  CHECK_FALSE(reading.entities.contains(8));

  // The node mounts it too: shared, so the node's.
  tree.write("/proc/1/mountinfo", "1 0 0:77 / / rw - ext4 /dev/c rw\n" + line);
  reading = reader.read(request, 2 * kSecond);
  CHECK(reading.node.space.has_value());
  CHECK_FALSE(reading.entities.contains(7));
}

TEST_CASE("A disk's filesystem that stops taking writes is counted until it takes them again or is gone") {
  const FileTree tree;
  std::filesystem::create_directories(tree.path("/proc/1/root"));
  MountsReader reader({.proc = tree.path("/proc")});
  MonotonicNs now = 0;
  const auto count = [&](const std::string& mountinfo) {
    tree.write("/proc/1/mountinfo", mountinfo);
    return reader.read({}, now += kSecond).read_only;
  };
  CHECK_FALSE(reader.read({}, now += kSecond).read_only.has_value());
  const std::string root = "1 0 8:1 / / rw - ext4 /dev/a ";
  const std::string usr = "2 1 8:2 / /usr rw - xfs /dev/b ";
  const std::string others =
      "3 1 0:30 / /tmp rw - tmpfs none rw\n4 1 0:31 / /nfs rw - nfs4 host:/x rw\n"
      "5 1 8:1 /etc /bind ro - ext4 /dev/a ";
  CHECK(count(root + "rw\n" + usr + "ro\n" + others + "rw\n") == 0U);
  CHECK(count(root + "ro,errors=remount-ro\n" + usr + "rw\n" + others + "ro\n") == 1U);
  CHECK(count(root + "rw\n" + usr + "ro\n" + others + "rw\n") == 0U);
  CHECK(count(root + "rw,emergency_ro\n" + usr + "ro\n") == 1U);
  CHECK(count(usr + "ro\n") == 0U);
  CHECK(count(root + "ro\n") == 0U);  // mounted anew, read-only from the start
  CHECK(count("7 1 0:31 / /tmp ro - tmpfs none ro\n") == 0U);
}

}  // namespace
}  // namespace vedette
