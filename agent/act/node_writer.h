// Makes the Node object what the newest Decision asks for: taint first, then conditions and events. Level-
// triggered: it compares with what is there, so a lost answer, a restart or an outage only delays. The tick
// thread calls publish(); a thread of its own does everything else; state() is safe from any thread.
#pragma once

#include <chrono>
#include <deque>
#include <map>
#include <memory>
#include <random>
#include <stop_token>
#include <string>
#include <thread>

#include "agent/act/decision.h"
#include "agent/base/latest.h"
#include "agent/kube/client.h"
#include "agent/kube/node.h"
#include "agent/snapshot.h"

namespace vedette {

struct NodeWriterOptions {
  KubeClientOptions client;
  KubeNodeOptions node;
  // How often to look whether the node still is as wanted. It also keeps the connection warm: the apiserver
  // closes one that was idle for 90 s.
  std::chrono::milliseconds resync{60'000};
  // The kubelet refreshes its own conditions as often; each write goes through etcd for every node.
  std::chrono::milliseconds heartbeat{300'000};
  // After an error: long enough not to add to the trouble, short enough that a restarted apiserver (2 s) is
  // found again soon.
  std::chrono::milliseconds first_backoff{100};
  std::chrono::milliseconds max_backoff{10'000};
};

class NodeWriter final : public Sink {
public:
  // Starts the thread. Errors are those of KubeClient::make and an empty node name; an API server that cannot
  // be reached is no error.
  static Result<std::unique_ptr<NodeWriter>> make(NodeWriterOptions options);
  // Leaves the node as it is: whoever starts next adopts it.
  ~NodeWriter() override;

  // Takes the decision. Generation 0 asks for nothing; in observe mode the node is read, never written, in
  // advise mode its taints are not.
  void publish(const std::shared_ptr<const Snapshot>& snapshot) override;

  // Never null; `known` and `adopted` are set before the first write.
  std::shared_ptr<const ActState> state() const { return published_.get(); }

private:
  struct PendingEvent {
    NodeEvent event;
    unsigned attempts = 0;
  };

  NodeWriter(NodeWriterOptions options, std::stop_source stop, KubeClient client);
  void run();
  Status match(std::shared_ptr<const Decision> wanted);
  Result<NodeState> match_taint(std::shared_ptr<const Decision>& wanted);
  Result<NodeState> match_status(NodeState seen, const Decision& wanted);
  void note_node(const NodeState& seen, const Decision* wanted);
  // How often what an event says has happened since the first one of its series, and that one's name.
  struct Series {
    std::string name;
    std::uint32_t count = 0;
    WallNs last_ns = 0;
  };

  void queue_event(const Decision& wanted);
  Status write_events();
  bool asks(const Decision* wanted) const;
  std::chrono::milliseconds jittered(std::chrono::milliseconds limit, double least_share);
  void publish_state() { published_.set(state_); }

  const NodeWriterOptions options_;
  std::stop_source stop_;
  KubeClient client_;
  KubeNode node_;

  Latest<Decision> wanted_;
  std::uint64_t newest_generation_ = 0;  // of the tick thread
  Latest<ActState> published_;

  // Of the writer's thread from here on.
  ActState state_;
  std::string uid_;
  std::uint64_t wanted_version_ = 0;
  MonotonicNs measured_evidence_ns_ = 0;  // the newest evidence that evidence_to_ack_s holds
  bool announced_tainted_ = false;        // what the last event (or the adopted state) said
  std::deque<PendingEvent> events_;
  std::map<std::string, Series> series_;  // by reason of event and taint
  std::minstd_rand random_;
  std::jthread thread_;  // last: it uses all of the above
};

}  // namespace vedette
