// Makes the Node object what the newest Decision asks for: taint first, then conditions and events. Level-
// triggered: it compares with what is there, so a lost answer, a restart or an outage only delays. The tick
// thread calls publish(); a thread of its own does everything else; state() is safe from any thread.
#pragma once

#include <atomic>
#include <chrono>
#include <memory>
#include <stop_token>
#include <string>
#include <thread>

#include "agent/act/decision.h"
#include "agent/act/node_events.h"
#include "agent/act/taint_budget.h"
#include "agent/base/latest.h"
#include "agent/kube/backoff.h"
#include "agent/kube/client.h"
#include "agent/kube/node.h"
#include "agent/kube/node_watch.h"
#include "agent/snapshot.h"

namespace vedette {

struct NodeWriterOptions {
  KubeClientOptions client;
  KubeNodeOptions node;
  TaintBudgetOptions budget;
  NodeWatchOptions watch;
  // The first request goes at a random moment within it: nodes that were powered on together.
  std::chrono::milliseconds start_spread{0};
  // How often to ask whether the node still is as wanted, while no watch tells.
  std::chrono::milliseconds resync{60'000};
  // The kubelet refreshes its own conditions as often; each write goes through etcd for every node. Drawn
  // anew up to a fifth longer each time.
  std::chrono::milliseconds heartbeat{300'000};
  // After an error: long enough not to add to the trouble, short enough that a restarted apiserver (2 s) is
  // found again soon.
  std::chrono::milliseconds first_backoff{100};
  std::chrono::milliseconds max_backoff{10'000};
  // The same while a decision waits for an API server that is away, or a decision about the taint for one
  // that refuses for now.
  std::chrono::milliseconds max_pending_backoff{1'000};
  // However long the server asks to wait (Retry-After), a taint waits no longer: by two thirds of this, which
  // is what an overloaded apiserver asks for first (1 s), up to all of it.
  std::chrono::milliseconds max_taint_wait{1'500};
  // What others change of ours is put right at once, then, while they go on, after a pause that is doubled: a
  // second agent on this node, of another opinion, must not be answered as fast as the API server can.
  std::chrono::milliseconds first_correction{1'000};
  std::chrono::milliseconds max_correction{300'000};
  // Until a node without a slot asks again: slots come back when nodes recover, after minutes. The second is
  // reached by doubling.
  std::chrono::milliseconds held_back{30'000};
  std::chrono::milliseconds max_held_back{300'000};
  // New taints an hour, by the times on the Node itself: it outlives the process, so that one that crashes
  // again and again taints no more often (act/decider counts what it decides, in observe mode too).
  unsigned max_taints_per_hour = 4;
  // After the API server was away so long, what was seen meanwhile may be the outage itself: for a while
  // no taint is set or made harsher, and the verdict must hold.
  std::chrono::milliseconds outage{120'000};
  std::chrono::milliseconds settle{30'000};
  // After a mass event: long enough for a human to look, or for the cause to pass.
  std::chrono::milliseconds mass_pause{600'000};
  // Without a decision for so long (a tick lasts half a second) the agent is stuck: then nothing is renewed
  // in its name, so that the taint can be seen to be nobody's.
  std::chrono::milliseconds stuck{120'000};
};

class NodeWriter final : public Sink {
public:
  // Starts the thread. Errors are those of KubeClient::make and an empty node name; an API server that cannot
  // be reached is no error.
  static Result<std::unique_ptr<NodeWriter>> make(NodeWriterOptions options);
  // Leaves the node as it is: whoever starts next adopts it.
  ~NodeWriter() override;

  // Takes the decision. Generation 0 asks for nothing; in observe mode the node is read, never written, in
  // advise mode no taint is set or changed, and one that an enforcing agent left goes when its reason is
  // over.
  void publish(const std::shared_ptr<const Snapshot>& snapshot) override;

  // Never null; `known` and `adopted` are set before the first write.
  std::shared_ptr<const ActState> state() const { return published_.get(); }

private:
  NodeWriter(NodeWriterOptions options, std::stop_source stop, KubeClient client);
  void run();
  double stuck_s() const;
  Status match(std::shared_ptr<const Decision> wanted);
  Result<NodeState> look(bool newest);
  std::chrono::milliseconds pause_after_success();
  std::chrono::milliseconds pause_after_failure();
  std::chrono::milliseconds taint_wait() { return backoff_.jittered(options_.max_taint_wait, 2.0 / 3); }
  bool taint_waits(const Decision* wanted) const;
  bool is_held_back(const Decision* wanted) const;
  Result<NodeState> match_taint(std::shared_ptr<const Decision>& wanted);
  Result<NodeState> match_status(NodeState seen, const Decision& wanted);
  bool is_paused(const NodeState& seen);
  // How often what was true once, and others have changed since, is put right. One match() is begin() to
  // end().
  class Brake {
  public:
    Brake(std::chrono::milliseconds first, std::chrono::milliseconds most)
        : pauses_(first, most), most_(most) {}
    void begin() { waits_ = used_ = false; }
    bool frees() {
      waits_ |= monotonic_now() < next_ns_;
      return !waits_;
    }
    void note() { used_ = true; }
    void end() {
      if (!used_) return;
      const MonotonicNs now = monotonic_now();
      if (now >= next_ns_ + to_ns(most_)) pauses_.reset();
      next_ns_ = now + to_ns(pauses_.next(std::chrono::seconds(0)));
    }
    // Until a correction that waits may go; for ever if none does.
    std::chrono::milliseconds left() const {
      if (!waits_) return std::chrono::milliseconds::max();
      const MonotonicNs now = std::min(monotonic_now(), next_ns_);
      return std::chrono::ceil<std::chrono::milliseconds>(std::chrono::nanoseconds(next_ns_ - now));
    }

  private:
    Backoff pauses_;
    std::chrono::milliseconds most_;
    MonotonicNs next_ns_ = 0;
    bool waits_ = false, used_ = false;
  };

  void hold_back(Hold hold, const std::string& reason, std::chrono::nanoseconds pause);
  Result<TaintBudget::Answer> ask_for_slot(const NodeState& seen, bool newest, const std::string& what);
  Status keep_slot(const NodeState& seen, const Decision& wanted);
  void note_node(const NodeState& seen, const Decision* wanted);
  bool asks(const Decision* wanted) const;
  void publish_state();

  const NodeWriterOptions options_;
  std::stop_source stop_;
  KubeClient client_;
  KubeNode node_;
  TaintBudget budget_;
  NodeEvents events_;

  Latest<Decision> wanted_;
  // Nothing is decided before the node was read, and its trouble may ask for a taint then.
  std::atomic<bool> trouble_waits_{false};
  std::atomic<MonotonicNs> decided_ns_{0};  // when the tick thread last said what it wants
  Latest<int> wake_;                        // set when wanted_ or what the watch sees of the node has changed
  Latest<ActState> published_;

  // Of the writer's thread from here on.
  ActState state_;
  NodeState last_;  // the node as an answer to this thread had it
  std::uint64_t wake_version_ = 0;
  std::chrono::milliseconds heartbeat_, until_heartbeat_;
  MonotonicNs measured_evidence_ns_ = 0;  // the newest evidence that evidence_to_ack_s holds
  std::uint64_t failures_ = 0;            // of match()
  Hold hold_ = Hold::kNone;               // why state_.held_back
  MonotonicNs failing_since_ns_ = 0, settle_until_ns_ = 0;
  MonotonicNs held_until_ns_ = 0;  // no slot is asked for before
  std::chrono::milliseconds held_back_{0};
  std::uint64_t told_generation_ = 0;  // whose conditions and verdict were true on the node once
  std::string told_verdict_;
  Brake taint_brake_, status_brake_;
  Backoff backoff_, hurried_backoff_;
  // What the last failure was, but for that of an event.
  struct Refusal {
    bool away = false;
    std::chrono::seconds asked{0};  // to wait
    bool of_taint = false;          // and it may pass
  };
  Refusal refusal_;
  MonotonicNs routine_from_ns_ = 0;   // what can wait (all but the taint) is not tried before
  bool stuck_ = false;                // as was said
  std::unique_ptr<NodeWatch> watch_;  // from the first answer on
  std::jthread thread_;               // last: it uses all of the above
};

}  // namespace vedette
