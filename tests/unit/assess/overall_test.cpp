#include "agent/assess/overall.h"

#include <memory>

#include <doctest/doctest.h>

namespace {

using vedette::Overall;
using vedette::Severity;

vedette::Condition condition(Severity severity, vedette::EntityId id) {
  vedette::Condition made;
  made.severity = severity;
  vedette::Entity entity;
  entity.id = id;
  made.entity = std::make_shared<const vedette::Entity>(entity);
  return made;
}

TEST_CASE("a node without conditions, or with mere information, is healthy") {
  CHECK(vedette::overall({}) == Overall::kHealthy);
  CHECK(vedette::overall({condition(Severity::kInfo, 0), condition(Severity::kInfo, 7)}) ==
        Overall::kHealthy);
}

TEST_CASE("only the node's own unhealthy condition makes it unhealthy") {
  CHECK(vedette::overall({condition(Severity::kUnhealthy, 7)}) == Overall::kDegraded);
  CHECK(vedette::overall({condition(Severity::kDegraded, 0)}) == Overall::kDegraded);
  CHECK(vedette::overall({condition(Severity::kUnhealthy, 7), condition(Severity::kUnhealthy, 0)}) ==
        Overall::kUnhealthy);
}

TEST_CASE("a condition that is recovering still counts") {
  vedette::Condition recovering = condition(Severity::kUnhealthy, 0);
  recovering.recovering = true;
  CHECK(vedette::overall({recovering}) == Overall::kUnhealthy);
}

TEST_CASE("a single unhealthy condition of the node is enough") {
  CHECK(vedette::overall({condition(Severity::kUnhealthy, 0)}) == Overall::kUnhealthy);
}

}  // namespace
