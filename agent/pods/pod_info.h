// What the API server says about the pods of this node: the value that the kube watch thread hands to
// pods/PodTable through a Latest<PodList>. Plain values; immutable once set, so any thread may read them.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace vedette {

struct PodContainer {
  // The full id as in status.*ContainerStatuses[].containerID without the "containerd://" before it.
  std::string id;
  // "api"; "init/migrate", "sidecar/proxy" (an init container that stays), "ephemeral/debugger".
  std::string name;

  bool operator==(const PodContainer&) const = default;
};

struct PodInfo {
  // metadata.uid, or for a static pod's mirror the annotation kubernetes.io/config.hash, where that is no
  // other pod's uid: the id that stands in the cgroup's path.
  std::string uid;
  std::string namespace_name;
  std::string name;
  // "KIND/NAME" of the controller that survives a restart ("Deployment/api": a ReplicaSet named with its
  // pod-template-hash is already replaced by its Deployment, a Job named with the minute it was due by its
  // CronJob); "Pod/NAME" for a pod without one.
  std::string workload;
  // They may lag behind the cgroups: the uid decides, these give names and serve paths that carry no uid.
  std::vector<PodContainer> containers;
  // Of the template it was made of: a Deployment's pod-template-hash, a StatefulSet's or DaemonSet's
  // controller-revision-hash; of others (Jobs, bare pods) a hash of their images; empty: none of them.
  std::string revision{};
  // Times its containers were started again, all together.
  std::uint64_t restarts = 0;
};

struct PodList {
  std::vector<PodInfo> pods;  // all pods bound to this node, in any order
};

}  // namespace vedette
