// The other clients of tools/bench/taint-latency-loaded: CLIENTS of them, each on a thread and connection of
// its own, a third each listing, watching and patching nodes and pods of a small cluster that they make first
// (50 nodes, 50 pods), RATE requests a second each (0: as fast as the server answers), until stdin ends.
// Prints "loading", and at the end what they did.
#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <string>
#include <thread>
#include <vector>

#include <nlohmann/json.hpp>

#include "agent/kube/client.h"

namespace {

using namespace vedette;
using Clock = std::chrono::steady_clock;

constexpr unsigned kObjects = 50;  // nodes, and as many pods

struct Counts {
  std::atomic<unsigned> lists{0}, watches{0}, patches{0}, events{0}, errors{0};
};

std::string object_name(unsigned index) {
  return "other-" + std::to_string(index % kObjects);
}

bool made(const Result<KubeReply>& reply) {
  if (reply && reply->status == 201) return true;
  std::fprintf(stderr, "kube_load: %s\n", reply ? explain(*reply).c_str() : reply.error().text.c_str());
  return false;
}

bool make_cluster(KubeClient& client) {
  for (unsigned index = 0; index < kObjects; ++index) {
    auto node = nlohmann::json::parse(R"({"apiVersion": "v1", "kind": "Node", "metadata": {}})");
    node["metadata"]["name"] = object_name(index);
    if (!made(client.post("/api/v1/nodes", node.dump()))) return false;
  }
  for (unsigned index = 0; index < kObjects; ++index) {
    auto pod = nlohmann::json::parse(R"({"apiVersion": "v1", "kind": "Pod", "metadata": {},
      "spec": {"containers": [{"name": "c", "image": "i"}]}})");
    pod["metadata"]["name"] = object_name(index);
    pod["spec"]["nodeName"] = object_name(index);
    if (!made(client.post("/api/v1/namespaces/default/pods", pod.dump()))) return false;
  }
  return true;
}

void load(KubeClient client, unsigned index, const std::stop_token& stop, double rate, Counts& counts) {
  const bool pods = index % 2 == 1;
  const std::string all = pods ? "/api/v1/pods" : "/api/v1/nodes";
  const std::string one =
      pods ? "/api/v1/namespaces/default/pods/" + object_name(index) : "/api/v1/nodes/" + object_name(index);
  const auto count = [&](const Result<KubeReply>& reply, std::atomic<unsigned>& done) {
    if (!stop.stop_requested()) ++(reply && reply->status == 200 ? done : counts.errors);
  };
  auto next = Clock::now();
  for (unsigned round = 0; !stop.stop_requested(); ++round) {
    if (rate > 0) {
      next = std::max(
          next + std::chrono::duration_cast<Clock::duration>(std::chrono::duration<double>(1 / rate)),
          Clock::now());
      std::this_thread::sleep_until(next);
    }
    if (index % 3 == 0) {
      const auto reply = client.get(all + "?resourceVersion=0");
      count(reply, counts.lists);
    } else if (index % 3 == 1) {
      const auto reply = client.watch(all + "?watch=1&timeoutSeconds=600", [&](std::string_view) {
        ++counts.events;
        return !stop.stop_requested();
      });
      count(reply, counts.watches);
    } else {
      const std::string body =
          R"({"metadata": {"annotations": {"round": ")" + std::to_string(round) + R"("}}})";
      const auto reply = client.patch(one, PatchType::kMerge, body);
      count(reply, counts.patches);
    }
  }
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 6) {
    std::fprintf(stderr, "usage: kube_load URL CA TOKEN_FILE CLIENTS RATE\n");
    return 2;
  }
  KubeClientOptions options;
  options.url = argv[1];
  options.ca_file = argv[2];
  options.token_file = argv[3];
  const auto clients = static_cast<unsigned>(std::strtoul(argv[4], nullptr, 10));
  const double rate = std::strtod(argv[5], nullptr);
  auto first = KubeClient::make(options);
  if (!first || !make_cluster(*first)) return 1;

  Counts counts;
  std::stop_source stop;
  const auto begun = Clock::now();
  {
    std::vector<std::jthread> threads;
    for (unsigned index = 0; index < clients; ++index) {
      auto client = KubeClient::make(options, stop.get_token());
      if (!client) return 1;
      threads.emplace_back([&, index, own = std::move(*client)]() mutable {
        load(std::move(own), index, stop.get_token(), rate, counts);
      });
    }
    std::puts("loading");
    std::fflush(stdout);
    while (std::getchar() != EOF) {
    }
    stop.request_stop();
  }
  const double seconds = std::chrono::duration<double>(Clock::now() - begun).count();
  std::printf("%.0f lists, %.0f patches, %.0f watch events a second, %u errors\n", counts.lists / seconds,
              counts.patches / seconds, counts.events / seconds, counts.errors.load());
  return 0;
}
