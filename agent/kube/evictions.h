// The API calls that emptying a node takes: reading the cluster, and evicting one pod through the Eviction
// subresource, where the API server itself holds the budgets. Called by act/evacuator's thread; as
// KubeClient, one thread.
#pragma once

#include <chrono>
#include <functional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "agent/kube/client.h"
#include "agent/kube/cluster.h"

namespace vedette {

struct EvictionAnswer {
  enum class Kind {
    kEvicted,
    kGone,     // no such pod any more, or another one of that name
    kWait,     // HTTP 429: the budget has no room, or the server is busy
    kRefused,  // this pod cannot be evicted; others may
  };
  Kind kind = Kind::kEvicted;
  std::string text;                     // kWait, kRefused: the server's words
  std::chrono::seconds retry_after{0};  // kWait; 0: the server did not say
};

class Evictions {
public:
  // `client` must outlive this.
  Evictions(KubeClient& client, std::string node) : client_(client), node_(std::move(node)) {}

  // All that a plan is made from. Lists the pods of the whole cluster, page by page, and keeps sums of those
  // on other nodes. Errors: of the transport, and a sentence on what to apply where the right is missing.
  Result<Cluster> read_cluster();
  Result<ClusterNode> read_node();
  // Of this node.
  Result<std::vector<ClusterPod>> read_pods();

  // The uid makes sure that it is this very pod. Errors: of the transport, and a missing right.
  Result<EvictionAnswer> evict(const std::string& namespace_name, const std::string& name,
                               const std::string& uid);

private:
  template <typename Item>
  Status list(const std::string& path, Result<Page<Item>> (*parse)(std::string_view), const char* what,
              const std::function<void(Item&&)>& take);

  KubeClient& client_;
  std::string node_;
};

}  // namespace vedette
