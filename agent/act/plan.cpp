#include "agent/act/plan.h"

#include <algorithm>
#include <cstdio>
#include <set>
#include <tuple>

#include "agent/base/fnv1a.h"

namespace vedette {
namespace {

std::string full_name(const DisruptionBudget& budget) {
  return budget.namespace_name + "/" + budget.name;
}

std::int64_t spare(const DisruptionBudget& budget) {
  return budget.expected - budget.desired;
}

// How many of its pods one wave may take; 0: none, ever.
std::int64_t room(const DisruptionBudget& budget) {
  return std::max<std::int64_t>(budget.allowed > 0 ? budget.allowed : spare(budget), 0);
}

bool has_room(const ClusterNode& node, const ClusterPod& pod) {
  return std::all_of(pod.requests.begin(), pod.requests.end(), [&](const auto& request) {
    if (request.second == 0) return true;
    const auto total = node.allocatable.find(request.first);
    if (total == node.allocatable.end()) return false;
    const auto used = node.requested.find(request.first);
    return request.second <= total->second - (used == node.requested.end() ? 0 : used->second);
  });
}

bool takes(const ClusterNode& node, const ClusterPod& pod) {
  if (!node.ready || node.unschedulable || !has_room(node, pod)) return false;
  for (const auto& [key, value] : pod.node_selector) {
    const auto label = node.labels.find(key);
    if (label == node.labels.end() || label->second != value) return false;
  }
  return std::all_of(node.taints.begin(), node.taints.end(), [&](const Taint& taint) {
    return taint.effect == "PreferNoSchedule" || tolerates(pod, taint);
  });
}

// Of one pod, while the plan is made.
struct Candidate {
  const ClusterPod* pod;
  std::vector<const DisruptionBudget*> budgets;
  PlannedPod planned;
};

bool is_job(const ClusterPod& pod) {
  return pod.workload.starts_with("Job/") || pod.workload.starts_with("CronJob/");
}

Candidate candidate(const ClusterPod& pod, const Cluster& cluster, const PodDanger& danger,
                    const Policy& policy, PlanOptions options) {
  Candidate made{&pod, {}, {}};
  PlannedPod& planned = made.planned;
  planned.uid = pod.uid;
  planned.namespace_name = pod.namespace_name;
  planned.name = pod.name;
  planned.workload = pod.workload;
  planned.priority = pod.priority;
  planned.grace = pod.grace;
  planned.danger = danger;
  planned.critical = policy.is_critical(pod.namespace_name + "/" + pod.name);
  if (planned.critical)
    planned.blocks.emplace_back("critical: the policy (policy.critical) says that it may not be moved");
  if (pod.controller.empty()) {
    (options.force ? planned.notes : planned.blocks)
        .emplace_back("no controller: once evicted, nothing makes it anew");
  } else if (is_job(pod)) {
    planned.notes.push_back(pod.workload + " begins this pod's work anew");
  } else if (pod.replicas <= 1) {
    planned.notes.push_back("single replica: " + pod.workload + " is down until it runs elsewhere");
  }
  for (const LocalVolume& volume : pod.local_volumes) {
    const std::string what = volume.kind + " " + volume.name;
    // Data on the host stays there and most such pods only look at the host: so does `kubectl drain`.
    if (volume.kind == "hostPath") {
      planned.notes.push_back(what + " is another one on another node");
      continue;
    }
    (options.local_data ? planned.notes : planned.blocks)
        .push_back("local data: " + what +
                   (volume.kind == "emptyDir" ? " is deleted" : " is on this machine only"));
  }
  for (const DisruptionBudget& budget : cluster.budgets) {
    if (selects(budget, pod)) made.budgets.push_back(&budget);
  }
  if (made.budgets.size() > 1) {
    planned.blocks.push_back("two budgets count it (" + full_name(*made.budgets[0]) + ", " +
                             full_name(*made.budgets[1]) + "): the API server evicts no such pod");
  } else if (made.budgets.size() == 1) {
    const DisruptionBudget& budget = *made.budgets[0];
    planned.budget = budget.name;
    const std::string pods =
        std::to_string(budget.desired) + " of " + std::to_string(budget.expected) + " pods must stay";
    if (room(budget) == 0) {
      planned.blocks.push_back("budget " + budget.name + " never has room: " + pods);
    } else if (budget.allowed == 0) {
      planned.notes.push_back("budget " + budget.name + " has no room now: " + pods);
    }
  }
  return made;
}

// How much of a pod is its own: a ReplicaSet's is as good as its siblings, others may have an identity, a
// Job's has work behind it.
int own_share(const ClusterPod& pod) {
  for (const char* kind : {"Deployment/", "ReplicaSet/", "ReplicationController/"}) {
    if (pod.workload.starts_with(kind)) return 0;
  }
  return is_job(pod) ? 2 : 1;
}

// First those in the greatest danger, of these the most important; last what nothing makes anew.
auto rank(const Candidate& candidate) {
  const PlannedPod& pod = candidate.planned;
  const bool data = std::any_of(candidate.pod->local_volumes.begin(), candidate.pod->local_volumes.end(),
                                [](const LocalVolume& volume) { return volume.kind != "hostPath"; });
  // Tenths: a plan must not change with every tick.
  const int tenths = pod.danger.risk > 0 ? static_cast<int>(pod.danger.risk * 10) : 0;
  const int severity = pod.danger.troubled ? static_cast<int>(pod.danger.severity) : -1;
  return std::tuple(candidate.pod->controller.empty(), -severity, -tenths, -pod.priority,
                    own_share(*candidate.pod), data, pod.namespace_name, pod.name);
}

std::string hash_of(const Plan& plan) {
  std::uint64_t hash = kFnv1aBasis;
  const auto mix = [&](const std::string& text) { hash = fnv1a(text + '\n', hash); };
  mix(plan.node);
  mix(std::to_string(plan.options.local_data) + std::to_string(plan.options.force));
  for (const PlannedPod& pod : plan.pods) {
    mix(pod.uid);
    mix(pod.budget);
    mix(std::to_string(pod.wave));
    for (const std::string& block : pod.blocks) mix(block);
  }
  char text[20];
  std::snprintf(text, sizeof text, "%016llx", static_cast<unsigned long long>(hash));
  return text;
}

}  // namespace

std::string left_out_because(const ClusterPod& pod) {
  if (pod.mirror) return "static: the kubelet runs it from a file of this node";
  if (pod.daemon) return "of a DaemonSet: it belongs to the node";
  if (pod.finished) return "finished";
  if (pod.terminating) return "already ending";
  return "";
}

const ClusterPod* unplanned(const Plan& plan, const std::vector<ClusterPod>& now) {
  std::set<std::string> known;
  for (const PlannedPod& pod : plan.pods) known.insert(pod.uid);
  for (const ClusterPod& pod : now) {
    if (left_out_because(pod).empty() && !known.contains(pod.uid)) return &pod;
  }
  return nullptr;
}

Plan make_plan(const std::string& node, const Cluster& cluster,
               const std::map<std::string, PodDanger>& dangers, const Policy& policy, PlanOptions options) {
  Plan plan;
  plan.node = node;
  plan.options = options;
  std::vector<Candidate> candidates;
  for (const ClusterPod& pod : cluster.pods) {
    if (std::string why = left_out_because(pod); !why.empty()) {
      plan.left_out.push_back({pod.namespace_name, pod.name, std::move(why)});
      continue;
    }
    const auto danger = dangers.find(pod.uid);
    candidates.push_back(
        candidate(pod, cluster, danger == dangers.end() ? PodDanger{} : danger->second, policy, options));
  }
  std::sort(candidates.begin(), candidates.end(),
            [](const Candidate& a, const Candidate& b) { return rank(a) < rank(b); });

  std::vector<ClusterNode> others;
  for (const ClusterNode& other : cluster.nodes) {
    if (other.name != node) others.push_back(other);
  }
  std::sort(others.begin(), others.end(),
            [](const ClusterNode& a, const ClusterNode& b) { return a.name < b.name; });
  std::map<const DisruptionBudget*, std::int64_t> taken;
  std::map<std::size_t, std::chrono::seconds> longest;  // grace period of each wave
  for (Candidate& candidate : candidates) {
    PlannedPod& planned = candidate.planned;
    if (planned.blocks.empty()) {
      const auto fit = std::find_if(others.begin(), others.end(),
                                    [&](const ClusterNode& other) { return takes(other, *candidate.pod); });
      if (fit != others.end()) {
        planned.fits = fit->name;
        add(fit->requested, candidate.pod->requests);
      } else {
        (options.force ? planned.notes : planned.blocks)
            .emplace_back("fits on no other node: it would be pending");
      }
    }
    if (!planned.blocks.empty()) continue;
    planned.wave = 1;
    if (!candidate.budgets.empty()) {
      const DisruptionBudget* budget = candidate.budgets[0];
      planned.wave = static_cast<std::size_t>(taken[budget]++ / room(*budget)) + 1;
    }
    plan.waves = std::max(plan.waves, planned.wave);
    longest[planned.wave] = std::max(longest[planned.wave], planned.grace);
  }
  for (const auto& [wave, grace] : longest) plan.longest += grace;
  // By waves, those that stay last; within a wave the order stays.
  std::stable_sort(candidates.begin(), candidates.end(), [](const Candidate& a, const Candidate& b) {
    return a.planned.wave - 1 < b.planned.wave - 1;  // 0 becomes the largest
  });
  for (Candidate& candidate : candidates) plan.pods.push_back(std::move(candidate.planned));
  plan.id = hash_of(plan);
  return plan;
}

}  // namespace vedette
