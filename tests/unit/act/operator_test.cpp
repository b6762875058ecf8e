#include <fstream>

#include <doctest/doctest.h>
#include <unistd.h>

#include "agent/act/decider.h"
#include "agent/act/operator_store.h"
#include "tests/unit/temporary_folder.h"

using namespace vedette;

namespace {

constexpr WallNs kStart = 1'600'000'000'000'000'000;

Instant instant(double seconds) {
  const auto ns = static_cast<std::uint64_t>(seconds * 1e9);
  return {ns, kStart + ns};
}
WallNs wall(double seconds) {
  return instant(seconds).wall_ns;
}

Condition evidence(const std::string& reason, double time_s) {
  Condition condition;
  condition.reason = reason;
  condition.severity = Severity::kUnhealthy;
  condition.domain = Domain::kStorage;
  condition.entity = std::make_shared<const Entity>();
  condition.evidence_ns = condition.first_evidence_ns = instant(time_s).monotonic_ns;
  return condition;
}

ActState connected() {
  ActState act;
  act.known = act.connected = true;
  return act;
}

}  // namespace

TEST_CASE("annotations are read, and what is not understood is said; a pause is then a pause") {
  CHECK(say_of({}) == OperatorSay{});
  const OperatorSay say = say_of({{"vedette.dev/pause", "2026-01-02T03:04:05Z"},
                                  {"vedette.dev/veto", "DiskError, TaskHung,"},
                                  {"vedette.dev/healthy", "2026-01-02T03:04:05.5Z"},
                                  {"vedette.dev/verdict", "{}"}});
  CHECK(say.paused_until_wall_ns == 1'767'323'045'000'000'000);
  CHECK(say.healthy_wall_ns == 1'767'323'045'500'000'000);
  CHECK(say.vetoes == std::map<std::string, WallNs>{{"DiskError", kForever}, {"TaskHung", kForever}});
  CHECK(say.error.empty());
  CHECK(say_of({{"vedette.dev/pause", "true"}}).paused_until_wall_ns == kForever);
  CHECK(say_of({{"vedette.dev/pause", "false"}}) == OperatorSay{});
  const OperatorSay odd = say_of({{"vedette.dev/pause", "tomorrow"}, {"vedette.dev/healthy", "yes"}});
  CHECK(odd.paused_until_wall_ns == kForever);
  CHECK(odd.healthy_wall_ns == 0);
  CHECK(
      odd.error ==
      "annotation vedette.dev/healthy: expected a time in UTC like 2026-01-02T03:04:05Z, found 'yes'; "
      "annotation "
      "vedette.dev/pause: expected true, false or a time in UTC like 2026-01-02T03:04:05Z, found 'tomorrow'");
}

TEST_CASE("what was said survives in a file, and what cannot be written does not count") {
  const TemporaryFolder folder;
  const std::string file = folder.file("operator.json");
  {
    OperatorStore store(file);
    CHECK(*store.get() == OperatorSay{});
    REQUIRE(store.set({kForever, {{"DiskError", 5}}, 7, ""}));
    CHECK(store.get()->healthy_wall_ns == 7);
  }
  CHECK(*OperatorStore(file).get() == OperatorSay{kForever, {{"DiskError", 5}}, 7, ""});
  CHECK(::access((file + ".new").c_str(), F_OK) != 0);
  CHECK(::access((file + ".damaged").c_str(), F_OK) != 0);
  OperatorStore lost(folder.file("none/operator.json"));
  const Status refused = lost.set({kForever, {}, 0, ""});
  REQUIRE_FALSE(refused);
  CHECK(refused.error().text.find("none/operator.json.new: No such file") != std::string::npos);
  CHECK(lost.get()->paused_until_wall_ns == 0);
}

TEST_CASE("where it is not known what was said the agent is paused, over restarts, until somebody speaks") {
  const TemporaryFolder folder;
  const std::string file = folder.file("operator.json");
  const auto error_of = [&](const std::string& text) {
    std::ofstream(file) << text;
    const auto said = OperatorStore(file).get();
    CHECK(OperatorStore(file).get()->error == said->error);
    const WallNs expected = said->error.empty() ? 0 : kForever;
    CHECK(said->paused_until_wall_ns == expected);
    return said->error;
  };
  const std::string rest = R"("paused_until_wall_ns": 0, "healthy_wall_ns": 0, "vetoes": {}})";
  const std::string end =
      "; what operators said is not known, so the agent acts on nothing until `vedette resume`";
  CHECK(error_of("rubbish") == file + ": expected a JSON object" + end);
  CHECK(error_of("") == file + ": expected a JSON object" + end);
  CHECK(error_of(R"({"healthy_wall_ns": 0, "vetoes": {}})") ==
        file + ": paused_until_wall_ns: expected a whole number" + end);
  CHECK(error_of(R"({"paused_until_wall_ns": 0, "healthy_wall_ns": 0, "vetoes": []})") ==
        file + ": vetoes: expected a JSON object" + end);
  CHECK(error_of(R"({"paused_until_wall_ns": 0, "healthy_wall_ns": 0, "vetoes": {"A": "b"}})") ==
        file + ": vetoes.A: expected a whole number" + end);
  CHECK(error_of(R"({"format": 2, )" + rest) ==
        file + ": format: expected 1, for it is a newer agent's" + end);
  CHECK(error_of("{" + rest).empty());  // as it was before there were formats
  CHECK(error_of(R"({"format": 1, "mood": {"a": [1]}, )" + rest).empty());

  error_of("rubbish");
  OperatorStore store(file);
  OperatorSay say = *store.get();
  say.vetoes["DiskError"] = kForever;
  REQUIRE(store.set(say));
  CHECK(store.get()->error.empty());
  CHECK(OperatorStore(file).get()->paused_until_wall_ns == kForever);
  say = *store.get();
  say.paused_until_wall_ns = 0;
  REQUIRE(store.set(say));
  CHECK(*OperatorStore(file).get() == OperatorSay{0, {{"DiskError", kForever}}, 0, ""});
  std::ifstream aside(file + ".damaged");
  std::string word;
  aside >> word;
  CHECK(word == "rubbish");
}

TEST_CASE("while paused no taint is set and none lifted; the pause ends by itself") {
  Decider decider({.mode = Mode::kEnforce});
  ActState act = connected();
  decider.update(instant(1), {}, {}, act);
  act.local.paused_until_wall_ns = wall(100);
  const Decision held = decider.update(instant(2), {evidence("DiskError", 2)}, {}, act);
  CHECK_FALSE(held.taint);
  CHECK(held.paused);
  CHECK(held.held_back.starts_with("DiskError: paused until 2020-09-13T12:28:20Z"));
  CHECK(held.verdict.find("\"paused\":true") != std::string::npos);
  const Decision after = decider.update(instant(100), {evidence("DiskError", 2)}, {}, act);
  CHECK(after.taint);
  CHECK_FALSE(after.paused);

  act.annotated.paused_until_wall_ns = kForever;
  CHECK(decider.update(instant(1000), {}, {}, act).taint);
  act.annotated.paused_until_wall_ns = 0;
  CHECK_FALSE(decider.update(instant(1001), {}, {}, act).taint);
}

TEST_CASE("a pause from the start leaves an adopted taint alone and lets the conditions be written") {
  Decider decider({.mode = Mode::kEnforce});
  ActState act = connected();
  act.local.paused_until_wall_ns = kForever;
  CHECK(decider.update(instant(1), {}, {}, act).generation == 1);
  Decider second({.mode = Mode::kEnforce, .recovery_s = 60});
  act.tainted = act.adopted = true;
  act.taint_reason = "DiskError";
  CHECK(second.update(instant(1), {}, {}, act).taint);
  CHECK(second.update(instant(100), {}, {}, act).taint);
}

TEST_CASE("while paused, a taint that somebody else has set is said to stay until then") {
  ActState act = connected();
  act.tainted = true;
  act.taint_reason = "Evacuation";
  act.local.paused_until_wall_ns = kForever;
  const auto next = [&](Mode mode) { return Decider({.mode = mode}).update(instant(1), {}, {}, act).next; };
  CHECK(next(Mode::kEnforce) ==
        "paused until resumed: the taint, which is none of this agent's, stays until then and is taken away");
  CHECK(next(Mode::kObserve) == "paused until resumed: the taint is none of this agent's");
  act.tainted = false;
  CHECK(next(Mode::kEnforce) == "paused until resumed: no taint");
}

TEST_CASE("a vetoed reason neither taints nor keeps a taint, others do") {
  Decider decider({.mode = Mode::kEnforce});
  ActState act = connected();
  CHECK(decider.update(instant(1), {evidence("DiskError", 1)}, {}, act).taint);
  act.annotated.vetoes["DiskError"] = kForever;
  const Decision lifted = decider.update(instant(2), {evidence("DiskError", 2)}, {}, act);
  CHECK_FALSE(lifted.taint);
  CHECK(lifted.message == "vetoed");
  CHECK(lifted.judgements[0].why == "does nothing: vetoed");
  CHECK(lifted.held_back == "DiskError: vetoed");
  CHECK(lifted.hold == Hold::kVeto);
  CHECK(decider.update(instant(3), {evidence("DiskError", 3), evidence("TaskHung", 3)}, {}, act).reason ==
        "TaskHung");
  act.annotated.vetoes["DiskError"] = wall(10);
  act.annotated.vetoes["TaskHung"] = wall(10);
  CHECK_FALSE(decider.update(instant(9), {evidence("DiskError", 9)}, {}, act).taint);
  CHECK(decider.update(instant(10), {evidence("DiskError", 9)}, {}, act).taint);
}

TEST_CASE("a node marked healthy loses its taint and its conditions until new evidence comes") {
  Decider decider({.mode = Mode::kEnforce});
  ActState act = connected();
  const auto update = [&](double now, std::vector<Condition> conditions) {
    decider.drop_set_aside(conditions, instant(now), act);
    return decider.update(instant(now), conditions, {}, act);
  };
  CHECK(update(10, {evidence("DiskError", 9)}).taint);
  act.local.healthy_wall_ns = wall(11);
  const Decision marked = update(12, {evidence("DiskError", 9)});
  CHECK_FALSE(marked.taint);
  CHECK(marked.message == "marked healthy at 2020-09-13T12:26:51Z, no evidence since");
  CHECK(marked.judgements.empty());
  for (const WantedCondition& condition : marked.conditions) CHECK(condition.healthy);
  const Decision again = update(14, {evidence("DiskError", 13)});
  CHECK(again.taint);
  // Not a relapse: the operator said that there was nothing.
  const Decision recovered = update(314, {});
  CHECK_FALSE(recovered.taint);
  CHECK(recovered.message == "recovered");

  auto pod = std::make_shared<Entity>();
  pod->kind = EntityKind::kPod;
  std::vector<Condition> of_pod{evidence("OOMKilled", 9)};
  of_pod[0].entity = pod;
  decider.drop_set_aside(of_pod, instant(12), act);
  CHECK(of_pod.size() == 1);
}

TEST_CASE(
    "a healthy mark in the future counts when its time comes, and an adopted taint obeys an earlier one") {
  Decider decider({.mode = Mode::kEnforce});
  ActState act = connected();
  act.annotated.healthy_wall_ns = wall(50);
  CHECK(decider.update(instant(10), {evidence("DiskError", 9)}, {}, act).taint);
  std::vector<Condition> old{evidence("DiskError", 9)};
  decider.drop_set_aside(old, instant(49), act);
  CHECK(old.size() == 1);
  decider.drop_set_aside(old, instant(50), act);
  CHECK(old.empty());
  CHECK_FALSE(decider.update(instant(50), old, {}, act).taint);

  Decider second({.mode = Mode::kEnforce});
  act.tainted = act.adopted = true;
  act.taint_reason = "DiskError";
  act.tainted_since_wall_ns = wall(40);
  CHECK_FALSE(second.update(instant(60), {}, {}, act).taint);
}
