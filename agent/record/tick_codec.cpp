#include "agent/record/tick_codec.h"

#include <algorithm>
#include <cmath>
#include <span>

#include "agent/record/baseline_file.h"
#include "agent/record/recording.pb.h"

namespace vedette {
namespace {

constexpr std::string_view kMagic = "vedette recording";
// More rows, probes or signals than any node or schema has: damage, not data.
constexpr std::size_t kMaxRows = 65536;
constexpr std::uint32_t kMaxProbes = 1024;
constexpr int kMaxSignals = 4096;

constexpr std::uint32_t kAnomalousFlag = 1;
constexpr std::uint32_t kWarmingUpFlag = 2;
constexpr unsigned kLearningShift = 2;

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

void encode_settings(const RecordedSettings& settings, recording::Settings& message) {
  message.set_recovery_s(settings.assess.recovery_s);
  message.set_score_recovery_s(settings.assess.score_recovery_s);
  message.set_risk_threshold(settings.assess.risk_threshold);
  message.set_risk_hold_s(settings.assess.risk_hold_s);
  message.set_anomaly_hold_s(settings.assess.anomaly_hold_s);
  message.set_mode(static_cast<std::uint32_t>(settings.mode));
  message.set_max_taints_per_hour(settings.max_taints_per_hour);
  message.set_model(settings.model);
  message.set_false_alarms_per_week(settings.false_alarms_per_week);
  const std::vector<LogRule>& rules = settings.assess.log_rules->rules();
  const std::size_t own = rules.size() - LogRules::builtin()->rules().size();
  for (const LogRule& rule : std::span(rules).first(own)) {
    recording::LogRule& entry = *message.add_log_rules();
    entry.set_pattern(rule.pattern);
    entry.set_reason(rule.reason);
    entry.set_domain(static_cast<std::uint32_t>(rule.domain));
    entry.set_severity(static_cast<std::uint32_t>(rule.severity));
    entry.set_unhealthy_at(rule.unhealthy_at);
    entry.set_probe(rule.probe);
  }
}

Result<RecordedSettings> decode_settings(const recording::Settings& message) {
  if (message.mode() > static_cast<std::uint32_t>(Mode::kEnforce))
    return fail("the header has an impossible mode");
  RecordedSettings settings;
  settings.assess.recovery_s = message.recovery_s();
  settings.assess.score_recovery_s = message.score_recovery_s();
  settings.assess.risk_threshold = message.risk_threshold();
  settings.assess.risk_hold_s = message.risk_hold_s();
  settings.assess.anomaly_hold_s = message.anomaly_hold_s();
  settings.mode = static_cast<Mode>(message.mode());
  settings.max_taints_per_hour = message.max_taints_per_hour();
  settings.model = message.model();
  if (message.false_alarms_per_week() > 0) settings.false_alarms_per_week = message.false_alarms_per_week();
  std::vector<LogRule> rules;
  for (const recording::LogRule& entry : message.log_rules()) {
    if (entry.domain() > static_cast<std::uint32_t>(Domain::kRuntime) ||
        entry.severity() > static_cast<std::uint32_t>(Severity::kUnhealthy)) {
      return fail("the header has an impossible log rule");
    }
    // What lines were counted the recording tells by itself.
    rules.push_back({entry.pattern(), entry.reason(), static_cast<Domain>(entry.domain()),
                     static_cast<Severity>(entry.severity()), entry.unhealthy_at(), entry.probe()});
  }
  auto made = LogRules::make(std::move(rules));
  if (!made) return tl::unexpected(made.error());
  settings.assess.log_rules = std::move(*made);
  return settings;
}

OperatorSay decode_say(const recording::OperatorSay& message) {
  OperatorSay say;
  say.paused_until_wall_ns = message.paused_until_wall_ns();
  for (int i = 0; i < message.veto_size(); ++i) say.vetoes[message.veto(i)] = message.veto_until_wall_ns(i);
  say.healthy_wall_ns = message.healthy_wall_ns();
  return say;
}

tl::unexpected<Error> impossible(std::uint64_t tick, std::string_view field) {
  return fail("tick " + std::to_string(tick) + " has an impossible " + std::string(field));
}

}  // namespace

void TickEncoder::encode_header(const RecordingHeader& header, recording::Header& message) {
  message.Clear();
  message.set_magic(std::string(kMagic));
  message.set_format_version(kRecordingFormat);
  message.set_agent_version(header.agent_version);
  message.set_kernel_release(header.kernel_release);
  message.set_node(header.node);
  message.set_started_wall_ns(header.started_wall_ns);
  message.set_continues(header.continues);
  message.set_ticks_before(header.ticks_before);
  if (header.settings) encode_settings(*header.settings, *message.mutable_settings());
  for (const SignalInfo& signal : kCounters) message.add_counters(std::string(signal.name));
  for (const SignalInfo& signal : kHistograms) message.add_histograms(std::string(signal.name));
  for (const SignalInfo& signal : kGauges) message.add_gauges(std::string(signal.name));
  for (const EventInfo& event : kEvents) message.add_events(std::string(event.name));
  message.set_histogram_buckets(HISTOGRAM_BUCKETS);
  for (const FeatureInfo& column : feature_columns()) message.add_columns(column.name);
}

void TickEncoder::encode(const Snapshot& snapshot, std::uint64_t dropped_before, recording::Tick& tick) {
  tick.Clear();
  tick.set_number(number_);
  tick.set_dropped_before(dropped_before);
  encode_observation(snapshot.observation, tick);
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
  }
  ++number_;
}

void TickEncoder::encode_observation(const Observation& observation, recording::Tick& tick) {
  tick.set_monotonic_ns(observation.time.monotonic_ns);
  tick.set_wall_ns(observation.time.wall_ns);
  tick.set_interval_s(observation.interval_s);

  next_rows_.clear();
  for (const EntityPtr& entity : observation.entities) next_rows_.push_back(entity->id);
  tick.set_same_rows(next_rows_ == rows_);
  if (!tick.same_rows()) tick.mutable_rows()->Add(next_rows_.begin(), next_rows_.end());
  rows_.swap(next_rows_);

  for (std::size_t row = 0; row < observation.entities.size(); ++row) {
    const EntityPtr& entity = observation.entities[row];
    const auto [place, fresh] = known_.try_emplace(entity->id);
    Known& known = place->second;
    if (fresh) known.gauges.fill(kMissing);
    if (fresh || (known.entity != entity && !same_entity(*known.entity, *entity))) {
      recording::Entity& message = *tick.add_entities();
      message.set_id(entity->id);
      message.set_kind(static_cast<std::uint32_t>(entity->kind));
      message.set_name(entity->name);
      message.set_namespace_name(entity->namespace_name);
      message.set_pod_name(entity->pod_name);
      message.set_uid(entity->uid);
      message.set_workload(entity->workload);
      message.set_revision(entity->revision);
      message.set_restarts(entity->restarts);
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

namespace {

// Recorded number -> number in `ours`, by name. Notes what only one side has.
template <typename Names, typename Infos>
std::vector<std::size_t> numbers_by_name(std::string_view what, const Names& names, const Infos& infos,
                                         std::size_t none, std::vector<std::string>& notes) {
  std::vector<std::size_t> numbers;
  std::vector<bool> found(infos.size(), false);
  for (const std::string& name : names) {
    // As a rule the orders are the same.
    const std::size_t likely = std::min(numbers.size(), infos.size() - 1);
    const auto place = infos[likely].name == name
                           ? infos.begin() + static_cast<std::ptrdiff_t>(likely)
                           : std::ranges::find_if(infos, [&](const auto& info) { return info.name == name; });
    if (place == infos.end()) {
      numbers.push_back(none);
      notes.push_back(std::string(what) + " " + name + " is unknown to this agent: dropped");
    } else {
      numbers.push_back(static_cast<std::size_t>(place - infos.begin()));
      found[numbers.back()] = true;
    }
  }
  for (std::size_t i = 0; i < found.size(); ++i) {
    if (!found[i]) {
      notes.push_back(std::string(what) + " " + std::string(infos[i].name) +
                      " is not in the recording: missing");
    }
  }
  return numbers;
}

}  // namespace

Result<TickDecoder> TickDecoder::make(const recording::Header& message) {
  if (message.magic() != kMagic) return fail("the first message is no header of a recording");
  if (message.format_version() == 0 || message.format_version() > kRecordingFormat) {
    return fail("format " + std::to_string(message.format_version()) + ", this agent reads 1 to " +
                std::to_string(kRecordingFormat));
  }
  if (message.counters_size() > kMaxSignals || message.histograms_size() > kMaxSignals ||
      message.gauges_size() > kMaxSignals || message.events_size() > kMaxSignals ||
      message.columns_size() > kMaxSignals) {
    return fail("the header names more than " + std::to_string(kMaxSignals) + " signals");
  }
  // Buckets have no names: with other bounds the numbers would mean something else.
  if (message.histogram_buckets() != HISTOGRAM_BUCKETS) {
    return fail("histograms of " + std::to_string(message.histogram_buckets()) + " buckets, expected " +
                std::to_string(HISTOGRAM_BUCKETS));
  }
  TickDecoder decoder;
  decoder.header_ = {
      message.format_version(),  message.agent_version(), message.kernel_release(), message.node(),
      message.started_wall_ns(), message.ticks_before(),  message.continues(),      std::nullopt};
  if (message.has_settings()) {
    auto settings = decode_settings(message.settings());
    if (!settings) return tl::unexpected(settings.error());
    decoder.header_.settings = std::move(*settings);
  }
  decoder.counters_ = numbers_by_name("counter", message.counters(), kCounters, kDropped, decoder.notes_);
  decoder.histograms_ =
      numbers_by_name("histogram", message.histograms(), kHistograms, kDropped, decoder.notes_);
  decoder.gauges_ = numbers_by_name("gauge", message.gauges(), kGauges, kDropped, decoder.notes_);
  decoder.events_ = numbers_by_name("event", message.events(), kEvents, kDropped, decoder.notes_);
  std::vector<std::string> of_signals;  // what they say of columns is said already
  decoder.columns_ = numbers_by_name("column", message.columns(), feature_columns(), kDropped, of_signals);
  decoder.buckets_ = message.histogram_buckets();
  decoder.absent_counters_.set();
  for (const std::size_t counter : decoder.counters_) {
    if (counter != kDropped) decoder.absent_counters_.reset(counter);
  }
  decoder.absent_histograms_.set();
  for (const std::size_t histogram : decoder.histograms_) {
    if (histogram != kDropped) decoder.absent_histograms_.reset(histogram);
  }
  return decoder;
}

Status TickDecoder::decode(const recording::Tick& tick, Observation& observation) {
  if (tick.number() != ticks_) {
    return fail("tick " + std::to_string(tick.number()) + " where tick " + std::to_string(ticks_) +
                " was expected");
  }
  // Longer than any machine runs, and a number.
  constexpr double kLongestS = 1e9;
  if (!(tick.interval_s() >= 0 && tick.interval_s() <= kLongestS)) return impossible(ticks_, "interval");
  dropped_before_ = tick.dropped_before();
  observation.time = {tick.monotonic_ns(), tick.wall_ns()};
  observation.interval_s = tick.interval_s();
  observation.absent_counters = absent_counters_;
  observation.absent_histograms = absent_histograms_;
  if (auto status = decode_entities(tick, observation); !status) return status;
  if (auto status = decode_samples(tick, observation); !status) return status;
  if (auto status = decode_health(tick, observation); !status) return status;
  if (auto status = decode_verdict(tick); !status) return status;
  if (auto status = decode_policy(tick); !status) return status;
  if (auto status = decode_taught(tick); !status) return status;
  lessons_.clear();
  for (const recording::Lesson& lesson : tick.lessons())
    lessons_.push_back({lesson.entity(), lesson.right()});
  ++ticks_;
  return {};
}

Status TickDecoder::decode_entities(const recording::Tick& tick, Observation& observation) {
  for (const recording::Entity& message : tick.entities()) {
    if (message.kind() > static_cast<std::uint32_t>(EntityKind::kCgroup))
      return impossible(ticks_, "entity kind");
    auto entity = std::make_shared<Entity>();
    entity->id = message.id();
    entity->kind = static_cast<EntityKind>(message.kind());
    entity->name = message.name();
    entity->namespace_name = message.namespace_name();
    entity->pod_name = message.pod_name();
    entity->uid = message.uid();
    entity->workload = message.workload();
    entity->revision = message.revision();
    entity->restarts = message.restarts();
    const auto [place, fresh] = known_.try_emplace(entity->id);
    if (fresh) place->second.gauges.fill(kMissing);
    place->second.entity = std::move(entity);
    place->second.tick = ticks_;
  }
  if (!tick.same_rows()) {
    if (static_cast<std::size_t>(tick.rows_size()) > kMaxRows)
      return impossible(ticks_, "number of entities");
    rows_.assign(tick.rows().begin(), tick.rows().end());
  }
  observation.entities.clear();
  for (const EntityId id : rows_) {
    const auto place = known_.find(id);
    if (place == known_.end()) return impossible(ticks_, "entity " + std::to_string(id));
    place->second.tick = ticks_;
    observation.entities.push_back(place->second.entity);
  }
  std::erase_if(known_, [&](const auto& entry) { return entry.second.tick != ticks_; });
  return {};
}

Status TickDecoder::decode_taught(const recording::Tick& tick) {
  taught_.reset();
  if (tick.baselines().empty()) return {};
  auto parsed = parse_baselines(tick.baselines(), "tick " + std::to_string(ticks_) + ": baselines");
  if (!parsed) return tl::unexpected(parsed.error());
  parsed->of_other_node = tick.of_other_node();
  taught_ = std::make_shared<const Baselines>(std::move(*parsed));
  return {};
}

Status TickDecoder::decode_samples(const recording::Tick& tick, Observation& observation) {
  for (const recording::Sample& message : tick.samples()) {
    if (message.row() >= rows_.size()) return impossible(ticks_, "row");
    if (message.counter_size() != message.added_size() ||
        message.bucket_size() != message.bucket_added_size() ||
        message.gauge_size() != message.value_size()) {
      return impossible(ticks_, "length of a sample's lists");
    }
    std::array<double, GAUGE_COUNT>& gauges = known_.find(rows_[message.row()])->second.gauges;
    for (int i = 0; i < message.gauge_size(); ++i) {
      if (message.gauge(i) >= gauges_.size()) return impossible(ticks_, "gauge");
      const std::size_t gauge = gauges_[message.gauge(i)];
      if (gauge != kDropped) gauges[gauge] = message.value(i);
    }
    for (const std::uint32_t recorded : message.gauge_missing()) {
      if (recorded >= gauges_.size()) return impossible(ticks_, "gauge");
      if (gauges_[recorded] != kDropped) gauges[gauges_[recorded]] = kMissing;
    }
    for (const std::uint32_t recorded : message.counter_unknown()) {
      if (recorded >= counters_.size()) return impossible(ticks_, "counter");
      if (counters_[recorded] != kDropped)
        known_.find(rows_[message.row()])->second.unknown.flip(counters_[recorded]);
    }
  }

  observation.samples.assign(rows_.size(), Sample{});
  for (std::size_t row = 0; row < rows_.size(); ++row) {
    observation.samples[row].entity = rows_[row];
    const Known& known = known_.find(rows_[row])->second;
    observation.samples[row].gauges = known.gauges;
    observation.samples[row].unknown = known.unknown;
  }
  for (const recording::Sample& message : tick.samples()) {
    Sample& sample = observation.samples[message.row()];
    for (int i = 0; i < message.counter_size(); ++i) {
      if (message.counter(i) >= counters_.size()) return impossible(ticks_, "counter");
      const std::size_t counter = counters_[message.counter(i)];
      if (counter != kDropped) sample.counters[counter] = message.added(i);
    }
    for (int i = 0; i < message.bucket_size(); ++i) {
      const std::size_t recorded = message.bucket(i) / buckets_;
      if (recorded >= histograms_.size()) return impossible(ticks_, "histogram");
      if (histograms_[recorded] != kDropped) {
        sample.histograms[histograms_[recorded]][message.bucket(i) % buckets_] = message.bucket_added(i);
      }
    }
  }

  observation.events.clear();
  for (const recording::Event& message : tick.events()) {
    KernelEvent event;
    event.type = message.type();
    if (event.type != KernelEvent::kLogEvent) {
      if (event.type >= events_.size()) return impossible(ticks_, "event");
      if (events_[event.type] == kDropped) continue;
      event.type = static_cast<std::uint32_t>(events_[event.type]);
    }
    event.entity = message.entity();
    event.time_ns = message.time_ns();
    event.value = message.value();
    event.extra = message.extra();
    event.pid = message.pid();
    event.comm = message.comm();
    event.text = message.text();
    event.container = message.container();
    observation.events.push_back(std::move(event));
  }
  observation.connections.clear();
  for (const recording::Connections& message : tick.connections())
    observation.connections.push_back({message.client(), message.server(), message.count()});
  return {};
}

Status TickDecoder::decode_health(const recording::Tick& tick, Observation& observation) {
  if (tick.has_probe_count()) {
    if (tick.probe_count() > kMaxProbes) return impossible(ticks_, "number of probes");
    probes_.resize(tick.probe_count());
  }
  for (const recording::Probe& message : tick.probes()) {
    if (message.index() >= probes_.size()) return impossible(ticks_, "probe");
    if (message.state() > static_cast<std::uint32_t>(ProbeState::kShed))
      return impossible(ticks_, "probe state");
    ProbeHealth& probe = probes_[message.index()];
    if (message.has_name()) probe.name = message.name();
    if (message.has_reason()) probe.reason = message.reason();
    probe.state = static_cast<ProbeState>(message.state());
    probe.runs = message.runs();
    probe.run_ns = message.run_ns();
    probe.misses = message.has_misses() ? std::optional(message.misses()) : std::nullopt;
  }
  observation.probes = probes_;

  if (tick.has_losses()) {
    const recording::Losses& message = tick.losses();
    losses_ = Losses{};
    for (std::size_t i = 0; i < events_.size(); ++i) {
      if (events_[i] == kDropped) continue;
      const int recorded = static_cast<int>(i);
      if (recorded < message.produced_size()) losses_.produced[events_[i]] = message.produced(recorded);
      if (recorded < message.lost_size()) losses_.lost[events_[i]] = message.lost(recorded);
    }
    losses_.received = message.received();
    losses_.no_slot = message.no_slot();
    losses_.no_task_storage = message.no_task_storage();
    losses_.missed_ticks = message.missed_ticks();
    losses_.log_lost = message.log_lost();
    losses_.no_detail = message.no_detail();
    for (int i = 0; i < message.no_start_counter_size() && i < message.no_start_size(); ++i) {
      if (message.no_start_counter(i) >= counters_.size()) return impossible(ticks_, "counter");
      const std::size_t counter = counters_[message.no_start_counter(i)];
      if (counter < SLOT_COUNTER_COUNT) losses_.no_start[counter] = message.no_start(i);
    }
  }
  observation.losses = losses_;

  if (tick.has_act()) {
    const recording::Act& message = tick.act();
    act_.connected = message.connected();
    act_.known = message.known();
    act_.tainted = message.tainted();
    act_.adopted = message.adopted();
    act_.tainted_since_wall_ns = message.tainted_since_wall_ns();
    act_.taint_reason = message.taint_reason();
    act_.taint_effect = message.taint_effect();
    if (message.annotated().veto_size() != message.annotated().veto_until_wall_ns_size() ||
        message.local().veto_size() != message.local().veto_until_wall_ns_size()) {
      return impossible(ticks_, "number of vetoes");
    }
    act_.annotated = decode_say(message.annotated());
    act_.local = decode_say(message.local());
    act_.acked_generation = message.acked_generation();
    act_.patches = message.patches();
    act_.conflicts = message.conflicts();
    act_.failures = message.failures();
    act_.events_written = message.events_written();
    act_.last_evidence_to_ack_s = message.last_evidence_to_ack_s();
    act_.last_error = message.last_error();
    act_.slot = message.slot();
    act_.held_back = message.held_back();
    act_.found_verdict = message.found_verdict();
    act_.found_conditions.clear();
    for (const recording::FoundCondition& found : message.found_conditions())
      act_.found_conditions.push_back({found.type(), false, found.reason(), found.message()});
    act_.record.clear();
    for (const recording::RuleRecord& entry : message.record())
      act_.record[entry.rule()] = {entry.confirmed(), entry.refuted(), entry.undecided()};
  }
  return {};
}

Status TickDecoder::decode_verdict(const recording::Tick& tick) {
  const recording::Verdict& message = tick.verdict();
  if (message.anomaly_size() != message.row_size() ||
      message.anomaly_threshold_size() != message.row_size() || message.risk_size() != message.row_size() ||
      message.flags_size() != message.row_size()) {
    return impossible(ticks_, "length of a verdict's lists");
  }
  verdict_.entities.resize(rows_.size());
  for (int i = 0; i < message.row_size(); ++i) {
    if (message.row(i) >= rows_.size()) return impossible(ticks_, "row of a verdict");
    RecordedVerdict::EntityVerdict& verdict = verdict_.entities[message.row(i)];
    verdict.anomaly = message.anomaly(i);
    verdict.anomaly_threshold = message.anomaly_threshold(i);
    verdict.risk = message.risk(i);
    verdict.anomalous = (message.flags(i) & kAnomalousFlag) != 0;
    const std::uint32_t learning = message.flags(i) >> kLearningShift;
    if (learning >= kLearningNames.size()) return impossible(ticks_, "flags of a verdict");
    verdict.learning = static_cast<Learning>(learning);
    // Before format 3.
    if (learning == 0 && (message.flags(i) & kWarmingUpFlag) != 0) verdict.learning = Learning::kNew;
    verdict.anomaly_reasons.clear();
  }
  for (const recording::Reason& entry : message.reasons()) {
    if (entry.row() >= rows_.size() || entry.column() >= columns_.size())
      return impossible(ticks_, "reason of a verdict");
    if (columns_[entry.column()] == kDropped) continue;
    verdict_.entities[entry.row()].anomaly_reasons.push_back(
        {static_cast<std::uint32_t>(columns_[entry.column()]), entry.value(), entry.usual(), entry.weight()});
  }
  for (std::size_t row = 0; row < rows_.size(); ++row) verdict_.entities[row].entity = rows_[row];

  if (message.has_conditions()) {
    verdict_.conditions.clear();
    for (const recording::Condition& condition : message.conditions().list()) {
      if (condition.severity() > static_cast<std::uint32_t>(Severity::kUnhealthy)) {
        return impossible(ticks_, "severity");
      }
      verdict_.conditions.push_back({condition.reason(), condition.entity(),
                                     static_cast<Severity>(condition.severity()),
                                     condition.since_monotonic_ns(), condition.confidence(),
                                     condition.count(), condition.recovering()});
    }
  }
  if (message.has_decision()) {
    verdict_.generation = message.decision().generation();
    verdict_.taint = message.decision().taint();
    verdict_.reason = message.decision().reason();
    verdict_.held_back = message.decision().held_back();
    verdict_.effect = message.decision().effect();
  }
  return {};
}

Status TickDecoder::decode_policy(const recording::Tick& tick) {
  if (!tick.has_policy()) return {};
  auto root = YamlSection::parse(tick.policy(), "the policy of tick " + std::to_string(ticks_));
  if (!root) return tl::unexpected(root.error());
  auto policy = Policy::read(*root, tick.policy_origin());
  if (!policy) return tl::unexpected(policy.error());
  policy_ = std::make_shared<const Policy>(std::move(*policy));
  return {};
}

}  // namespace vedette
