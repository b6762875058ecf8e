// Keeps the newest state of one Node object by a watch of it: a request every few minutes instead of one a
// minute. Its own thread; node() is safe from any thread. Owned by act/node_writer.
#pragma once

#include <chrono>
#include <functional>
#include <memory>
#include <stop_token>
#include <string_view>
#include <thread>

#include "agent/base/latest.h"
#include "agent/kube/backoff.h"
#include "agent/kube/client.h"
#include "agent/kube/node.h"

namespace vedette {

struct NodeWatchOptions {
  // How long the server keeps one watch, drawn anew from this to its double, as in pod_watch.h.
  std::chrono::seconds watch_seconds{300};
  std::chrono::milliseconds first_backoff{200};
  std::chrono::milliseconds max_backoff{30'000};
};

class NodeWatch {
public:
  // Starts the thread, which calls `changed` after each change of node(). Errors are those of
  // KubeClient::make.
  static Result<std::unique_ptr<NodeWatch>> make(const KubeClientOptions& client, const KubeNodeOptions& node,
                                                 NodeWatchOptions options, NodeState known,
                                                 std::function<void()> changed);
  ~NodeWatch();

  // Null while nothing watches, or there is no such node: whoever wants to know must ask.
  std::shared_ptr<const NodeState> node() const { return node_.get(); }

private:
  NodeWatch(std::stop_source stop, KubeClient client, const KubeNodeOptions& node, NodeWatchOptions options,
            NodeState known, std::function<void()> changed);
  void run();
  bool take(std::string_view line);
  void publish(std::shared_ptr<const NodeState> state);

  std::stop_source stop_;
  KubeClient client_;
  KubeNode node_object_;
  const std::string path_;
  const NodeWatchOptions options_;
  const std::function<void()> changed_;
  std::string version_;  // from where the watch goes on; empty: the node must be read first
  Latest<NodeState> node_;
  Backoff backoff_;
  std::jthread thread_;  // last: it uses all of the above
};

}  // namespace vedette
