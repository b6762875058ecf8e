#include "agent/act/decider.h"

#include <memory>

#include <doctest/doctest.h>

#include "tests/policy_of.h"

using namespace vedette;

namespace {

Condition unhealthy_node(MonotonicNs evidence_ns, double confidence = 1) {
  Condition condition;
  condition.reason = "FilesystemError";
  condition.severity = Severity::kUnhealthy;
  condition.entity = std::make_shared<const Entity>();
  condition.confidence = confidence;
  condition.evidence_ns = condition.first_evidence_ns = evidence_ns;
  condition.message = "ext4 found an error";
  condition.count = 1;
  return condition;
}

Instant at(double seconds) {
  const auto ns = static_cast<std::uint64_t>(seconds * 1e9);
  return {ns, 1'000'000'000'000 + ns};
}

// Hard evidence that has come for `length_s`, the newest a moment ago.
Condition going_on(const std::string& reason, double until_s, double length_s) {
  Condition condition = unhealthy_node(static_cast<MonotonicNs>(until_s * 1e9));
  condition.reason = reason;
  condition.first_evidence_ns -= static_cast<MonotonicNs>(length_s * 1e9);
  return condition;
}

EntityPtr pod(const std::string& space, const std::string& name) {
  auto entity = std::make_shared<Entity>();
  entity->kind = EntityKind::kPod;
  entity->namespace_name = space;
  entity->pod_name = name;
  return entity;
}

ActState known() {
  ActState state;
  state.connected = state.known = true;
  return state;
}

}  // namespace

TEST_CASE("nothing is decided before the node's state is known, whatever the evidence") {
  Decider decider({.mode = Mode::kEnforce});
  CHECK(decider.update(at(1), {}, {}, {}).generation == 0);
  CHECK(decider.update(at(2), {}, {}, known()).generation == 1);

  Decider hurried({.mode = Mode::kEnforce});
  const Decision early = hurried.update(at(1), {unhealthy_node(900'000'000)}, {}, {});
  CHECK(early.generation == 0);
  CHECK_FALSE(early.taint);
  CHECK(early.next == "waits for the API server: the node object was not read yet");
  REQUIRE(early.judgements.size() == 1);
  CHECK(early.judgements[0].why == "waits: the node object was not read yet");
  CHECK(hurried.update(at(2), {unhealthy_node(900'000'000)}, {}, known()).taint);
}

TEST_CASE(
    "what the node says when it is first read counts for evidence from before: a pause, a veto, a taint") {
  const auto first = [](const ActState& found) {
    Decider decider({.mode = Mode::kEnforce});
    decider.update(at(1), {unhealthy_node(900'000'000)}, {}, {});
    return decider.update(at(2), {unhealthy_node(900'000'000)}, {}, found);
  };
  ActState paused = known();
  paused.annotated.paused_until_wall_ns = kForever;
  const Decision under_pause = first(paused);
  CHECK(under_pause.generation == 1);
  CHECK_FALSE(under_pause.taint);
  CHECK(under_pause.hold == Hold::kPause);
  CHECK(under_pause.said == paused.annotated);

  ActState vetoed = known();
  vetoed.annotated.vetoes["FilesystemError"] = kForever;
  CHECK_FALSE(first(vetoed).taint);

  ActState tainted = known();
  tainted.tainted = tainted.adopted = true;
  tainted.taint_reason = "DiskError";
  tainted.taint_effect = "NoExecute";
  const Decision adopted = first(tainted);
  CHECK(adopted.reason == "DiskError");
  CHECK(adopted.effect == "NoExecute");
}

TEST_CASE(
    "a claim whose condition is gone ends when the policy drops its rule, and is milder beside a critical "
    "pod") {
  Decider decider(
      {.mode = Mode::kEnforce, .policy = policy_of("{rules: [{evidence: event, effect: NoExecute}]}")});
  decider.update(at(1), {}, {}, known());
  CHECK(decider.update(at(2), {unhealthy_node(1'900'000'000)}, {}, known()).effect == "NoExecute");
  CHECK(decider.update(at(10), {}, {}, known()).effect == "NoExecute");
  decider.set_policy(policy_of("{rules: [{evidence: event, effect: NoExecute}], critical: [shop/*]}"));
  CHECK(decider.update(at(11), {}, {pod("shop", "till")}, known()).effect == "NoSchedule");
  decider.set_policy(policy_of("{rules: [{evidence: event, effect: None}]}"));
  const Decision ended = decider.update(at(12), {}, {}, known());
  CHECK_FALSE(ended.taint);
  CHECK(ended.message == "the policy was changed");
}

TEST_CASE("a clock that is set does not undo the mark \"healthy\"") {
  Decider decider({.mode = Mode::kEnforce});
  ActState act = known();
  const auto judged = [&](double seconds, std::int64_t clock_ahead_s) {
    Instant now = at(seconds);
    now.wall_ns = static_cast<WallNs>(static_cast<std::int64_t>(now.wall_ns) + clock_ahead_s * 1'000'000'000);
    std::vector<Condition> conditions{unhealthy_node(4'000'000'000)};
    decider.drop_set_aside(conditions, now, act);
    return decider.update(now, conditions, {}, act).taint;
  };
  CHECK(judged(5, 0));
  act.annotated.healthy_wall_ns = at(6).wall_ns;
  CHECK_FALSE(judged(7, 0));
  CHECK_FALSE(judged(8, 3600));
  CHECK_FALSE(judged(9, -500));
}

TEST_CASE("evidence taints once, newer evidence keeps the generation, recovery lifts") {
  Decider decider({.mode = Mode::kEnforce});
  decider.update(at(1), {}, {}, known());
  const Decision first = decider.update(at(2), {unhealthy_node(1'900'000'000)}, {}, known());
  CHECK(first.taint);
  CHECK(first.reason == "FilesystemError");
  CHECK(first.evidence_ns == 1'900'000'000);
  const Decision again = decider.update(at(3), {unhealthy_node(2'900'000'000)}, {}, known());
  CHECK(again.generation == first.generation);
  CHECK(again.since_wall_ns == first.since_wall_ns);
  const Decision lifted = decider.update(at(400), {}, {}, known());
  CHECK_FALSE(lifted.taint);
  CHECK(lifted.generation == first.generation + 1);
}

TEST_CASE("a pod's trouble, a degraded node and a doubtful verdict do not taint") {
  Condition pod = unhealthy_node(1);
  auto entity = std::make_shared<Entity>();
  entity->kind = EntityKind::kPod;
  pod.entity = entity;
  Condition degraded = unhealthy_node(1);
  degraded.severity = Severity::kDegraded;
  Decider decider({.mode = Mode::kEnforce});
  CHECK_FALSE(decider.update(at(1), {pod, degraded}, {}, known()).taint);
  const Decision doubtful = decider.update(at(2), {unhealthy_node(1, 0.6)}, {}, known());
  CHECK_FALSE(doubtful.taint);
  CHECK(doubtful.held_back.find("confidence 0.60 is below 0.80") != std::string::npos);
}

TEST_CASE("the node's own rate limit holds back the fifth taint of an hour and lets go later") {
  Decider decider({.mode = Mode::kEnforce, .policy = policy_of("{relapse_doublings: 0}")});
  double now = 1;
  const auto evidence = [&] { return unhealthy_node(static_cast<MonotonicNs>(now * 1e9)); };
  for (int i = 0; i < 4; ++i) {
    CHECK(decider.update(at(now), {evidence()}, {}, known()).taint);
    now += 301;
    CHECK_FALSE(decider.update(at(now), {}, {}, known()).taint);
    now += 1;
  }
  const Decision held = decider.update(at(now), {evidence()}, {}, known());
  CHECK_FALSE(held.taint);
  CHECK(held.held_back.find("4 times within the hour") != std::string::npos);
  CHECK(decider.update(at(now + 3600), {unhealthy_node(1)}, {}, known()).taint);
}

TEST_CASE("a taint found at start is kept for the hold time and then lifted") {
  ActState found = known();
  found.tainted = found.adopted = true;
  found.taint_reason = "DiskError";
  found.taint_effect = "NoExecute";
  found.tainted_since_wall_ns = 77;
  Decider decider({.mode = Mode::kEnforce, .recovery_s = 60});
  CHECK(decider.update(at(1), {}, {}, {}).generation == 0);
  const Decision adopted = decider.update(at(2), {}, {}, found);
  CHECK(adopted.taint);
  CHECK(adopted.reason == "DiskError");
  CHECK(adopted.effect == "NoExecute");
  CHECK(adopted.since_wall_ns == 77);
  CHECK(decider.update(at(61), {}, {}, found).taint);
  CHECK_FALSE(decider.update(at(63), {}, {}, found).taint);
}

TEST_CASE("a taint found at start is held longer when its evidence comes again") {
  ActState found = known();
  found.tainted = found.adopted = true;
  found.taint_reason = "FilesystemError";
  Decider decider({.mode = Mode::kEnforce, .recovery_s = 60});
  decider.update(at(2), {}, {}, found);
  CHECK(decider.update(at(30), {unhealthy_node(29'000'000'000)}, {}, found).taint);
  CHECK(decider.update(at(70), {unhealthy_node(29'000'000'000)}, {}, found).taint);
  CHECK(decider.update(at(88), {}, {}, found).taint);
  CHECK_FALSE(decider.update(at(90), {}, {}, found).taint);
}

TEST_CASE("the explanation fits an event's note, whatever the reasons say") {
  Condition condition = unhealthy_node(1);
  condition.message = std::string(5000, 'x');
  Decider decider({.mode = Mode::kObserve});
  CHECK(decider.update(at(1), {condition}, {}, {}).message.size() == 1024);
}

TEST_CASE("the first rule about a condition decides, and the judgement says which and why") {
  Decider decider(
      {.policy = policy_of("{rules: [{reason: TaskHung, effect: None}, {effect: NoSchedule, for: 10s}]}")});
  Condition of_pod = going_on("OOMKilled", 100, 0);
  of_pod.entity = pod("shop", "cart");
  const Decision decision = decider.update(
      at(100), {going_on("TaskHung", 100, 50), going_on("DiskError", 100, 9), of_pod}, {}, known());
  CHECK_FALSE(decision.taint);
  CHECK(decision.held_back == "DiskError: evidence for 9 s, it takes 10s");
  REQUIRE(decision.judgements.size() == 3);
  CHECK(decision.judgements[0].rule == "1: TaskHung");
  CHECK(decision.judgements[0].why == "does nothing: so the rule says");
  CHECK(decision.judgements[1].rule == "2: any evidence");
  CHECK(decision.judgements[1].why == "holds back: evidence for 9 s, it takes 10s");
  CHECK_FALSE(decision.judgements[1].acts);
  CHECK(decision.judgements[2].rule.empty());
  CHECK(decision.judgements[2].why == "never taints: the trouble is not the node's own");

  const Decision later = decider.update(at(101), {going_on("DiskError", 101, 10)}, {}, known());
  CHECK(later.taint);
  CHECK(later.judgements[0].acts);
  CHECK(later.judgements[0].why == "NoSchedule");
}

TEST_CASE("evidence that goes on escalates the taint, and the strongest effect wins until its recovery") {
  Decider decider({.policy = policy_of("{rules: [{reason: DiskError, effect: NoSchedule, recovery: 1m, "
                                       "escalate: {after: 5m, effect: NoExecute}}, "
                                       "{effect: PreferNoSchedule, recovery: 10m}]}")});
  Decision decision = decider.update(at(1000), {going_on("TaskHung", 1000, 0)}, {}, known());
  CHECK(decision.effect == "PreferNoSchedule");
  const std::uint64_t generation = decision.generation;
  decision = decider.update(at(1001), {going_on("TaskHung", 1001, 1), going_on("DiskError", 1001, 299)}, {},
                            known());
  CHECK(decision.effect == "NoSchedule");
  CHECK(decision.reason == "DiskError");
  CHECK(decision.generation == generation + 1);
  decision = decider.update(at(1002), {going_on("DiskError", 1002, 300)}, {}, known());
  CHECK(decision.effect == "NoExecute");
  CHECK(decision.generation == generation + 2);
  CHECK(decision.judgements[0].why == "NoExecute, escalated: evidence has come for 300 s");
  decision = decider.update(at(1061), {}, {}, known());
  CHECK(decision.effect == "NoExecute");
  decision = decider.update(at(1063), {}, {}, known());
  CHECK(decision.taint);
  CHECK(decision.effect == "PreferNoSchedule");
  CHECK(decision.reason == "TaskHung");
  CHECK_FALSE(decider.update(at(1602), {}, {}, known()).taint);
}

TEST_CASE("the same trouble again within a day recovers twice as slowly, up to a bound; another does not") {
  Decider decider(
      {.policy = policy_of("{relapse_doublings: 2, rules: [{effect: NoSchedule, recovery: 100s}]}"),
       .max_taints_per_hour = 1000});
  double now = 1000;
  for (const double recovery : {100.0, 200.0, 400.0, 400.0}) {
    CHECK(decider.update(at(now), {going_on("DiskError", now, 0)}, {}, known()).taint);
    CHECK(decider.update(at(now + recovery - 1), {}, {}, known()).taint);
    CHECK_FALSE(decider.update(at(now + recovery), {}, {}, known()).taint);
    now += recovery + 10;
  }
  CHECK(decider.update(at(now), {going_on("TaskHung", now, 0)}, {}, known()).taint);
  CHECK_FALSE(decider.update(at(now + 100), {}, {}, known()).taint);
  now += 86'500;
  CHECK(decider.update(at(now), {going_on("DiskError", now, 0)}, {}, known()).taint);
  CHECK_FALSE(decider.update(at(now + 100), {}, {}, known()).taint);
}

TEST_CASE("a node that runs a critical pod is not emptied, and the decision says why") {
  Decider decider({.policy = policy_of("{critical: ['kube-system/*'], rules: [{effect: NoExecute}]}")});
  const Decision spared = decider.update(at(1), {going_on("DiskError", 1, 0)},
                                         {pod("shop", "cart"), pod("kube-system", "dns-1")}, known());
  CHECK(spared.effect == "NoSchedule");
  CHECK(spared.message.find("instead of NoExecute, for the critical pod kube-system/dns-1 runs here") !=
        std::string::npos);
  const Decision careful =
      decider.update(at(2), {going_on("DiskError", 2, 0)}, {pod("shop", "cart"), pod("", "")}, known());
  CHECK(careful.effect == "NoSchedule");
  CHECK(careful.message.find("instead of NoExecute, for nobody knows yet whether") != std::string::npos);
  CHECK(decider.update(at(3), {going_on("DiskError", 3, 0)}, {pod("shop", "cart")}, known()).effect ==
        "NoExecute");
  // Who has no list does not ask for names.
  Decider bold({.policy = policy_of("{rules: [{effect: NoExecute}]}")});
  CHECK(bold.update(at(1), {going_on("DiskError", 1, 0)}, {pod("", "")}, known()).effect == "NoExecute");
}

TEST_CASE("a restart forgets neither how long a taint stays, nor relapses, nor an escalation") {
  const auto policy = policy_of(
      "{rules: [{effect: NoSchedule, recovery: 1000s, escalate: {after: 100s, effect: NoExecute}}]}");
  Decider before({.policy = policy, .recovery_s = 300});
  CHECK(before.update(at(1000), {going_on("DiskError", 1000, 0)}, {}, known()).taint);
  CHECK_FALSE(before.update(at(2100), {}, {}, known()).taint);
  Decision last = before.update(at(3000), {going_on("DiskError", 3000, 200)}, {}, known());
  REQUIRE(last.effect == "NoExecute");

  ActState found = known();
  found.adopted = found.tainted = true;
  found.taint_reason = "DiskError";
  found.taint_effect = last.effect;
  found.found_conditions = {{"VedetteStorageHealthy", false, "DiskError", "what happened"},
                            {"VedetteMemoryHealthy", false, "MemoryFull", "memory_use at 99 %"}};
  const auto healthy = [](const Decision& decision, const std::string& type) {
    for (const WantedCondition& condition : decision.conditions) {
      if (condition.type == type) return condition.healthy;
    }
    return false;
  };
  double lifted = 0;
  SUBCASE("with the verdict that it wrote") {
    found.found_verdict = last.verdict;
    lifted = 4000 + 2000;  // the second time within a day
    SUBCASE("and the evidence comes again, for a moment") {
      Decider after({.policy = policy, .recovery_s = 300});
      CHECK(after.update(at(4000), {}, {}, found).effect == "NoExecute");
      CHECK(after.update(at(4100), {going_on("DiskError", 4100, 0)}, {}, found).effect == "NoExecute");
      CHECK(after.update(at(4100 + 1999), {}, {}, found).taint);
      CHECK_FALSE(after.update(at(4100 + 2000), {}, {}, found).taint);
    }
  }
  SUBCASE("without it") {
    lifted = 4000 + 300;
  }
  SUBCASE("with rubbish instead") {
    found.found_verdict = R"({"remembered":[7,{"reason":3},{"reason":"DiskError","recovery_s":"x"}]})";
    lifted = 4000 + 300;
  }
  SUBCASE("with one that would hold it for ever") {
    found.found_verdict = R"({"remembered":[{"reason":"DiskError","recovery_s":1e300,"relapses":-1}]})";
    lifted = 4000 + 86'400;
  }
  Decider after({.policy = policy, .recovery_s = 300});
  const Decision adopted = after.update(at(4000), {}, {}, found);
  CHECK(adopted.taint);
  CHECK_FALSE(healthy(adopted, "VedetteStorageHealthy"));
  CHECK_FALSE(healthy(adopted, "VedetteMemoryHealthy"));
  CHECK(healthy(adopted, "VedetteCPUHealthy"));
  const Decision still = after.update(at(lifted - 1), {}, {}, found);
  CHECK(still.taint);
  CHECK_FALSE(healthy(still, "VedetteStorageHealthy"));
  CHECK(healthy(still, "VedetteMemoryHealthy") == (lifted - 1 >= 4300));
  const Decision over = after.update(at(lifted), {}, {}, found);
  CHECK_FALSE(over.taint);
  CHECK(healthy(over, "VedetteStorageHealthy"));
  CHECK(healthy(over, "VedetteMemoryHealthy"));
}

TEST_CASE("after a recovery it watches for a day, and says until when") {
  Decider decider({.mode = Mode::kEnforce, .recovery_s = 100});
  const auto says = [](const Decision& decision, const char* text) {
    CAPTURE(decision.next);
    return decision.next.find(text) != std::string::npos;
  };
  CHECK(says(decider.update(at(1000), {going_on("DiskError", 1000, 0)}, {}, known()), "will lift the taint"));
  CHECK(says(decider.update(at(1200), {}, {}, known()), "watches: recovered from DiskError at "));
  CHECK(says(decider.update(at(1200 + 86'300), {}, {}, known()), "watches: recovered from DiskError at "));
  CHECK(decider.update(at(1200 + 86'300), {}, {}, known()).trusted_wall_ns == 0);
  const Decision trusted = decider.update(at(1200 + 86'500), {}, {}, known());
  CHECK(says(trusted, "will taint (NoSchedule)"));
  CHECK(trusted.trusted_wall_ns == at(1200 + 86'500).wall_ns);
  CHECK(trusted.trusted.find("recovered from DiskError at 1970-01-01T00:36:40Z") == 0);
  CHECK(decider.update(at(90'000), {}, {}, known()).trusted_wall_ns == trusted.trusted_wall_ns);
}

TEST_CASE("a node is trusted again once the last of its recoveries is a day ago and nothing wants a taint") {
  Decider decider({.mode = Mode::kEnforce, .recovery_s = 100});
  const auto trusted = [&](double now, const std::vector<Condition>& conditions) {
    return decider.update(at(now), conditions, {}, known()).trusted_wall_ns != 0;
  };
  CHECK_FALSE(trusted(1000, {going_on("DiskError", 1000, 0)}));
  CHECK_FALSE(trusted(1200, {}));
  CHECK_FALSE(trusted(5000, {going_on("TaskHung", 5000, 0)}));
  CHECK_FALSE(trusted(5200, {}));
  CHECK_FALSE(trusted(1200 + 86'500, {}));
  CHECK_FALSE(trusted(5200 + 86'350, {going_on("MachineCheck", 5200 + 86'350, 0)}));
  CHECK_FALSE(trusted(5200 + 86'410, {}));
  CHECK_FALSE(trusted(5200 + 86'600, {}));
  CHECK(trusted(5200 + 86'600 + 86'400, {}));

  // Who was never tainted, or is healthy because an operator says so, has no recovery to watch.
  Decider quiet({.mode = Mode::kEnforce, .recovery_s = 100});
  quiet.update(at(1000), {unhealthy_node(1, 0.1)}, {}, known());
  CHECK(quiet.update(at(90'000), {}, {}, known()).trusted_wall_ns == 0);
}

TEST_CASE("a node is not trusted while its old trouble is there, be it too doubtful to taint") {
  Decider decider({.mode = Mode::kEnforce, .recovery_s = 100});
  decider.update(at(1000), {going_on("DiskError", 1000, 0)}, {}, known());
  CHECK_FALSE(decider.update(at(1200), {}, {}, known()).taint);
  Condition doubtful = going_on("DiskError", 90'000, 0);
  doubtful.confidence = 0.1;
  CHECK(decider.update(at(90'000), {doubtful}, {}, known()).trusted_wall_ns == 0);
  CHECK(decider.update(at(90'001), {}, {}, known()).trusted_wall_ns == 0);

  // It came back within the day, and a new policy does not care: nobody may say that it was not seen again.
  Decider relapsed({.mode = Mode::kEnforce, .recovery_s = 100});
  relapsed.update(at(1000), {going_on("DiskError", 1000, 0)}, {}, known());
  relapsed.update(at(1200), {}, {}, known());
  CHECK(relapsed.update(at(50'000), {going_on("DiskError", 50'000, 0)}, {}, known()).taint);
  relapsed.set_policy(policy_of("{rules: [{reason: DiskError, effect: None}]}"));
  relapsed.update(at(90'000), {going_on("DiskError", 90'000, 40'000)}, {}, known());
  CHECK(relapsed.update(at(90'100), {}, {}, known()).trusted_wall_ns == 0);
}

TEST_CASE("what would not have been set is not held back, and what only waits hides no other reason") {
  DecideOptions options;
  options.mode = Mode::kEnforce;
  options.policy = policy_of("{rules: [{name: r, effect: NoSchedule, for: 10s}]}");
  Decider decider(options);
  const auto weak = [](double now, double length_s) {
    Condition condition = going_on("DiskError", now, length_s);
    condition.confidence = 0.1;
    return condition;
  };
  CHECK(decider.update(at(1000), {weak(1000, 0)}, {}, known()).hold == Hold::kPersistence);
  const Decision doubted =
      decider.update(at(1010), {going_on("TaskHung", 1010, 0), weak(1010, 10)}, {}, known());
  CHECK(doubted.hold == Hold::kConfidence);
  CHECK(doubted.held_back.find("DiskError: confidence") == 0);

  ActState vetoed = known();
  vetoed.local.vetoes["DiskError"] = kForever;
  CHECK(decider.update(at(1020), {going_on("DiskError", 1020, 0)}, {}, vetoed).hold == Hold::kNone);
  CHECK(decider.update(at(1030), {going_on("DiskError", 1030, 10)}, {}, vetoed).hold == Hold::kVeto);
}

TEST_CASE(
    "a watch goes on over a restart and a reboot, and its end while nobody looked is said at the start") {
  ActState found = known();
  found.found_verdict =
      R"({"remembered":[{"reason":"DiskError","relapses":0,"ended":"1970-01-02T00:00:00Z"}]})";
  const auto day_s = [](double s) { return static_cast<WallNs>(s * 1e9); };
  Decider after({.mode = Mode::kEnforce});
  // The machine has run for 10 s; the recovery was 1,000 s before.
  CHECK(after.update({day_s(10), day_s(86'400 + 1000)}, {}, {}, found).trusted_wall_ns == 0);
  CHECK(after.update({day_s(10 + 85'399), day_s(2 * 86'400 - 1)}, {}, {}, found).trusted_wall_ns == 0);
  CHECK(after.update({day_s(10 + 85'400), day_s(2 * 86'400)}, {}, {}, found).trusted_wall_ns != 0);

  Decider late({.mode = Mode::kEnforce});
  const Decision said = late.update({day_s(10), day_s(10 * 86'400)}, {}, {}, found);
  CHECK(said.trusted_wall_ns != 0);
  CHECK(said.verdict.find("DiskError") == std::string::npos);
  Decider told({.mode = Mode::kEnforce});
  found.found_verdict = said.verdict;
  CHECK(told.update({day_s(20), day_s(10 * 86'400) + day_s(10)}, {}, {}, found).trusted_wall_ns == 0);
}

TEST_CASE("a wall clock that is wrong, or set, never shortens what is remembered") {
  const auto day = [](double days) { return static_cast<WallNs>(days * 86'400 * 1e9); };
  const auto up = [](double seconds) { return static_cast<MonotonicNs>(seconds * 1e9); };
  ActState found = known();
  found.found_verdict =
      R"({"remembered":[{"reason":"DiskError","relapses":2,"ended":"1970-01-11T00:00:00Z"}]})";
  // An hour after the recovery, by a clock that is right, ahead, behind.
  const WallNs ended = day(10);
  const WallNs right = ended + up(3600);
  const auto trusts_after = [&](WallNs wall_ns, bool doubtful, double seconds) {
    Decider decider({.mode = Mode::kEnforce});
    decider.update({up(5), wall_ns}, {}, {}, found, doubtful);
    // Meanwhile it was set right.
    return decider.update({up(5 + seconds), right + up(seconds)}, {}, {}, found).trusted_wall_ns != 0;
  };
  CHECK_FALSE(trusts_after(right, false, 82'799));
  CHECK(trusts_after(right, false, 82'800));
  CHECK_FALSE(trusts_after(right + day(3), true, 86'399));
  CHECK(trusts_after(right + day(3), true, 86'400));
  CHECK_FALSE(trusts_after(right - day(3), true, 86'399));
  CHECK_FALSE(trusts_after(right - day(3), false, 86'399));
  Decider ahead({.mode = Mode::kEnforce});
  const std::string verdict = ahead.update({up(5), right + day(3)}, {}, {}, found, true).verdict;
  CHECK(verdict.find("\"ended\":\"1970-01-11T00:00:00Z\"") != std::string::npos);

  // It recovers while the clock is years behind; then that is set, and the agent restarts a moment later.
  Decider behind({.mode = Mode::kEnforce, .recovery_s = 10});
  behind.update({up(1), up(1)}, {unhealthy_node(up(1))}, {}, known());
  CHECK_FALSE(behind.update({up(20), up(20)}, {}, {}, known()).taint);
  found.found_verdict = behind.update({up(30), day(5000)}, {}, {}, known()).verdict;
  Decider next({.mode = Mode::kEnforce});
  CHECK(next.update({up(40), day(5000) + up(10)}, {}, {}, found).trusted_wall_ns == 0);
  CHECK(next.update({up(40) + day(1), day(5001)}, {}, {}, found).trusted_wall_ns != 0);
}

TEST_CASE("a new policy is obeyed from the next tick on, also where it takes a reason to taint away") {
  Decider decider({.mode = Mode::kEnforce});
  CHECK(decider.update(at(1), {going_on("DiskError", 1, 0)}, {}, known()).effect == "NoSchedule");
  decider.set_policy(policy_of("{rules: [{reason: DiskError, effect: NoExecute}]}"));
  CHECK(decider.update(at(2), {going_on("DiskError", 1, 0)}, {}, known()).effect == "NoExecute");
  decider.set_policy(policy_of("{rules: [{reason: DiskError, effect: None}]}"));
  const Decision lifted = decider.update(at(3), {going_on("DiskError", 1, 0)}, {}, known());
  CHECK_FALSE(lifted.taint);
  CHECK(lifted.message == "the policy was changed");
}

TEST_CASE(
    "a rule that must earn it holds back until its record has what it takes, and again once it has not") {
  DecideOptions options;
  options.mode = Mode::kEnforce;
  options.policy =
      policy_of("{rules: [{name: r, effect: NoSchedule, after: {verdicts: 2, precision: 0.9}}]}");
  Decider decider(options);
  ActState act = known();
  const auto decide = [&](double now_s) {
    return decider.update(at(now_s), {unhealthy_node(static_cast<MonotonicNs>(now_s * 1e9))}, {}, act);
  };
  Decision decision = decide(1);
  CHECK_FALSE(decision.taint);
  REQUIRE(decision.judgements.size() == 1);
  CHECK(decision.judgements[0].why.find("its rule r has 0 of 2 verdicts") != std::string::npos);
  CHECK(decision.hold == Hold::kRecord);
  CHECK(decision.advice.effect == "NoSchedule");
  CHECK(decision.advice.reason == "FilesystemError");
  CHECK(decision.advice.message == "ext4 found an error; advised only, for its rule r has 0 of 2 verdicts");
  CHECK(decision.remembered.empty());
  act.record["r"] = {.confirmed = 2};
  decision = decide(2);
  CHECK(decision.taint);
  CHECK(decision.message == "ext4 found an error");
  CHECK(decision.advice.effect.empty());
  act.record["r"] = {.confirmed = 2, .refuted = 1};
  decision = decide(3);
  CHECK_FALSE(decision.taint);
  CHECK(decision.message == "its rule has a precision of 0.667, it takes 0.9");
  CHECK(decision.advice.effect == "NoSchedule");
  CHECK(decision.judgements[0].why.find("precision of 0.667, it takes 0.9") != std::string::npos);
}

TEST_CASE("what is advised only ends like a taint, is none, and is not said beside a taint as strong") {
  DecideOptions options;
  options.mode = Mode::kEnforce;
  options.recovery_s = 100;
  options.policy = policy_of(
      "{rules: [{reason: DiskError, effect: NoSchedule}, "
      "{name: r, effect: NoSchedule, for: 10s, after: {verdicts: 2, precision: 0.9}}]}");
  Decider decider(options);
  const auto decide = [&](double now, const std::vector<Condition>& conditions) {
    return decider.update(at(now), conditions, {}, known());
  };
  // Before it has held, there is nothing to advise.
  Decision decision = decide(1000, {going_on("TaskHung", 1000, 9)});
  CHECK(decision.hold == Hold::kPersistence);
  CHECK(decision.advice.effect.empty());
  CHECK(decide(1001, {going_on("TaskHung", 1001, 10)}).advice.reason == "TaskHung");
  decision = decide(1010, {going_on("TaskHung", 1001, 10), going_on("DiskError", 1010, 0)});
  CHECK(decision.reason == "DiskError");
  CHECK(decision.advice.effect.empty());
  CHECK(decide(1100, {}).taint);
  decision = decide(1200, {});
  CHECK_FALSE(decision.taint);
  CHECK(decision.advice.effect.empty());

  CHECK(decide(2000, {going_on("TaskHung", 2000, 10)}).advice.effect == "NoSchedule");
  CHECK(decide(2099, {}).advice.effect == "NoSchedule");
  decision = decide(2100, {});
  CHECK(decision.advice == Advice{"", "", "recovered"});
  CHECK(decision.next.find("watches: recovered from DiskError") == 0);
}
