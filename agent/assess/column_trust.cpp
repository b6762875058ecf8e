#include "agent/assess/column_trust.h"

#include <algorithm>
#include <cmath>
#include <numeric>
#include <string_view>

#include "agent/collect/signals.h"
#include "agent/features/feature_table.h"

namespace vedette {
namespace {

// After a loss, totals of the longest feature window (30 s) are incomplete; one more window to settle.
constexpr double kLossMemoryS = 60;
constexpr double kAfterLoss = 0.6;  // below any sensible rule's confidence (default 0.8)

// The probe or source behind each column.
std::vector<std::string_view> column_origins() {
  std::map<std::string_view, std::string_view> origin_of;
  for (const SignalInfo& signal : kCounters) origin_of[signal.name] = signal.origin;
  for (const SignalInfo& signal : kHistograms) origin_of[signal.name] = signal.origin;
  for (const SignalInfo& signal : kGauges) origin_of[signal.name] = signal.origin;
  std::vector<std::string_view> origins;
  for (const FeatureInfo& column : feature_columns()) origins.push_back(origin_of[column.signal]);
  return origins;
}

// What does not matter of the runs that `probe` missed; of those it made its busiest counter knows.
double missed_noise(const Observation& observation, const ProbeHealth& probe) {
  std::uint64_t counted = 0;
  for (std::size_t i = 0; i < SLOT_COUNTER_COUNT; ++i) {
    if (kCounters[i].origin == probe.name)
      counted = std::max(counted, observation.samples.front().counters[i]);
  }
  constexpr double kTicks = 4;  // in the 2 s
  return std::max(double{kMissedRuns}, kMissedShare * kTicks * static_cast<double>(counted));
}

}  // namespace

void ColumnTrust::update(const Observation& observation) {
  // Starts and runs that were lost lie on columns that are known: see below.
  const Losses& losses = observation.losses;
  const std::uint64_t lost = std::accumulate(losses.lost.begin(), losses.lost.end(), std::uint64_t{0}) +
                             losses.no_slot + losses.log_lost;
  after_losses_ = lost_lately(lost_, lost, 0, observation.time.monotonic_ns) ? kAfterLoss : 1;

  columns_.assign(feature_columns().size(), 1);
  read_lost_starts(observation);
  read_probes(observation);
  first_ = false;
}

bool ColumnTrust::lost_lately(Loss& loss, std::uint64_t count, double noise, MonotonicNs now) const {
  const double lost = count > loss.seen ? static_cast<double>(count - loss.seen) : 0;
  if (lost > noise && !(first_ && continues_)) loss.at_ns = now;
  loss.seen = count;
  return loss.at_ns != 0 && seconds_between(loss.at_ns, now) < kLossMemoryS;
}

// What is counted as it ends (a wait for a lock) is not, where its start was lost. A start that would have
// given a latency and no more costs nothing: every count is exact without it.
void ColumnTrust::read_lost_starts(const Observation& observation) {
  if (observation.losses.no_task_storage == 0) return;
  const MonotonicNs now = observation.time.monotonic_ns;
  const double noise = kLostStartsPerS * observation.interval_s;
  for (std::size_t i = 0; i < SLOT_COUNTER_COUNT; ++i) {
    if (!lost_lately(lost_starts_[i], observation.losses.no_start[i], noise, now)) continue;
    columns_[i] = columns_[kRateColumns + i] = kAfterLoss;  // its rates
  }
}

void ColumnTrust::read_probes(const Observation& observation) {
  static const std::vector<std::string_view> origins = column_origins();
  for (const ProbeHealth& probe : observation.probes) {
    double trust = probe.state == ProbeState::kDegraded || probe.state == ProbeState::kShed ? 0 : 1;
    if (probe.misses.value_or(0) > 0 &&
        lost_lately(missed_[probe.name], *probe.misses, missed_noise(observation, probe),
                    observation.time.monotonic_ns)) {
      trust = std::min(trust, kAfterLoss);
    }
    if (trust == 1) continue;
    for (std::size_t i = 0; i < origins.size(); ++i) {
      if (origins[i] == probe.name) columns_[i] = std::min(columns_[i], trust);
    }
  }
}

// A model may conclude something from a signal that is missing; only what it concludes from is asked for. So
// a probe that this machine has no use for (no NVMe, no SCSI) costs nothing, and one that was shed only what
// rests on it.
double ColumnTrust::of(const std::vector<Reason>& reasons) const {
  double all = 0;
  double watched = 0;
  for (const Reason& reason : reasons) {
    const double weight = std::fabs(static_cast<double>(reason.weight));
    all += weight;
    watched += weight * columns_[reason.column];
  }
  return after_losses_ * (all > 0 ? watched / all : 1);
}

}  // namespace vedette
