#include "exporter/answers.h"

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstring>
#include <set>

#include <unistd.h>

#include "agent/act/evacuator.h"
#include "agent/act/operator_store.h"
#include "agent/assess/overall.h"
#include "agent/assess/reasons.h"
#include "agent/base/syscall_names.h"
#include "agent/collect/signals.h"
#include "agent/record/baseline_store.h"
#include "agent/record/journal.h"
#include "exporter/api.pb.h"
#include "exporter/clean_text.h"
#include "exporter/names.h"
#include "exporter/policy_answer.h"
#include "exporter/wire.h"

namespace vedette {
namespace {

// A terminal shows at most a few dozen; 1,000 rows are 2 MB, well below the wire's bound.
constexpr std::size_t kMaxRows = 1000;
constexpr int kMaxCandidates = 20;
// One line of `status`; `explain` lists all.
constexpr std::size_t kReasonsPerCondition = 3;
constexpr double kMaxSayS = 365 * 86'400.0;  // longer is what "until resumed" is for
constexpr std::size_t kMaxReason = 63;       // of a taint's value
constexpr std::size_t kSuggestions = 3;
// 30 kB each at the worst (200 conditions), 1 kB as a rule: below the wire's bound.
constexpr std::size_t kMaxIncidents = 200;
constexpr std::size_t kMaxWhy = 500;
// eta is capped by features/ at 3600 s: beyond that nothing is forecast.
constexpr float kMaxEtaSeconds = 3600;

constexpr const char* kLoadColumns[] = {"cpu_limit_use",   "memory_use",      "disk_space_use",
                                        "disk_inodes_use", "open_files_use",  "pids_use",
                                        "pressure_cpu",    "pressure_memory", "pressure_io"};

void set_error(api::Response& response, api::Error::Code code, std::string text) {
  response.mutable_error()->set_code(code);
  response.mutable_error()->set_text(std::move(text));
}

std::string entity_name(const EntityPtr& entity) {
  return entity == nullptr ? "node" : clean_text(entity->name);
}

void fill(const Entity& entity, api::Entity& out) {
  out.set_name(clean_text(entity.name));
  out.set_kind(std::string(to_string(entity.kind)));
  out.set_namespace_(clean_text(entity.namespace_name));
  out.set_pod(clean_text(entity.pod_name));
  out.set_workload(clean_text(entity.workload));
}

void fill(const Reason& reason, api::Reason& out) {
  if (reason.column < feature_columns().size()) {
    out.set_column(feature_columns()[reason.column].name);
    out.set_unit(std::string(feature_columns()[reason.column].unit));
  }
  out.set_value(reason.value);
  out.set_usual(reason.usual);
  out.set_weight(reason.weight);
}

void fill(const Condition& condition, MonotonicNs now_ns, api::Condition& out) {
  out.set_entity(entity_name(condition.entity));
  out.set_reason(condition.reason);
  out.set_domain(std::string(to_string(condition.domain)));
  out.set_evidence(std::string(to_string(condition.evidence)));
  out.set_severity(std::string(to_string(condition.severity)));
  out.set_confidence(condition.confidence);
  out.set_since_wall_ns(condition.since.wall_ns);
  out.set_active_s(seconds_between(condition.since.monotonic_ns, now_ns));
  out.set_evidence_age_s(seconds_between(condition.evidence_ns, now_ns));
  out.set_count(condition.count);
  out.set_recovering(condition.recovering);
  out.set_recovers_in_s(condition.recovers_in_s);
  out.set_message(clean_text(condition.message));
  for (const std::string& detail : condition.details) out.add_details(clean_text(detail));
}

void fill(const Decision& decision, api::Decision& out) {
  out.set_mode(std::string(to_string(decision.mode)));
  out.set_taint(decision.taint);
  out.set_effect(decision.effect);
  out.set_reason(decision.reason);
  out.set_message(clean_text(decision.message));
  out.set_since_wall_ns(decision.since_wall_ns);
  out.set_held_back(clean_text(decision.held_back));
  out.set_next(clean_text(decision.next));
}

void fill(const ActState& act, const Decision& decision, api::Act& out) {
  out.set_connected(act.connected);
  out.set_known(act.known);
  out.set_tainted(act.tainted);
  out.set_adopted(act.adopted);
  out.set_tainted_since_wall_ns(act.tainted_since_wall_ns);
  out.set_taint_reason(clean_text(act.taint_reason));
  out.set_acked(act.known && act.acked_generation == decision.generation);
  out.set_patches(act.patches);
  out.set_conflicts(act.conflicts);
  out.set_failures(act.failures);
  out.set_events_written(act.events_written);
  out.set_last_evidence_to_ack_s(act.last_evidence_to_ack_s);
  out.set_last_error(clean_text(act.last_error));
  out.set_slot(act.slot);
  out.set_held_back(clean_text(act.held_back));
}

void fill(const OperatorSay& say, const char* by, api::OperatorSay& out) {
  out.set_by(by);
  out.set_paused_until_wall_ns(say.paused_until_wall_ns);
  for (const auto& [reason, until] : say.vetoes) {
    api::Veto& veto = *out.add_vetoes();
    veto.set_reason(clean_text(reason));
    veto.set_until_wall_ns(until);
  }
  out.set_healthy_wall_ns(say.healthy_wall_ns);
  out.set_error(clean_text(say.error));
}

// What is over is not worth a line.
OperatorSay in_force(OperatorSay say, WallNs now_wall_ns) {
  if (say.paused_until_wall_ns <= now_wall_ns) say.paused_until_wall_ns = 0;
  std::erase_if(say.vetoes, [&](const auto& veto) { return veto.second <= now_wall_ns; });
  return say;
}

// A veto of a reason that nothing has would veto nothing. Why it is none; empty: it is one.
std::string unknown_reason(const std::string& reason, const AnswerContext& context) {
  std::set<std::string> known = known_reasons(
      context.services.log_rules != nullptr ? *context.services.log_rules : *LogRules::builtin());
  // A rule may be about a reason that a log rule is still to bring.
  if (context.snapshot != nullptr && context.snapshot->decision.policy) {
    for (const PolicyRule& rule : context.snapshot->decision.policy->rules) known.insert(rule.reason);
  }
  known.erase("");
  if (known.contains(reason)) return "";
  std::string text = "no condition has the reason '" + clean_text(reason) + "', expected one like";
  for (const std::string& name : nearest_names(reason, known, kSuggestions)) text += " " + name + ",";
  text.back() = ';';
  return text + " agent/assess/README.md lists all that are built in";
}

void answer_say(const api::OperatorRequest& request, const AnswerContext& context, api::Response& response) {
  if (context.services.operator_store == nullptr || !context.trusted) {
    set_error(response, api::Error::FORBIDDEN, "only root may say what the agent does: use sudo");
    return;
  }
  const bool names_reason =
      request.word() == api::OperatorRequest::VETO || request.word() == api::OperatorRequest::LIFT_VETO;
  if (!(request.seconds() >= 0) || request.seconds() > kMaxSayS || request.reason().empty() == names_reason ||
      request.reason().size() > kMaxReason) {
    set_error(response, api::Error::BAD_REQUEST,
              "expected up to 365 days, and for a veto a reason as `vedette status` prints it");
    return;
  }
  if (request.word() == api::OperatorRequest::VETO) {
    if (std::string why = unknown_reason(request.reason(), context); !why.empty()) {
      set_error(response, api::Error::FAILED, std::move(why));
      return;
    }
  }
  const WallNs until = request.seconds() > 0
                           ? context.now_wall_ns + static_cast<WallNs>(request.seconds() * kNsPerSecond)
                           : kForever;
  OperatorSay say = in_force(*context.services.operator_store->get(), context.now_wall_ns);
  switch (request.word()) {
    case api::OperatorRequest::PAUSE:
      say.paused_until_wall_ns = until;
      break;
    case api::OperatorRequest::RESUME:
      say.paused_until_wall_ns = 0;
      break;
    case api::OperatorRequest::VETO:
      say.vetoes[clean_text(request.reason())] = until;
      break;
    case api::OperatorRequest::LIFT_VETO:
      say.vetoes.erase(clean_text(request.reason()));
      break;
    case api::OperatorRequest::HEALTHY:
      say.healthy_wall_ns = context.now_wall_ns;
      break;
    default:
      set_error(response, api::Error::BAD_REQUEST, "expected pause, resume, veto or healthy");
      return;
  }
  if (Status ok = context.services.operator_store->set(say); !ok) {
    set_error(response, api::Error::FAILED, ok.error().text);
    return;
  }
  fill(*context.services.operator_store->get(), "local", *response.mutable_said());
}

void fill(const ProbeHealth& probe, MonotonicNs now_ns, api::Probe& out) {
  out.set_name(probe.name);
  out.set_state(std::string(to_string(probe.state)));
  out.set_reason(clean_text(probe.reason));
  out.set_runs(probe.runs);
  out.set_run_ns(probe.run_ns);
  out.set_sampled_ns(probe.sampled_ns);
  out.set_watched_ns(probe.watched_ns);
  if (probe.misses) out.set_misses(*probe.misses);
  if (probe.since_ns != 0) out.set_state_age_s(seconds_between(probe.since_ns, now_ns));
  const auto add = [&](const auto& signals) {
    for (const SignalInfo& signal : signals) {
      if (signal.origin == probe.name) out.add_signals(std::string(signal.name));
    }
  };
  add(kCounters);
  add(kHistograms);
  add(kGauges);
}

void fill(const BudgetUse& use, api::Budget& out) {
  out.set_step(use.step);
  out.set_steps(kBudgetSteps.size() - 1);
  out.set_does(std::string(kBudgetSteps[use.step].does));
  out.set_fixed(use.fixed);
  out.set_exhausted(use.exhausted);
  out.set_cpu_share(use.cpu_share);
  out.set_measured(use.kernel_share.has_value());
  out.set_kernel_share(use.kernel_share.value_or(0));
  out.set_agent_share(use.agent_share);
  out.set_maps(use.maps);
  out.set_unmeasured(use.unmeasured);
}

void fill_losses(const Observation& observation, api::Losses& out) {
  const Losses& losses = observation.losses;
  std::uint64_t produced = 0;
  std::uint64_t lost = 0;
  for (std::size_t i = 0; i < kEvents.size(); ++i) {
    api::EventLoss& event = *out.add_events();
    event.set_type(std::string(kEvents[i].name));
    event.set_produced(losses.produced[i]);
    event.set_lost(losses.lost[i]);
    produced += losses.produced[i];
    lost += losses.lost[i];
  }
  out.set_produced(produced);
  out.set_lost(lost);
  out.set_received(losses.received);
  out.set_no_slot(losses.no_slot);
  out.set_no_task_storage(losses.no_task_storage);
  out.set_missed_ticks(losses.missed_ticks);
  out.set_log_lost(losses.log_lost);
  out.set_no_detail(losses.no_detail);
  for (std::size_t i = 0; i < SLOT_COUNTER_COUNT; ++i) {
    if (losses.no_start[i] > 0)
      (*out.mutable_no_start())[std::string(kCounters[i].name)] = losses.no_start[i];
  }
  std::uint64_t misses = 0;
  for (const ProbeHealth& probe : observation.probes) misses += probe.misses.value_or(0);
  out.set_misses(misses);
}

void fill(const SelfUse& self, api::SelfUse& out) {
  out.set_tick_ms(self.tick_ms);
  out.set_collect_ms(self.collect_ms);
  out.set_cpu_share(self.cpu_share);
  out.set_rss_bytes(self.rss_bytes);
  out.set_bpf_map_bytes(self.bpf_map_bytes);
}

// With the reasons of the score that the condition rests on, as they are now.
void fill_explained(const Snapshot& snapshot, const Condition& condition, api::Condition& out) {
  fill(condition, snapshot.observation.time.monotonic_ns, out);
  const EntityId about = condition.entity == nullptr ? kNodeEntity : condition.entity->id;
  for (std::size_t row = 0; row < snapshot.scores.entities.size(); ++row) {
    if (snapshot.features.entities[row]->id != about) continue;
    const EntityScore& score = snapshot.scores.entities[row];
    const std::vector<Reason> none;
    const std::vector<Reason>& reasons = condition.evidence == Evidence::kRisk      ? score.risk_reasons
                                         : condition.evidence == Evidence::kAnomaly ? score.anomaly_reasons
                                                                                    : none;
    for (std::size_t i = 0; i < reasons.size() && i < kReasonsPerCondition; ++i) {
      fill(reasons[i], *out.add_reasons());
    }
  }
}

const Condition* worst_of(const Snapshot& snapshot, EntityId id) {
  const Condition* worst = nullptr;
  for (const Condition& condition : snapshot.conditions) {
    const EntityId about = condition.entity == nullptr ? kNodeEntity : condition.entity->id;
    if (about == id && (worst == nullptr || condition.severity > worst->severity)) worst = &condition;
  }
  return worst;
}

void fill_row(const Snapshot& snapshot, const History& history, std::size_t row, api::TopRow& out) {
  const Entity& entity = *snapshot.features.entities[row];
  fill(entity, *out.mutable_entity());
  if (row < snapshot.scores.entities.size()) {
    const EntityScore& score = snapshot.scores.entities[row];
    out.set_anomaly(score.anomaly);
    out.set_anomaly_threshold(score.anomaly_threshold);
    out.set_anomalous(score.anomalous);
    out.set_warming_up(score.warming_up());
    out.set_learning(std::string(to_string(score.learning)));
    out.set_risk(score.risk);
  } else {
    out.set_warming_up(true);
    out.set_risk(kMissing);
  }
  if (const Condition* worst = worst_of(snapshot, entity.id)) {
    out.set_severity(std::string(to_string(worst->severity)));
    out.set_reason(worst->reason);
  }
  std::vector<TrailPoint> points = history.trail(entity.id);
  points.push_back(trail_point(snapshot, row));
  for (std::size_t column = 0; column < kTrailColumns.size(); ++column) {
    api::Trail& trail = *out.add_trails();
    trail.set_column(std::string(kTrailColumns[column].name));
    trail.set_unit(std::string(kTrailColumns[column].unit));
    trail.mutable_points()->Reserve(static_cast<int>(points.size()));
    for (const TrailPoint& point : points) trail.add_points(point[column]);
  }
}

void add_value(const Snapshot& snapshot, std::size_t row, std::size_t column, api::Value& out) {
  const FeatureInfo& feature = feature_columns()[column];
  out.set_column(feature.name);
  out.set_unit(std::string(feature.unit));
  out.set_value(snapshot.features.row(row)[column]);
}

void answer_status(const Snapshot& snapshot, const AnswerContext& context, api::Status& out) {
  out.set_overall(std::string(to_string(overall(snapshot.conditions))));
  for (const Condition& condition : snapshot.conditions) {
    fill_explained(snapshot, condition, *out.add_conditions());
  }
  fill(snapshot.decision, *out.mutable_decision());
  fill(snapshot.act, snapshot.decision, *out.mutable_act());
  for (const auto& [say, by] :
       {std::pair(&snapshot.act.annotated, "annotation"), {&snapshot.act.local, "local"}}) {
    OperatorSay now = in_force(*say, snapshot.observation.time.wall_ns);
    // Whoever annotates a node is not told at once, as the socket does.
    for (const auto& veto : now.vetoes) {
      const std::string why = unknown_reason(veto.first, context);
      if (!why.empty()) now.error += (now.error.empty() ? "" : "; ") + why;
    }
    if (now != OperatorSay{}) fill(now, by, *out.add_said());
  }
  const JournalUse& journal = snapshot.self.journal;
  out.mutable_journal()->set_on(journal.on);
  out.mutable_journal()->set_written(journal.written);
  out.mutable_journal()->set_dropped(journal.dropped);
  out.mutable_journal()->set_bytes(journal.bytes);
  out.mutable_journal()->set_error(clean_text(journal.error));
  out.mutable_journal()->set_set_aside(clean_text(journal.set_aside));
  const BaselineUse& baselines = snapshot.self.baselines;
  out.mutable_kept()->set_on(baselines.on);
  out.mutable_kept()->set_workloads(static_cast<std::uint32_t>(baselines.workloads));
  out.mutable_kept()->set_bytes(baselines.bytes);
  out.mutable_kept()->set_saved_wall_ns(baselines.saved_wall_ns);
  out.mutable_kept()->set_left_out(static_cast<std::uint32_t>(baselines.left_out));
  out.mutable_kept()->set_error(clean_text(baselines.error));
  out.mutable_kept()->set_set_aside(clean_text(baselines.set_aside));
  const FlightUse& flight = snapshot.self.flight;
  out.mutable_flight()->set_on(flight.on);
  out.mutable_flight()->set_folder(clean_text(flight.folder));
  out.mutable_flight()->set_dropped(flight.dropped);
  out.mutable_flight()->set_bytes(flight.bytes);
  out.mutable_flight()->set_slices(static_cast<std::uint32_t>(flight.slices));
  out.mutable_flight()->set_slice_bytes(flight.slice_bytes);
  out.mutable_flight()->set_error(clean_text(flight.error));
  out.mutable_flight()->set_slice_error(clean_text(flight.slice_error));
  out.set_policy_error(clean_text(snapshot.self.policy_error));
  out.set_restart_for(clean_text(snapshot.self.restart_for));
  std::uint32_t off = 0;
  for (const ProbeHealth& probe : snapshot.observation.probes) {
    if (probe.state == ProbeState::kOff) {
      ++off;
    } else if (probe.state != ProbeState::kAttached) {
      fill(probe, snapshot.observation.time.monotonic_ns, *out.add_troubled_probes());
    }
  }
  if (snapshot.self.budget.known) fill(snapshot.self.budget, *out.mutable_budget());
  out.set_probes(static_cast<std::uint32_t>(snapshot.observation.probes.size()) - off);
  out.set_probes_off(off);
  fill_losses(snapshot.observation, *out.mutable_losses());
  fill(snapshot.self, *out.mutable_self());
  for (const char* name : kLoadColumns) {
    const auto column = find_feature(name);
    if (column && !snapshot.features.entities.empty()) add_value(snapshot, 0, *column, *out.add_load());
  }
  std::uint32_t pods = 0;
  std::uint32_t others = 0;
  for (const EntityPtr& entity : snapshot.features.entities) {
    if (entity->kind == EntityKind::kPod) ++pods;
    if (entity->kind != EntityKind::kPod && entity->kind != EntityKind::kNode) ++others;
  }
  out.set_pods(pods);
  out.set_others(others);
  const std::vector<EntityScore>& scores = snapshot.scores.entities;
  out.set_warming_up(static_cast<std::uint32_t>(std::count_if(
      scores.begin(), scores.end(), [](const EntityScore& score) { return score.warming_up(); })));
}

void answer_top(const Snapshot& snapshot, const History& history, api::Top& out) {
  out.set_overall(std::string(to_string(overall(snapshot.conditions))));
  struct Candidate {
    std::size_t row;
    int severity;
    float activity;
  };
  std::vector<Candidate> order;
  const auto cpu = find_feature("cpu_cores");
  const auto calls = find_feature("syscalls.rate");
  const auto known = [](float number) { return std::isnan(number) ? 0.0F : number; };
  for (std::size_t row = 0; row < snapshot.features.entities.size(); ++row) {
    const Condition* worst = worst_of(snapshot, snapshot.features.entities[row]->id);
    const std::span<const float> values = snapshot.features.row(row);
    // A million calls a second keep about a core busy: what both tell is how active the entity is.
    const float activity = known(values[*cpu]) + known(values[*calls]) / 1e6F;
    order.push_back({row, worst == nullptr ? -1 : static_cast<int>(worst->severity), activity});
  }
  std::stable_sort(order.begin(), order.end(), [](const Candidate& left, const Candidate& right) {
    if ((left.row == 0) != (right.row == 0)) return left.row == 0;
    if (left.severity != right.severity) return left.severity > right.severity;
    return left.activity > right.activity;
  });
  if (order.size() > kMaxRows) {
    out.set_hidden(static_cast<std::uint32_t>(order.size() - kMaxRows));
    order.resize(kMaxRows);
  }
  for (const Candidate& candidate : order) fill_row(snapshot, history, candidate.row, *out.add_rows());
}

void answer_explain(const Snapshot& snapshot, const History& history, std::size_t row, api::Explain& out) {
  const Entity& entity = *snapshot.features.entities[row];
  const Instant& time = snapshot.observation.time;
  fill_row(snapshot, history, row, *out.mutable_row());
  for (const Condition& condition : snapshot.conditions) {
    const EntityId about = condition.entity == nullptr ? kNodeEntity : condition.entity->id;
    if (about == entity.id) fill_explained(snapshot, condition, *out.add_conditions());
  }
  if (row < snapshot.scores.entities.size()) {
    const EntityScore& score = snapshot.scores.entities[row];
    for (const Reason& reason : score.anomaly_reasons) fill(reason, *out.add_anomaly_reasons());
    for (const Reason& reason : score.risk_reasons) fill(reason, *out.add_risk_reasons());
  }
  const std::span<const float> values = snapshot.features.row(row);
  for (const SignalInfo& signal : kGauges) {
    const std::string name(signal.name);
    const auto eta = find_feature(name + ".eta");
    if (!eta || std::isnan(values[*eta]) || values[*eta] >= kMaxEtaSeconds) continue;
    api::Forecast& forecast = *out.add_forecasts();
    forecast.set_signal(name);
    forecast.set_value(values[*find_feature(name)]);
    forecast.set_slope_per_s(values[*find_feature(name + ".slope")]);
    forecast.set_eta_s(values[*eta]);
  }
  for (const RecentEvent& recent : history.events(entity.id)) {
    api::Event& event = *out.add_events();
    const double age_s = seconds_between(recent.event.time_ns, time.monotonic_ns);
    event.set_age_s(age_s);
    event.set_wall_ns(time.wall_ns - static_cast<WallNs>(age_s * kNsPerSecond));
    event.set_type(recent.event.type < EVENT_COUNT ? std::string(kEvents[recent.event.type].name) : "log");
    event.set_count(recent.count);
    event.set_pid(recent.event.pid);
    event.set_comm(clean_text(recent.event.comm));
    event.set_text(describe(recent.event));
    event.set_container(clean_text(recent.event.container));
  }
  for (std::size_t column = 0; column < feature_columns().size(); ++column) {
    if (!is_brief(feature_columns()[column])) add_value(snapshot, row, column, *out.add_values());
  }
}

std::string_view last_part(std::string_view name) {
  const std::size_t slash = name.rfind('/');
  return slash == std::string_view::npos ? name : name.substr(slash + 1);
}

std::string device(std::int64_t number) {
  return std::to_string(number >> 20) + ":" + std::to_string(number & 0xfffff);
}

std::string error_name(std::int64_t number) {
  const char* name = ::strerrorname_np(static_cast<int>(std::llabs(number)));
  return name == nullptr ? "error " + std::to_string(number) : name;
}

void fill(const Plan& plan, api::Plan& out) {
  out.set_id(plan.id);
  for (const PlannedPod& pod : plan.pods) {
    api::PlannedPod& line = *out.add_pods();
    line.set_namespace_(clean_text(pod.namespace_name));
    line.set_name(clean_text(pod.name));
    line.set_workload(clean_text(pod.workload));
    line.set_priority(pod.priority);
    line.set_critical(pod.critical);
    line.set_grace_s(static_cast<double>(pod.grace.count()));
    if (pod.danger.troubled) line.set_severity(std::string(to_string(pod.danger.severity)));
    line.set_reason(pod.danger.reason);
    line.set_risk(pod.danger.risk);
    line.set_budget(clean_text(pod.budget));
    line.set_wave(static_cast<std::uint32_t>(pod.wave));
    line.set_fits(clean_text(pod.fits));
    for (const std::string& text : pod.blocks) line.add_blocks(clean_text(text));
    for (const std::string& text : pod.notes) line.add_notes(clean_text(text));
  }
  for (const LeftOutPod& pod : plan.left_out) {
    api::PodNote& line = *out.add_left_out();
    line.set_pod(clean_text(pod.namespace_name + "/" + pod.name));
    line.set_text(pod.why);
  }
  out.set_waves(static_cast<std::uint32_t>(plan.waves));
  out.set_longest_s(static_cast<double>(plan.longest.count()));
}

void fill(const EvacuationStep& step, api::Evacuation& out) {
  const auto fill_list = [](const std::vector<EvacuationStep::Pod>& pods, auto& list) {
    for (const EvacuationStep::Pod& pod : pods) {
      api::PodNote& line = *list.Add();
      line.set_pod(clean_text(pod.name));
      line.set_text(clean_text(pod.text));
    }
  };
  out.set_plan(step.plan_id);
  out.set_wave(static_cast<std::uint32_t>(step.wave));
  out.set_waves(static_cast<std::uint32_t>(step.waves));
  fill_list(step.evicted, *out.mutable_evicted());
  fill_list(step.ending, *out.mutable_ending());
  fill_list(step.waiting, *out.mutable_waiting());
  fill_list(step.refused, *out.mutable_refused());
  fill_list(step.staying, *out.mutable_staying());
  out.set_left(static_cast<std::uint32_t>(step.left));
  out.set_retry_after_s(static_cast<double>(step.retry_after.count()));
}

void fill(const JournalIncident& entry, const FlightUse& flight, api::Incident& out) {
  const Incident& incident = entry.incident;
  const std::string slice = flight.folder + "/" + incident.id;
  if (flight.on && ::access(slice.c_str(), F_OK) == 0) out.set_slice(clean_text(slice));
  out.set_id(clean_text(incident.id));
  out.set_opened_wall_ns(incident.opened_wall_ns);
  out.set_closed_wall_ns(incident.closed_wall_ns);
  out.set_severity(std::string(to_string(incident.severity)));
  out.set_more(static_cast<std::uint32_t>(incident.more));
  out.set_cause(clean_text(incident.cause));
  out.set_cause_why(clean_text(incident.cause_why));
  out.set_settled(incident.settled);
  for (const Suspect& suspect : incident.suspects) {
    api::Suspect& line = *out.add_suspects();
    line.set_entity(clean_text(suspect.entity));
    line.set_score(suspect.score);
    line.set_why(clean_text(suspect.why));
  }
  for (const std::string& name : victims(incident)) out.add_victims(clean_text(name));
  out.set_cut_short(entry.cut_short);
  for (const IncidentCondition& condition : incident.conditions) {
    api::IncidentCondition& line = *out.add_conditions();
    line.set_reason(clean_text(condition.reason));
    line.set_entity(clean_text(condition.entity));
    line.set_domain(std::string(to_string(condition.domain)));
    line.set_evidence(std::string(to_string(condition.evidence)));
    line.set_severity(std::string(to_string(condition.severity)));
    line.set_began_wall_ns(condition.began_wall_ns);
    line.set_ended_wall_ns(condition.ended_wall_ns);
    line.set_confidence(condition.confidence);
    line.set_message(clean_text(condition.message));
    line.set_came_true(condition.came_true);
  }
  for (const JournalAction& action : entry.actions) {
    api::IncidentAction& line = *out.add_actions();
    line.set_wall_ns(action.wall_ns);
    line.set_what(clean_text(action.what));
    line.set_generation(action.generation);
    line.set_reason(clean_text(action.reason));
    line.set_effect(clean_text(action.effect));
    line.set_why(clean_text(action.why));
  }
  for (const JournalFeedback& feedback : entry.feedback) {
    api::Feedback& line = *out.add_feedback();
    line.set_wall_ns(feedback.wall_ns);
    line.set_verdict(clean_text(feedback.verdict));
    line.set_why(clean_text(feedback.why));
  }
}

// What the journal has, with the open incidents as they are now. Without a journal: those alone.
std::vector<JournalIncident> with_open(std::vector<JournalIncident> kept, const Snapshot& snapshot) {
  for (const Incident& incident : snapshot.incidents) {
    const auto known = std::ranges::find_if(
        kept, [&](const JournalIncident& entry) { return entry.incident.id == incident.id; });
    JournalIncident& entry = known == kept.end() ? *kept.emplace(kept.begin()) : *known;
    entry.incident = incident;
  }
  return kept;
}

void answer_incidents(const api::IncidentsRequest& request, const AnswerContext& context,
                      api::Response& response) {
  if (!(request.since_s() >= 0)) {
    set_error(response, api::Error::BAD_REQUEST, "expected a time since when, or none");
    return;
  }
  std::vector<JournalIncident> kept;
  api::Incidents& out = *response.mutable_incidents();
  if (context.services.journal == nullptr) {
    out.set_notice("no journal is kept (record.journal), so only what is open is known");
  } else {
    const double since_ns = request.since_s() == 0
                                ? 0
                                : static_cast<double>(context.now_wall_ns) - request.since_s() * kNsPerSecond;
    auto read =
        context.services.journal->incidents(static_cast<WallNs>(std::max(0.0, since_ns)), kMaxIncidents + 1);
    if (!read) {
      out.set_notice(clean_text(read.error().text));
    } else {
      kept = std::move(*read);
      if (kept.size() > kMaxIncidents) {
        kept.resize(kMaxIncidents);
        out.set_notice("there are more: these are the newest " + std::to_string(kMaxIncidents));
      }
    }
  }
  for (const JournalIncident& entry : with_open(std::move(kept), *context.snapshot))
    fill(entry, context.snapshot->self.flight, *out.add_list());
}

// One incident, after `said` was kept about it.
void answer_incident(const std::string& id, const JournalFeedback* said, const AnswerContext& context,
                     api::Response& response) {
  std::vector<JournalIncident> found;
  if (context.services.journal != nullptr) {
    auto kept = context.services.journal->find(id);
    if (!kept && said != nullptr) {
      set_error(response, api::Error::FAILED, clean_text(kept.error().text));
      return;
    }
    if (kept && *kept) found.push_back(std::move(**kept));
  }
  for (JournalIncident& entry : with_open(std::move(found), *context.snapshot)) {
    if (entry.incident.id != id) continue;
    if (said != nullptr && context.services.journal != nullptr) {
      if (Status ok = context.services.journal->say(*said); !ok) {
        set_error(response, api::Error::FAILED, clean_text(ok.error().text));
        return;
      }
      entry.feedback.push_back(*said);
    }
    fill(entry, context.snapshot->self.flight, *response.mutable_incident());
    return;
  }
  set_error(response, api::Error::UNKNOWN_ENTITY,
            "no incident is named " + id +
                (context.services.journal == nullptr ? ", and no journal is kept (record.journal)" : "") +
                ": `vedette incidents --all` lists them");
}

void answer_feedback(const api::FeedbackRequest& request, const AnswerContext& context,
                     api::Response& response) {
  if (!context.trusted) {
    set_error(response, api::Error::FORBIDDEN, "only root may say whether the agent was right: use sudo");
    return;
  }
  if (context.services.journal == nullptr) {
    set_error(response, api::Error::FAILED,
              "the agent keeps no journal, so nothing can be said of it: set record.journal");
    return;
  }
  const std::string& verdict = request.verdict();
  if (verdict != "true" && verdict != "false" && verdict != "benign") {
    set_error(response, api::Error::BAD_REQUEST,
              "expected true, false or benign, found '" + clean_text(verdict) + "'");
    return;
  }
  if (!is_incident_id(request.incident()) || request.why().empty() || request.why().size() > kMaxWhy) {
    set_error(response, api::Error::BAD_REQUEST,
              "expected an incident's id as `vedette incidents` prints it, and why in 1 to " +
                  std::to_string(kMaxWhy) + " bytes");
    return;
  }
  const JournalFeedback said{context.now_wall_ns, request.incident(), verdict, clean_text(request.why())};
  answer_incident(said.incident, &said, context, response);
}

void answer_baselines(const api::BaselinesRequest& request, const AnswerContext& context,
                      api::Response& response) {
  BaselineStore* const store = context.services.baselines;
  if (!context.trusted) {
    set_error(response, api::Error::FORBIDDEN, "only root may export or import baselines: use sudo");
    return;
  }
  if (store == nullptr) {
    set_error(response, api::Error::FAILED, "the agent keeps no baselines: set score.baselines");
    return;
  }
  api::Baselines& out = *response.mutable_baselines();
  if (!request.file().empty()) {
    const auto imported = store->import(request.file());
    if (imported) {
      out.set_imported(static_cast<std::uint32_t>(*imported));
    } else {
      set_error(response, api::Error::FAILED, clean_text(imported.error().text));
    }
    return;
  }
  auto file = store->exported();
  if (file) {
    out.set_file(std::move(*file));
  } else {
    set_error(response, api::Error::FAILED, clean_text(file.error().text));
  }
}

// The first request makes a task of the evacuator's thread, those with its ticket ask whether it is done.
void answer_evacuator(const api::Request& request, const AnswerContext& context, api::Response& response) {
  const bool evacuates = request.has_evacuate();
  if (context.services.evacuator == nullptr) {
    set_error(response, api::Error::FAILED,
              "the agent runs without Kubernetes: there is nothing to evacuate");
    return;
  }
  if (evacuates && !context.trusted) {
    set_error(response, api::Error::FORBIDDEN, "only root may have pods evicted: try sudo");
    return;
  }
  std::uint64_t ticket = evacuates ? request.evacuate().ticket() : request.plan().ticket();
  if (ticket == 0) {
    if (evacuates && request.evacuate().plan().empty()) {
      set_error(response, api::Error::BAD_REQUEST,
                "the request names no plan: expected an id of `vedette plan`");
      return;
    }
    EvacuatorTask task;
    task.options = {request.plan().local_data(), request.plan().force()};
    task.plan_id = clean_text(request.evacuate().plan());
    task.dangers = pod_dangers(*context.snapshot);
    if (context.snapshot->decision.policy) task.policy = context.snapshot->decision.policy;
    ticket = context.services.evacuator->ask(std::move(task));
  }
  if (ticket == 0) {
    set_error(response, api::Error::TOO_MANY, "others wait for plans already: try again in a moment");
    return;
  }
  const std::optional<EvacuatorAnswer> answer = context.services.evacuator->take(ticket);
  if (!answer) {
    response.mutable_pending()->set_ticket(ticket);
  } else if (answer->plan) {
    fill(*answer->plan, *response.mutable_plan());
  } else if (answer->step) {
    fill(*answer->step, *response.mutable_evacuation());
  } else {
    set_error(response, api::Error::FAILED, clean_text(answer->error));
  }
}

}  // namespace

const char* oom_cause_of(std::int64_t cause) {
  switch (cause) {
    case OOM_CGROUP_LIMIT:
      return " at its cgroup's memory limit";
    case OOM_NODE:
      return " because the node was out of memory";
    case OOM_CPUSET:
      return " because the NUMA nodes of its cpuset were full";
    case OOM_POLICY:
      return " because the NUMA nodes of its memory policy were full";
    default:
      return "";
  }
}

std::string describe(const KernelEvent& event) {
  std::string text = clean_text(event.text);
  char buffer[64];
  switch (event.type) {
    case EVENT_exec:
      return "executed " + text;
    case EVENT_signal_exit: {
      const char* name = ::sigabbrev_np(static_cast<int>(event.value));
      return "was ended by " +
             (name == nullptr ? "signal " + std::to_string(event.value) : "SIG" + std::string(name));
    }
    case EVENT_oom_kill: {
      std::snprintf(buffer, sizeof buffer, ", %.0f MiB resident", static_cast<double>(event.extra) / 1024);
      return std::string("was killed by the OOM killer") + oom_cause_of(event.value) + buffer;
    }
    case EVENT_slow_call:
      std::snprintf(buffer, sizeof buffer, "was blocked for %.2f s",
                    static_cast<double>(event.value) / kNsPerSecond);
      return buffer + (text.empty() ? std::string() : " (" + text + ")") +
             (event.extra >= 0 ? " in " + syscall_name(event.extra) : std::string());
    case EVENT_connect_failed:
      return "could not connect to " + text + " port " + std::to_string(event.extra) + ": " +
             error_name(event.value);
    case EVENT_new_destination:
      return "first connected to " + text + " port " + std::to_string(event.extra);
    case EVENT_dns_failed:
      return "got no address for " + text +
             (event.value < 0 ? ": no answer in 5 s" : ": response code " + std::to_string(event.value));
    case EVENT_ext4_error:
      return "met an ext4 error on device " + device(event.extra) + " in " + text + " line " +
             std::to_string(event.value);
    case EVENT_hung_task:
      return "hangs: blocked longer than the kernel's limit";
    case EVENT_block_error:
      return "a block request failed on device " + device(event.extra) + ": " + error_name(event.value);
    case EVENT_machine_check:
      return "machine check in bank " + std::to_string(event.extra) + ": " + text;
    case EVENT_memory_failure:
      return "the hardware gave up on page frame " + std::to_string(event.value);
    case EVENT_pcie_error:
      return "PCI Express device " + text + " reported an error";
    case EVENT_scsi_error:
      return "a SCSI command on host " + std::to_string(event.extra >> 32) + " ended with " + text;
    case EVENT_nvme_error:
      return "an NVMe command on controller " + std::to_string(event.extra) + " ended with status " +
             std::to_string(event.value);
    default:
      return text;
  }
}

std::vector<std::size_t> find_entities(const std::vector<EntityPtr>& entities, std::string_view wanted) {
  if (wanted.empty()) return {};
  const auto matching = [&](const auto& rule) {
    std::vector<std::size_t> rows;
    for (std::size_t row = 0; row < entities.size(); ++row) {
      if (rule(std::string_view(entities[row]->name))) rows.push_back(row);
    }
    return rows;
  };
  std::vector<std::size_t> rows = matching([&](std::string_view name) { return name == wanted; });
  if (rows.empty()) rows = matching([&](std::string_view name) { return last_part(name) == wanted; });
  if (rows.empty()) {
    rows = matching([&](std::string_view name) {
      return name.starts_with(wanted) || last_part(name).starts_with(wanted);
    });
  }
  if (rows.empty()) {
    rows = matching([&](std::string_view name) { return name.find(wanted) != std::string_view::npos; });
  }
  return rows;
}

api::Response answer(const api::Request& request, const AnswerContext& context) {
  api::Response response;
  response.set_version(kApiVersion);
  api::Agent& agent = *response.mutable_agent();
  agent.set_version(VEDETTE_VERSION);
  agent.set_node(context.node);
  agent.set_uptime_s(seconds_between(context.started_ns, context.now_ns));
  if (request.version() != kApiVersion) {
    set_error(response, api::Error::BAD_REQUEST,
              "this agent (" VEDETTE_VERSION ") speaks version " + std::to_string(kApiVersion) +
                  " of the socket API, the request is of version " + std::to_string(request.version()) +
                  ": use the client of the agent's release");
    return response;
  }
  if (request.ask_case() == api::Request::ASK_NOT_SET) {
    set_error(response, api::Error::BAD_REQUEST,
              "the request asks for nothing: expected status, top, explain, probes, policy, plan, "
              "evacuate, incidents, feedback or a word of the operator");
    return response;
  }
  if (request.has_say()) {
    answer_say(request.say(), context, response);
    return response;
  }
  if (context.snapshot == nullptr) {
    set_error(response, api::Error::NOT_READY,
              "the agent has just started and has not judged anything yet: try again in a second");
    return response;
  }
  const Snapshot& snapshot = *context.snapshot;
  agent.set_wall_ns(snapshot.observation.time.wall_ns);
  agent.set_age_s(seconds_between(snapshot.observation.time.monotonic_ns, context.now_ns));
  agent.set_ticks(snapshot.self.ticks);

  switch (request.ask_case()) {
    case api::Request::kStatus:
      answer_status(snapshot, context, *response.mutable_status());
      break;
    case api::Request::kTop:
      answer_top(snapshot, context.history, *response.mutable_top());
      break;
    case api::Request::kIncidents:
      answer_incidents(request.incidents(), context, response);
      break;
    case api::Request::kFeedback:
      answer_feedback(request.feedback(), context, response);
      break;
    case api::Request::kExplain: {
      const std::string wanted = clean_text(request.explain().entity());
      if (is_incident_id(wanted)) {
        answer_incident(wanted, nullptr, context, response);
        break;
      }
      const std::vector<EntityPtr>& entities = snapshot.features.entities;
      std::vector<std::size_t> rows = find_entities(entities, wanted);
      if (rows.size() == 1) {
        answer_explain(snapshot, context.history, rows.front(), *response.mutable_explain());
        break;
      }
      const bool unknown = rows.empty();
      set_error(response, unknown ? api::Error::UNKNOWN_ENTITY : api::Error::AMBIGUOUS,
                unknown ? "nothing here is named like \"" + wanted + "\"; there are " +
                              std::to_string(entities.size()) + " entities"
                        : "\"" + wanted + "\" matches " + std::to_string(rows.size()) + " entities");
      if (unknown) {
        for (std::size_t row = 0; row < entities.size(); ++row) rows.push_back(row);
      }
      for (const std::size_t row : rows) {
        if (response.error().candidates_size() == kMaxCandidates) break;
        response.mutable_error()->add_candidates(clean_text(entities[row]->name));
      }
      break;
    }
    case api::Request::kProbes:
      for (const ProbeHealth& probe : snapshot.observation.probes) {
        fill(probe, snapshot.observation.time.monotonic_ns, *response.mutable_probes()->add_probes());
      }
      if (snapshot.self.budget.known)
        fill(snapshot.self.budget, *response.mutable_probes()->mutable_budget());
      fill_losses(snapshot.observation, *response.mutable_probes()->mutable_losses());
      break;
    case api::Request::kPolicy: {
      api::Policy& policy = *response.mutable_policy();
      if (snapshot.decision.policy) fill(*snapshot.decision.policy, policy, snapshot.act.record);
      policy.set_present(true);
      policy.set_reload_error(clean_text(snapshot.self.policy_error));
      policy.set_restart_for(clean_text(snapshot.self.restart_for));
      for (const Judgement& judgement : snapshot.decision.judgements) {
        api::Judgement& line = *policy.add_judgements();
        line.set_reason(judgement.reason);
        line.set_entity(clean_text(judgement.entity));
        line.set_rule(judgement.rule);
        line.set_acts(judgement.acts);
        line.set_why(clean_text(judgement.why));
      }
      break;
    }
    case api::Request::kPlan:
    case api::Request::kEvacuate:
      answer_evacuator(request, context, response);
      break;
    case api::Request::kBaselines:
      answer_baselines(request.baselines(), context, response);
      break;
    case api::Request::kSay:
    case api::Request::ASK_NOT_SET:
      break;
  }
  return response;
}

}  // namespace vedette
