// Where the cgroup hierarchies are mounted (v1, v2 or both) and which cgroups exist. Called by
// collect/LiveSource on the tick thread.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "agent/collect/kept_file.h"
#include "agent/pods/pod_table.h"

namespace vedette {

// Directories without a '/' at the end; empty: not mounted. A v1 controller is one that v2 cannot have.
struct CgroupMounts {
  std::string unified{};
  std::string memory{};
  std::string cpu{};
  std::string cpuacct{};
  std::string pids{};
  std::string named{};  // v1 "name=systemd" or any other hierarchy: last resort to list cgroups

  // The hierarchy whose directories are cgroups to us: v2 if there is one, as its ids are those of BPF.
  const std::string& primary() const;
};

// `mountinfo`: text of /proc/PID/mountinfo. `below`: only mounts at or under this directory count (the host's
// /sys/fs/cgroup mounted into a container beside the container's own); empty: all.
CgroupMounts find_cgroup_mounts(std::string_view mountinfo, std::string_view below = {});

struct CgroupEntry {
  CgroupId id = 0;
  std::string path;  // relative to the mount, "/" for the root
};

class CgroupTree {
public:
  explicit CgroupTree(std::string root);

  // All cgroups, parents before children. Directories that vanish meanwhile are left out. Costs about 3 us
  // per leaf and 20 us per directory with children.
  std::vector<CgroupEntry> scan();

  // Cheap sign of change: the number of v2 cgroups, those being destroyed included. 0 on v1, where only a
  // scan knows.
  std::uint64_t population();

  const std::string& root() const { return root_; }

private:
  std::string root_;
  FileBudget budget_{1};
  KeptFile stat_;
  ReadBuffer buffer_;
};

}  // namespace vedette
