// A writer under test, the tick that tells it what to want, and what of it is at the API server. Test thread
// only.
#pragma once

#include <chrono>
#include <memory>
#include <string>
#include <vector>

#include <doctest/doctest.h>
#include <nlohmann/json.hpp>

#include "agent/act/node_writer.h"
#include "tests/kube/api_server.h"
#include "tests/kube/taint_history.h"

namespace vedette {

inline const nlohmann::json kForeign = {{"key", "example.com/dedicated"},
                                        {"value", "db"},
                                        {"effect", "NoExecute"},
                                        {"timeAdded", "2026-01-02T03:04:05Z"}};

// A node with a foreign taint, whose history is kept.
struct WatchedNode {
  WatchedNode(ApiServer& api, const std::string& stem)
      : server(api), name(labelled(api, stem)), history(api.admin(), "example.com/watched=" + name) {}

  static std::string labelled(ApiServer& api, const std::string& stem) {
    std::string made = api.make_node(stem);
    api.set_taints(made, {kForeign});
    api.request("PATCH", "/api/v1/nodes/" + made,
                {{"metadata", {{"labels", {{"example.com/watched", made}}}}}});
    return made;
  }
  nlohmann::json now() const { return server.node(name); }
  std::size_t slots() const {
    const std::string leases =
        "/apis/coordination.k8s.io/v1/namespaces/default/leases?labelSelector=vedette.dev/node%3D";
    return server.request("GET", leases + name)["items"].size();
  }

  ApiServer& server;
  const std::string name;
  TaintHistory history;
};

inline NodeWriterOptions writer_options(const KubeClientOptions& client, const std::string& node) {
  NodeWriterOptions options;
  options.client = client;
  options.node.name = node;
  options.max_backoff = std::chrono::milliseconds(500);
  options.max_taints_per_hour = 1000;
  options.budget = {.namespace_name = "default", .share = 1};  // a slot for every node
  return options;
}

inline std::unique_ptr<NodeWriter> make_writer(const NodeWriterOptions& options) {
  auto writer = NodeWriter::make(options);
  if (!writer) FAIL(writer.error().text);
  return std::move(*writer);
}

inline std::unique_ptr<NodeWriter> make_writer(
    const KubeClientOptions& client, const std::string& node,
    std::chrono::milliseconds resync = std::chrono::milliseconds(60'000)) {
  NodeWriterOptions options = writer_options(client, node);
  options.resync = resync;
  return make_writer(options);
}

// What the tick thread would publish.
class Tick {
public:
  explicit Tick(NodeWriter& writer, Mode mode = Mode::kEnforce) : writer_(writer) { decision_.mode = mode; }

  void taint(const std::string& reason, const std::string& message = "because of a test",
             MonotonicNs evidence_ns = 0) {
    decision_.taint = true;
    decision_.reason = reason;
    decision_.message = message;
    decision_.evidence_ns = evidence_ns;
    decision_.conditions = {{"VedetteKernelHealthy", true, "Healthy", "no evidence of trouble"},
                            {"VedetteStorageHealthy", false, reason, message}};
    publish();
  }
  void lift() {
    decision_.taint = false;
    decision_.reason.clear();
    decision_.message = "recovered";
    decision_.conditions = {{"VedetteKernelHealthy", true, "Healthy", "no evidence of trouble"},
                            {"VedetteStorageHealthy", true, "Healthy", "no evidence of trouble"}};
    publish();
  }
  void pause(bool paused) { decision_.paused = paused; }
  // It has not yet heard what the node's annotations say.
  void hear(bool hears) { hears_ = hears; }
  void advise(const std::string& effect, const std::string& message) {
    decision_.advice = {effect, effect.empty() ? "" : "TaskHung", message};
    republish();
  }
  void hold(Hold hold, const std::string& held_back) {
    decision_.hold = hold;
    decision_.held_back = held_back;
    republish();
  }
  void trust(WallNs time, const std::string& sentence) {
    decision_.trusted_wall_ns = time;
    decision_.trusted = sentence;
    publish();
  }
  void verdict(const std::string& text) {
    decision_.verdict = text;
    publish();
  }
  void effect(const std::string& effect) { decision_.effect = effect; }
  void publish() {
    ++decision_.generation;
    republish();
  }
  // The same decision in other words.
  void republish() {
    auto snapshot = std::make_shared<Snapshot>();
    if (hears_) decision_.said = writer_.state()->annotated;
    snapshot->decision = decision_;
    writer_.publish(snapshot);
  }
  bool acked() {
    return eventually([&] { return writer_.state()->acked_generation == decision_.generation; });
  }

private:
  NodeWriter& writer_;
  Decision decision_;
  bool hears_ = true;
};

inline std::vector<nlohmann::json> events_of(ApiServer& server, const std::string& node) {
  std::vector<nlohmann::json> events;
  const nlohmann::json list = server.request("GET", "/apis/events.k8s.io/v1/namespaces/default/events");
  for (const auto& event : list["items"]) {
    if (event["regarding"]["name"] == node) events.push_back(event);
  }
  return events;
}

}  // namespace vedette
