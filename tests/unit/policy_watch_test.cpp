#include "agent/policy_watch.h"

#include <fstream>
#include <thread>

#include <doctest/doctest.h>

#include "agent/config.h"
#include "tests/unit/temporary_folder.h"

using namespace vedette;

TEST_CASE("a file that is replaced after it was read, and before anybody watches, is read again") {
  const TemporaryFolder folder;
  const std::string file = folder.file("agent.yaml");
  std::ofstream(file) << "policy: {rules: [{reason: First, effect: NoSchedule}]}\n";
  const Result<Config> loaded = load_config(file, true);
  REQUIRE(loaded);
  CHECK(loaded->text == "policy: {rules: [{reason: First, effect: NoSchedule}]}\n");
  std::ofstream(file) << "tick_ms: 200\npolicy: {rules: [{reason: Second, effect: NoSchedule}]}\n";
  const auto watch = PolicyWatch::make(file, true, loaded->decide.policy, loaded->text);
  REQUIRE(watch);
  while ((*watch)->get()->policy->rules[0].reason != "Second") std::this_thread::yield();
  CHECK((*watch)->get()->restart_for == "tick_ms");
  CHECK((*watch)->get()->error.empty());
}

TEST_CASE("keys that changed are named, but for the policy and for form") {
  CHECK(
      changed_keys("act: {mode: observe}\n", "# a comment\nact: {mode: observe}\npolicy: {critical: [a/b]}\n")
          .empty());
  CHECK(changed_keys("slots: 512\nact: {mode: observe}\n", "act: {mode: enforce}\ntick_ms: 100\n") ==
        "act, slots, tick_ms");
  CHECK(changed_keys("", "tick_ms: 100\n") == "tick_ms");
  CHECK(changed_keys("act: {", "tick_ms: 100\n").empty());
}
