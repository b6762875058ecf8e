// The recovery plan: if this node had to be emptied now, which pods would be moved, in which order and waves,
// where they would fit, and what stands in the way. Pure functions; called by act/evacuator's thread and by
// tests.
#pragma once

#include <chrono>
#include <cstddef>
#include <map>
#include <string>
#include <vector>

#include "agent/act/policy.h"
#include "agent/base/severity.h"
#include "agent/kube/cluster.h"

namespace vedette {

// How the agent sees one pod at the moment.
struct PodDanger {
  bool troubled = false;  // it has a condition:
  Severity severity = Severity::kInfo;
  std::string reason{};
  double risk = 0;  // of a failure within a minute, 0..1
};

struct PlanOptions {
  bool local_data = false;  // move pods too whose local data is lost or stays behind
  bool force = false;       // and those that nothing makes anew, or that fit nowhere
  bool operator==(const PlanOptions&) const = default;
};

struct PlannedPod {
  std::string uid, namespace_name, name, workload;
  std::int64_t priority = 0;
  bool critical = false;  // by the policy: no option moves it
  std::chrono::seconds grace{0};
  PodDanger danger;
  std::string budget;               // name of the one that counts it; empty: none
  std::size_t wave = 0;             // 1 is the first; 0: it stays, for the reasons in `blocks`
  std::string fits;                 // a node that has room for it; empty: none
  std::vector<std::string> blocks;  // why it stays; empty: it is moved
  std::vector<std::string> notes;   // what to know before it is moved
};

struct LeftOutPod {
  std::string namespace_name, name, why;
};

struct Plan {
  std::string id;  // the same for plans that do the same
  std::string node;
  PlanOptions options;
  std::vector<PlannedPod> pods;  // in the order of their moving; those that stay come last
  std::vector<LeftOutPod> left_out;
  std::size_t waves = 0;
  std::chrono::seconds longest{0};  // until the last pod has ended, if each takes all of its grace period
};

// `dangers` by the pod's uid; a pod without one is in none. The order: those in trouble first, by severity,
// then by risk in steps of a tenth, then by priority, then by owner (a Deployment's before those whose
// identity or work is their own: StatefulSets and other controllers, Jobs), then those without local data,
// then by name; a pod that nothing makes anew goes last, for an eviction saves nothing of it. A wave
// takes from each budget what it has room for; a budget that has none now is taken to get what its spare pods
// allow. Where they fit is a first fit over the nodes by name: ready, schedulable, taints tolerated, node
// selector met, requests free. It does not look at affinity, topology spread, volumes or ports.
Plan make_plan(const std::string& node, const Cluster& cluster,
               const std::map<std::string, PodDanger>& dangers, const Policy& policy, PlanOptions options);

// Why no plan moves this pod ("of a DaemonSet: …"); empty: it is for a plan to say.
std::string left_out_because(const ClusterPod& pod);

// A pod that is on the node now and of which `plan` says nothing; null: all are in it.
const ClusterPod* unplanned(const Plan& plan, const std::vector<ClusterPod>& now);

}  // namespace vedette
