// A policy in plain words, as the socket carries it: filled by the agent, and by the CLI that reads a file
// without one. Pure: any thread.
#pragma once

#include <string>

#include "agent/act/policy.h"
#include "exporter/api.pb.h"

namespace vedette {

inline void fill(const Policy& policy, api::Policy& out, const TrackRecord& record = {}) {
  out.set_origin(policy.origin);
  for (const PolicyRule& rule : policy.rules) {
    const RuleText text = describe(rule);
    api::PolicyRule& line = *out.add_rules();
    line.set_about(text.about);
    line.set_when(text.when);
    line.set_does(text.does);
    line.set_name(rule.name);
    line.set_needs_verdicts(rule.after_verdicts);
    line.set_needs_precision(rule.after_precision);
    line.set_lacks(rule.lacks(record));
    if (const auto known = record.find(rule.name); known != record.end()) {
      line.set_confirmed(known->second.confirmed);
      line.set_refuted(known->second.refuted);
      line.set_undecided(known->second.undecided);
    }
  }
  for (const std::string& pod : policy.critical) out.add_critical(pod);
  out.set_relapse_doublings(policy.relapse_doublings);
}

}  // namespace vedette
