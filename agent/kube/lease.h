// Lease objects of one namespace that are slots of a budget: a name that at most one node holds. Every write
// is conditional in etcd, so of many who want the same slot one gets it. Called by act/taint_budget; as
// KubeClient, one thread.
#pragma once

#include <chrono>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "agent/base/clock.h"
#include "agent/kube/client.h"

namespace vedette {

struct SlotLease {
  std::string name{};
  std::string pool{};          // a label: the slots of one pool are listed by it
  unsigned shard = 0;          // a label too: a part of a large pool's slots
  std::string holder{};        // name of a node
  std::string node_version{};  // the resourceVersion of the holder's Node that its taint may replace
  WallNs acquired_ns = 0;
  WallNs renewed_ns = 0;
  std::chrono::seconds duration{0};
  std::string uid{}, resource_version{};  // as the server has them

  // Nobody vouches for it any more. That alone does not make the slot free: see act/taint_budget.h.
  bool expired(WallNs now) const { return renewed_ns + to_ns(duration) < now; }
};

class KubeLeases {
public:
  // `client` must outlive this.
  KubeLeases(KubeClient& client, const std::string& namespace_name);

  // Those of one shard of a pool, from the apiserver's memory: a moment old, but cheap.
  Result<std::vector<SlotLease>> of_shard(const std::string& pool, unsigned shard);
  // The newest of those that `node` holds.
  Result<std::vector<SlotLease>> of_holder(const std::string& node);
  // The newest of all pools, page by page: for cleanup.
  Result<std::vector<SlotLease>> all();

  // As the server has it afterwards. nullopt: the name is taken.
  Result<std::optional<SlotLease>> create(const SlotLease& lease);
  // Under lease.resource_version. nullopt: somebody was faster, or it is gone.
  Result<std::optional<SlotLease>> update(const SlotLease& lease);
  Result<bool> remove(const SlotLease& lease);

private:
  Result<std::vector<SlotLease>> list(const std::string& query);
  Result<std::optional<SlotLease>> written(Result<KubeReply> reply, const std::string& call);

  KubeClient& client_;
  std::string path_;
};

}  // namespace vedette
