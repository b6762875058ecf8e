#include "agent/act/operator_say.h"

#include <algorithm>
#include <cctype>
#include <sstream>

#include "agent/kube/node.h"

namespace vedette {
namespace {

void complain(OperatorSay& say, const std::string& key, const std::string& expected,
              const std::string& found) {
  if (!say.error.empty()) say.error += "; ";
  say.error += "annotation " + key + ": expected " + expected + ", found '" + found + "'";
}

}  // namespace

OperatorSay merged(const OperatorSay& a, const OperatorSay& b) {
  OperatorSay both = a;
  both.paused_until_wall_ns = std::max(a.paused_until_wall_ns, b.paused_until_wall_ns);
  both.healthy_wall_ns = std::max(a.healthy_wall_ns, b.healthy_wall_ns);
  for (const auto& [reason, until] : b.vetoes) {
    WallNs& known = both.vetoes[reason];
    known = std::max(known, until);
  }
  return both;
}

OperatorSay say_of(const std::map<std::string, std::string>& annotations) {
  constexpr const char* kTime = "a time in UTC like 2026-01-02T03:04:05Z";
  OperatorSay say;
  for (const auto& [key, value] : annotations) {
    if (key == "vedette.dev/pause" && value != "false" && !value.empty()) {
      const WallNs until = parse_time(value);
      say.paused_until_wall_ns = until == 0 ? kForever : until;
      if (until == 0 && value != "true") complain(say, key, std::string("true, false or ") + kTime, value);
    } else if (key == "vedette.dev/healthy") {
      say.healthy_wall_ns = parse_time(value);
      if (say.healthy_wall_ns == 0) complain(say, key, kTime, value);
    } else if (key == "vedette.dev/veto") {
      std::istringstream reasons(value);
      for (std::string reason; std::getline(reasons, reason, ',');) {
        std::erase_if(reason, [](unsigned char c) { return std::isspace(c) != 0; });
        if (!reason.empty()) say.vetoes[reason] = kForever;
      }
    }
  }
  return say;
}

std::string until_text(WallNs until_wall_ns) {
  return until_wall_ns == kForever ? "until resumed" : "until " + format_time(until_wall_ns);
}

}  // namespace vedette
