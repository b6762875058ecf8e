#include "agent/act/decider.h"

#include <memory>

#include <doctest/doctest.h>

using namespace vedette;

namespace {

Condition unhealthy_node(MonotonicNs evidence_ns, double confidence = 1) {
  Condition condition;
  condition.reason = "FilesystemError";
  condition.severity = Severity::kUnhealthy;
  condition.entity = std::make_shared<const Entity>();
  condition.confidence = confidence;
  condition.evidence_ns = evidence_ns;
  condition.recovers_in_s = 300;
  condition.message = "ext4 found an error";
  condition.count = 1;
  return condition;
}

Instant at(double seconds) {
  const auto ns = static_cast<std::uint64_t>(seconds * 1e9);
  return {ns, 1'000'000'000'000 + ns};
}

ActState known() {
  ActState state;
  state.connected = state.known = true;
  return state;
}

}  // namespace

TEST_CASE("nothing is decided before the node's state is known, unless there is evidence") {
  Decider decider({.mode = Mode::kEnforce});
  CHECK(decider.update(at(1), {}, {}).generation == 0);
  CHECK(decider.update(at(2), {}, known()).generation == 1);

  Decider hurried({.mode = Mode::kEnforce});
  const Decision decision = hurried.update(at(1), {unhealthy_node(900'000'000)}, {});
  CHECK(decision.generation == 1);
  CHECK(decision.taint);
}

TEST_CASE("evidence taints once, newer evidence keeps the generation, recovery lifts") {
  Decider decider({.mode = Mode::kEnforce});
  decider.update(at(1), {}, known());
  const Decision first = decider.update(at(2), {unhealthy_node(1'900'000'000)}, known());
  CHECK(first.taint);
  CHECK(first.reason == "FilesystemError");
  CHECK(first.evidence_ns == 1'900'000'000);
  const Decision again = decider.update(at(3), {unhealthy_node(2'900'000'000)}, known());
  CHECK(again.generation == first.generation);
  CHECK(again.since_wall_ns == first.since_wall_ns);
  const Decision lifted = decider.update(at(400), {}, known());
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
  CHECK_FALSE(decider.update(at(1), {pod, degraded}, known()).taint);
  const Decision doubtful = decider.update(at(2), {unhealthy_node(1, 0.6)}, known());
  CHECK_FALSE(doubtful.taint);
  CHECK(doubtful.held_back.find("confidence 0.60 is below 0.80") != std::string::npos);
}

TEST_CASE("the node's own rate limit holds back the fifth taint of an hour and lets go later") {
  Decider decider({.mode = Mode::kEnforce, .max_taints_per_hour = 4});
  double now = 1;
  for (int i = 0; i < 4; ++i) {
    CHECK(decider.update(at(now++), {unhealthy_node(1)}, known()).taint);
    CHECK_FALSE(decider.update(at(now++), {}, known()).taint);
  }
  const Decision held = decider.update(at(now), {unhealthy_node(1)}, known());
  CHECK_FALSE(held.taint);
  CHECK(held.held_back.find("4 times within the hour") != std::string::npos);
  CHECK(decider.update(at(now + 3600), {unhealthy_node(1)}, known()).taint);
}

TEST_CASE("a taint found at start is kept for the hold time and then lifted") {
  ActState found = known();
  found.tainted = found.adopted = true;
  found.taint_reason = "DiskError";
  found.tainted_since_wall_ns = 77;
  Decider decider({.mode = Mode::kEnforce, .adopted_hold_s = 60});
  CHECK(decider.update(at(1), {}, {}).generation == 0);
  const Decision adopted = decider.update(at(2), {}, found);
  CHECK(adopted.taint);
  CHECK(adopted.reason == "DiskError");
  CHECK(adopted.since_wall_ns == 77);
  CHECK(decider.update(at(61), {}, found).taint);
  CHECK_FALSE(decider.update(at(63), {}, found).taint);
}

TEST_CASE("a taint found at start is held longer when its evidence comes again") {
  ActState found = known();
  found.tainted = found.adopted = true;
  found.taint_reason = "FilesystemError";
  Decider decider({.mode = Mode::kEnforce, .adopted_hold_s = 60});
  decider.update(at(2), {}, found);
  CHECK(decider.update(at(30), {unhealthy_node(29'000'000'000)}, found).taint);
  CHECK(decider.update(at(70), {unhealthy_node(29'000'000'000)}, found).taint);
  CHECK_FALSE(decider.update(at(80), {}, found).taint);
}

TEST_CASE("the explanation fits an event's note, whatever the reasons say") {
  Condition condition = unhealthy_node(1);
  condition.message = std::string(5000, 'x');
  Decider decider({.mode = Mode::kObserve});
  CHECK(decider.update(at(1), {condition}, {}).message.size() == 1024);
}
