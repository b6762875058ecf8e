// What emptying a node depends on, out of the API server's JSON: pods with what they need, disruption
// budgets, nodes with what they have. Made by kube/evictions, read by act/plan. Plain values and pure
// functions: any thread.
#pragma once

#include <chrono>
#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "agent/base/result.h"
#include "agent/kube/node.h"

namespace vedette {

// By resource name, in thousandths of its unit (cores, bytes, pods): "pods" is among them.
using Resources = std::map<std::string, std::int64_t>;

struct Toleration {
  std::string key;     // empty with "Exists": every taint
  std::string op;      // "Exists"; "Equal" or empty
  std::string value;   // with "Equal"
  std::string effect;  // empty: every effect
};

struct LocalVolume {
  std::string kind;  // "emptyDir", "hostPath", "local volume"
  std::string name;
};

struct ClusterPod {
  std::string uid, namespace_name, name, node;
  std::string workload;    // as PodInfo::workload
  std::string controller;  // its uid; empty: nothing would make this pod anew
  bool daemon = false;     // of a DaemonSet
  bool mirror = false;     // of a static pod
  bool finished = false;   // succeeded or failed
  bool terminating = false;
  std::int64_t priority = 0;
  std::chrono::seconds grace{30};
  std::map<std::string, std::string> labels, node_selector;
  std::vector<Toleration> tolerations;
  std::vector<LocalVolume> local_volumes;
  std::vector<std::string> claims;  // of persistent volumes, by name
  Resources requests;
  unsigned replicas =
      0;  // pods of its controller in the whole cluster that are not ending, this one included
};

struct SelectorTerm {
  std::string key;
  std::string op;  // In, NotIn, Exists, DoesNotExist
  std::vector<std::string> values;
};

struct DisruptionBudget {
  std::string namespace_name, name;
  std::optional<std::vector<SelectorTerm>>
      selector;               // null selects nothing, an empty one all of its namespace
  std::int64_t allowed = 0;   // evictions that it has room for now
  std::int64_t desired = 0;   // pods that must stay healthy
  std::int64_t expected = 0;  // pods that it counts
};

struct ClusterNode {
  std::string name;
  bool ready = false;
  bool unschedulable = false;
  std::map<std::string, std::string> labels;
  std::vector<Taint> taints;
  Resources allocatable;
  Resources requested;  // by the pods bound to it
};

struct Cluster {
  std::vector<ClusterPod> pods;  // of the node in question
  std::vector<DisruptionBudget> budgets;
  std::vector<ClusterNode> nodes;  // all
};

bool selects(const DisruptionBudget& budget, const ClusterPod& pod);
bool tolerates(const ClusterPod& pod, const Taint& taint);
void add(Resources& sum, const Resources& more);

// "100m", "1.5Gi", "2e3" in thousandths, rounded up, at most what an int64 holds; nullopt: not a quantity.
std::optional<std::int64_t> parse_quantity(std::string_view text);

template <typename Item>
struct Page {
  std::vector<Item> items;
  std::string continue_token;  // empty: the last page
};
// A claim of a persistent volume that exists on one machine only: "NAMESPACE/NAME" and the volume's name.
struct LocalClaim {
  std::string claim;
  std::string volume;
};
// A page as LIST answers it. Errors: no JSON, another kind of list.
Result<Page<ClusterPod>> parse_cluster_pods(std::string_view body);
Result<Page<DisruptionBudget>> parse_budgets(std::string_view body);
Result<Page<ClusterNode>> parse_cluster_nodes(std::string_view body);
Result<Page<LocalClaim>> parse_local_claims(std::string_view body);
// One Node object.
Result<ClusterNode> parse_cluster_node(std::string_view body);

}  // namespace vedette
