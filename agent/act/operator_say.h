// What a person has said about this node: leave it alone, this reason is no reason, it is healthy. Comes from
// the local socket (act/operator_store.h) and from annotations of the node; the decider obeys both. Plain
// values and pure functions: any thread.
#pragma once

#include <map>
#include <string>

#include "agent/base/clock.h"

namespace vedette {

inline constexpr WallNs kForever = ~WallNs{0};

struct OperatorSay {
  WallNs paused_until_wall_ns = 0;       // the taint stays as it is until then
  std::map<std::string, WallNs> vetoes;  // reasons that may not taint, and until when
  WallNs healthy_wall_ns = 0;            // evidence up to then is set aside
  std::string error;                     // what of it was not understood; empty: all was

  bool operator==(const OperatorSay&) const = default;
};

// The later of each.
OperatorSay merged(const OperatorSay& a, const OperatorSay& b);

// vedette.dev/pause (true, or a time), vedette.dev/veto (reasons, by commas), vedette.dev/healthy (a time). A
// pause that is not understood is a pause: somebody wanted one.
OperatorSay say_of(const std::map<std::string, std::string>& annotations);

// "until 2026-01-02T03:04:05Z", "until resumed".
std::string until_text(WallNs until_wall_ns);

}  // namespace vedette
