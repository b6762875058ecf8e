// Keeps the list of this node's pods as the API server has it. Its own thread lists, then watches, and
// publishes a PodList after each change that matters; pods/PodTable reads pods() on the tick thread. Counters
// and pods() are safe from any thread.
#pragma once

#include <chrono>
#include <cstdint>
#include <map>
#include <memory>
#include <stop_token>
#include <string>
#include <string_view>
#include <thread>

#include "agent/base/latest.h"
#include "agent/kube/backoff.h"
#include "agent/kube/client.h"
#include "agent/pods/pod_info.h"

namespace vedette {

struct PodWatchOptions {
  KubeClientOptions client;
  std::string node_name;
  // Pods asked for at once, where the server heeds it (from its cache it answers with all of them). Halved
  // after an answer that was too large: a single pod may be 9 MB.
  unsigned page = 50;
  // How long the server keeps one watch, drawn anew from this to its double: ends that are spread over a
  // cluster's agents, and long beside the cost of starting one.
  std::chrono::seconds watch_seconds{300};
  std::chrono::milliseconds first_backoff{200};
  std::chrono::milliseconds max_backoff{10'000};
  // The first request goes at a random moment within it: nodes that were powered on together.
  std::chrono::milliseconds start_spread{0};
};

struct PodWatchState {
  bool connected = false;
  bool listed = false;  // what is known is what the server had, and the watch goes on from there
  std::uint64_t lists = 0, watches = 0, events = 0, failures = 0, bad_lines = 0;
  std::string last_error;  // empty after a success
};

class PodWatch {
public:
  // Starts the thread. Errors are those of KubeClient::make and an empty node name.
  static Result<std::unique_ptr<PodWatch>> make(PodWatchOptions options);
  ~PodWatch();

  // Holds null until the first list is whole. After an outage the last known pods stay until the next list.
  const Latest<PodList>& pods() const { return pods_; }
  // Never null.
  std::shared_ptr<const PodWatchState> state() const { return published_.get(); }
  // Why pods() is not what the server has: it cannot be listed; empty otherwise.
  std::string error() const;

private:
  PodWatch(PodWatchOptions options, std::stop_source stop, KubeClient client);
  void run();
  Status list();
  Status watch();
  Status take(std::string_view line);
  void publish_pods();

  const PodWatchOptions options_;
  std::stop_source stop_;
  KubeClient client_;
  Latest<PodList> pods_;
  Latest<PodWatchState> published_;

  // Of the watch's thread from here on.
  PodWatchState state_;
  std::map<std::string, PodInfo> known_;  // by metadata.uid
  std::string resource_version_;          // of known_, where that was listed
  unsigned halvings_ = 0;                 // of a page
  Backoff backoff_;
  std::jthread thread_;  // last: it uses all of the above
};

}  // namespace vedette
