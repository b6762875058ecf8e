// What a cgroup path says about its owner: a pod, a container, a systemd unit or just a cgroup.
// Called by pods/PodTable for each cgroup it meets; pure functions, any thread.
#pragma once

#include <string>
#include <string_view>

#include "agent/pods/entity.h"

namespace vedette {

struct CgroupName {
  // kNode: the root, or a directory that only groups others (kubepods, kubepods/burstable, docker): what
  // happens there belongs to the node alone.
  EntityKind kind = EntityKind::kNode;
  // kPod: the uid with dashes; kContainer: the full id; kUnit: the unit's name; kCgroup: the whole path.
  std::string id;
  // The directory whose subtree is the entity: a prefix of the path. Limits are set there or above.
  std::string root;
  // Pods: the container below the pod's directory; empty for that directory itself.
  std::string container_id;
};

// `path` is relative to the mount of the hierarchy and begins with '/', as in /proc/PID/cgroup. A pod wins
// over what surrounds it (kind's nodes are containers; a containerd that fell back to cgroupfs paths nests
// pods in its own service), and a container over the unit it runs in. Of two nested containers, or units, the
// outer one is the entity: that is what the operator of this node started.
CgroupName parse_cgroup_path(std::string_view path);

}  // namespace vedette
