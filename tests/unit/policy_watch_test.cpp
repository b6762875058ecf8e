#include "agent/policy_watch.h"

#include <doctest/doctest.h>

using namespace vedette;

TEST_CASE("keys that changed are named, but for the policy and for form") {
  CHECK(
      changed_keys("act: {mode: observe}\n", "# a comment\nact: {mode: observe}\npolicy: {critical: [a/b]}\n")
          .empty());
  CHECK(changed_keys("slots: 512\nact: {mode: observe}\n", "act: {mode: enforce}\ntick_ms: 100\n") ==
        "act, slots, tick_ms");
  CHECK(changed_keys("", "tick_ms: 100\n") == "tick_ms");
  CHECK(changed_keys("act: {", "tick_ms: 100\n").empty());
}
