#include "agent/assess/incidents.h"

#include <algorithm>
#include <cctype>
#include <cstdio>
#include <tuple>

#include "agent/base/duration.h"
#include "agent/base/fnv1a.h"

namespace vedette {
namespace {

// What begins so long after the newest trouble of an incident is another one: as long as a condition takes to
// be over (AssessOptions::recovery_s). Without it a name server that is down for a week would gather all.
constexpr double kNearS = 300;
// More than fit on a screen; a node that fails takes every pod of it along.
constexpr std::size_t kMaxConditions = 200;
// A cause is looked for anew for so long, and then stays: by then the slowest evidence, a DNS query without
// an answer, has come, and a reader must be able to trust what was read.
constexpr double kReviseS = 10;
constexpr double kYoungS = 2;
constexpr std::size_t kBeyond = SIZE_MAX;
constexpr std::string_view kIdForm = "00000000-000000-ffffff";

std::string id_of(const Condition& first, WallNs opened_wall_ns) {
  const std::uint64_t hash =
      fnv1a(first.reason + "/" + first.entity->name + "/" + std::to_string(opened_wall_ns));
  char text[16];
  std::snprintf(text, sizeof text, "-%06x", static_cast<unsigned>(hash >> 40));
  return utc_stamp(opened_wall_ns) + text;
}

}  // namespace

bool is_incident_id(std::string_view text) {
  return std::ranges::equal(text, kIdForm, [](char c, char form) {
    const auto byte = static_cast<unsigned char>(c);
    if (form == '0') return std::isdigit(byte) != 0;
    return form == 'f' ? std::isxdigit(byte) != 0 : c == form;
  });
}

std::vector<std::string> victims(const Incident& incident) {
  std::vector<std::string> names;
  for (const IncidentCondition& condition : incident.conditions) {
    const std::string& name = condition.entity;
    if (name == incident.cause || name == "node" || std::ranges::find(names, name) != names.end()) continue;
    names.push_back(name);
  }
  return names;
}

void Incidents::blame(Open& open, const Instant& now, const CauseFinder& causes) {
  if (open.incident.settled) return;
  open.incident.settled = seconds_between(open.opened_ns, now.monotonic_ns) >= kReviseS;
  // With each step at first, then with each third: it takes a millisecond.
  const std::uint64_t pause = seconds_between(open.opened_ns, now.monotonic_ns) < kYoungS ? 1 : 3;
  if (causes.steps() < open.asked_step + pause) return;
  open.asked_step = causes.steps();
  std::vector<Suspect> suspects = causes.rank(open.opened_ns);
  if (suspects.empty()) return;
  open.incident.cause = suspects.front().entity;
  open.incident.cause_why = suspects.front().why;
  open.incident.suspects = std::move(suspects);
}

// Where it is already, else the newest incident it is near to, else one of its own.
Incidents::Open& Incidents::home_of(const Condition& condition, const Instant& now) {
  const Key key(condition.reason, condition.entity->id);
  const auto known = std::ranges::find_if(open_, [&](const Open& open) { return open.live.contains(key); });
  if (known != open_.end()) return *known;
  if (open_.empty() || seconds_between(open_.back().newest_ns, now.monotonic_ns) > kNearS) {
    Incident fresh;
    fresh.id = id_of(condition, now.wall_ns);
    fresh.opened_wall_ns = now.wall_ns;
    fresh.cause = condition.entity->name;
    fresh.cause_why = "first to change";
    fresh.settled = !condition.suffers;
    open_.push_back({std::move(fresh), now.monotonic_ns, now.monotonic_ns, 0, {}});
  }
  Open& home = open_.back();
  home.newest_ns = now.monotonic_ns;
  std::size_t place = home.incident.conditions.size();
  if (place < kMaxConditions) {
    home.incident.conditions.emplace_back().began_wall_ns = condition.since.wall_ns;
  } else {
    place = kBeyond;
    ++home.incident.more;
  }
  home.live[key].place = place;
  return home;
}

std::vector<Incident> Incidents::update(const Instant& now, const std::vector<Condition>& conditions,
                                        const CauseFinder& causes) {
  std::vector<const Condition*> order;
  for (const Condition& condition : conditions) {
    if (condition.severity >= Severity::kDegraded || condition.suffers) order.push_back(&condition);
  }
  // By who changed first: the kernel's time of the evidence, for one tick may bring several.
  std::ranges::sort(order, [](const Condition* a, const Condition* b) {
    return std::tie(a->since.monotonic_ns, a->first_evidence_ns, a->reason, a->entity->id) <
           std::tie(b->since.monotonic_ns, b->first_evidence_ns, b->reason, b->entity->id);
  });
  for (const Condition* condition : order) {
    Open& home = home_of(*condition, now);
    Live& live = home.live[Key(condition->reason, condition->entity->id)];
    live.seen = true;
    home.incident.severity = std::max(home.incident.severity, condition->severity);
    if (live.place == kBeyond) continue;
    IncidentCondition& kept = home.incident.conditions[live.place];
    kept.reason = condition->reason;
    kept.entity = condition->entity->name;
    kept.domain = condition->domain;
    kept.evidence = condition->evidence;
    kept.severity = std::max(kept.severity, condition->severity);
    kept.confidence = condition->confidence;
    kept.message = condition->message;
    kept.came_true = condition->came_true;
  }
  std::vector<Incident> told;
  for (Open& open : open_) {
    for (auto entry = open.live.begin(); entry != open.live.end();) {
      Live& live = entry->second;
      if (std::exchange(live.seen, false)) {
        ++entry;
        continue;
      }
      if (live.place != kBeyond) open.incident.conditions[live.place].ended_wall_ns = now.wall_ns;
      entry = open.live.erase(entry);
    }
    blame(open, now, causes);
    if (open.live.empty()) open.incident.closed_wall_ns = now.wall_ns;
    told.push_back(open.incident);
  }
  std::erase_if(open_, [](const Open& open) { return open.live.empty(); });
  return told;
}

}  // namespace vedette
