#include "exporter/history.h"

#include <doctest/doctest.h>

#include "tests/unit/exporter/example_snapshot.h"

using namespace vedette;

TEST_CASE("a trail is the last minute, a point a second, the oldest first") {
  History history;
  const auto add = [&](std::uint64_t second) {
    example::Scene scene;
    scene.tick = second;
    const auto snapshot = example::snapshot(scene);
    auto changed = std::make_shared<Snapshot>(*snapshot);
    changed->scores.entities[1].risk = static_cast<double>(second);
    history.add(*changed);
  };
  const auto risk = [](const TrailPoint& point) { return point[kTrailColumns.size() - 1]; };
  for (std::uint64_t second = 1; second <= 5; ++second) add(second);
  std::vector<TrailPoint> points = history.trail(1);
  REQUIRE(points.size() == 5);
  CHECK(risk(points.front()) == 1);
  CHECK(risk(points.back()) == 5);
  for (std::uint64_t second = 6; second <= 143; ++second) add(second);
  points = history.trail(1);
  REQUIRE(points.size() == 60);
  for (std::size_t i = 0; i < points.size(); ++i) CHECK(risk(points[i]) == static_cast<float>(84 + i));
  CHECK(history.trail(99).empty());
}

TEST_CASE("of the events of an entity the newest sixteen are remembered, equal ones in a row once") {
  History history;
  example::Scene scene;
  auto snapshot = std::make_shared<Snapshot>(*example::snapshot(scene));
  snapshot->observation.events.clear();
  for (std::uint64_t value = 1; value <= 20; ++value) {
    KernelEvent event;
    event.entity = 1;
    event.value = value;
    snapshot->observation.events.push_back(event);
    snapshot->observation.events.push_back(event);
  }
  history.add(*snapshot);
  const std::vector<RecentEvent> events = history.events(1);
  REQUIRE(events.size() == 16);
  CHECK(events.front().event.value == 20);
  CHECK(events.front().count == 2);
  CHECK(events.back().event.value == 5);
}
