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

Result<std::unique_ptr<NodeWatch>> NodeWatch::make(const KubeClientOptions& client,
                                                   const KubeNodeOptions& node, NodeWatchOptions options,
                                                   NodeState known, std::function<void()> changed) {
  std::stop_source stop;
  auto made = KubeClient::make(client, stop.get_token());
  if (!made) return tl::unexpected(made.error());
  return std::unique_ptr<NodeWatch>(
      new NodeWatch(std::move(stop), std::move(*made), node, options, std::move(known), std::move(changed)));
}

NodeWatch::NodeWatch(std::stop_source stop, KubeClient client, const KubeNodeOptions& node,
                     NodeWatchOptions options, NodeState known, std::function<void()> changed)
    : stop_(std::move(stop)),
      client_(std::move(client)),
      node_object_(client_, node),
      // Not from version 0, which would need no reading first: with an etcd that cannot report progress
      // (before 3.4.25) the apiserver refuses that.
      path_("/api/v1/nodes?watch=1&allowWatchBookmarks=true&fieldSelector=" +
            url_encode("metadata.name=" + node.name)),
      options_(options),
      changed_(std::move(changed)),
      version_(known.resource_version),
      backoff_(options.first_backoff, options.max_backoff) {
  node_.set(std::move(known));
  thread_ = std::jthread([this] { run(); });
}

NodeWatch::~NodeWatch() {
  stop_.request_stop();
}

void NodeWatch::run() {
  ::pthread_setname_np(::pthread_self(), "node_watch");
  const std::stop_token stop = stop_.get_token();
  while (!stop.stop_requested()) {
    if (version_.empty()) {
      if (auto state = node_object_.read(KubeNode::Freshness::kCached)) {
        version_ = state->resource_version;
        publish(std::make_shared<const NodeState>(std::move(*state)));
      }
    }
    if (!version_.empty()) {
      const auto begun = std::chrono::steady_clock::now();
      const auto seconds = std::chrono::duration_cast<std::chrono::seconds>(
          backoff_.jittered(2 * options_.watch_seconds, 0.5));
      const auto reply = client_.watch(path_ + "&resourceVersion=" + url_encode(version_) +
                                           "&timeoutSeconds=" + std::to_string(seconds.count()),
                                       [this](std::string_view line) { return take(line); });
      if (stop.stop_requested()) break;
      const bool worthwhile = std::chrono::steady_clock::now() - begun >= kWorthwhile;
      if (worthwhile) backoff_.reset();
      if (reply && reply->status == 200 && worthwhile && !version_.empty()) continue;
      version_.clear();
    }
    // The writer asks now, and tells what is wrong.
    publish(nullptr);
    sleep_for(backoff_.next(client_.retry_after()), stop);
  }
}

// What cannot be taken in, a forgotten version (410) and the node's end lead to reading it again.
bool NodeWatch::take(std::string_view line) {
  const nlohmann::json event = nlohmann::json::parse(line, nullptr, false);
  const std::string type = text_at(event, "type");
  version_ = text_at(child(child(event, "object"), "metadata"), "resourceVersion");
  if (type == "BOOKMARK") return true;
  auto state = type == "MODIFIED" || type == "ADDED" ? node_object_.parse(child(event, "object"))
                                                     : Result<NodeState>(fail(type));
  if (!state) {
    version_.clear();
    return false;
  }
  publish(std::make_shared<const NodeState>(std::move(*state)));
  return true;
}

void NodeWatch::publish(std::shared_ptr<const NodeState> state) {
  if (!state && !node_.get()) return;
  node_.set(std::move(state));
  changed_();
}

}  // namespace vedette
