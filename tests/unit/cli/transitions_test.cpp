#include "tools/cli/transitions.h"

#include <doctest/doctest.h>

namespace vedette {
namespace {

using Kind = Transition::Kind;

RecordedVerdict::ConditionVerdict condition(const std::string& reason, Severity severity) {
  RecordedVerdict::ConditionVerdict verdict;
  verdict.reason = reason;
  verdict.severity = severity;
  return verdict;
}

// Each character is a tick: d and u are a degraded and an unhealthy condition, T is the latter with a taint,
// h is u with the taint held back.
std::vector<Transition> course(const std::string& ticks) {
  auto node = std::make_shared<Entity>();
  node->name = "node";
  Transitions transitions;
  for (std::size_t i = 0; i < ticks.size(); ++i) {
    RecordedVerdict verdict;
    if (ticks[i] == 'd') verdict.conditions = {condition("DiskError", Severity::kDegraded)};
    if (ticks[i] == 'u' || ticks[i] == 'T' || ticks[i] == 'h')
      verdict.conditions = {condition("DiskError", Severity::kUnhealthy)};
    verdict.taint = ticks[i] == 'T';
    if (verdict.taint) verdict.reason = "DiskError";
    verdict.effect = "NoSchedule";
    if (ticks[i] == 'h') verdict.held_back = "DiskError: confidence 0." + std::to_string(i);
    transitions.tick(i, verdict, {node});
  }
  return transitions.list();
}

std::string texts(const std::vector<Transition>& list) {
  std::string text;
  for (const Transition& each : list) text += std::to_string(each.wall_ns) + " " + each.text() + "\n";
  return text;
}

}  // namespace

TEST_CASE("what changes is told once, and in words") {
  CHECK(texts(course("..ddTTu..")) ==
        "2 DiskError of node begins: degraded\n"
        "4 DiskError of node is worse: unhealthy\n"
        "4 taint DiskError:NoSchedule\n"
        "6 lift DiskError:NoSchedule\n"
        "7 DiskError of node is over\n");
  CHECK(texts(course("hhT")) ==
        "0 DiskError of node begins: unhealthy\n"
        "0 hold back DiskError: confidence 0.0\n"
        "2 taint DiskError:NoSchedule\n");
}

TEST_CASE("two courses side by side: the same, at another time, only then, only now") {
  const auto pairs = side_by_side(course(".TTTT."), course(".hhT.."));
  std::string text;
  for (const TransitionPair& pair : pairs) {
    text += pair.is_same() ? "=" : pair.then && pair.now ? "~" : pair.then ? "-" : "+";
    text += " " + (pair.then ? pair.then : pair.now)->text() + "\n";
  }
  CHECK(text ==
        "= DiskError of node begins: unhealthy\n"
        "~ taint DiskError:NoSchedule\n"
        "+ hold back DiskError: confidence 0.1\n"
        "~ DiskError of node is over\n"
        "~ lift DiskError:NoSchedule\n");
  for (const TransitionPair& pair : side_by_side(course("hu"), course("hu"))) CHECK(pair.is_same());
}

}  // namespace vedette
