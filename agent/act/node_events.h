// What the node's events say of a decision and of what became of it: each thing once, what comes again as a
// series; and the queue of those that the API server has not taken yet. act/node_writer.h calls it: its
// thread only.
#pragma once

#include <cstdint>
#include <deque>
#include <map>
#include <string>
#include <utility>

#include "agent/act/decision.h"
#include "agent/base/clock.h"
#include "agent/kube/backoff.h"
#include "agent/kube/client.h"
#include "agent/kube/node.h"

namespace vedette {

class NodeEvents {
public:
  // `client` and `node` must outlive this. What is refused is tried again as `backoff` says.
  NodeEvents(const KubeClient& client, KubeNode& node, Backoff backoff)
      : client_(client), node_(node), backoff_(backoff) {}

  // The node as it was read first. Its taint is no news; but whoever set it may have been killed before it
  // told.
  void note_found(const NodeState& seen);
  // The taint of `before` was just changed to what is wanted.
  void note_patch(const NodeState& before, const Decision& wanted);

  // That the taint is as wanted, on `seen`; in advise mode, what would be done.
  void tell_taint(const Decision& wanted, const NodeState& seen);
  // As in advise mode, for a rule alone. What is tainted now is advised no longer, and needs no word.
  void tell_advice(const Decision& wanted);
  // A taint that the evidence asks for, and why it is not there: the decider's reason, or the writer's
  // (`hold`, and `why` in a sentence; empty: none). Only where one would be set: elsewhere nothing is held
  // back.
  void tell_hold(const Decision& wanted, bool tainted, Hold hold, const std::string& why);
  void tell_trust(const Decision& wanted);

  // Sends what waits, until one is refused: that holds back only events. `node_uid` as in NodeState.
  void write(const std::string& node_uid);
  // None is tried before.
  MonotonicNs next_try_ns() const { return next_try_ns_; }

  std::uint64_t written() const { return written_; }
  std::uint64_t failures() const { return failures_; }  // refused tries, and events that found no room
  const std::string& error() const { return error_; }   // of the last try; empty after a success

private:
  struct Pending {
    NodeEvent event;
    unsigned attempts = 0;
  };
  // How often what an event says has happened since the first one of its series, and that one's name.
  struct Series {
    std::string name;
    std::uint32_t count = 0;
    WallNs last_ns = 0;
  };

  Taint taint_of(const std::string& reason, const std::string& effect) const;
  void queue(NodeEvent event, const std::string& of);  // as in series_

  const KubeClient& client_;
  KubeNode& node_;
  Backoff backoff_;
  bool lifted_ = false;    // the newest patch took the taint away, and no event has told it
  std::string announced_;  // the effect that the last event (or the adopted state) told; empty: none
  std::string advised_;    // the effect that the last advice told; empty: none
  std::pair<std::string, Hold> told_hold_;  // by reason; as it was told, or not told again so soon
  WallNs told_trusted_ns_ = 0;
  // By reason of event, and what it is of: reason and effect of taint, or reason and what holds it back.
  std::map<std::string, Series> series_;
  std::deque<Pending> pending_;
  MonotonicNs next_try_ns_ = 0;
  std::uint64_t written_ = 0, failures_ = 0;
  std::string error_;
};

}  // namespace vedette
