#include "agent/assess/reasons.h"

#include <doctest/doctest.h>

using namespace vedette;

TEST_CASE(
    "all reasons are known: of events, levels, scores, kills and log lines, also of rules of one's own") {
  const std::set<std::string> shipped = known_reasons(*LogRules::builtin());
  for (const char* reason : {"FilesystemError", "DiskFull", "PredictedFailure", "Anomaly", "OOMKilled",
                             "NodeOutOfMemory", "SoftLockup"}) {
    INFO(reason);
    CHECK(shipped.contains(reason));
  }
  CHECK_FALSE(shipped.contains(""));
  CHECK_FALSE(shipped.contains("RackOnFire"));
  LogRule rule;
  rule.pattern = "fire";
  rule.reason = "RackOnFire";
  const auto rules = LogRules::make({rule});
  REQUIRE(rules);
  CHECK(known_reasons(**rules).contains("RackOnFire"));
}

TEST_CASE("a misspelt reason finds the one that was meant") {
  const std::set<std::string> names = known_reasons(*LogRules::builtin());
  CHECK(nearest_names("TaskHnug", names, 3).front() == "TaskHung");
  CHECK(nearest_names("taskhung", names, 1) == std::vector<std::string>{"TaskHung"});
  CHECK(nearest_names("FilesystemErrors", names, 1).front() == "FilesystemError");
  CHECK(nearest_names("", names, 3).size() == 3);
  CHECK(nearest_names("x", {}, 3).empty());
}
