// The C++ part of tools/bench/taint-budget: a NodeWriter for each of NODES new nodes, all alarmed at once.
// Prints "most_tainted ms_until_full ms_until_all_answered" on stdout, the most as the API server's history
// has it.
#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <vector>

#include <spdlog/spdlog.h>

#include "agent/act/node_writer.h"
#include "tests/kube/taint_history.h"

int main(int argc, char** argv) {
  using namespace vedette;
  using Clock = std::chrono::steady_clock;
  using std::chrono::milliseconds;
  if (argc != 7) {
    std::fprintf(stderr, "usage: taint_budget URL CA TOKEN_FILE NODES SHARE SECONDS\n");
    return 2;
  }
  spdlog::set_level(spdlog::level::off);  // stdout is for the figures
  NodeWriterOptions options;
  options.client.url = argv[1];
  options.client.ca_file = argv[2];
  options.client.token_file = argv[3];
  options.budget.namespace_name = "default";
  options.budget.share = std::strtod(argv[5], nullptr);
  const auto count = static_cast<unsigned>(std::strtoul(argv[4], nullptr, 10));
  const auto seconds = std::strtol(argv[6], nullptr, 10);
  std::vector<std::unique_ptr<NodeWriter>> writers;
  Decision decision;
  decision.mode = Mode::kEnforce;
  const auto publish = [&](bool taint) {
    decision.taint = taint;
    decision.reason = taint ? "FilesystemError" : "";
    decision.conditions = {{"VedetteStorageHealthy", !taint, taint ? "FilesystemError" : "Healthy", ""}};
    ++decision.generation;
    auto snapshot = std::make_shared<Snapshot>();
    snapshot->decision = decision;
    for (const auto& writer : writers) writer->publish(snapshot);
  };
  const auto answered = [&] {
    return std::all_of(writers.begin(), writers.end(), [&](const auto& writer) {
      const auto state = writer->state();
      return state->acked_generation == decision.generation || !state->held_back.empty();
    });
  };
  const auto wait = [](const auto& happened) {
    const auto begin = Clock::now();
    while (!happened() && Clock::now() - begin < std::chrono::minutes(5))
      std::this_thread::sleep_for(milliseconds(5));
    return std::chrono::duration_cast<milliseconds>(Clock::now() - begin).count();
  };
  for (unsigned i = 0; i < count; ++i) {
    options.node.name = "bench-" + std::to_string(i);
    auto writer = NodeWriter::make(options);
    if (!writer) {
      std::fprintf(stderr, "%s\n", writer.error().text.c_str());
      return 1;
    }
    writers.push_back(std::move(*writer));
  }
  publish(false);
  wait(answered);
  std::puts("quiet");
  std::fflush(stdout);
  (void)std::getchar();  // whoever counts the requests has counted
  TaintHistory history(options.client, "");
  history.full = static_cast<unsigned>(options.budget.share * count);
  const auto begin = std::chrono::duration_cast<milliseconds>(Clock::now().time_since_epoch()).count();
  publish(true);
  const auto all_answered = wait(answered);
  std::this_thread::sleep_for(std::chrono::seconds(seconds));
  std::printf("%u %ld %ld %u\n", history.most.load(), history.full_at_ms.load() - begin,
              static_cast<long>(all_answered), history.gaps.load());
  std::fflush(stdout);
  (void)std::getchar();
  return 0;
}
