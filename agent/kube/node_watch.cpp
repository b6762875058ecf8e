#include "agent/kube/node_watch.h"

#include <utility>

#include <nlohmann/json.hpp>
#include <pthread.h>

#include "agent/kube/json_read.h"

namespace vedette {
namespace {

// A watch that ends sooner gained nothing over asking.
constexpr std::chrono::seconds kWorthwhile{10};

}  // namespace

Result<std::unique_ptr<NodeWatch>> NodeWatch::make(const KubeClientOptions& client, KubeNodeOptions node,
                                                   NodeWatchOptions options, std::function<void()> changed) {
  std::stop_source stop;
  auto made = KubeClient::make(client, stop.get_token());
  if (!made) return tl::unexpected(made.error());
  return std::unique_ptr<NodeWatch>(
      new NodeWatch(std::move(stop), std::move(*made), std::move(node), options, std::move(changed)));
}

NodeWatch::NodeWatch(std::stop_source stop, KubeClient client, KubeNodeOptions node, NodeWatchOptions options,
                     std::function<void()> changed)
    : stop_(std::move(stop)),
      client_(std::move(client)),
      parser_(client_, node),
      // From any version the server has in memory, which it sends first: nothing is listed, and no old
      // version is needed that the server could have forgotten.
      path_("/api/v1/nodes?watch=1&allowWatchBookmarks=true&resourceVersion=0&fieldSelector=" +
            url_encode("metadata.name=" + node.name) + "&timeoutSeconds="),
      options_(options),
      changed_(std::move(changed)),
      backoff_(options.first_backoff, options.max_backoff) {
  thread_ = std::jthread([this] { run(); });
}

NodeWatch::~NodeWatch() {
  stop_.request_stop();
}

void NodeWatch::run() {
  ::pthread_setname_np(::pthread_self(), "node_watch");
  const std::stop_token stop = stop_.get_token();
  const Latest<int> nothing;  // its wait() is a sleep that a stop request ends
  std::uint64_t nothing_seen = 0;
  while (!stop.stop_requested()) {
    const auto begun = std::chrono::steady_clock::now();
    const auto seconds =
        std::chrono::duration_cast<std::chrono::seconds>(backoff_.jittered(2 * options_.watch_seconds, 0.5));
    const auto reply = client_.watch(path_ + std::to_string(seconds.count()),
                                     [this](std::string_view line) { return take(line); });
    if (stop.stop_requested()) break;
    const bool worthwhile = std::chrono::steady_clock::now() - begun >= kWorthwhile;
    if (worthwhile) backoff_.reset();
    if (reply && reply->status == 200 && worthwhile) continue;
    // The writer asks now, and tells what is wrong.
    publish(nullptr);
    nothing.wait(nothing_seen, stop, backoff_.next(client_.retry_after()));
  }
}

bool NodeWatch::take(std::string_view line) {
  const nlohmann::json event = nlohmann::json::parse(line, nullptr, false);
  const std::string type = text_at(event, "type");
  if (type == "BOOKMARK") return true;
  if (type == "DELETED") {
    publish(nullptr);
    return true;
  }
  if (type != "ADDED" && type != "MODIFIED") return false;
  auto state = parser_.parse(child(event, "object"));
  if (!state) return false;
  publish(std::make_shared<const NodeState>(std::move(*state)));
  return true;
}

void NodeWatch::publish(std::shared_ptr<const NodeState> state) {
  if (!state && !node_.get()) return;
  node_.set(std::move(state));
  changed_();
}

}  // namespace vedette
