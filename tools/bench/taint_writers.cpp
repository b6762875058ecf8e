// The C++ part of tools/bench/taint-writers: one NodeWriter that taints and lifts in a loop while eight
// others rewrite taints of their own. Prints "writes conflicts damaged errors flips ours_conflicts" on
// stdout.
#include <cstdio>
#include <cstdlib>
#include <set>

#include "agent/act/node_writer.h"
#include "tests/kube/foreign_writers.h"

int main(int argc, char** argv) {
  using namespace vedette;
  if (argc != 6) {
    std::fprintf(stderr, "usage: taint_writers URL CA TOKEN_FILE NODE ROUNDS\n");
    return 2;
  }
  NodeWriterOptions options;
  options.client.url = argv[1];
  options.client.ca_file = argv[2];
  options.client.token_file = argv[3];
  options.node.name = argv[4];
  options.budget.namespace_name = "default";
  options.max_taints_per_hour = 1'000'000;
  const auto rounds = static_cast<unsigned>(std::strtoul(argv[5], nullptr, 10));
  auto writer = NodeWriter::make(options);
  if (!writer) {
    std::fprintf(stderr, "%s\n", writer.error().text.c_str());
    return 1;
  }
  ForeignCounts counts;
  std::atomic<unsigned> running{8};
  unsigned flips = 0;
  Decision decision;
  decision.mode = Mode::kEnforce;
  const auto flip = [&] {
    decision.taint = !decision.taint;
    decision.reason = "FilesystemError";
    ++decision.generation;
    auto snapshot = std::make_shared<Snapshot>();
    snapshot->decision = decision;
    (*writer)->publish(snapshot);
    while ((*writer)->state()->acked_generation != decision.generation) {
      std::this_thread::sleep_for(std::chrono::milliseconds(1));
    }
    ++flips;
  };
  {
    std::vector<std::jthread> threads;
    for (unsigned index = 0; index < 8; ++index) {
      auto client = KubeClient::make(options.client);
      if (!client) return 1;
      threads.emplace_back([&, index, own = std::move(*client)]() mutable {
        write_foreign_taint(std::move(own), "/api/v1/nodes/" + options.node.name, index, rounds, counts);
        --running;
      });
    }
    while (running != 0) flip();
  }
  if (!decision.taint) flip();

  // What is left: the eight, as they were written last, and ours once.
  auto client = KubeClient::make(options.client);
  const auto reply = client->get("/api/v1/nodes/" + options.node.name);
  const auto node = reply ? nlohmann::json::parse(reply->body, nullptr, false) : nlohmann::json();
  std::multiset<std::string> keys;
  if (node.is_object()) {
    for (const auto& taint : node["spec"]["taints"]) keys.insert(taint["key"].get<std::string>());
  }
  unsigned lost = keys.count(options.node.taint_key) == 1 ? 0 : 1;
  for (unsigned index = 0; index < 8; ++index) {
    lost += keys.count("writer-" + std::to_string(index) + ".example/round") == 1 ? 0 : 1;
  }
  std::printf("%u %u %u %u %u %llu\n", counts.writes.load(), counts.conflicts.load(), counts.damaged + lost,
              counts.errors.load(), flips, static_cast<unsigned long long>((*writer)->state()->conflicts));
  return 0;
}
