// At most K nodes of a pool are tainted at any instant: a node takes one of K slots (Leases) before its
// taint. etcd is the only arbiter; there is no controller. Owned by act/node_writer and used on its thread
// alone.
//
// The rule. A slot's lease names its holder A and the resourceVersion N of A's Node that the taint may
// replace.
//  1. A taint is added only by a patch under the version that a slot of the node records, written just
//  before.
//     When the patch meets a newer Node, the newer version is recorded first.
//  2. A slot is given back, or taken over by somebody else, only where A's Node, read after the lease, has no
//     taint of ours and is not at version N (or is gone), and only if the lease is still as it was read.
//  3. A spare slot (the node was moved to another pool, and has one of that) is given back under taint as
//  well:
//     where A's Node, read after all of A's leases, is not at version N, and only if the lease is still as it
//     was read.
// Why it holds. Of a slot's patches only the one under N can still add a taint (1): recording another version
// is a conditional write of the lease. Once A's Node is not at N it never is again, so after (2) has seen
// that, this patch fails for ever, however late it arrives. Hence a tainted node always has a slot of its
// own, at every instant of etcd's history: no clock, timeout or living process is part of the argument. Lost
// answers, requests that land late, paused processes and two agents on one node change nothing in it. A spare
// slot that goes (3) can add no taint any more, for the same reason; and whoever gives the other one back
// meanwhile, by (2), and taints anew has to write a slot first: the spare one, which then is not as it was
// read, or a third.
//
// So a dead agent's node keeps its slot for as long as it is tainted. The lease's renewTime says until when
// somebody vouches for the taint (`vedette cleanup` removes what nobody does), and keeps others from taking a
// slot between its lease and its taint; it decides nothing that the rule does not allow.
// A human who deletes a lease, or lowers the share or the number of nodes, changes K: nothing is lifted for
// it.
#pragma once

#include <chrono>
#include <optional>
#include <random>
#include <string>

#include "agent/kube/lease.h"
#include "agent/kube/node.h"

namespace vedette {

struct TaintBudgetOptions {
  std::string namespace_name = "vedette-system";  // the agent's own
  double share = 0.1;                             // K = max(1, floor(share * nodes of the pool))
  // Three renewals: two may be lost. A slot whose holder died before its taint is missing so long.
  std::chrono::seconds lease{900};
  std::chrono::seconds renewal{300};
  std::chrono::seconds recount{3600};  // nodes come and go slowly beside an hour
  // How late a request may land whose answer was lost: the apiserver's own limit. A slot may be ours until
  // then.
  std::chrono::milliseconds late{60'000};
  // All slots taken within this time: more than K nodes asked at once.
  std::chrono::seconds mass_window{60};
};

class TaintBudget {
public:
  // `client` must outlive this.
  TaintBudget(KubeClient& client, KubeNodeOptions node, TaintBudgetOptions options);

  enum class Answer {
    kGranted,    // a taint may be added now, under the version of `seen` and no other
    kReadAgain,  // there is a slot of ours: read the node, then ask again
    kRefused,    // reason() says why
    kMassEvent,  // likewise, and most slots were taken just now
  };
  // Before each patch that adds a taint. `newest`: `seen` was read after whatever this did last. A new lease
  // may record an older version: the patch under it just fails. In one that is held it could replace the
  // version of a patch that is still under way, so that is answered with kReadAgain.
  Result<Answer> take(const NodeState& seen, bool newest);
  const std::string& reason() const { return reason_; }

  // While the node is tainted: vouches for it anew when it is time. False: no slot of the node's pool is held
  // (one of the pool that it was in before stays until there is).
  Result<bool> renew(const NodeState& seen);
  // Likewise: gives back what is held beside the slot of its pool. Costs nothing when nothing is.
  Status release_spare();

  // While the node is not tainted and shall not be: gives back what it holds, as the rule allows. Costs
  // nothing when nothing is held.
  Status release();
  // After release() or release_spare(): something is held still.
  bool owes() const { return released_short_ || spare_; }
  // A slot may turn up that is ours: release() will look.
  bool doubtful() const { return doubtful_until_ns_ != 0; }

  // Name of the slot held; empty: none that is known.
  std::string slot() const { return slot_ ? slot_->name : std::string(); }

private:
  Result<bool> find_own(const std::string& pool);
  Result<Answer> acquire(const NodeState& seen);
  Result<bool> take_over(const SlotLease& slot, const NodeState& seen);
  Result<unsigned> count_slots(const std::string& pool);
  void hold(SlotLease slot);
  void note_lost();
  SlotLease mine(SlotLease slot, const std::string& node_version) const;

  KubeClient& client_;
  const KubeNodeOptions node_;
  const TaintBudgetOptions options_;
  KubeLeases leases_;
  std::optional<SlotLease> slot_;
  bool looked_ = false;  // slot_ is what the server had; false again whenever an answer leaves that open
  bool released_short_ = false;
  bool spare_ = false;  // there is another one beside slot_
  MonotonicNs doubtful_until_ns_ = 0;
  std::optional<std::string> counted_pool_;
  unsigned slots_ = 0;
  MonotonicNs counted_ns_ = 0;
  std::string reason_;
  std::minstd_rand random_;
};

}  // namespace vedette
