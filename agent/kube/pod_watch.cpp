#include "agent/kube/pod_watch.h"

#include <algorithm>
#include <utility>

#include <pthread.h>
#include <spdlog/spdlog.h>

#include "agent/kube/pod_json.h"

namespace vedette {
namespace {

// Pods of one node: the kubelet's default limit is 110, the largest ones in use 1000. Beyond it something is
// wrong with the selector, and memory matters more.
constexpr std::size_t kMaxPods = 4096;
constexpr unsigned kMaxHalvings = 31;  // of 32 bits

bool same(const PodInfo& a, const PodInfo& b) {
  return a.uid == b.uid && a.namespace_name == b.namespace_name && a.name == b.name &&
         a.workload == b.workload && a.containers == b.containers && a.revision == b.revision &&
         a.restarts == b.restarts;
}

}  // namespace

Result<std::unique_ptr<PodWatch>> PodWatch::make(PodWatchOptions options) {
  if (options.node_name.empty()) return fail("kube.node_name: empty, expected the name of this node");
  std::stop_source stop;
  auto client = KubeClient::make(options.client, stop.get_token());
  if (!client) return tl::unexpected(client.error());
  return std::unique_ptr<PodWatch>(new PodWatch(std::move(options), std::move(stop), std::move(*client)));
}

PodWatch::PodWatch(PodWatchOptions options, std::stop_source stop, KubeClient client)
    : options_(std::move(options)),
      stop_(std::move(stop)),
      client_(std::move(client)),
      backoff_(options_.first_backoff, options_.max_backoff) {
  published_.set(state_);
  thread_ = std::jthread([this] { run(); });
}

PodWatch::~PodWatch() {
  stop_.request_stop();
}

std::string PodWatch::error() const {
  const auto state = published_.get();
  return state->listed ? "" : state->last_error;
}

void PodWatch::run() {
  ::pthread_setname_np(::pthread_self(), "pod_watch");
  const std::stop_token stop = stop_.get_token();
  sleep_for(backoff_.jittered(options_.start_spread, 0), stop);
  while (!stop.stop_requested()) {
    const std::uint64_t events_before = state_.events;
    const bool lists = !state_.listed;
    const Status done = lists ? list() : watch();
    if (stop.stop_requested()) break;
    if (done) {
      state_.connected = true;
      state_.last_error.clear();
    } else {
      if (state_.last_error != done.error().text) spdlog::warn("{}", done.error().text);
      state_.connected = false;
      state_.last_error = done.error().text;
      ++state_.failures;
    }
    published_.set(state_);
    const bool progressed = state_.events != events_before;
    if (progressed) backoff_.reset();
    // A watch that ends in peace, but before its first event, may do so again: that must not spin.
    if (done && (lists || progressed)) continue;
    sleep_for(backoff_.next(client_.retry_after()), stop);
  }
}

Status PodWatch::list() {
  std::map<std::string, PodInfo> pods;
  std::string resource_version;
  std::string token;
  do {
    std::string path = "/api/v1/pods?fieldSelector=" + url_encode("spec.nodeName=" + options_.node_name) +
                       "&limit=" + std::to_string(std::max(1U, options_.page >> halvings_));
    if (!token.empty()) path += "&continue=" + url_encode(token);
    // The first one as old as the server's cache has it, so that it costs no etcd anything: the watch brings
    // the rest. What follows a gap must be newer than that.
    if (state_.lists == 0 && halvings_ == 0 && token.empty()) path += "&resourceVersion=0";
    auto reply = client_.get(path);
    if (!reply) {
      if (client_.too_large()) halvings_ = std::min(halvings_ + 1, kMaxHalvings);
      return tl::unexpected(reply.error());
    }
    if (reply->status != 200)
      return fail("GET /api/v1/pods of node " + options_.node_name + ": " + explain(*reply));
    auto page = parse_pod_page(reply->body);
    if (!page) return tl::unexpected(page.error());
    for (WatchedPod& pod : page->pods) pods.insert_or_assign(std::move(pod.uid), std::move(pod.info));
    if (pods.size() > kMaxPods) {
      return fail("list of pods: more than " + std::to_string(kMaxPods) + " on node " + options_.node_name);
    }
    token = std::move(page->continue_token);
    resource_version = std::move(page->resource_version);
  } while (!token.empty());
  ++state_.lists;
  state_.listed = true;
  known_ = std::move(pods);
  resource_version_ = std::move(resource_version);
  publish_pods();
  return {};
}

Status PodWatch::watch() {
  const auto seconds =
      std::chrono::duration_cast<std::chrono::seconds>(backoff_.jittered(2 * options_.watch_seconds, 0.5));
  const std::string path = "/api/v1/pods?watch=1&allowWatchBookmarks=true&fieldSelector=" +
                           url_encode("spec.nodeName=" + options_.node_name) +
                           "&resourceVersion=" + url_encode(resource_version_) +
                           "&timeoutSeconds=" + std::to_string(seconds.count());
  ++state_.watches;
  Status taken;
  auto reply = client_.watch(path, [&](std::string_view line) {
    taken = take(line);
    return taken.has_value() && state_.listed;
  });
  if (!taken) return taken;
  if (!reply) {
    // The same event would come again: a list tells what became of its pod.
    if (client_.too_large()) state_.listed = false;
    return tl::unexpected(reply.error());
  }
  if (reply->status == 410) {
    state_.listed = false;
    return {};
  }
  if (reply->status != 200) {
    return fail("watch of the pods of node " + options_.node_name + ": " + explain(*reply));
  }
  return {};
}

// Whatever cannot be taken in may have mattered: state_.listed becomes false and the next list tells.
Status PodWatch::take(std::string_view line) {
  auto change = parse_pod_change(line);
  if (!change) {
    ++state_.bad_lines;
    state_.listed = false;
    return tl::unexpected(change.error());
  }
  if (change->kind == PodChange::Kind::kError) {
    state_.listed = false;
    // 410: the server has forgotten our resourceVersion, which is no fault of anybody's.
    if (change->code == 410) return {};
    return fail("watch of the pods of node " + options_.node_name + ": " + change->message);
  }
  ++state_.events;
  state_.connected = true;
  state_.last_error.clear();
  published_.set(state_);
  if (!change->resource_version.empty()) resource_version_ = std::move(change->resource_version);
  if (change->kind == PodChange::Kind::kDeleted) {
    if (known_.erase(change->pod.uid) != 0) publish_pods();
  } else if (change->kind == PodChange::Kind::kSet) {
    const auto found = known_.find(change->pod.uid);
    if (found == known_.end() && known_.size() >= kMaxPods) {
      state_.listed = false;
      return fail("watch of pods: more than " + std::to_string(kMaxPods) + " on node " + options_.node_name);
    }
    if (found == known_.end() || !same(found->second, change->pod.info)) {
      known_.insert_or_assign(std::move(change->pod.uid), std::move(change->pod.info));
      publish_pods();
    }
  }
  return {};
}

void PodWatch::publish_pods() {
  PodList list;
  list.pods.reserve(known_.size());
  for (const auto& [uid, info] : known_) {
    list.pods.push_back(info);
    // Annotations are their author's word: a pod's own uid is no other's.
    if (known_.contains(info.uid)) list.pods.back().uid = uid;
  }
  pods_.set(std::move(list));
}

}  // namespace vedette
