#include <sstream>
#include <string>

#include <doctest/doctest.h>

#include "agent/record/recorder.h"
#include "tests/unit/exporter/example_snapshot.h"
#include "tests/unit/temporary_folder.h"
#include "tools/cli/commands.h"

namespace vedette {
namespace {

constexpr const char* kEscape = "\x1b]0;owned\x07";

// A recording in which whoever named things wanted a terminal to obey; a model and a policy of then included.
void record_escapes(const std::string& path) {
  RecorderOptions options;
  options.path = path;
  options.header.agent_version = options.header.kernel_release = options.header.node = kEscape;
  auto recorder = Recorder::make(std::move(options));
  REQUIRE(recorder.has_value());
  for (std::uint64_t tick = 1; tick <= 2; ++tick) {
    Snapshot snapshot = *example::snapshot({.tick = tick});
    const EntityPtr entity = example::entity(1, EntityKind::kPod, kEscape);
    snapshot.observation.entities[1] = snapshot.features.entities[1] = entity;
    snapshot.conditions[0].entity = entity;
    snapshot.conditions[1].reason = kEscape;
    snapshot.decision.held_back = std::string("DiskError: ") + kEscape;
    auto policy = std::make_shared<Policy>(*Policy::builtin());
    policy->origin = kEscape;
    snapshot.decision.policy = policy;
    (*recorder)->publish(std::make_shared<const Snapshot>(std::move(snapshot)));
  }
}

TEST_CASE("what a recording says reaches no terminal as a command") {
  const TemporaryFolder folder;
  record_escapes(folder.file("run"));
  for (const std::vector<std::string>& arguments :
       {std::vector<std::string>{"record", "inspect", folder.file("run")},
        {"replay", folder.file("run")},
        {"replay", folder.file("run"), "--plot", folder.file("svg"), "--entity", "e"}}) {
    std::ostringstream out;
    std::ostringstream err;
    run_cli(arguments, {out, err, {}});
    const std::string told = out.str() + err.str();
    CAPTURE(told);
    CHECK(told.find("?]0;owned?") != std::string::npos);
    CHECK(told.find_first_of("\x1b\x07") == std::string::npos);
  }
}

}  // namespace
}  // namespace vedette
