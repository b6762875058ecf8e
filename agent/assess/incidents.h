// Troubles that come together are one incident: what began when, of whom, how bad, and who changed first. A
// pure function of the conditions it was shown: no clock, no I/O. Called by the tick thread only.
#pragma once

#include <map>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "agent/assess/cause_finder.h"
#include "agent/assess/condition.h"

namespace vedette {

struct IncidentCondition {
  std::string reason;
  std::string entity;  // its name
  Domain domain = Domain::kKernel;
  Evidence evidence = Evidence::kEvent;
  Severity severity = Severity::kInfo;  // the worst it had
  WallNs began_wall_ns = 0;
  WallNs ended_wall_ns = 0;  // 0: it lasts
  double confidence = 1;
  std::string message;     // the newest
  bool came_true = false;  // as in Condition
};

struct Incident {
  std::string id;  // "20261125-071455-3fa21c": when it opened, and a hash of what opened it
  WallNs opened_wall_ns = 0;
  WallNs closed_wall_ns = 0;  // 0: open
  Severity severity = Severity::kInfo;
  std::vector<IncidentCondition> conditions;  // in the order of their beginning
  std::size_t more = 0;                       // conditions beyond the bound
  // Whom it is put down to: an entity, or kOutside. May change for as long as it is not settled.
  std::string cause;
  std::string cause_why;
  bool settled = false;
  std::vector<Suspect> suspects;  // who else it may be; the best first, which is the cause
};

// The entities with a condition of it that are not its cause, in the order of their beginning; not the node,
// which suffers what its pods do.
std::vector<std::string> victims(const Incident& incident);

// Whether a text has the form of an incident's id; no entity is named so.
bool is_incident_id(std::string_view text);

class Incidents {
public:
  // What is degraded or worse, or suffers, is worth an incident.
  // The open incidents, oldest first, and those that closed by this tick. `causes` has seen the tick.
  std::vector<Incident> update(const Instant& now, const std::vector<Condition>& conditions,
                               const CauseFinder& causes);

private:
  using Key = std::pair<std::string, EntityId>;
  struct Live {
    std::size_t place = 0;  // in incident.conditions; kBeyond: not kept
    bool seen = false;      // in this tick
  };
  struct Open {
    Incident incident;
    MonotonicNs opened_ns = 0;
    MonotonicNs newest_ns = 0;  // when the last of its conditions began
    std::uint64_t asked_step = 0;
    std::map<Key, Live> live;
  };

  Open& home_of(const Condition& condition, const Instant& now);
  static void blame(Open& open, const Instant& now, const CauseFinder& causes);

  std::vector<Open> open_;  // oldest first
};

}  // namespace vedette
