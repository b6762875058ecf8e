// The C++ part of tools/bench/start-storm: what AGENTS agents that start at once ask of an API server, each a
// NodeWriter in enforce mode and a PodWatch with connections of their own, for the nodes bench-0, bench-1, ….
// The first request of each goes at a random moment of SPREAD_MS, as in the agent. Prints on stdout how many
// ms it took until all had written their conditions and listed their pods, and ends with stdin.
#include <cstdio>
#include <cstdlib>
#include <memory>
#include <vector>

#include <spdlog/spdlog.h>

#include "agent/act/node_writer.h"
#include "agent/kube/pod_watch.h"

int main(int argc, char** argv) {
  using namespace vedette;
  using Clock = std::chrono::steady_clock;
  using std::chrono::milliseconds;
  if (argc != 6) {
    std::fprintf(stderr, "usage: start_storm URL CA TOKEN_FILE AGENTS SPREAD_MS\n");
    return 2;
  }
  spdlog::set_level(spdlog::level::off);  // stdout is for the figures
  NodeWriterOptions writes;
  writes.client.url = argv[1];
  writes.client.ca_file = argv[2];
  writes.client.token_file = argv[3];
  writes.budget.namespace_name = "default";
  PodWatchOptions watches;
  watches.client = writes.client;
  const auto count = static_cast<unsigned>(std::strtoul(argv[4], nullptr, 10));
  writes.start_spread = watches.start_spread = milliseconds(std::strtol(argv[5], nullptr, 10));

  auto snapshot = std::make_shared<Snapshot>();
  snapshot->decision.mode = Mode::kEnforce;
  snapshot->decision.generation = 1;
  snapshot->decision.conditions = {{"VedetteStorageHealthy", true, "Healthy", ""}};
  std::vector<std::unique_ptr<NodeWriter>> writers;
  std::vector<std::unique_ptr<PodWatch>> pods;
  const auto begin = Clock::now();
  for (unsigned i = 0; i < count; ++i) {
    writes.node.name = watches.node_name = "bench-" + std::to_string(i);
    auto writer = NodeWriter::make(writes);
    auto watch = PodWatch::make(watches);
    if (!writer || !watch) {
      std::fprintf(stderr, "start_storm: %s\n", (writer ? watch.error() : writer.error()).text.c_str());
      return 1;
    }
    writers.push_back(std::move(*writer));
    pods.push_back(std::move(*watch));
  }
  // Nothing is decided before the node is known.
  std::vector<bool> decided(count);
  const auto started = [&] {
    bool all = true;
    for (unsigned i = 0; i < count; ++i) {
      const auto state = writers[i]->state();
      if (state->known && !decided[i]) {
        decided[i] = true;
        writers[i]->publish(snapshot);
      }
      all = all && state->acked_generation == 1 && pods[i]->pods().get() != nullptr;
    }
    return all;
  };
  bool done = false;
  while (!(done = started()) && Clock::now() - begin < std::chrono::minutes(5))
    std::this_thread::sleep_for(milliseconds(5));
  std::printf("%ld\n", std::chrono::duration_cast<milliseconds>(Clock::now() - begin).count());
  std::fflush(stdout);
  (void)std::getchar();
  return done ? 0 : 1;
}
