#include "agent/record/recording_format.h"

#include <span>

#include "agent/features/feature_table.h"
#include "agent/record/recording.pb.h"

namespace vedette {
namespace {

constexpr std::string_view kMagic = "vedette recording";
// More signals than any schema has: damage, not data.
constexpr int kMaxSignals = 4096;

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

}  // namespace

void encode_header(const RecordingHeader& header, recording::Header& message) {
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

Result<RecordingHeader> decode_header(const recording::Header& message) {
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
  RecordingHeader header{
      message.format_version(),  message.agent_version(), message.kernel_release(), message.node(),
      message.started_wall_ns(), message.ticks_before(),  message.continues(),      std::nullopt};
  if (message.has_settings()) {
    auto settings = decode_settings(message.settings());
    if (!settings) return tl::unexpected(settings.error());
    header.settings = std::move(*settings);
  }
  return header;
}

}  // namespace vedette
