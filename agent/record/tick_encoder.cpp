#include "agent/record/tick_encoder.h"

#include <algorithm>
#include <cmath>

#include "agent/record/recording.pb.h"
#include "agent/record/recording_format.h"

namespace vedette {
namespace {

bool same_entity(const Entity& a, const Entity& b) {
  return a.id == b.id && a.kind == b.kind && a.name == b.name && a.namespace_name == b.namespace_name &&
         a.pod_name == b.pod_name && a.uid == b.uid && a.workload == b.workload && a.revision == b.revision &&
         a.restarts == b.restarts;
}

bool same_losses(const Losses& a, const Losses& b) {
  return a.produced == b.produced && a.lost == b.lost && a.received == b.received && a.no_slot == b.no_slot &&
         a.no_task_storage == b.no_task_storage && a.missed_ticks == b.missed_ticks &&
         a.log_lost == b.log_lost && a.no_detail == b.no_detail && a.no_start == b.no_start;
}

bool same_act(const ActState& a, const ActState& b) {
  return a.connected == b.connected && a.known == b.known && a.tainted == b.tainted &&
         a.adopted == b.adopted && a.tainted_since_wall_ns == b.tainted_since_wall_ns &&
         a.taint_reason == b.taint_reason && a.taint_effect == b.taint_effect && a.annotated == b.annotated &&
         a.local == b.local && a.acked_generation == b.acked_generation && a.patches == b.patches &&
         a.conflicts == b.conflicts && a.failures == b.failures && a.events_written == b.events_written &&
         same_bits(a.last_evidence_to_ack_s, b.last_evidence_to_ack_s) && a.last_error == b.last_error &&
         a.slot == b.slot && a.held_back == b.held_back && a.record == b.record &&
         a.found_verdict == b.found_verdict && a.found_conditions == b.found_conditions;
}

bool same_reason(const Reason& a, const Reason& b) {
  return a.column == b.column && same_bits(a.value, b.value) && same_bits(a.usual, b.usual) &&
         same_bits(a.weight, b.weight);
}

bool same_verdict(const RecordedVerdict::EntityVerdict& a, const RecordedVerdict::EntityVerdict& b) {
  return a.entity == b.entity && same_bits(a.anomaly, b.anomaly) &&
         same_bits(a.anomaly_threshold, b.anomaly_threshold) && same_bits(a.risk, b.risk) &&
         a.anomalous == b.anomalous && a.learning == b.learning &&
         std::ranges::equal(a.anomaly_reasons, b.anomaly_reasons, same_reason);
}

bool same_condition(const RecordedVerdict::ConditionVerdict& a, const RecordedVerdict::ConditionVerdict& b) {
  return a.reason == b.reason && a.entity == b.entity && a.severity == b.severity &&
         a.since_ns == b.since_ns && same_bits(a.confidence, b.confidence) && a.count == b.count &&
         a.recovering == b.recovering;
}

void encode_say(const OperatorSay& say, recording::OperatorSay& message) {
  message.set_paused_until_wall_ns(say.paused_until_wall_ns);
  for (const auto& [reason, until] : say.vetoes) {
    message.add_veto(reason);
    message.add_veto_until_wall_ns(until);
  }
  message.set_healthy_wall_ns(say.healthy_wall_ns);
}

void encode_entity(const Entity& entity, recording::Entity& message) {
  message.set_id(entity.id);
  message.set_kind(static_cast<std::uint32_t>(entity.kind));
  message.set_name(entity.name);
  message.set_namespace_name(entity.namespace_name);
  message.set_pod_name(entity.pod_name);
  message.set_uid(entity.uid);
  message.set_workload(entity.workload);
  message.set_revision(entity.revision);
  message.set_restarts(entity.restarts);
}

void encode_events(const Observation& observation, recording::Tick& tick) {
  for (const KernelEvent& event : observation.events) {
    recording::Event& message = *tick.add_events();
    message.set_type(event.type);
    message.set_entity(event.entity);
    message.set_time_ns(event.time_ns);
    message.set_value(event.value);
    message.set_extra(event.extra);
    message.set_pid(event.pid);
    message.set_comm(event.comm);
    message.set_text(event.text);
    message.set_container(event.container);
  }
  for (const Connections& connections : observation.connections) {
    recording::Connections& message = *tick.add_connections();
    message.set_client(connections.client);
    message.set_server(connections.server);
    message.set_count(connections.count);
  }
}

}  // namespace

void TickEncoder::encode(const Snapshot& snapshot, std::uint64_t dropped_before, recording::Tick& tick) {
  tick.Clear();
  tick.set_number(number_);
  tick.set_dropped_before(dropped_before);
  const Observation& observation = snapshot.observation;
  tick.set_monotonic_ns(observation.time.monotonic_ns);
  tick.set_wall_ns(observation.time.wall_ns);
  tick.set_interval_s(observation.interval_s);
  encode_rows(observation, tick);
  encode_events(observation, tick);
  encode_health(observation, tick);
  encode_act(snapshot.act, tick);
  encode_verdict(verdict_of(snapshot), tick);
  encode_policy(snapshot.decision.policy, tick);
  if (snapshot.taught) {
    tick.set_baselines(snapshot.taught->file);
    tick.set_of_other_node(snapshot.taught->of_other_node);
  }
  for (const Lesson& lesson : snapshot.lessons) {
    recording::Lesson& message = *tick.add_lessons();
    message.set_entity(lesson.entity);
    message.set_right(lesson.right);
    message.set_workload(lesson.workload);
  }
  ++number_;
}

void TickEncoder::encode_rows(const Observation& observation, recording::Tick& tick) {
  next_rows_.clear();
  for (const EntityPtr& entity : observation.entities) next_rows_.push_back(entity->id);
  tick.set_same_rows(next_rows_ == rows_);
  if (!tick.same_rows()) tick.mutable_rows()->Add(next_rows_.begin(), next_rows_.end());
  rows_.swap(next_rows_);

  for (std::size_t row = 0; row < observation.entities.size(); ++row) {
    const EntityPtr& entity = observation.entities[row];
    const auto [place, fresh] = known_.try_emplace(entity->id);
    KnownEntity& known = place->second;
    if (fresh || (known.entity != entity && !same_entity(*known.entity, *entity))) {
      encode_entity(*entity, *tick.add_entities());
    }
    known.entity = entity;
    known.tick = number_;

    const Sample& sample = observation.samples[row];
    recording::Sample& message = *tick.add_samples();
    for (std::uint32_t i = 0; i < COUNTER_COUNT; ++i) {
      if (sample.counters[i] == 0) continue;
      message.add_counter(i);
      message.add_added(sample.counters[i]);
    }
    for (std::uint32_t i = 0; i < HISTOGRAM_COUNT; ++i) {
      for (std::uint32_t bucket = 0; bucket < HISTOGRAM_BUCKETS; ++bucket) {
        if (sample.histograms[i][bucket] == 0) continue;
        message.add_bucket(i * HISTOGRAM_BUCKETS + bucket);
        message.add_bucket_added(sample.histograms[i][bucket]);
      }
    }
    for (std::uint32_t i = 0; i < GAUGE_COUNT; ++i) {
      if (same_bits(sample.gauges[i], known.gauges[i])) continue;
      known.gauges[i] = sample.gauges[i];
      if (std::isnan(sample.gauges[i])) {
        message.add_gauge_missing(i);
      } else {
        message.add_gauge(i);
        message.add_value(sample.gauges[i]);
      }
    }
    for (std::uint32_t i = 0; i < COUNTER_COUNT; ++i) {
      if (sample.unknown.test(i) != known.unknown.test(i)) message.add_counter_unknown(i);
    }
    known.unknown = sample.unknown;
    if (message.ByteSizeLong() == 0) {
      tick.mutable_samples()->RemoveLast();
    } else {
      message.set_row(static_cast<std::uint32_t>(row));
    }
  }
  std::erase_if(known_, [&](const auto& entry) { return entry.second.tick != number_; });
}

void TickEncoder::encode_health(const Observation& observation, recording::Tick& tick) {
  if (probes_.size() != observation.probes.size()) {
    tick.set_probe_count(static_cast<std::uint32_t>(observation.probes.size()));
    probes_.resize(observation.probes.size());
  }
  for (std::size_t i = 0; i < probes_.size(); ++i) {
    ProbeHealth& known = probes_[i];
    const ProbeHealth& now = observation.probes[i];
    const bool renamed = known.name != now.name;
    const bool reasoned = known.reason != now.reason;
    if (!renamed && !reasoned && known.state == now.state && known.runs == now.runs &&
        known.run_ns == now.run_ns && known.misses == now.misses) {
      continue;
    }
    recording::Probe& message = *tick.add_probes();
    message.set_index(static_cast<std::uint32_t>(i));
    if (renamed) message.set_name(now.name);
    if (reasoned) message.set_reason(now.reason);
    message.set_state(static_cast<std::uint32_t>(now.state));
    message.set_runs(now.runs);
    message.set_run_ns(now.run_ns);
    if (now.misses) message.set_misses(*now.misses);
    known = now;
  }

  const Losses& losses = observation.losses;
  if (!same_losses(losses, losses_)) {
    recording::Losses& message = *tick.mutable_losses();
    message.mutable_produced()->Add(losses.produced.begin(), losses.produced.end());
    message.mutable_lost()->Add(losses.lost.begin(), losses.lost.end());
    message.set_received(losses.received);
    message.set_no_slot(losses.no_slot);
    message.set_no_task_storage(losses.no_task_storage);
    message.set_missed_ticks(losses.missed_ticks);
    message.set_log_lost(losses.log_lost);
    message.set_no_detail(losses.no_detail);
    for (std::uint32_t i = 0; i < SLOT_COUNTER_COUNT; ++i) {
      if (losses.no_start[i] == 0) continue;
      message.add_no_start_counter(i);
      message.add_no_start(losses.no_start[i]);
    }
    losses_ = losses;
  }
}

// The list of all round trips is left out: it is what the exporter's histogram is fed from, not an input.
void TickEncoder::encode_act(const ActState& act, recording::Tick& tick) {
  if (same_act(act, act_)) return;
  recording::Act& message = *tick.mutable_act();
  message.set_connected(act.connected);
  message.set_known(act.known);
  message.set_tainted(act.tainted);
  message.set_adopted(act.adopted);
  message.set_tainted_since_wall_ns(act.tainted_since_wall_ns);
  message.set_taint_reason(act.taint_reason);
  message.set_taint_effect(act.taint_effect);
  encode_say(act.annotated, *message.mutable_annotated());
  encode_say(act.local, *message.mutable_local());
  message.set_acked_generation(act.acked_generation);
  message.set_patches(act.patches);
  message.set_conflicts(act.conflicts);
  message.set_failures(act.failures);
  message.set_events_written(act.events_written);
  message.set_last_evidence_to_ack_s(act.last_evidence_to_ack_s);
  message.set_last_error(act.last_error);
  message.set_slot(act.slot);
  message.set_held_back(act.held_back);
  message.set_found_verdict(act.found_verdict);
  for (const WantedCondition& condition : act.found_conditions) {
    recording::FoundCondition& found = *message.add_found_conditions();
    found.set_type(condition.type);
    found.set_reason(condition.reason);
    found.set_message(condition.message);
  }
  for (const auto& [rule, record] : act.record) {
    recording::RuleRecord& entry = *message.add_record();
    entry.set_rule(rule);
    entry.set_confirmed(record.confirmed);
    entry.set_refuted(record.refuted);
    entry.set_undecided(record.undecided);
  }
  act_ = act;
}

void TickEncoder::encode_verdict(RecordedVerdict verdict, recording::Tick& tick) {
  recording::Verdict& message = *tick.mutable_verdict();
  for (std::size_t row = 0; row < verdict.entities.size(); ++row) {
    const RecordedVerdict::EntityVerdict& now = verdict.entities[row];
    if (row < verdict_.entities.size() && same_verdict(verdict_.entities[row], now)) continue;
    message.add_row(static_cast<std::uint32_t>(row));
    message.add_anomaly(now.anomaly);
    message.add_anomaly_threshold(now.anomaly_threshold);
    message.add_risk(now.risk);
    message.add_flags((now.anomalous ? kAnomalousFlag : 0) |
                      (now.learning != Learning::kDone ? kWarmingUpFlag : 0) |
                      static_cast<std::uint32_t>(now.learning) << kLearningShift);
    for (const Reason& reason : now.anomaly_reasons) {
      recording::Reason& entry = *message.add_reasons();
      entry.set_row(static_cast<std::uint32_t>(row));
      entry.set_column(reason.column);
      entry.set_value(reason.value);
      entry.set_usual(reason.usual);
      entry.set_weight(reason.weight);
    }
  }
  if (!std::ranges::equal(verdict.conditions, verdict_.conditions, same_condition)) {
    recording::Conditions& conditions = *message.mutable_conditions();
    for (const RecordedVerdict::ConditionVerdict& now : verdict.conditions) {
      recording::Condition& condition = *conditions.add_list();
      condition.set_reason(now.reason);
      condition.set_entity(now.entity);
      condition.set_severity(static_cast<std::uint32_t>(now.severity));
      condition.set_since_monotonic_ns(now.since_ns);
      condition.set_confidence(now.confidence);
      condition.set_count(now.count);
      condition.set_recovering(now.recovering);
    }
  }
  if (verdict.generation != verdict_.generation || verdict.taint != verdict_.taint ||
      verdict.reason != verdict_.reason || verdict.effect != verdict_.effect ||
      verdict.held_back != verdict_.held_back) {
    recording::Decision& decision = *message.mutable_decision();
    decision.set_generation(verdict.generation);
    decision.set_taint(verdict.taint);
    decision.set_reason(verdict.reason);
    decision.set_held_back(verdict.held_back);
    decision.set_effect(verdict.effect);
  }
  verdict_ = std::move(verdict);
}

// A policy is never changed: a new one is another object.
void TickEncoder::encode_policy(const std::shared_ptr<const Policy>& policy, recording::Tick& tick) {
  if (policy == policy_ || policy == nullptr) return;
  tick.set_policy(policy->yaml());
  tick.set_policy_origin(policy->origin);
  policy_ = policy;
}

}  // namespace vedette
