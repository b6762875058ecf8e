// What the API server says about the pods of this node: the value that the kube watch thread hands to
// pods/PodTable through a Latest<PodList>. Plain values; immutable once set, so any thread may read them.
#pragma once

#include <string>
#include <vector>

namespace vedette {

struct PodInfo {
  // metadata.uid, or for a static (mirror) pod the annotation kubernetes.io/config.hash: the id that stands
  // in the cgroup's path.
  std::string uid;
  std::string namespace_name;
  std::string name;
  // "KIND/NAME" of the controller that survives a restart ("Deployment/api": a ReplicaSet named with its
  // pod-template-hash is already replaced by its Deployment); "Pod/NAME" for a pod without one.
  std::string workload;
  // Full ids as in status.containerStatuses[].containerID without the "containerd://" before them. They may
  // lag behind the cgroups: the uid decides, these serve paths that carry no uid.
  std::vector<std::string> container_ids;
};

struct PodList {
  std::vector<PodInfo> pods;  // all pods bound to this node, in any order
};

}  // namespace vedette
