// More than one agent at one node, at the same time or one after the other: a leftover beside the DaemonSet,
// a crash loop, a newer version rolled back.
#include <algorithm>
#include <optional>

#include "agent/act/decider.h"
#include "tests/kube/writer.h"
#include "tests/policy_of.h"
#include "tests/skip.h"

using namespace vedette;
using nlohmann::json;

namespace {

// Decides and writes, as the agent's tick and its writer do.
class OneAgent {
public:
  OneAgent(const WatchedNode& node, const std::shared_ptr<const Policy>& policy)
      : writer_(make_writer(node.server.admin(), node.name)),
        decider_({.mode = Mode::kEnforce, .policy = policy}) {
    REQUIRE(eventually([&] { return writer_->state()->known; }));
  }
  Decision tick(double now_s, const std::vector<Condition>& conditions) {
    auto snapshot = std::make_shared<Snapshot>();
    snapshot->decision = decider_.update({ns(now_s), start_ + ns(now_s)}, conditions, {}, *writer_->state());
    writer_->publish(snapshot);
    generation_ = snapshot->decision.generation;
    return snapshot->decision;
  }
  bool acked() {
    return eventually([&] { return writer_->state()->acked_generation == generation_; });
  }
  static MonotonicNs ns(double s) { return static_cast<MonotonicNs>(s * 1e9); }

private:
  const WallNs start_ = wall_now();
  std::unique_ptr<NodeWriter> writer_;
  Decider decider_;
  std::uint64_t generation_ = 0;
};

Condition trouble(const std::string& reason, double first_s, double last_s) {
  Condition condition;
  condition.reason = reason;
  condition.severity = Severity::kUnhealthy;
  condition.entity = std::make_shared<const Entity>();
  condition.first_evidence_ns = OneAgent::ns(first_s);
  condition.evidence_ns = OneAgent::ns(last_s);
  condition.message = "because of a test";
  condition.count = 1;
  return condition;
}

}  // namespace

TEST_CASE("two agents on one node that agree taint it once, and leave nothing when both are done") {
  auto* server = ApiServer::shared();
  if (server == nullptr) VEDETTE_SKIP(ApiServer::why());
  const WatchedNode node(*server, "twins");
  const auto first = make_writer(server->admin(), node.name);
  const auto second = make_writer(server->admin(), node.name);
  Tick a(*first);
  Tick b(*second);
  a.taint("FilesystemError");
  b.taint("FilesystemError");
  CHECK(a.acked());
  CHECK(b.acked());
  CHECK(taints_of(node.now()).at(kKey)["value"] == "FilesystemError");
  CHECK(node.slots() <= 2);  // both may have asked for one before either tainted
  CHECK(node.history.added == 1);
  a.lift();
  b.lift();
  CHECK(a.acked());
  CHECK(b.acked());
  CHECK(eventually([&] { return taints_of(node.now()).count(kKey) == 0 && node.slots() == 0; }));
  CHECK(taints_of(node.now()).at("example.com/dedicated") == kForeign);
  const std::string version = node.now()["metadata"]["resourceVersion"];
  std::this_thread::sleep_for(std::chrono::milliseconds(300));
  CHECK(node.now()["metadata"]["resourceVersion"] == version);
}

TEST_CASE(
    "two agents on one node that want different things write ever less often, and touch no foreign taint") {
  auto* server = ApiServer::shared();
  if (server == nullptr) VEDETTE_SKIP(ApiServer::why());
  struct Pair {
    Pair(ApiServer& api, bool other_taints) : node(api, "rivals") {
      NodeWriterOptions options = writer_options(api.admin(), node.name);
      options.max_taints_per_hour = NodeWriterOptions{}.max_taints_per_hour;
      for (auto* writer : {&first, &second}) *writer = make_writer(options);
      Tick a(*first);
      a.taint("FilesystemError");
      a.verdict("{\"mode\":\"a\"}");
      Tick b(*second);
      b.effect("NoExecute");
      other_taints ? b.taint("DiskFull") : b.lift();
      b.verdict("{\"mode\":\"b\"}");
    }
    std::uint64_t patches() const { return first->state()->patches + second->state()->patches; }
    WatchedNode node;
    std::unique_ptr<NodeWriter> first, second;
  };
  const Pair about_the_taint(*server, false);
  const Pair about_its_effect(*server, true);
  const auto both = {&about_the_taint, &about_its_effect};
  for (const Pair* pair : both) CHECK(eventually([&] { return pair->patches() > 6; }));
  std::this_thread::sleep_for(std::chrono::milliseconds(1500));
  for (const Pair* pair : both) {
    // Without a brake: some hundred a second.
    CHECK(pair->patches() < 40);
    CHECK(pair->node.history.added <= 4);  // max_taints_per_hour
    CHECK(taints_of(pair->node.now()).at("example.com/dedicated") == kForeign);
    CHECK(pair->node.slots() <= 2);
  }
  CHECK(about_its_effect.node.history.added == 1);
}

TEST_CASE(
    "an agent killed between two steps of an escalation, or in the midst of one, goes on where it was") {
  auto* server = ApiServer::shared();
  if (server == nullptr) VEDETTE_SKIP(ApiServer::why());
  const auto policy = policy_of(
      "{rules: [{reason: DiskSlow, effect: PreferNoSchedule, escalate: {after: 10s, effect: NoSchedule}},"
      " {reason: FilesystemError, effect: NoExecute}]}");
  const std::vector<std::string> effects = {"PreferNoSchedule", "NoSchedule", "NoExecute"};
  const std::vector<double> times = {1, 20, 30};
  std::optional<json> undisturbed;
  for (int killed_after = -1; killed_after < 3; ++killed_after) {
    for (const bool at_once : {false, true}) {
      if (killed_after < 0 && at_once) continue;
      INFO("killed after step " << killed_after << (at_once ? " at once" : ""));
      const WatchedNode node(*server, "killed");
      std::optional<OneAgent> agent(std::in_place, node, policy);
      double started_s = 1;  // a new process knows of no older evidence
      for (int step = 0; step < 3; ++step) {
        const double now_s = times.at(step);
        const auto conditions = [&](double at_s) {
          std::vector<Condition> present = {trouble("DiskSlow", started_s, at_s)};
          if (step == 2) present.push_back(trouble("FilesystemError", 30, 30));
          return present;
        };
        CHECK(agent->tick(now_s, conditions(now_s)).effect == effects.at(step));
        if (step != killed_after || !at_once) CHECK(agent->acked());
        if (step != killed_after) continue;
        agent.reset();
        agent.emplace(node, policy);
        started_s = now_s + .5;
        CHECK(agent->tick(started_s, conditions(started_s)).taint);
        CHECK(agent->acked());
        if (!at_once) CHECK(taints_of(node.now()).at(kKey)["effect"] == effects.at(step));
      }
      const json now = node.now();
      json left = {taints_of(now),
                   json::parse(now["metadata"]["annotations"]["vedette.dev/verdict"].get<std::string>())};
      left[0][kKey].erase("timeAdded");
      for (const char* name : {"since", "conditions"}) left[1].erase(name);
      if (!undisturbed) undisturbed = left;
      CHECK(left == *undisturbed);
      CHECK(left[0][kKey]["effect"] == "NoExecute");
      CHECK(node.slots() == 1);
      CHECK(node.history.added == 1);
    }
  }
}

TEST_CASE("what a newer version left is read as far as it is known, and the rest stays as it is") {
  auto* server = ApiServer::shared();
  if (server == nullptr) VEDETTE_SKIP(ApiServer::why());
  const WatchedNode node(*server, "newer");
  const json taint = {{"key", kKey},
                      {"value", "FilesystemError"},
                      {"effect", "NoExecute"},
                      {"timeAdded", "2026-02-03T04:05:06Z"}};
  server->set_taints(node.name, {kForeign, taint});
  const json verdict =
      json::parse(R"({"version": 9, "schema": {"x": [1]}, "mode": "hibernate", "effect": "NoMagic",
    "reason": 7, "remembered": [{"reason": "FilesystemError", "recovery_s": 600, "relapses": 2, "mood": {"a": 1}},
                                {"pair": ["A", "B"]}, "text"],
    "conditions": [{"reason": "New", "domain": "quantum", "severity": "fatal"}]})");
  server->request(
      "PATCH", "/api/v1/nodes/" + node.name,
      {{"metadata",
        {{"annotations", {{"vedette.dev/verdict", verdict.dump()}, {"vedette.dev/quantum", "[1]"}}}}}});
  const json newer = {{"type", "VedetteQuantumHealthy"},
                      {"status", "False"},
                      {"reason", "Decoherence"},
                      {"message", "m"},
                      {"lastHeartbeatTime", "2026-01-02T03:04:05Z"},
                      {"lastTransitionTime", "2026-01-02T03:04:05Z"}};
  server->request("PATCH", "/api/v1/nodes/" + node.name + "/status",
                  {{"status", {{"conditions", json::array({newer})}}}});
  OneAgent agent(node, Policy::builtin());
  CHECK(agent.tick(1, {}).taint);
  CHECK(agent.acked());
  CHECK(agent.tick(590, {}).taint);
  CHECK(taints_of(node.now()).at(kKey) == taint);
  CHECK_FALSE(agent.tick(602, {}).taint);
  CHECK(agent.acked());
  const json now = node.now();
  CHECK(taints_of(now).size() == 1);
  CHECK(taints_of(now).at("example.com/dedicated") == kForeign);
  CHECK(*condition_of(now, "VedetteQuantumHealthy") == newer);
  CHECK(now["metadata"]["annotations"]["vedette.dev/quantum"] == "[1]");
  const json ours = json::parse(now["metadata"]["annotations"]["vedette.dev/verdict"].get<std::string>());
  CHECK(ours["mode"] == "enforce");
  CHECK(ours["remembered"][0]["relapses"] == 2);
  CHECK_FALSE(ours.contains("version"));
}

TEST_CASE("times of a clock that is an hour off hold nothing back and keep nothing alive") {
  auto* server = ApiServer::shared();
  if (server == nullptr) VEDETTE_SKIP(ApiServer::why());
  constexpr WallNs kHour = 3600ULL * 1'000'000'000ULL;
  const auto off = [](const json& text) {
    const auto time = static_cast<std::int64_t>(parse_time(text));
    return std::abs(time - static_cast<std::int64_t>(wall_now()));
  };
  for (const bool ahead : {false, true}) {
    INFO((ahead ? "ahead" : "behind"));
    const WallNs wrong = ahead ? wall_now() + kHour : wall_now() - kHour;
    const std::string text = format_time(wrong);
    const WatchedNode node(*server, "clock");
    const std::string path = "/api/v1/nodes/" + node.name;
    json conditions;
    for (const char* type : {"VedetteKernelHealthy", "VedetteStorageHealthy"}) {
      conditions.push_back({{"type", type},
                            {"status", "True"},
                            {"reason", "Healthy"},
                            {"message", "no evidence of trouble"},
                            {"lastHeartbeatTime", text},
                            {"lastTransitionTime", text}});
    }
    server->request("PATCH", path + "/status", {{"status", {{"conditions", conditions}}}});
    std::string twice = text;
    twice.append(" ").append(text);
    server->request("PATCH", path, {{"metadata", {{"annotations", {{"vedette.dev/taint-times", twice}}}}}});
    NodeWriterOptions options = writer_options(server->admin(), node.name);
    options.max_taints_per_hour = 2;
    const auto writer = make_writer(options);
    Tick tick(*writer);
    tick.lift();
    CHECK(tick.acked());
    const json beats = *condition_of(node.now(), "VedetteKernelHealthy");
    CHECK(off(beats["lastHeartbeatTime"]) < static_cast<std::int64_t>(kHour / 2));
    CHECK(beats["lastTransitionTime"] == text);
    tick.taint("FilesystemError");
    CHECK(tick.acked());
    CHECK(taints_of(node.now()).count(kKey) == 1);

    // The slot is renewed, though it looks fresh, and the taint keeps its time and goes when it is over.
    const std::string lease =
        "/apis/coordination.k8s.io/v1/namespaces/default/leases/" + writer->state()->slot;
    server->request("PATCH", lease, {{"spec", {{"renewTime", format_time(wrong, true)}}}});
    json taint = taints_of(node.now()).at(kKey);
    taint["timeAdded"] = text;
    server->set_taints(node.name, {kForeign, taint});
    CHECK(eventually([&] { return writer->state()->tainted_since_wall_ns == parse_time(text); }));
    const auto next = make_writer(options);  // which reads the lease
    Tick again(*next);
    again.taint("FilesystemError");
    CHECK(again.acked());
    CHECK(off(server->request("GET", lease)["spec"]["renewTime"]) < static_cast<std::int64_t>(kHour / 2));
    CHECK(taints_of(node.now()).at(kKey) == taint);
    tick.lift();
    again.lift();
    CHECK(tick.acked());
    CHECK(again.acked());
    CHECK(eventually([&] { return taints_of(node.now()).count(kKey) == 0 && node.slots() == 0; }));
    CHECK(node.history.gaps == 0);
  }
}
