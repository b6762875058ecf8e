#include "agent/assess/assessor.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <cmath>
#include <cstdio>
#include <iterator>
#include <map>
#include <set>

#include "agent/assess/event_text.h"
#include "agent/assess/rules.h"
#include "agent/collect/signals.h"
#include "agent/score/exact_math.h"

namespace vedette {
namespace {

constexpr double kLogConfidence = 0.9;  // a log line is the kernel's word, but its text may change

// Where nothing is wrong all lost a second to longer waits, in one go, in 8 of 10,353 ticks, two in 3, four
// in none. With that an anomaly might be as many times as common for the same false alarms: by .39, .44 and
// .44 on the scale of scores (-log10 p / 8), if the two had nothing to do with each other. But who begins to
// do more makes others wait. So less is given: .14, .24, .34, and kMostLostPart for eight. And the next tick
// must agree.
constexpr double kLeastLostS = 1;
constexpr double kLostPart = 0.14;
constexpr double kTwiceAsMuchPart = 0.1;
constexpr double kFeltHoldS = 0.4;

// By how much less rare an anomaly may be with which all lost so many seconds.
double lost_part(double lost_s) {
  const double times = std::max(lost_s, kLeastLostS) / kLeastLostS;
  const auto twice = static_cast<double>(exact_log2(static_cast<float>(times)));
  return std::min(kLostPart + kTwiceAsMuchPart * twice, kMostLostPart);
}

std::string number(double value) {
  if (std::isnan(value)) return "missing";
  char text[32];
  std::snprintf(text, sizeof text, std::fabs(value) < 10 ? "%.3g" : "%.0f", value);
  return text;
}

std::string join(std::initializer_list<std::string> parts) {
  std::string text;
  for (const std::string& part : parts) text += part;
  return text;
}

// Whose pid a line has that tells of a task which hangs ("task NAME:PID blocked ..."); 0: none.
std::uint32_t hung_task(std::string_view line) {
  const std::size_t end = line.find(" blocked ");
  const std::size_t colon = end == std::string_view::npos ? end : line.rfind(':', end);
  std::uint32_t pid = 0;
  if (colon != std::string_view::npos) std::from_chars(line.data() + colon + 1, line.data() + end, pid);
  return pid;
}

// "memory_use at 98 % of its limit", "2 disks do not run, their drivers say".
std::string describe(const LevelRule& rule, double value, bool of_node) {
  if (!rule.words.empty()) {
    const bool counts = rule.enter > 0 && rule.feature != "clock_unsynchronized";
    return join({counts ? number(value) + " " : "", std::string(rule.words)});
  }
  return join({std::string(rule.feature), " at ", number(100 * value), " %",
               of_node ? " of what the node has" : " of its limit"});
}

const EntityPtr* find_entity(const std::vector<EntityPtr>& entities, EntityId id) {
  const auto found = std::find_if(entities.begin(), entities.end(),
                                  [id](const EntityPtr& entity) { return entity->id == id; });
  return found == entities.end() ? nullptr : &*found;
}

Domain domain_of(std::string_view signal) {
  if (signal.starts_with("memory") || signal.starts_with("direct_reclaim") || signal.starts_with("oom") ||
      signal == "errors_memory" || signal.starts_with("pressure_memory")) {
    return Domain::kMemory;
  }
  if (signal.starts_with("disk") || signal.starts_with("blocked_disk") || signal == "errors_space" ||
      signal == "errors_io" || signal.starts_with("pressure_io")) {
    return Domain::kStorage;
  }
  if (signal.starts_with("tcp") || signal == "errors_network") return Domain::kNetwork;
  if (signal.starts_with("cpu") || signal.starts_with("runqueue") || signal == "pressure_cpu") {
    return Domain::kCpu;
  }
  return Domain::kKernel;
}

// That of the reason that says most.
Domain domain_of(const std::vector<Reason>& reasons) {
  return reasons.empty() ? Domain::kKernel : domain_of(feature_columns()[reasons.front().column].signal);
}

std::vector<std::string> describe(const std::vector<Reason>& reasons) {
  std::vector<std::string> lines;
  for (const Reason& reason : reasons) {
    std::string line = join({feature_columns()[reason.column].name, " ", number(reason.value)});
    if (!std::isnan(reason.usual)) line += join({", usually ", number(reason.usual)});
    line += join({" (", reason.weight >= 0 ? "+" : "", number(reason.weight), ")"});
    lines.push_back(std::move(line));
  }
  return lines;
}

}  // namespace

struct Assessor::Proof {
  std::string_view reason;
  Domain domain;
  Evidence evidence;
  const EntityPtr& entity;
  double confidence;
  MonotonicNs time_ns;
  std::string message;
  std::vector<std::string> details = {};
  std::uint32_t unhealthy_at = 0;        // as in EventRule
  Severity floor = Severity::kDegraded;  // severity below `unhealthy_at`
  bool suffers = false;                  // as in Condition
  double probability = 0;                // likewise
  bool again = false;                    // what was counted before
};

Assessor::Assessor(AssessOptions options) : options_(std::move(options)), trust_(options_.continues) {}

void Assessor::file(const Proof& proof, const Instant& now) {
  const auto [position, fresh] = active_.try_emplace(Key(proof.reason, proof.entity->id));
  Condition& condition = position->second;
  if (fresh) {
    condition.reason = proof.reason;
    condition.domain = proof.domain;
    condition.evidence = proof.evidence;
    condition.suffers = proof.suffers;
    condition.since = now;
    condition.first_evidence_ns = proof.time_ns;
  }
  if (!proof.again) ++condition.count;
  condition.entity = proof.entity;
  condition.probability = proof.probability;
  condition.horizon_s = proof.probability > 0 ? kRiskHorizonS : 0;
  const bool enough = proof.unhealthy_at != 0 && condition.count >= proof.unhealthy_at;
  const Severity severity = enough ? Severity::kUnhealthy : proof.floor;
  condition.severity = fresh ? severity : std::max(condition.severity, severity);  // milder news heal nothing
  condition.confidence = proof.confidence;
  condition.evidence_ns = std::max(condition.evidence_ns, proof.time_ns);
  condition.message = proof.message;
  condition.details = proof.details;
}

double Assessor::held_for(std::string_view what, EntityId entity, bool holds, const Instant& now) {
  if (!holds && held_since_.empty()) return 0;
  const std::pair key(what, entity);
  if (!holds) {
    held_since_.erase(key);
    return 0;
  }
  const auto position = held_since_.try_emplace(key, now.monotonic_ns).first;
  return seconds_between(position->second, now.monotonic_ns);
}

void Assessor::read_events(const Observation& observation) {
  const EntityPtr& node = observation.entities.front();
  const auto attached = [&](std::string_view name) {
    return std::any_of(observation.probes.begin(), observation.probes.end(), [&](const ProbeHealth& probe) {
      return probe.name == name && probe.state == ProbeState::kAttached;
    });
  };
  for (const KernelEvent& event : observation.events) {
    if (event.type == KernelEvent::kLogEvent) {
      // A line that tells what a working probe told already counts only once.
      const LogRule* rule = options_.log_rules->find(event.text);
      if (rule == nullptr || rule->reason.empty() || attached(rule->probe)) continue;
      const std::uint32_t pid = rule->reason == kTaskHung ? hung_task(event.text) : 0;
      file({.reason = rule->reason,
            .domain = rule->domain,
            .evidence = Evidence::kEvent,
            .entity = node,
            .confidence = kLogConfidence,
            .time_ns = event.time_ns,
            .message = event.text,
            .unhealthy_at = rule->unhealthy_at,
            .floor = rule->severity,
            .suffers = rule->reason == kNodeOutOfMemory,
            .again = pid != 0 && !hung_.insert(pid).second},
           observation.time);
      continue;
    }
    if (event.type == EVENT_oom_kill) {
      // Only a node without memory is the node's trouble; at a pod's own limit, among those who share some of
      // its NUMA nodes, or where the kernel does not say whose limit it was, it is the pod's.
      const EntityPtr* pod = find_entity(observation.entities, event.entity);
      const bool of_node = event.value == OOM_NODE;
      file({.reason = of_node ? kNodeOutOfMemory : kOomKilled,
            .domain = Domain::kMemory,
            .evidence = Evidence::kEvent,
            .entity = of_node || pod == nullptr ? node : *pod,
            .confidence = 1,
            .time_ns = event.time_ns,
            .message = join({who(event), " ", describe(event)}),
            .unhealthy_at = of_node ? 1U : 0U,
            .suffers = of_node},
           observation.time);
      continue;
    }
    for (const EventRule& rule : kEventRules) {
      if (rule.type != event.type || (rule.applies != nullptr && !rule.applies(event))) continue;
      const bool hangs = event.type == EVENT_hung_task;
      const bool again = hangs && !hung_.insert(event.pid).second;
      file({.reason = rule.reason,
            .domain = rule.domain,
            .evidence = Evidence::kEvent,
            .entity = node,
            .confidence = 1,
            .time_ns = event.time_ns,
            .message = hangs ? join({who(event), " ", describe(event)}) : describe(event),
            .unhealthy_at = rule.unhealthy_at,
            .floor = rule.severity,
            .again = again},
           observation.time);
      break;
    }
  }
}

void Assessor::read_levels(const FeatureTable& features) {
  static const std::array<std::size_t, kLevelRules.size()> columns = [] {
    std::array<std::size_t, kLevelRules.size()> list{};
    for (std::size_t i = 0; i < list.size(); ++i) list[i] = find_feature(kLevelRules[i].feature).value();
    return list;
  }();
  for (std::size_t row = 0; row < features.entities.size(); ++row) {
    const EntityPtr& entity = features.entities[row];
    for (std::size_t i = 0; i < kLevelRules.size(); ++i) {
      const LevelRule& rule = kLevelRules[i];
      const double value = features.row(row)[columns[i]];
      // What is not bad by the milder of its limits is not bad: most, and the rest costs a search.
      const auto reaches = [&](double limit) {  // NaN: never
        return rule.leave > rule.enter ? value <= limit : value >= limit;
      };
      if (!reaches(rule.leave)) {
        held_for(rule.reason, entity->id, false, features.time);
        continue;
      }
      const auto known = active_.find(Key(rule.reason, entity->id));
      const bool active = known != active_.end() && !known->second.recovering;
      const bool bad = reaches(active ? rule.leave : rule.enter);
      const double held_s = held_for(rule.reason, entity->id, bad, features.time);
      if (!bad || held_s < (active ? 0 : rule.hold_s)) continue;
      const bool of_node = entity->kind == EntityKind::kNode;
      file({.reason = rule.reason,
            .domain = rule.domain,
            .evidence = Evidence::kLevel,
            .entity = entity,
            .confidence = trust_.of(columns[i]),
            .time_ns = features.time.monotonic_ns,
            .message = describe(rule, value, of_node),
            .floor = of_node ? rule.on_node : Severity::kInfo,
            .suffers = rule.suffers && !of_node},
           features.time);
    }
  }
}

void Assessor::read_risks(const FeatureTable& features, const Scores& scores) {
  for (std::size_t row = 0; row < features.entities.size(); ++row) {
    const EntityPtr& entity = features.entities[row];
    const EntityScore& score = scores.entities[row];
    // The shipped model learned from pods; of a whole node it knows nothing (score/model/MODEL_CARD.md).
    const bool risky = entity->kind != EntityKind::kNode && score.risk >= options_.risk_threshold;
    const double held_s = held_for("risk", entity->id, risky, features.time);
    if (!risky || held_s < options_.risk_hold_s) continue;
    file({.reason = kPredictedFailure,
          .domain = domain_of(score.risk_reasons),
          .evidence = Evidence::kRisk,
          .entity = entity,
          .confidence = trust_.of(score.risk_reasons),
          .time_ns = features.time.monotonic_ns,
          .message =
              join({number(100 * score.risk), " % risk of a failure within ", number(kRiskHorizonS), " s"}),
          .details = describe(score.risk_reasons),
          .probability = score.risk},
         features.time);
  }
}

void Assessor::read_anomalies(const FeatureTable& features, const Scores& scores,
                              std::optional<LongerWait> waits_longer) {
  // Where the waits are not known every anomaly may be felt.
  const bool longer = !waits_longer || waits_longer->s > 0;
  const bool felt = !waits_longer || waits_longer->lost_s >= kLeastLostS;
  const double given = waits_longer && longer ? lost_part(waits_longer->lost_s) : 0;
  const std::string why =
      given > 0 ? join({"; all on this node together wait ", number(waits_longer->s), " s a second longer"})
                : "";
  for (std::size_t row = 0; row < features.entities.size(); ++row) {
    const EntityPtr& entity = features.entities[row];
    const EntityScore& score = scores.entities[row];
    const double alarm_at = score.anomaly_threshold - given;
    const bool unusual = score.anomalous || (!score.warming_up() && score.anomaly > alarm_at);
    const double held_s = held_for("anomaly", entity->id, score.anomalous, features.time);
    const double longer_s =
        held_for("anomaly while all wait longer", entity->id, longer && unusual, features.time);
    const bool told_at_once = felt && longer_s >= kFeltHoldS;
    if (!told_at_once && (!score.anomalous || held_s < options_.anomaly_hold_s)) continue;
    file({.reason = kAnomaly,
          .domain = domain_of(score.anomaly_reasons),
          .evidence = Evidence::kAnomaly,
          .entity = entity,
          .confidence = trust_.of(score.anomaly_reasons),
          .time_ns = features.time.monotonic_ns,
          .message = join({"behaves unlike itself: score ", number(score.anomaly),
                           score.anomaly > alarm_at ? ", alarm at " : ", not calm yet; alarm at ",
                           number(alarm_at), why}),
          .details = describe(score.anomaly_reasons),
          .floor = Severity::kInfo,
          .suffers = true},
         features.time);
  }
}

void Assessor::read_outcomes(const Observation& observation) {
  for (auto& entry : active_) {
    Condition& condition = entry.second;
    const EntityId entity = entry.first.second;
    // In the tick that announces it, it was no prediction.
    if (condition.evidence == Evidence::kEvent || condition.came_true ||
        condition.since.monotonic_ns == observation.time.monotonic_ns) {
      continue;
    }
    if (condition.evidence != Evidence::kRisk) {
      // A level or an anomaly is no prediction, but one that hard evidence of the same domain followed was
      // right.
      condition.came_true = std::ranges::any_of(active_, [&](const auto& other) {
        const Condition& event = other.second;
        return other.first.second == entity && event.evidence == Evidence::kEvent &&
               event.domain == condition.domain && event.severity == Severity::kUnhealthy &&
               event.since.monotonic_ns > condition.since.monotonic_ns;
      });
      continue;
    }
    const bool killed = std::ranges::any_of(observation.events, [&](const KernelEvent& event) {
      return event.type == EVENT_oom_kill && event.entity == entity;
    });
    const bool refused = std::ranges::any_of(observation.samples, [&](const Sample& sample) {
      return sample.entity == entity &&
             sample.counters[COUNTER_errors_descriptors] + sample.counters[COUNTER_errors_space] > 0;
    });
    condition.came_true = killed || refused;
  }
}

void Assessor::set_aside(const std::vector<std::string>& reasons) {
  for (const std::string& reason : reasons) {
    active_.erase(Key(reason, kNodeEntity));
    if (reason == kTaskHung) hung_.clear();
  }
}

std::vector<Condition> Assessor::update(const Observation& observation, const FeatureTable& features,
                                        const Scores& scores, std::optional<LongerWait> waits_longer) {
  trust_.update(observation);
  read_events(observation);
  read_levels(features);
  read_risks(features, scores);
  read_anomalies(features, scores, waits_longer);
  read_outcomes(observation);

  // Entities that left take their clocks with them.
  if (!held_since_.empty()) {
    std::set<EntityId> alive;
    for (const EntityPtr& entity : features.entities) alive.insert(entity->id);
    std::erase_if(held_since_, [&](const auto& held) { return !alive.contains(held.first.second); });
  }

  const MonotonicNs now = observation.time.monotonic_ns;
  std::vector<Condition> conditions;
  for (auto position = active_.begin(); position != active_.end();) {
    Condition& condition = position->second;
    const double quiet_s = seconds_between(condition.evidence_ns, now);
    const bool scored = condition.evidence == Evidence::kRisk || condition.evidence == Evidence::kAnomaly;
    const double recovery_s = scored ? options_.score_recovery_s : options_.recovery_s;
    if (quiet_s >= recovery_s) {
      if (condition.reason == kTaskHung) hung_.clear();
      position = active_.erase(position);
      continue;
    }
    condition.recovering = quiet_s > observation.interval_s;
    condition.recovers_in_s = recovery_s - quiet_s;
    conditions.push_back(condition);
    ++position;
  }
  std::stable_sort(conditions.begin(), conditions.end(), [](const Condition& a, const Condition& b) {
    if (a.severity != b.severity) return a.severity > b.severity;
    return a.since.monotonic_ns < b.since.monotonic_ns;
  });
  return conditions;
}

}  // namespace vedette
