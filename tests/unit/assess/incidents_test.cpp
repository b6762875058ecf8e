#include "agent/assess/incidents.h"

#include <doctest/doctest.h>

using namespace vedette;

namespace {

Instant at(double seconds) {
  const auto ns = static_cast<std::uint64_t>(seconds * 1e9);
  return {ns, 1'700'000'000'000'000'000 + ns};
}

Condition trouble(const std::string& reason, EntityId entity, double since_s,
                  Severity severity = Severity::kDegraded) {
  Condition condition;
  condition.reason = reason;
  condition.severity = severity;
  Entity of;
  of.id = entity;
  if (entity != kNodeEntity) of.name = "unit/" + std::to_string(entity);
  condition.entity = std::make_shared<const Entity>(of);
  condition.since = at(since_s);
  condition.first_evidence_ns = condition.since.monotonic_ns;
  condition.message = reason + " happened";
  return condition;
}

}  // namespace

TEST_CASE("troubles that come together are one incident, put down to who changed first") {
  Incidents incidents;
  const CauseFinder causes;
  CHECK(incidents.update(at(9), {}, causes).empty());
  // In the order of the conditions the worse one is first; in time it came second.
  Condition second = trouble("FilesystemError", kNodeEntity, 10, Severity::kUnhealthy);
  second.first_evidence_ns += 1;
  const Condition first = trouble("MemoryNearLimit", 7, 10);
  auto told = incidents.update(at(10), {second, first}, causes);
  REQUIRE(told.size() == 1);
  CHECK(told[0].cause == "unit/7");
  CHECK(told[0].cause_why == "first to change");
  CHECK(told[0].severity == Severity::kUnhealthy);
  REQUIRE(told[0].conditions.size() == 2);
  CHECK(told[0].conditions[0].reason == "MemoryNearLimit");
  CHECK(told[0].closed_wall_ns == 0);
  const std::string id = told[0].id;
  CHECK(is_incident_id(id));
  CHECK(id.starts_with("20231114-221330-"));

  told = incidents.update(at(11), {second}, causes);
  REQUIRE(told.size() == 1);
  CHECK(told[0].id == id);
  CHECK(told[0].conditions[0].ended_wall_ns == at(11).wall_ns);
  CHECK(told[0].conditions[1].ended_wall_ns == 0);
  told = incidents.update(at(12), {}, causes);
  REQUIRE(told.size() == 1);
  CHECK(told[0].closed_wall_ns == at(12).wall_ns);
  CHECK(incidents.update(at(13), {}, causes).empty());
}

TEST_CASE("what comes long after the newest trouble of an incident is another one") {
  Incidents incidents;
  const CauseFinder causes;
  const Condition lasting = trouble("DnsDown", kNodeEntity, 10);
  incidents.update(at(10), {lasting}, causes);
  auto told = incidents.update(at(200), {lasting, trouble("DiskFull", kNodeEntity, 200)}, causes);
  CHECK(told.size() == 1);
  told = incidents.update(at(600), {lasting, trouble("TaskHung", kNodeEntity, 600)}, causes);
  REQUIRE(told.size() == 2);
  CHECK(told[0].id != told[1].id);
  CHECK(told[1].conditions[0].reason == "TaskHung");
}

TEST_CASE("an anomaly's incident is put down to who explains the waiting, for 10 s anew, and then it stays") {
  Incidents incidents;
  CauseFinder causes;
  Observation observation;
  for (EntityId id = 0; id < 3; ++id) {
    Entity entity;
    entity.id = id;
    entity.name = id == kNodeEntity ? "node" : "unit/" + std::to_string(id);
    observation.entities.push_back(std::make_shared<const Entity>(entity));
    observation.samples.emplace_back().entity = id;
  }
  observation.interval_s = 1;
  // Seconds in which unit/WHO uses a core and unit/2 waits for it.
  const auto run = [&](int from, int to, EntityId who) {
    std::vector<Incident> told;
    Condition victim = trouble("Anomaly", 2, 45, Severity::kInfo);
    victim.suffers = true;
    for (int second = from; second <= to; ++second) {
      observation.time = at(second);
      observation.samples[2].counters[COUNTER_runqueue_wait_ns] = who == kNodeEntity ? 0 : 1'000'000'000;
      for (EntityId id = 1; id < 3; ++id) observation.samples[id].gauges[GAUGE_cpu_cores] = id == who ? 1 : 0;
      causes.update(observation);
      told = incidents.update(
          observation.time, second < 45 ? std::vector<Condition>{} : std::vector<Condition>{victim}, causes);
    }
    return told;
  };
  run(1, 40, kNodeEntity);
  auto told = run(41, 48, 1);
  REQUIRE(told.size() == 1);
  CHECK(told[0].cause == "unit/1");
  CHECK_FALSE(told[0].settled);
  REQUIRE(told[0].suspects.size() == 1);
  CHECK(told[0].suspects[0].why == told[0].cause_why);
  CHECK(victims(told[0]) == std::vector<std::string>{"unit/2"});
  told = run(49, 56, 1);
  CHECK(told[0].settled);
  const std::string why = told[0].cause_why;
  told = run(57, 80, 2);
  CHECK(told[0].cause == "unit/1");
  CHECK(told[0].cause_why == why);
}

TEST_CASE("evidence of a fault names whose it is, and needs no ranking") {
  Incidents incidents;
  const auto told = incidents.update(at(5), {trouble("FilesystemError", kNodeEntity, 5)}, CauseFinder());
  REQUIRE(told.size() == 1);
  CHECK(told[0].settled);
  CHECK(told[0].cause == "node");
}

TEST_CASE("information makes no incident, but that somebody suffers does") {
  Incidents incidents;
  const CauseFinder causes;
  CHECK(incidents.update(at(1), {trouble("ClockJumped", kNodeEntity, 1, Severity::kInfo)}, causes).empty());
  Condition unusual = trouble("Anomaly", 5, 2, Severity::kInfo);
  unusual.suffers = true;
  const auto told = incidents.update(at(2), {unusual}, causes);
  REQUIRE(told.size() == 1);
  CHECK_FALSE(told[0].settled);  // whose fault it is stays to be found
}

TEST_CASE("an incident of very many troubles keeps a bounded number and counts the rest") {
  Incidents incidents;
  const CauseFinder causes;
  std::vector<Condition> all;
  for (EntityId entity = 1; entity <= 250; ++entity) all.push_back(trouble("MemoryNearLimit", entity, 5));
  auto told = incidents.update(at(5), all, causes);
  REQUIRE(told.size() == 1);
  CHECK(told[0].conditions.size() == 200);
  CHECK(told[0].more == 50);
  told = incidents.update(at(6), {}, causes);
  REQUIRE(told.size() == 1);
  CHECK(told[0].closed_wall_ns != 0);
}

TEST_CASE("an incident's id is told from an entity's name") {
  CHECK(is_incident_id("20261125-071455-3fa21c"));
  for (const char* text :
       {"", "node", "20261125-071455-3fa21g", "20261125-071455-3fa21", "2026112x-071455-3fa21c"})
    CHECK_FALSE(is_incident_id(text));
}
