#include "agent/record/tick_decoder.h"

#include <algorithm>

#include "agent/collect/kernel_probes.h"
#include "agent/record/baseline_file.h"
#include "agent/record/part_count.h"
#include "agent/record/recording.pb.h"

namespace vedette {
namespace {

// More rows or probes than any node has, or parts of a message than they make: damage, not data.
constexpr std::size_t kMaxRows = kMaxSlots;
constexpr std::uint32_t kMaxProbes = 1024;
constexpr std::size_t kMaxParts = 65'536;

const std::vector<PartBound>& part_bounds() {
  using recording::Act;
  using recording::Header;
  using recording::Message;
  using recording::OperatorSay;
  using recording::Settings;
  using recording::Tick;
  using recording::Verdict;
  constexpr int kHeader = Message::kHeaderFieldNumber;
  constexpr int kTick = Message::kTickFieldNumber;
  constexpr int kAct = Tick::kActFieldNumber;
  constexpr int kVerdict = Tick::kVerdictFieldNumber;
  constexpr int kVeto = OperatorSay::kVetoFieldNumber;
  static const std::vector<PartBound> bounds{
      {"samples", {kTick, Tick::kSamplesFieldNumber}, kMaxRows},
      {"entities", {kTick, Tick::kEntitiesFieldNumber}, kMaxRows},
      {"events", {kTick, Tick::kEventsFieldNumber}, kMaxParts},
      {"connections", {kTick, Tick::kConnectionsFieldNumber}, kMaxParts},
      {"probes", {kTick, Tick::kProbesFieldNumber}, kMaxProbes},
      {"lessons", {kTick, Tick::kLessonsFieldNumber}, kMaxParts},
      {"vetoes", {kTick, kAct, Act::kAnnotatedFieldNumber, kVeto}, kMaxParts},
      {"vetoes", {kTick, kAct, Act::kLocalFieldNumber, kVeto}, kMaxParts},
      {"found conditions", {kTick, kAct, Act::kFoundConditionsFieldNumber}, kMaxParts},
      {"rules", {kTick, kAct, Act::kRecordFieldNumber}, kMaxParts},
      {"conditions",
       {kTick, kVerdict, Verdict::kConditionsFieldNumber, recording::Conditions::kListFieldNumber},
       kMaxParts},
      {"reasons", {kTick, kVerdict, Verdict::kReasonsFieldNumber}, kMaxParts},
      {"counters", {kHeader, Header::kCountersFieldNumber}, kMaxParts},
      {"histograms", {kHeader, Header::kHistogramsFieldNumber}, kMaxParts},
      {"gauges", {kHeader, Header::kGaugesFieldNumber}, kMaxParts},
      {"kinds of events", {kHeader, Header::kEventsFieldNumber}, kMaxParts},
      {"columns", {kHeader, Header::kColumnsFieldNumber}, kMaxParts},
      {"log rules", {kHeader, Header::kSettingsFieldNumber, Settings::kLogRulesFieldNumber}, kMaxParts}};
  return bounds;
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

constexpr std::size_t kDropped = SIZE_MAX;  // only the recording has it

// Recorded number -> number in `infos`, by name. Notes what only one side has.
template <typename Names, typename Infos>
std::vector<std::size_t> numbers_by_name(std::string_view what, const Names& names, const Infos& infos,
                                         std::vector<std::string>& notes) {
  std::vector<std::size_t> numbers;
  std::vector<bool> found(infos.size(), false);
  for (const std::string& name : names) {
    // As a rule the orders are the same.
    const std::size_t likely = std::min(numbers.size(), infos.size() - 1);
    const auto place = infos[likely].name == name
                           ? infos.begin() + static_cast<std::ptrdiff_t>(likely)
                           : std::ranges::find_if(infos, [&](const auto& info) { return info.name == name; });
    if (place == infos.end()) {
      numbers.push_back(kDropped);
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

Status parse_message(const std::string& bytes, recording::Message& message) {
  if (const PartBound* bound = too_many_parts(bytes, part_bounds()))
    return fail("a message has an impossible number of " + std::string(bound->name));
  if (!message.ParseFromString(bytes)) return fail("a message cannot be read");
  return {};
}

Result<TickDecoder> TickDecoder::make(const recording::Header& message) {
  auto header = decode_header(message);
  if (!header) return tl::unexpected(header.error());
  TickDecoder decoder;
  decoder.header_ = std::move(*header);
  decoder.counters_ = numbers_by_name("counter", message.counters(), kCounters, decoder.notes_);
  decoder.histograms_ = numbers_by_name("histogram", message.histograms(), kHistograms, decoder.notes_);
  decoder.gauges_ = numbers_by_name("gauge", message.gauges(), kGauges, decoder.notes_);
  decoder.events_ = numbers_by_name("event", message.events(), kEvents, decoder.notes_);
  std::vector<std::string> of_signals;  // what they say of columns is said already
  decoder.columns_ = numbers_by_name("column", message.columns(), feature_columns(), of_signals);
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
  if (auto status = decode_events(tick, observation); !status) return status;
  if (auto status = decode_health(tick, observation); !status) return status;
  if (auto status = decode_act(tick); !status) return status;
  if (auto status = decode_verdict(tick); !status) return status;
  if (auto status = decode_policy(tick); !status) return status;
  if (auto status = decode_taught(tick); !status) return status;
  lessons_.clear();
  for (const recording::Lesson& lesson : tick.lessons())
    lessons_.push_back({lesson.entity(), lesson.right(), lesson.workload()});
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
    KnownEntity& known = known_[entity->id];
    known.entity = std::move(entity);
    known.tick = ticks_;
  }
  if (!tick.same_rows()) {
    if (static_cast<std::size_t>(tick.rows_size()) > kMaxRows)
      return impossible(ticks_, "number of entities");
    rows_.assign(tick.rows().begin(), tick.rows().end());
  }
  if (rows_.empty() || rows_.front() != kNodeEntity) return impossible(ticks_, "first entity");
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

Status TickDecoder::decode_samples(const recording::Tick& tick, Observation& observation) {
  if (static_cast<std::size_t>(tick.samples_size()) > rows_.size())
    return impossible(ticks_, "number of samples");
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
    const KnownEntity& known = known_.find(rows_[row])->second;
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
      const std::size_t recorded = message.bucket(i) / HISTOGRAM_BUCKETS;
      if (recorded >= histograms_.size()) return impossible(ticks_, "histogram");
      if (histograms_[recorded] != kDropped) {
        sample.histograms[histograms_[recorded]][message.bucket(i) % HISTOGRAM_BUCKETS] =
            message.bucket_added(i);
      }
    }
  }
  return {};
}

Status TickDecoder::decode_events(const recording::Tick& tick, Observation& observation) {
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
  return {};
}

Status TickDecoder::decode_act(const recording::Tick& tick) {
  if (!tick.has_act()) return {};
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

Status TickDecoder::decode_taught(const recording::Tick& tick) {
  taught_.reset();
  if (tick.baselines().empty()) return {};
  auto parsed = parse_baselines(tick.baselines(), "tick " + std::to_string(ticks_) + ": baselines");
  if (!parsed) return tl::unexpected(parsed.error());
  parsed->of_other_node = tick.of_other_node();
  taught_ = std::make_shared<const Baselines>(std::move(*parsed));
  return {};
}

}  // namespace vedette
