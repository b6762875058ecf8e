// The schema of bpf/signals.h and bpf/events.h as constexpr tables, for whoever needs names and units at run
// time (features, exporter, recordings). Constants: any thread.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <string_view>

#include "bpf/events.h"
#include "bpf/signals.h"

namespace vedette {

enum class SignalKind : std::uint8_t { kCounter, kHistogram, kGauge };
enum class Scope : std::uint8_t { kPod, kNode };

struct SignalInfo {
  std::string_view name;
  std::string_view origin;  // the probe (bpf/ORIGIN.bpf.c) or the file source that fills it
  SignalKind kind;
  std::string_view unit;
  Scope scope;
  std::string_view help;
};

struct DetailInfo {
  std::string_view name;
  std::string_view origin;
  std::string_view unit;
  Scope scope;
  detail_label label;
  std::string_view help;
};

struct EventInfo {
  std::string_view name;
  bool urgent;
  std::string_view help;
};

// The words of bpf/signals.h, which are C.
namespace schema_scope {
constexpr Scope POD = Scope::kPod;    // NOLINT(readability-identifier-naming)
constexpr Scope NODE = Scope::kNode;  // NOLINT(readability-identifier-naming)
}  // namespace schema_scope

#define VEDETTE_INFO_COUNTER(name, origin, unit, scope, help) \
  SignalInfo{#name, #origin, SignalKind::kCounter, unit, schema_scope::scope, help},
#define VEDETTE_INFO_HISTOGRAM(name, origin, unit, scope, help) \
  SignalInfo{#name, #origin, SignalKind::kHistogram, unit, schema_scope::scope, help},
#define VEDETTE_INFO_GAUGE(name, origin, unit, scope, help) \
  SignalInfo{#name, #origin, SignalKind::kGauge, unit, schema_scope::scope, help},
#define VEDETTE_INFO_DETAIL(name, origin, unit, scope, label, help) \
  DetailInfo{#name, #origin, unit, schema_scope::scope, LABEL_##label, help},
#define VEDETTE_INFO_EVENT(name, urgent, help) EventInfo{#name, (urgent) != 0, help},

// Those of the probes, then, from SLOT_COUNTER_COUNT on, those read from files.
inline constexpr std::array<SignalInfo, COUNTER_COUNT> kCounters{
    {VEDETTE_COUNTERS(VEDETTE_INFO_COUNTER) VEDETTE_FILE_COUNTERS(VEDETTE_INFO_COUNTER)}};
inline constexpr std::array<SignalInfo, HISTOGRAM_COUNT> kHistograms{
    {VEDETTE_HISTOGRAMS(VEDETTE_INFO_HISTOGRAM)}};
inline constexpr std::array<SignalInfo, GAUGE_COUNT> kGauges{{VEDETTE_GAUGES(VEDETTE_INFO_GAUGE)}};
inline constexpr std::array<DetailInfo, DETAIL_COUNT> kDetails{{VEDETTE_DETAILS(VEDETTE_INFO_DETAIL)}};
inline constexpr std::array<EventInfo, EVENT_COUNT> kEvents{{VEDETTE_EVENTS(VEDETTE_INFO_EVENT)}};

#undef VEDETTE_INFO_COUNTER
#undef VEDETTE_INFO_HISTOGRAM
#undef VEDETTE_INFO_GAUGE
#undef VEDETTE_INFO_DETAIL
#undef VEDETTE_INFO_EVENT

// Upper bound of a histogram bucket in ns; the last bucket has none and answers that of the one before
// times 2.
constexpr double histogram_bound_ns(std::size_t bucket) {
  return static_cast<double>(std::uint64_t{1024} << bucket);
}

}  // namespace vedette
