#include "agent/kube/evictions.h"

#include <algorithm>
#include <map>
#include <utility>

#include <nlohmann/json.hpp>

namespace vedette {
namespace {

// A pod is about 10 kB of JSON: a page of 1 MB, whatever the size of the cluster. Halved while an answer is
// too large, which one object cannot be.
constexpr unsigned kPage = 100;

tl::unexpected<Error> refused(const std::string& call, const KubeReply& reply) {
  if (reply.status == 403) {
    return fail("the agent has not the right to plan or evict (" + call + ": " + explain(reply) +
                "): apply manifests/overlays/evacuate");
  }
  return fail(call + ": " + explain(reply));
}

}  // namespace

template <typename Item>
Status Evictions::list(const std::string& path, Result<Page<Item>> (*parse)(std::string_view),
                       const char* what, const std::function<void(Item&&)>& take) {
  const std::string call = std::string("list ") + what;
  unsigned limit = kPage;
  for (std::string token;;) {
    const Result<KubeReply> reply = client_.get(path + "limit=" + std::to_string(limit) +
                                                (token.empty() ? "" : "&continue=" + url_encode(token)));
    if (!reply && client_.too_large() && limit > 1) {
      limit /= 2;
      continue;
    }
    if (!reply) return tl::unexpected(reply.error());
    if (reply->status != 200) return refused(call, *reply);
    Result<Page<Item>> page = parse(reply->body);
    if (!page) return fail(call + ": " + page.error().text);
    for (Item& item : page->items) take(std::move(item));
    token = std::move(page->continue_token);
    if (token.empty()) return {};
  }
}

Result<ClusterNode> Evictions::read_node() {
  const Result<KubeReply> reply = client_.get("/api/v1/nodes/" + url_encode(node_));
  if (!reply) return tl::unexpected(reply.error());
  if (reply->status != 200) return refused("read node " + node_, *reply);
  return parse_cluster_node(reply->body);
}

Result<std::vector<ClusterPod>> Evictions::read_pods() {
  std::vector<ClusterPod> pods;
  const Status listed =
      list<ClusterPod>("/api/v1/pods?fieldSelector=" + url_encode("spec.nodeName=" + node_) + "&",
                       parse_cluster_pods, "pods", [&](ClusterPod&& pod) { pods.push_back(std::move(pod)); });
  if (!listed) return tl::unexpected(listed.error());
  return pods;
}

Result<Cluster> Evictions::read_cluster() {
  Cluster cluster;
  Status listed = list<DisruptionBudget>(
      "/apis/policy/v1/poddisruptionbudgets?", parse_budgets, "poddisruptionbudgets",
      [&](DisruptionBudget&& budget) { cluster.budgets.push_back(std::move(budget)); });
  if (!listed) return tl::unexpected(listed.error());
  listed = list<ClusterNode>("/api/v1/nodes?", parse_cluster_nodes, "nodes",
                             [&](ClusterNode&& node) { cluster.nodes.push_back(std::move(node)); });
  if (!listed) return tl::unexpected(listed.error());
  std::map<std::string, std::string> local;  // claim -> volume
  listed = list<LocalClaim>("/api/v1/persistentvolumes?", parse_local_claims, "persistentvolumes",
                            [&](LocalClaim&& claim) { local[claim.claim] = claim.volume; });
  if (!listed) return tl::unexpected(listed.error());

  std::map<std::string, unsigned> replicas;  // by controller
  std::map<std::string, Resources> requested;
  listed = list<ClusterPod>("/api/v1/pods?", parse_cluster_pods, "pods", [&](ClusterPod&& pod) {
    if (!pod.finished) add(requested[pod.node], pod.requests);
    if (!pod.finished && !pod.terminating && !pod.controller.empty()) ++replicas[pod.controller];
    if (pod.node != node_) return;
    for (const std::string& claim : pod.claims) {
      const auto volume = local.find(pod.namespace_name + "/" + claim);
      if (volume != local.end()) pod.local_volumes.push_back({"local volume", volume->second});
    }
    cluster.pods.push_back(std::move(pod));
  });
  if (!listed) return tl::unexpected(listed.error());
  for (ClusterPod& pod : cluster.pods) {
    if (const auto count = replicas.find(pod.controller); count != replicas.end()) {
      pod.replicas = count->second;
    }
  }
  for (ClusterNode& node : cluster.nodes) node.requested = requested[node.name];
  return cluster;
}

Result<EvictionAnswer> Evictions::evict(const std::string& namespace_name, const std::string& name,
                                        const std::string& uid) {
  const nlohmann::json body = {{"apiVersion", "policy/v1"},
                               {"kind", "Eviction"},
                               {"metadata", {{"name", name}, {"namespace", namespace_name}}},
                               {"deleteOptions", {{"preconditions", {{"uid", uid}}}}}};
  const Result<KubeReply> reply = client_.post(
      "/api/v1/namespaces/" + url_encode(namespace_name) + "/pods/" + url_encode(name) + "/eviction",
      body.dump());
  if (!reply) return tl::unexpected(reply.error());
  using Kind = EvictionAnswer::Kind;
  switch (reply->status) {
    case 200:
    case 201:
      return EvictionAnswer{};
    case 404:
    case 409:  // the precondition: another pod has the name
      return EvictionAnswer{Kind::kGone, {}, {}};
    case 429:
      return EvictionAnswer{Kind::kWait, explain(*reply), reply->retry_after};
    case 403:
      // A missing right says "cannot create"; the rest is about this pod (its namespace ends).
      if (explain(*reply).find("cannot create") != std::string::npos) {
        return refused("evict pod " + namespace_name + "/" + name, *reply);
      }
      [[fallthrough]];
    default:
      return EvictionAnswer{Kind::kRefused, explain(*reply), {}};
  }
}

}  // namespace vedette
