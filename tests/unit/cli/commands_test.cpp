#include "tools/cli/commands.h"

#include <cstdlib>
#include <sstream>
#include <string>

#include <doctest/doctest.h>
#include <nlohmann/json.hpp>

#include "agent/act/policy.h"
#include "agent/base/clock.h"
#include "exporter/exporter.h"
#include "tests/unit/exporter/example_snapshot.h"
#include "tests/unit/temporary_folder.h"
#include "tools/cli/agent_client.h"
#include "tools/cli/format.h"

namespace {

using nlohmann::json;

// A real exporter on a socket of its own, and the real client against it.
class ServedNode {
public:
  ServedNode() {
    vedette::ExporterOptions options;
    options.listen = "";
    options.socket_path = folder_.file("agent.sock");
    options.node_name = "worker-3";
    auto made = vedette::Exporter::make(options);
    REQUIRE(made.has_value());
    exporter_ = std::move(*made);
  }
  // At a time that `status` takes for the newest, unless the scene has one.
  void publish(vedette::example::Scene scene) {
    if (scene.start_ns == 0) scene.start_ns = start_ns_;
    exporter_->publish(vedette::example::snapshot(scene));
  }
  void publish(const vedette::Snapshot& snapshot) {
    exporter_->publish(std::make_shared<const vedette::Snapshot>(snapshot));
  }

  struct Outcome {
    int code;
    std::string out;
    std::string err;
  };
  Outcome run(std::vector<std::string> arguments, vedette::Screen screen = {}) const {
    std::ostringstream out;
    std::ostringstream err;
    arguments.insert(arguments.end(), {"--socket", folder_.file("agent.sock")});
    const int code = vedette::run_cli(arguments, {out, err, screen});
    return {code, out.str(), err.str()};
  }

private:
  const vedette::MonotonicNs start_ns_ = vedette::monotonic_now();
  vedette::TemporaryFolder folder_;  // outlives the exporter
  std::unique_ptr<vedette::Exporter> exporter_;
};

bool has(const std::string& text, const std::string& part) {
  return text.find(part) != std::string::npos;
}

std::size_t widest_line(const std::string& text) {
  std::istringstream lines(text);
  std::size_t widest = 0;
  for (std::string line; std::getline(lines, line);) widest = std::max(widest, vedette::text_width(line));
  return widest;
}

TEST_CASE("status says what, since when, why, what was done and what is next, and exits by the verdict") {
  ServedNode node;
  node.publish({.troubles = true, .tick = 200});
  const auto told = node.run({"status"});
  CHECK(told.code == vedette::kExitDegraded);
  CHECK(told.err.empty());
  for (const char* part :
       {"worker-3 is degraded", "MemoryExhaustion  pod/shop/cart-7d9f", "unhealthy for 3 min",
        "because memory use 97 % · memory use reaches its limit in 24 s", "recovering, over in 110 s",
        "no taint of ours on the node", "Held back", "observe mode (act.mode: observe)", "over in 110 s",
        "12 records lost of 5k", "tcp is degraded: the kernel has no tracepoint tcp_retransmit_skb"}) {
    CHECK_MESSAGE(has(told.out, part), part);
  }
  CHECK(widest_line(told.out) <= 80);
  CHECK_FALSE(has(told.out, "\x1b"));

  node.publish({.troubles = false, .tick = 201});
  const auto healthy = node.run({"status"});
  CHECK(healthy.code == vedette::kExitHealthy);
  CHECK(has(healthy.out, "worker-3 is healthy"));
  CHECK(has(healthy.out, "none"));

  vedette::Snapshot unhealthy =
      *vedette::example::snapshot({.tick = 202, .start_ns = vedette::monotonic_now()});
  unhealthy.conditions.back().severity = vedette::Severity::kUnhealthy;
  unhealthy.act.tainted = true;
  unhealthy.act.taint_reason = "FilesystemError";
  node.publish(unhealthy);
  const auto worst = node.run({"status"});
  CHECK(worst.code == vedette::kExitUnhealthy);
  CHECK(has(worst.out, "tainted: vedette.dev/unhealthy=FilesystemError"));
}

TEST_CASE("status and probes say what the agent costs, what it may cost, and what it gave up for that") {
  ServedNode node;
  vedette::Snapshot snapshot = *vedette::example::snapshot({.troubles = false, .tick = 200});
  CHECK_FALSE(has((node.publish(snapshot), node.run({"status"})).out, "Budget"));

  snapshot.self.budget = {.known = true, .cpu_share = 0.02, .kernel_share = 0.004, .agent_share = 0.002};
  node.publish(snapshot);
  const auto calm = node.run({"status"});
  CHECK(has(calm.out, "0.6 % of all CPUs' time (probes 0.4 %, agent 0.2 %), 2 % allowed"));
  CHECK(has(calm.out, "everything is watched"));

  snapshot.self.budget.step = 3;
  snapshot.self.budget.maps =
      "budget.map_mib is 8: 512 slots of 1 lanes (7 MiB) instead of 512 slots of 2 lanes";
  snapshot.observation.probes.push_back(
      {.name = "locks", .state = vedette::ProbeState::kShed, .reason = "over the CPU budget"});
  snapshot.observation.probes.push_back(
      {.name = "mce", .state = vedette::ProbeState::kOff, .reason = "no tracepoint mce_record"});
  std::swap(snapshot.observation.probes.back(),
            snapshot.observation.probes[snapshot.observation.probes.size() - 2]);
  snapshot.observation.probes.back().watched_ns = 90'000'000'000;
  snapshot.observation.probes.back().since_ns = snapshot.observation.time.monotonic_ns - 30'000'000'000;
  node.publish(snapshot);
  const auto strained = node.run({"status"});
  for (const char* part : {"step 3 of 6: kernel locks are", "budget.map_mib is 8",
                           "locks is shed: over the CPU budget", ", 1 off"})
    CHECK_MESSAGE(has(strained.out, part), part, "\n", strained.out);
  CHECK_FALSE(has(strained.out, "mce"));  // it has nothing to watch here, which is no trouble
  CHECK(widest_line(strained.out) <= 80);
  const auto probes = node.run({"probes"});
  for (const char* part : {"shed for 30 s", "budget: 0.6 % of all CPUs' time", "90 s"})
    CHECK_MESSAGE(has(probes.out, part), part, "\n", probes.out);
  CHECK(widest_line(probes.out) <= 80);
  const json told = json::parse(node.run({"status", "--json"}).out);
  CHECK(told["budget"]["step"] == 3);
  CHECK(told["budget"]["kernel_share"] == 0.004);
}

TEST_CASE("colours appear only where the screen knows them") {
  ServedNode node;
  node.publish({.tick = 1});
  vedette::Screen screen;
  screen.colour = true;
  CHECK(has(node.run({"status"}, screen).out, "\x1b[33m"));
  for (const char* command : {"status", "top", "probes"}) CHECK_FALSE(has(node.run({command}).out, "\x1b"));
}

TEST_CASE("an agent that is not there, or not ready, is one sentence and exit code 3") {
  std::ostringstream out;
  std::ostringstream err;
  CHECK(vedette::run_cli({"status", "--socket", "/nonexistent/agent.sock"}, {out, err, {}}) ==
        vedette::kExitUnreachable);
  CHECK(out.str().empty());
  CHECK(err.str() ==
        "vedette: cannot reach the agent at /nonexistent/agent.sock: No such file or directory (is "
        "vedette-agent "
        "running?)\n");
  const ServedNode node;
  const auto early = node.run({"status"});
  CHECK(early.code == vedette::kExitUnreachable);
  CHECK(has(early.err, "just started"));
}

TEST_CASE("an agent whose newest tick is 30 s old hangs: status shows it, says so, and is exit code 3") {
  CHECK(vedette::stuck_text(30).empty());
  CHECK(vedette::stuck_text(31) == "the agent hangs: its newest verdict is 31 s old");
  if (vedette::monotonic_now() < 100'000'000'000ULL)
    return;  // the machine has just booted: no tick is so old
  ServedNode node;
  node.publish({.troubles = false, .tick = 1, .start_ns = 1});
  const auto told = node.run({"status"});
  CHECK(told.code == vedette::kExitUnreachable);
  CHECK(has(told.out, "worker-3 is healthy"));
  CHECK(has(told.err, "vedette: the agent hangs: its newest verdict is "));
  CHECK(node.run({"status", "--json"}).code == vedette::kExitUnreachable);
}

TEST_CASE("misuse of the command is exit code 64, help and version 0") {
  const ServedNode node;
  CHECK(node.run({}).code == vedette::kExitUsage);
  CHECK(node.run({"dance"}).code == vedette::kExitUsage);
  CHECK(node.run({"explain"}).code == vedette::kExitUsage);
  CHECK(node.run({"top", "--sort", "beauty"}).code == vedette::kExitUsage);
  for (const std::vector<std::string>& arguments :
       {std::vector<std::string>{"explain", "\xff\x1bx"}, {"feedback", "I", "true", "\xff\x1bx"}}) {
    const auto refused = node.run(arguments);
    CHECK(refused.code == vedette::kExitUsage);
    CHECK(refused.err == "vedette: '??x' is no UTF-8\n");
  }
  CHECK(node.run({"--help"}).code == 0);
  CHECK(has(node.run({"--version"}).out, "vedette " VEDETTE_VERSION));
}

TEST_CASE("top lists the node first and then the worst, and sorts as asked") {
  ServedNode node;
  for (std::uint64_t tick = 1; tick <= 70; ++tick) node.publish({.tick = tick});
  const std::string table = node.run({"top", "--once"}).out;
  CHECK(table.find("\nnode ") < table.find("\npod/shop/cart"));
  CHECK(table.find("\npod/shop/cart") < table.find("\npod/default/web-2"));
  CHECK(table.find("\npod/default/web-2") < table.find("\nunit/ssh.service"));
  CHECK(has(table, "unhealthy"));
  CHECK(has(table, "▄▄▄▄"));
  for (const std::size_t columns : {50, 60, 80, 100, 120, 140, 160, 200, 400}) {
    vedette::Screen screen;
    screen.columns = columns;
    CHECK(widest_line(node.run({"top", "--once"}, screen).out) <= columns);
  }
  const std::string by_memory = node.run({"top", "--once", "--sort", "memory"}).out;
  CHECK(by_memory.find("\npod/default/web-2") < by_memory.find("\npod/shop/cart"));
}

TEST_CASE("explain shows conditions, forecast, reasons, a minute of history and the kernel's events") {
  ServedNode node;
  for (std::uint64_t tick = 1; tick <= 70; ++tick) node.publish({.tick = tick});
  const auto told = node.run({"explain", "cart"});
  CHECK(told.code == 0);
  for (const char* part : {"pod/shop/cart-7d9f is unhealthy", "(Deployment/cart)", "MemoryExhaustion",
                           "reaches its limit in 24 s", "usually 1.2 ms", "+6.4", "Last 42 s",
                           "cart[4242] was killed by the OOM killer", "(70 times)"}) {
    CHECK_MESSAGE(has(told.out, part), part);
  }
  CHECK(widest_line(told.out) <= 80);
  CHECK(has(told.out, "nobody waits longer for it"));
  vedette::Snapshot felt = *vedette::example::snapshot({.tick = 71});
  vedette::Condition anomaly;
  anomaly.reason = "Anomaly";
  anomaly.entity = felt.features.entities[1];
  felt.conditions.push_back(anomaly);
  node.publish(felt);
  CHECK_FALSE(has(node.run({"explain", "cart"}).out, "nobody waits longer for it"));
  const auto ambiguous = node.run({"explain", "web"});
  CHECK(ambiguous.code == vedette::kExitDegraded);
  CHECK(ambiguous.out.empty());
  CHECK(has(ambiguous.err, "matches 3 entities; which one?\n  pod/default/web-0"));
  CHECK(has(node.run({"explain", "nobody"}).err, "nothing here is named like \"nobody\""));
}

TEST_CASE("probes shows state, reason, cost and losses") {
  ServedNode node;
  node.publish({.tick = 1});
  const std::string told = node.run({"probes"}).out;
  CHECK(has(told, "syscalls    attached       120M       80"));
  CHECK(has(told, "degraded"));
  CHECK(has(told, "tcp_retransmit_skb"));
  CHECK(has(told, "exec                    5k        12"));
  CHECK(has(told, "7 runs missed"));
  CHECK(has(told, "runs missed                        7"));
  CHECK(has(told, "starts without room                4"));
  CHECK(has(told, "  lock_contentions lacks           3"));
  CHECK(has(node.run({"status"}).out, "7 runs"));
}

TEST_CASE(
    "policy shows the rules in plain words, and for each present condition which one was asked and why") {
  ServedNode node;
  vedette::Snapshot snapshot = *vedette::example::snapshot({.tick = 3});
  snapshot.decision.policy = vedette::Policy::builtin();
  snapshot.decision.judgements = {
      {"DiskError", "node", "1: hard evidence, unhealthy", true, "NoSchedule"},
      {"DiskFull", "node", "2: any evidence", false, "does nothing: so the rule says"}};
  node.publish(snapshot);
  const auto told = node.run({"policy"});
  CHECK(told.code == vedette::kExitHealthy);
  for (const char* part : {"Policy: built in", "1  hard evidence, unhealthy  confidence 0.8  NoSchedule",
                           "DiskError of node, rule 1: hard evidence, unhealthy\n    NoSchedule\n",
                           "DiskFull of node, rule 2: any evidence\n    does nothing: so the rule says\n"}) {
    CHECK_MESSAGE(has(told.out, part), told.out);
  }
  CHECK(widest_line(told.out) <= 80);
  const json answer = json::parse(node.run({"policy", "--json"}).out);
  CHECK(answer["policy"]["rules"][0]["about"] == "hard evidence, unhealthy");
  CHECK(answer["policy"]["judgements"][0]["acts"] == true);
  CHECK(answer["policy"]["judgements"][1]["why"] == "does nothing: so the rule says");
}

TEST_CASE("every command answers as JSON with the documented fields, missing numbers as null") {
  ServedNode node;
  node.publish({.tick = 3});
  const json status = json::parse(node.run({"status", "--json"}).out);
  CHECK(status["overall"] == "degraded");
  CHECK(status["agent"]["node"] == "worker-3");
  CHECK(status["conditions"][0]["reason"] == "MemoryExhaustion");
  CHECK(status["conditions"][0]["reasons"][0]["column"] == "memory_use");
  CHECK(status["decision"]["held_back"] == "observe mode (act.mode: observe)");
  CHECK(status["telemetry"]["losses"]["events"]["exec"]["lost"] == 12);
  const json top = json::parse(node.run({"top", "--json"}).out);
  CHECK(top["rows"].size() == 6);
  CHECK(top["rows"][0]["risk"].is_null());
  CHECK(top["rows"][1]["trails"]["cpu_cores"].size() == 2);
  const json explain = json::parse(node.run({"explain", "cart", "--json"}).out);
  CHECK(explain["row"]["entity"] == "pod/shop/cart-7d9f");
  CHECK(explain["risk_reasons"][0]["usual"].is_null());
  CHECK(explain["events"][0]["type"] == "oom_kill");
  const json probes = json::parse(node.run({"probes", "--json"}).out);
  CHECK(probes["probes"][0]["run_ns"] == 9'600'000'000);
  CHECK(probes["probes"][0]["misses"] == 0);
  CHECK(probes["probes"][1]["misses"] == 7);
  CHECK(probes["probes"][2]["misses"].is_null());
  CHECK(probes["losses"]["misses"] == 7);
  CHECK(probes["losses"]["no_start"] == json{{"lock_contentions", 3}});
  const auto unknown = node.run({"explain", "nobody", "--json"});
  CHECK(json::parse(unknown.out)["error"]["code"] == "unknown_entity");
}

}  // namespace
