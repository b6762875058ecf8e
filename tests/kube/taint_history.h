// What the API server's own history of nodes says of our taint: a watch from a known version on, so that
// every state a node ever had is seen, in etcd's order. Used by the test and by tools/bench/taint_budget.cpp.
#pragma once

#include <algorithm>
#include <atomic>
#include <chrono>
#include <memory>
#include <set>
#include <stop_token>
#include <string>
#include <thread>
#include <utility>

#include <nlohmann/json.hpp>

#include "agent/kube/client.h"

namespace vedette {

class TaintHistory {
public:
  // Of the nodes with `selector`.
  TaintHistory(KubeClientOptions options, const std::string& selector)
      : options_(std::move(options)), query_("/api/v1/nodes?labelSelector=" + url_encode(selector)) {
    auto client = KubeClient::make(options_, stop_.get_token());
    if (!client || !list(*client)) {
      ++gaps;
      return;
    }
    thread_ = std::jthread([this, own = std::make_shared<KubeClient>(std::move(*client))] { run(*own); });
  }
  ~TaintHistory() { stop_.request_stop(); }

  std::atomic<unsigned> tainted{0}, most{0}, added{0}, gaps{0};
  // When `full` were tainted for the first time (steady clock); 0: never.
  std::atomic<long> full_at_ms{0};
  std::atomic<unsigned> full{~0U};

private:
  void run(KubeClient& client) {
    while (!stop_.stop_requested()) {
      const auto reply =
          client.watch(query_ + "&watch=1&allowWatchBookmarks=true&resourceVersion=" + version_,
                       [this](std::string_view line) { return take(line); });
      if (reply && reply->status == 410) forgotten_ = true;
      if (forgotten_ && list(client)) {
        forgotten_ = false;
        ++gaps;
      }
      std::this_thread::sleep_for(std::chrono::milliseconds(50));
    }
  }

  bool take(std::string_view line) {
    const auto event = nlohmann::json::parse(line, nullptr, false);
    if (!event.is_object() || event["type"] == "ERROR") {
      forgotten_ = true;
      return false;
    }
    const auto& object = event["object"];
    version_ = object["metadata"]["resourceVersion"];
    if (event["type"] == "BOOKMARK") return true;
    if (event["type"] == "DELETED") {
      names_.erase(object["metadata"]["name"]);
    } else {
      note(object);
    }
    return true;
  }

  bool list(KubeClient& client) {
    const auto reply = client.get(query_);
    const auto answer = reply ? nlohmann::json::parse(reply->body, nullptr, false) : nlohmann::json();
    if (!answer.is_object() || !answer.contains("items")) return false;
    version_ = answer["metadata"]["resourceVersion"];
    for (const auto& node : answer["items"]) note(node);
    return true;
  }

  void note(const nlohmann::json& node) {
    bool has = false;
    if (node["spec"].contains("taints")) {
      for (const auto& taint : node["spec"]["taints"]) has = has || taint["key"] == "vedette.dev/unhealthy";
    }
    const std::string name = node["metadata"]["name"];
    if (has && names_.insert(name).second) ++added;
    if (!has) names_.erase(name);
    const auto count = static_cast<unsigned>(names_.size());
    tainted = count;
    most = std::max(most.load(), count);
    if (count >= full && full_at_ms == 0) {
      full_at_ms = std::chrono::duration_cast<std::chrono::milliseconds>(
                       std::chrono::steady_clock::now().time_since_epoch())
                       .count();
    }
  }

  KubeClientOptions options_;
  std::string query_, version_;
  std::set<std::string> names_;
  bool forgotten_ = false;
  std::stop_source stop_;
  std::jthread thread_;
};

}  // namespace vedette
