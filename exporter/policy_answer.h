// A policy in plain words, as the socket carries it: filled by the agent, and by the CLI that reads a file
// without one. Pure: any thread.
#pragma once

#include <string>

#include "agent/act/policy.h"
#include "exporter/api.pb.h"

namespace vedette {

inline void fill(const Policy& policy, api::Policy& out) {
  out.set_origin(policy.origin);
  for (const PolicyRule& rule : policy.rules) {
    const RuleText text = describe(rule);
    api::PolicyRule& line = *out.add_rules();
    line.set_about(text.about);
    line.set_when(text.when);
    line.set_does(text.does);
  }
  for (const std::string& pod : policy.critical) out.add_critical(pod);
  out.set_relapse_doublings(policy.relapse_doublings);
}

}  // namespace vedette
