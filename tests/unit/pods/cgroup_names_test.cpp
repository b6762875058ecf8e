#include "agent/pods/cgroup_names.h"

#include <string>
#include <vector>

#include <doctest/doctest.h>

#include "tests/unit/pods/example_ids.h"

namespace vedette {
namespace {

const std::string kUidUnderscores = "0c3a8f1e_5d2b_4c7a_9e6f_1a2b3c4d5e6f";
const std::string kHash = "9b7c1d2e3f4a5b6c7d8e9f0a1b2c3d4e";

struct Row {
  std::string path;
  EntityKind kind;
  std::string id;
  std::string root;
  std::string container_id;
};

std::vector<Row> rows() {
  using enum EntityKind;
  const std::string slice =
      "/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod" + kUidUnderscores + ".slice";
  const std::string guaranteed = "/kubepods.slice/kubepods-pod" + kUidUnderscores + ".slice";
  const std::string kind_slice =
      "/kubelet.slice/kubelet-kubepods.slice/kubelet-kubepods-besteffort.slice/"
      "kubelet-kubepods-besteffort-pod" +
      kUidUnderscores + ".slice";
  const std::string colon = "kubepods-besteffort-pod" + kUidUnderscores + ".slice:cri-containerd:" + kC1;
  const std::string rootless =
      "/user.slice/user-1000.slice/user@1000.service/user.slice/libpod-" + kC1 + ".scope";
  return {
      // The node's own, and directories that only group others.
      {"/", kNode, "", "", ""},
      {"", kNode, "", "", ""},
      {"/kubepods", kNode, "", "", ""},
      {"/kubepods/burstable", kNode, "", "", ""},
      {"/kubepods/besteffort/", kNode, "", "", ""},
      {"/kubepods.slice", kNode, "", "", ""},
      {"/kubepods.slice/kubepods-besteffort.slice", kNode, "", "", ""},
      {"/kubelet.slice/kubelet-kubepods.slice/kubelet-kubepods-burstable.slice", kNode, "", "", ""},
      {"/docker", kNode, "", "", ""},
      // Kubernetes, cgroupfs driver.
      {"/kubepods/pod" + kUid, kPod, kUid, "/kubepods/pod" + kUid, ""},
      {"/kubepods/pod" + kUid + "/" + kC1, kPod, kUid, "/kubepods/pod" + kUid, kC1},
      {"/kubepods/burstable/pod" + kUid + "/" + kC1, kPod, kUid, "/kubepods/burstable/pod" + kUid, kC1},
      {"/kubepods/besteffort/pod" + kHash + "/" + kC1, kPod, kHash, "/kubepods/besteffort/pod" + kHash, kC1},
      {"/kubepods/besteffort/pod" + kUid + "/crio-" + kC1, kPod, kUid, "/kubepods/besteffort/pod" + kUid,
       kC1},
      {"/kubepods/burstable/pod" + kUid + "/" + kC1 + "/system.slice/nginx.service", kPod, kUid,
       "/kubepods/burstable/pod" + kUid, kC1},
      {"/node1/kubepods/burstable/pod" + kUid + "/" + kC1, kPod, kUid, "/node1/kubepods/burstable/pod" + kUid,
       kC1},
      // Kubernetes, systemd driver.
      {slice, kPod, kUid, slice, ""},
      {slice + "/cri-containerd-" + kC1 + ".scope", kPod, kUid, slice, kC1},
      {slice + "/crio-" + kC1 + ".scope", kPod, kUid, slice, kC1},
      {slice + "/crio-conmon-" + kC1 + ".scope", kPod, kUid, slice, kC1},
      {slice + "/crio-" + kC1 + ".scope/container", kPod, kUid, slice, kC1},
      {slice + "/docker-" + kC1 + ".scope", kPod, kUid, slice, kC1},
      {guaranteed + "/cri-containerd-" + kC1 + ".scope", kPod, kUid, guaranteed, kC1},
      {kind_slice + "/cri-containerd-" + kC1 + ".scope", kPod, kUid, kind_slice, kC1},
      {"/docker/" + kC2 + kind_slice + "/cri-containerd-" + kC1 + ".scope", kPod, kUid,
       "/docker/" + kC2 + kind_slice, kC1},
      {"/system.slice/docker-" + kC2 + ".scope" + kind_slice, kPod, kUid,
       "/system.slice/docker-" + kC2 + ".scope" + kind_slice, ""},
      {"/system.slice/containerd.service/" + colon, kPod, kUid, "/system.slice/containerd.service/" + colon,
       kC1},
      {"/docker/" + kC2 + "/kubepods/pod" + kUid + "/" + kC1, kPod, kUid,
       "/docker/" + kC2 + "/kubepods/pod" + kUid, kC1},
      // Containers without Kubernetes.
      {"/docker/" + kC1, kContainer, kC1, "/docker/" + kC1, ""},
      {"/docker/" + kC1 + "/docker/" + kC2, kContainer, kC1, "/docker/" + kC1, ""},
      {"/docker/" + kC1 + "/system.slice/ssh.service", kContainer, kC1, "/docker/" + kC1, ""},
      {"/docker/" + kC1 + "/kubepods", kContainer, kC1, "/docker/" + kC1, ""},
      {"/system.slice/docker-" + kC1 + ".scope", kContainer, kC1, "/system.slice/docker-" + kC1 + ".scope",
       ""},
      {"/default/" + kC1, kContainer, kC1, "/default/" + kC1, ""},
      {"/system.slice/cri-containerd-" + kC1 + ".scope", kContainer, kC1,
       "/system.slice/cri-containerd-" + kC1 + ".scope", ""},
      {"/default/nerdctl-" + kC1 + ".scope", kContainer, kC1, "/default/nerdctl-" + kC1 + ".scope", ""},
      {"/machine.slice/libpod-" + kC1 + ".scope", kContainer, kC1, "/machine.slice/libpod-" + kC1 + ".scope",
       ""},
      {"/machine.slice/libpod-" + kC1 + ".scope/container", kContainer, kC1,
       "/machine.slice/libpod-" + kC1 + ".scope", ""},
      {"/libpod_parent/libpod-" + kC1, kContainer, kC1, "/libpod_parent/libpod-" + kC1, ""},
      {rootless, kContainer, kC1, rootless, ""},
      // systemd units.
      {"/init.scope", kUnit, "init.scope", "/init.scope", ""},
      {"/system.slice", kUnit, "system.slice", "/system.slice", ""},
      {"/system.slice/ssh.service", kUnit, "ssh.service", "/system.slice/ssh.service", ""},
      {"/system.slice/ssh.service (deleted)", kUnit, "ssh.service", "/system.slice/ssh.service", ""},
      {"/system.slice/system-getty.slice/getty@tty1.service", kUnit, "getty@tty1.service",
       "/system.slice/system-getty.slice/getty@tty1.service", ""},
      {"/system.slice/system-postgresql.slice/postgresql@15-main.service/worker", kUnit,
       "postgresql@15-main.service", "/system.slice/system-postgresql.slice/postgresql@15-main.service", ""},
      {"/system.slice/docker.service", kUnit, "docker.service", "/system.slice/docker.service", ""},
      {"/user.slice", kUnit, "user.slice", "/user.slice", ""},
      {"/user.slice/user-1000.slice", kUnit, "user-1000.slice", "/user.slice/user-1000.slice", ""},
      {"/user.slice/user-1000.slice/session-3.scope", kUnit, "user-1000.slice", "/user.slice/user-1000.slice",
       ""},
      {"/user.slice/user-0.slice/user@0.service/app.slice/dbus.service", kUnit, "user-0.slice",
       "/user.slice/user-0.slice", ""},
      {"/kubelet.slice/kubelet.service", kUnit, "kubelet.service", "/kubelet.slice/kubelet.service", ""},
      // All others.
      {"/process_api/716ac6f8eeea97979411d739c1075a61", kCgroup,
       "/process_api/716ac6f8eeea97979411d739c1075a61", "/process_api/716ac6f8eeea97979411d739c1075a61", ""},
      {"/burstable", kCgroup, "/burstable", "/burstable", ""},
      {"/pod" + kUid, kCgroup, "/pod" + kUid, "/pod" + kUid, ""},
      {"/docker/short", kCgroup, "/docker/short", "/docker/short", ""},
      {"/custom.slice/batch", kCgroup, "/custom.slice/batch", "/custom.slice/batch", ""},
      {"/.service", kCgroup, "/.service", "/.service", ""},
      {"/a//b", kCgroup, "/a//b", "/a//b", ""},
  };
}

TEST_CASE("Every known form of a cgroup path names its owner") {
  for (const auto& row : rows()) {
    CAPTURE(row.path);
    const auto name = parse_cgroup_path(row.path);
    CHECK(static_cast<int>(name.kind) == static_cast<int>(row.kind));
    CHECK(name.id == row.id);
    CHECK(name.root == row.root);
    CHECK(name.container_id == row.container_id);
  }
}

TEST_CASE("An id that is almost one is not taken for one") {
  CHECK(parse_cgroup_path("/docker/" + kC1.substr(1)).kind == EntityKind::kCgroup);
  CHECK(parse_cgroup_path("/docker/" + kC1.substr(1) + "G").kind == EntityKind::kCgroup);
  CHECK(parse_cgroup_path("/kubepods/pod" + kUid.substr(1)).kind == EntityKind::kCgroup);
  CHECK(parse_cgroup_path("/kubepods/pod0c3a8f1e+5d2b-4c7a-9e6f-1a2b3c4d5e6f").kind == EntityKind::kCgroup);
}

}  // namespace
}  // namespace vedette
