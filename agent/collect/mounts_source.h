// How full filesystems are: those of the node, and those that only one entity's processes see. statfs may
// block for as long as a sick disk likes, so this is a thread of its own; the tick thread sets what to look
// at and takes the newest answer.
#pragma once

#include <chrono>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <thread>
#include <unordered_map>
#include <vector>

#include "agent/base/clock.h"
#include "agent/base/latest.h"
#include "agent/collect/kept_file.h"
#include "agent/collect/mount_info.h"
#include "agent/pods/entity.h"

namespace vedette {

struct MountsOptions {
  std::string proc = "/proc";
  // Disks fill over seconds at the fastest.
  std::chrono::milliseconds interval{2000};
  // A young namespace is still being furnished, so its mounts are listed each time; an old one's (35 us and
  // more) this often. So it is with the namespace of a process (10 us).
  std::chrono::seconds young{60};
  std::chrono::seconds relist{10};
};

// Use of the fullest filesystem: 1 is full for whoever is not root.
struct MountUse {
  std::optional<double> space;
  std::optional<double> inodes;
  std::string space_mount;  // mount point of the fullest one
};

struct MountsRequest {
  struct Group {
    EntityId entity = kNodeEntity;
    std::vector<std::uint32_t> processes;
  };
  std::vector<Group> groups;
};

struct MountsReading {
  MonotonicNs read_ns = 0;
  MountUse node;
  // Filesystems of disks that were writable when first seen and are read-only now: the kernel stopped writing
  // to them, or somebody did. Nothing: the host's mounts cannot be listed.
  std::optional<std::uint32_t> read_only;
  std::unordered_map<EntityId, MountUse> entities;  // only those with a mount of their own
};

// The policy, pure: mounts that may be looked at and can fill up.
bool is_local_writable(const Mount& mount);
// A filesystem that keeps data on a disk of this machine and accepts no writes, whichever way it is mounted.
// The kernel says so in the filesystem's own options: "ro", or since ext4 keeps SB_RDONLY out of it (6.12)
// "emergency_ro" (6.15), or "shutdown".
bool is_on_disk(const Mount& mount);
bool is_read_only(const Mount& mount);
// A host's mount that kubelet or a container runtime made for a pod: it is that pod's, not the node's.
bool is_made_for_pod(const Mount& mount);

// One look, without a thread: for tests and for the thread itself.
class MountsReader {
public:
  explicit MountsReader(MountsOptions options) : options_(std::move(options)) {}
  MountsReading read(const MountsRequest& request, MonotonicNs now);

private:
  struct Namespace {
    std::vector<Mount> mounts;  // writable, local, not the host's
    MonotonicNs first_ns = 0;
    MonotonicNs listed_ns = 0;
    MonotonicNs seen_ns = 0;
  };

  struct Process {
    std::uint64_t mounts = 0;  // its namespace's inode; 0: cannot be looked at
    MonotonicNs first_ns = 0;
    MonotonicNs asked_ns = 0;
    MonotonicNs seen_ns = 0;
  };

  std::uint32_t count_read_only(const std::vector<Mount>& host);
  std::uint64_t namespace_of(std::uint32_t pid, const std::string& process, MonotonicNs now);

  MountsOptions options_;
  ReadBuffer buffer_;
  std::unordered_map<std::uint64_t, Namespace> namespaces_;  // by inode
  std::unordered_map<std::uint32_t, Process> processes_;     // by process id
  std::unordered_map<std::uint64_t, bool> was_writable_;  // the host's filesystems by device, when first seen
};

class MountsSource {
public:
  explicit MountsSource(MountsOptions options);

  // What to look at from now on.
  void watch(MountsRequest request) { request_.set(std::move(request)); }
  // The newest answer; null before the first. Its `read_ns` tells when a disk holds the thread.
  std::shared_ptr<const MountsReading> latest() const { return reading_.get(); }

private:
  void run(const std::stop_token& stop);

  MountsOptions options_;
  Latest<MountsRequest> request_;
  Latest<MountsReading> reading_;
  std::jthread thread_;  // last: it stops before what it uses goes
};

}  // namespace vedette
