#include "agent/act/node_verdict.h"

#include <doctest/doctest.h>
#include <nlohmann/json.hpp>

#include "agent/act/decider.h"

using namespace vedette;

namespace {

Condition condition(const std::string& reason, Domain domain, Severity severity,
                    Evidence evidence = Evidence::kEvent, EntityKind kind = EntityKind::kNode) {
  auto entity = std::make_shared<Entity>();
  entity->kind = kind;
  if (kind == EntityKind::kPod) entity->name = "pod/shop/cart";
  Condition made;
  made.reason = reason;
  made.domain = domain;
  made.severity = severity;
  made.evidence = evidence;
  made.entity = entity;
  made.message = "what happened";
  made.since.wall_ns = 1'600'000'000'000'000'000;
  return made;
}

const WantedCondition& of(const std::vector<WantedCondition>& list, const std::string& type) {
  for (const WantedCondition& one : list) {
    if (one.type == type) return one;
  }
  FAIL(type);
  return list.front();
}

}  // namespace

TEST_CASE("each domain has a condition of its own, false from a degraded node on") {
  const auto list = node_conditions(
      {condition("DiskError", Domain::kStorage, Severity::kUnhealthy),
       condition("DiskFull", Domain::kStorage, Severity::kDegraded, Evidence::kLevel),
       condition("CpuThrottled", Domain::kCpu, Severity::kInfo),
       condition("OOMKilled", Domain::kMemory, Severity::kDegraded, Evidence::kEvent, EntityKind::kPod)});
  REQUIRE(list.size() == 8);
  CHECK_FALSE(of(list, "VedetteStorageHealthy").healthy);
  CHECK(of(list, "VedetteStorageHealthy").reason == "DiskError");
  CHECK(of(list, "VedetteStorageHealthy").message == "what happened; and 1 more");
  for (const char* type :
       {"VedetteKernelHealthy", "VedetteMemoryHealthy", "VedetteCPUHealthy", "VedetteNetworkHealthy",
        "VedetteHardwareHealthy", "VedetteRuntimeHealthy", "VedetteForecastHealthy"}) {
    CHECK(of(list, type).healthy);
    CHECK(of(list, type).reason == "Healthy");
  }
}

TEST_CASE("a predicted failure of a pod is the forecast's condition and no domain's") {
  const auto list = node_conditions({condition("PredictedFailure", Domain::kMemory, Severity::kDegraded,
                                               Evidence::kRisk, EntityKind::kPod)});
  CHECK_FALSE(of(list, "VedetteForecastHealthy").healthy);
  CHECK(of(list, "VedetteForecastHealthy").message == "pod/shop/cart: what happened");
  CHECK(of(list, "VedetteMemoryHealthy").healthy);
}

TEST_CASE("the verdict is JSON of at most 4 KiB, cut at whole conditions") {
  Decision decision;
  decision.mode = Mode::kEnforce;
  decision.taint = true;
  decision.reason = "DiskError";
  decision.since_wall_ns = 1'600'000'000'000'000'000;
  constexpr int kMany = 100;
  std::vector<Condition> conditions;
  conditions.reserve(kMany);
  for (int i = 0; i < kMany; ++i) {
    conditions.push_back(condition("Reason" + std::to_string(i), Domain::kStorage, Severity::kDegraded));
  }
  const std::string text = verdict_json(decision, conditions, VerdictDetail::kFull);
  CHECK(text.size() <= 4096);
  CHECK(text.size() > 3800);
  const auto verdict = nlohmann::json::parse(text);
  CHECK(verdict["mode"] == "enforce");
  CHECK(verdict["effect"] == "NoSchedule");
  CHECK(verdict["reason"] == "DiskError");
  CHECK(verdict["since"] == "2020-09-13T12:26:40Z");
  CHECK(verdict["message"] == "");
  CHECK(verdict["predictions"].empty());
  CHECK(verdict["conditions"].size() > 15);
  CHECK(verdict["conditions"][0]["reason"] == "Reason0");
  CHECK(verdict["conditions"][0]["severity"] == "degraded");
  CHECK(verdict["conditions"][0]["message"] == "what happened");
  CHECK(verdict["conditions"][0]["confidence"] == 1);
  decision.taint = false;
  CHECK(nlohmann::json::parse(verdict_json(decision, {}, VerdictDetail::kFull))["effect"] == "None");
}

TEST_CASE("sentences of the verdict are cut between characters, whatever they hold") {
  Decision decision;
  decision.message = std::string(159, 'x') + "ü";  // its second byte would be the 161st
  std::vector<Condition> conditions{condition("DiskError", Domain::kStorage, Severity::kUnhealthy)};
  conditions[0].message = std::string(5000, '\x01');  // six bytes of JSON each
  conditions.push_back(condition("LogError", Domain::kKernel, Severity::kDegraded));
  conditions[1].message = "bad byte \xff, \"quoted\"";
  conditions[1].confidence = 0.8567;
  const std::string text = verdict_json(decision, conditions, VerdictDetail::kFull);
  CHECK(text.size() <= 4096);
  const auto verdict = nlohmann::json::parse(text);
  CHECK(verdict["message"] == std::string(159, 'x'));
  REQUIRE(verdict["conditions"].size() == 2);
  CHECK(verdict["conditions"][0]["message"] == std::string(160, '\x01'));
  CHECK(verdict["conditions"][1]["message"] == "bad byte \xef\xbf\xbd, \"quoted\"");
  CHECK(verdict["conditions"][1]["confidence"] == 0.86);
}

TEST_CASE("the verdict has predicted failures of pods, with probability and horizon") {
  Condition soon =
      condition("PredictedFailure", Domain::kMemory, Severity::kDegraded, Evidence::kRisk, EntityKind::kPod);
  soon.probability = 0.9312;
  soon.horizon_s = 60;
  const std::vector<Condition> conditions{
      soon, condition("OOMKilled", Domain::kMemory, Severity::kDegraded, Evidence::kEvent, EntityKind::kPod)};
  const auto verdict = nlohmann::json::parse(verdict_json({}, conditions, VerdictDetail::kFull));
  CHECK(verdict["conditions"].empty());
  REQUIRE(verdict["predictions"].size() == 1);
  CHECK(verdict["predictions"][0]["entity"] == "pod/shop/cart");
  CHECK(verdict["predictions"][0]["probability"] == 0.93);
  CHECK(verdict["predictions"][0]["horizon_s"] == 60);
}

TEST_CASE("what an older agent remembered, in a verdict without sentences and numbers, is read") {
  const auto list = remembered_of(
      R"({"mode":"enforce","paused":false,"effect":"None","reason":"","since":"2020-09-13T12:26:40Z",)"
      R"("remembered":[{"reason":"DiskError","relapses":2,"ended":"2020-09-13T12:26:40Z"}],"conditions":[]})");
  CHECK(list == std::vector<Remembered>{{"DiskError", 0, 1'600'000'000'000'000'000, 2}});
  Decision decision;
  decision.message = "recovered";
  decision.remembered = list;
  CHECK(remembered_of(verdict_json(decision, {}, VerdictDetail::kFull)) == list);
}

TEST_CASE("a new condition is a new decision, a new number in its message is not") {
  ActState act;
  act.known = true;
  Decider decider({.mode = Mode::kEnforce});
  const auto at = [](std::uint64_t s) { return Instant{s * 1'000'000'000, s * 1'000'000'000}; };
  const std::uint64_t quiet = decider.update(at(1), {}, {}, act).generation;
  CHECK(decider.update(at(2), {}, {}, act).generation == quiet);
  Condition full = condition("DiskFull", Domain::kStorage, Severity::kDegraded, Evidence::kLevel);
  const Decision told = decider.update(at(3), {full}, {}, act);
  CHECK_FALSE(told.taint);
  CHECK(told.generation == quiet + 1);
  full.message = "disk_space_use at 99 %";
  ++full.count;
  const Decision same = decider.update(at(4), {full}, {}, act);
  CHECK(same.generation == quiet + 1);
  CHECK(same.verdict == told.verdict);
  // Numbers are renewed as often as the node's conditions are.
  const Decision renewed = decider.update(at(303), {full}, {}, act);
  CHECK(renewed.generation == quiet + 1);
  CHECK(renewed.verdict.find("disk_space_use at 99 %") != std::string::npos);
  CHECK(decider.update(at(304), {}, {}, act).generation == quiet + 2);
}

TEST_CASE("what is not known yet is not decided by a condition that does not act") {
  Decider decider({.mode = Mode::kEnforce});
  const Condition full = condition("DiskFull", Domain::kStorage, Severity::kDegraded, Evidence::kLevel);
  CHECK(decider.update({1, 1}, {full}, {}, {}).generation == 0);
  CHECK(decider.update({2, 2}, {}, {}, {}).generation == 0);
}
