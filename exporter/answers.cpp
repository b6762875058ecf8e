#include "exporter/answers.h"

#include <algorithm>
#include <cmath>

#include "agent/act/operator_store.h"
#include "agent/assess/event_text.h"
#include "agent/assess/overall.h"
#include "agent/base/clean_text.h"
#include "agent/collect/signals.h"
#include "agent/record/journal.h"
#include "exporter/answer_parts.h"
#include "exporter/api.pb.h"
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
// eta is capped by features/ at 3600 s: beyond that nothing is forecast.
constexpr float kMaxEtaSeconds = 3600;

constexpr const char* kLoadColumns[] = {"cpu_limit_use",   "memory_use",      "disk_space_use",
                                        "disk_inodes_use", "open_files_use",  "pids_use",
                                        "pressure_cpu",    "pressure_memory", "pressure_io"};

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
  out.set_entity(clean_text(condition.entity->name));
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
  for (std::size_t row = 0; row < snapshot.scores.entities.size(); ++row) {
    if (snapshot.features.entities[row]->id != condition.entity->id) continue;
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
    if (condition.entity->id == id && (worst == nullptr || condition.severity > worst->severity))
      worst = &condition;
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

void fill_explain(const Snapshot& snapshot, const History& history, std::size_t row, api::Explain& out) {
  const Entity& entity = *snapshot.features.entities[row];
  const Instant& time = snapshot.observation.time;
  fill_row(snapshot, history, row, *out.mutable_row());
  for (const Condition& condition : snapshot.conditions) {
    if (condition.entity->id == entity.id) fill_explained(snapshot, condition, *out.add_conditions());
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
    event.set_text(clean_text(describe(recent.event)));
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

// Rows of `entities` that `wanted` may mean, by the first rule that finds any: the name or its last part is
// equal; begins with it; contains it. One row: found. None: unknown. More: ambiguous.
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

// Of an entity, or of an incident where the name is one's id.
void answer_explain(const api::ExplainRequest& request, const AnswerContext& context,
                    api::Response& response) {
  const std::string wanted = clean_text(request.entity());
  if (is_incident_id(wanted)) {
    answer_incident(wanted, nullptr, context, response);
    return;
  }
  const std::vector<EntityPtr>& entities = context.snapshot->features.entities;
  std::vector<std::size_t> rows = find_entities(entities, wanted);
  if (rows.size() == 1) {
    fill_explain(*context.snapshot, context.history, rows.front(), *response.mutable_explain());
    return;
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
}

void answer_probes(const Snapshot& snapshot, api::Probes& out) {
  for (const ProbeHealth& probe : snapshot.observation.probes) {
    fill(probe, snapshot.observation.time.monotonic_ns, *out.add_probes());
  }
  if (snapshot.self.budget.known) fill(snapshot.self.budget, *out.mutable_budget());
  fill_losses(snapshot.observation, *out.mutable_losses());
}

void answer_policy(const Snapshot& snapshot, api::Policy& out) {
  if (snapshot.decision.policy) fill(*snapshot.decision.policy, out, snapshot.act.record);
  out.set_present(true);
  out.set_reload_error(clean_text(snapshot.self.policy_error));
  out.set_restart_for(clean_text(snapshot.self.restart_for));
  for (const Judgement& judgement : snapshot.decision.judgements) {
    api::Judgement& line = *out.add_judgements();
    line.set_reason(judgement.reason);
    line.set_entity(clean_text(judgement.entity));
    line.set_rule(judgement.rule);
    line.set_acts(judgement.acts);
    line.set_why(clean_text(judgement.why));
  }
}

}  // namespace

void set_error(api::Response& response, api::Error::Code code, std::string text) {
  response.mutable_error()->set_code(code);
  response.mutable_error()->set_text(std::move(text));
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
    case api::Request::kExplain:
      answer_explain(request.explain(), context, response);
      break;
    case api::Request::kProbes:
      answer_probes(snapshot, *response.mutable_probes());
      break;
    case api::Request::kPolicy:
      answer_policy(snapshot, *response.mutable_policy());
      break;
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
