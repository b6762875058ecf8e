#include "agent/assess/wait_history.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>
#include <string_view>
#include <utility>

namespace vedette {
namespace {

constexpr float kNan = std::numeric_limits<float>::quiet_NaN();
// A step is as long as a tick, which may come a little early.
constexpr double kNearlyAStep = 0.8;
// Whatever began longer than this before an incident opened is what is usual: 15 s.
constexpr std::uint64_t kOnsetSteps = 30;
// With less than this nobody knows what is usual.
constexpr std::uint64_t kUsualSteps = 16;
// All together wait so much longer, in seconds a second, to be felt: as if a task stood still half of the
// time. A program that starts beside busy ones makes them wait .3 for a second. And so long ago the waiting
// must have been less: what grows for 5 s is one trouble.
constexpr double kLeastFelt = 0.5;
constexpr std::uint64_t kFeltAfterSteps = 10;
// What is usual for an entity is reckoned anew once in so many steps, each in its turn.
constexpr std::uint64_t kTurns = 16;
// Cores; a hypervisor that shares its CPUs takes a hundredth now and then.
constexpr double kLeastStolen = 0.1;
// Packets a second from which on silence means something.
constexpr double kTalks = 5;
// A normal distribution's standard deviation over the distance of its upper quartile.
constexpr double kQuartileToDeviation = 1.48;

// A segment that was lost is sent again after 200 ms at the earliest (TCP_RTO_MIN); a SYN after 1 s (RFC
// 6298), and whoever was refused or asks a name server asks again about as late.
constexpr double kRetransmitS = 0.2;
constexpr double kUnansweredS = 1;
// A request costs a disk about what so many bytes do.
constexpr double kRequestBytes = 65536;
constexpr double kPageBytes = 4096;
// Buffers that overflow delay nobody by themselves; what is lost is asked for again, or missed.
constexpr double kOverrunS = 0.001;

// The two probes or sources, or the one, that each measure is from.
constexpr std::array<std::array<std::string_view, 2>, WaitHistory::kMeasures> kOrigins{
    {{"cgroup", "cgroup"},
     {"disk", "disk"},
     {"cgroup", "disk"},
     {"packets", "packets"},
     {"sched", "sched"},
     {"sched", "sched"},
     {"memory", "memory"},
     {"tcp", "sockets"},
     {"sched", "sched"},
     {"tcp", "packets"},
     {"cgroup", "cgroup"},
     {"cgroup", "cgroup"},
     {"disk", "disk"},
     {"kernel", "cgroup"}}};

double count(const Sample& sample, vedette_counter counter) {
  return static_cast<double>(sample.counters[counter]);
}

// Missing for one entity alone: it has no such file, no limit, or is new.
double gauge(const Sample& sample, vedette_gauge gauge) {
  const double value = sample.gauges[gauge];
  return std::isnan(value) ? 0 : value;
}

// Of a node both gauges are of all its CPUs; a pod has no steal_time.
double stolen_cores(const Sample& sample) {
  const double share = gauge(sample, GAUGE_cpu_limit_use);
  return share > 0 ? gauge(sample, GAUGE_steal_time) * gauge(sample, GAUGE_cpu_cores) / share : 0;
}

double observed(const Sample& sample, vedette_histogram histogram) {
  const Buckets& buckets = sample.histograms[histogram];
  return static_cast<double>(std::accumulate(buckets.begin(), buckets.end(), std::uint64_t{0}));
}

// Reorders them. Of an even number the lower middle is the median.
float quantile(std::span<float> values, double share) {
  const auto place = static_cast<std::ptrdiff_t>(share * static_cast<double>(values.size() - 1));
  std::nth_element(values.begin(), values.begin() + place, values.end());
  return values[static_cast<std::size_t>(place)];
}

}  // namespace

std::vector<EntityId> WaitHistory::update(const Observation& observation) {
  for (const ProbeHealth& probe : observation.probes) {
    if (probe.state == ProbeState::kAttached) continue;
    for (std::size_t m = 0; m < kMeasures; ++m) {
      if (std::ranges::count(kOrigins[m], probe.name) > 0) unwatched_.set(m);
    }
  }
  step_s_ += observation.interval_s;
  const std::size_t rows = std::min(observation.entities.size(), observation.samples.size());
  for (std::size_t i = 0; i < rows; ++i) {
    const Entity& entity = *observation.entities[i];
    const auto [place, is_new] = pasts_.try_emplace(entity.id);
    Past& past = place->second;
    if (is_new) {
      past.id_ = entity.id;
      past.first_step_ = step_;
    }
    // A pod is called by its uid until the API server, or whoever was asked, has said its name.
    if (past.name_ != entity.name) past.name_ = entity.name;
    past.last_step_ = step_;
    add(observation.samples[i], observation.interval_s, past);
  }
  if (step_s_ >= kNearlyAStep * kStepS) return close_step(observation.time.monotonic_ns);
  return {};
}

void WaitHistory::add(const Sample& sample, double interval_s, Past& past) {
  const double read = count(sample, COUNTER_disk_read_bytes);
  const double asked = count(sample, COUNTER_dns_queries) - observed(sample, HISTOGRAM_dns_latency);
  past.sum_[kCpuUse] += gauge(sample, GAUGE_cpu_cores) * interval_s;
  past.sum_[kStolen] += stolen_cores(sample) * interval_s;
  past.sum_[kThrottled] += gauge(sample, GAUGE_cpu_throttled) * interval_s;
  past.sum_[kMemoryFull] += gauge(sample, GAUGE_memory_use) * interval_s;
  past.sum_[kDiskUse] +=
      read + count(sample, COUNTER_disk_written_bytes) +
      kRequestBytes * (count(sample, COUNTER_disk_reads) + count(sample, COUNTER_disk_writes));
  past.sum_[kUnowned] += count(sample, COUNTER_disk_unowned_bytes) +
                         kRequestBytes * count(sample, COUNTER_disk_unowned_requests);
  past.sum_[kMemoryUse] += read + kPageBytes * count(sample, COUNTER_page_faults);
  past.sum_[kNetworkUse] += count(sample, COUNTER_packets_sent);
  past.sum_[kCpuWait] += count(sample, COUNTER_runqueue_wait_ns) / kNsPerSecond;
  past.sum_[kDiskWait] += count(sample, COUNTER_blocked_disk_ns) / kNsPerSecond;
  past.sum_[kMemoryWait] +=
      (count(sample, COUNTER_direct_reclaim_ns) + count(sample, COUNTER_compaction_ns)) / kNsPerSecond;
  past.sum_[kNetworkWait] +=
      kRetransmitS * count(sample, COUNTER_tcp_retransmits) +
      kOverrunS * (count(sample, COUNTER_socket_overruns) + count(sample, COUNTER_udp_receive_errors));
  past.sum_[kLockWait] += count(sample, COUNTER_blocked_lock_ns) / kNsPerSecond;
  // Questions whose answer has not come yet are answered in the next tick: the mean of a step is none.
  past.sum_[kAnswerWait] += kUnansweredS * (count(sample, COUNTER_tcp_connect_failures) + asked);
}

std::vector<EntityId> WaitHistory::close_step(MonotonicNs now) {
  // Ticks may be longer than a step.
  const double steps = std::clamp(std::round(step_s_ / kStepS), 1.0, static_cast<double>(kSteps));
  const std::uint64_t end = step_ + static_cast<std::uint64_t>(steps);
  std::vector<EntityId> forgotten;
  for (auto entry = pasts_.begin(); entry != pasts_.end();) {
    Past& past = entry->second;
    Values values;
    for (std::size_t m = 0; m < kMeasures; ++m) {
      // What one of its two sources said while the other was silent is of no step.
      const double sum = std::exchange(past.sum_[m], 0);
      values[m] = unwatched_.test(m) ? kNan : static_cast<float>(sum / step_s_);
    }
    for (std::uint64_t step = step_; step < end; ++step) past.steps_[step % kSteps] = values;
    // Whoever did it may be gone when it is asked who did.
    if (step_ - past.last_step_ > kOnsetSteps) {
      forgotten.push_back(past.id_);
      entry = pasts_.erase(entry);
    } else {
      ++entry;
    }
  }
  bool watched = true;
  for (std::size_t m = kFelt; is_felt(m); ++m) watched = watched && !unwatched_.test(m);
  unwatched_.reset();
  step_s_ = 0;
  const MonotonicNs last_ended = std::exchange(step_end_ns_, now);
  step_ = end;
  weigh_waiting(last_ended, static_cast<std::uint64_t>(steps), watched);
  return forgotten;
}

std::optional<std::uint64_t> WaitHistory::onset_of(std::uint64_t age) const {
  const auto node = pasts_.find(kNodeEntity);
  if (node == pasts_.end()) return std::nullopt;
  const std::uint64_t since = std::max(node->second.first_step_, oldest_step());
  if (step_ < since + kUsualSteps + kOnsetSteps + age) return std::nullopt;
  return step_ - age - kOnsetSteps;
}

void WaitHistory::renew_usuals(MonotonicNs last_ended, std::uint64_t onset) {
  // By the clock, so that a recording that begins later gives the same; also where a tick is several turns.
  const auto round_of = [](MonotonicNs time, EntityId id) {
    return (time / static_cast<MonotonicNs>(kStepS * kNsPerSecond) + id) / kTurns;
  };
  for (auto& [id, past] : pasts_) {
    if (past.usuals_ && round_of(last_ended, id) == round_of(step_end_ns_, id)) continue;
    Usuals usuals;
    usuals[kCpuUse] = usual(past, kCpuUse, onset);
    if (id == kNodeEntity) {
      usuals[kStolen] = usual(past, kStolen, onset);
    } else {
      for (std::size_t m = kFelt; is_felt(m); ++m) usuals[m] = usual(past, m, onset);
    }
    past.usuals_ = usuals;
  }
}

double WaitHistory::hypervisor_wait(Span now) const {
  const auto grown = [&](const Past& past, std::size_t measure) {
    return growth(past, measure, (*past.usuals_)[measure], now).more;
  };
  const Past& node = pasts_.at(kNodeEntity);
  const double taken = stolen(growth(node, kStolen, (*node.usuals_)[kStolen], now));
  if (taken <= 0) return 0;
  double for_cpu = 0;
  double used = 0;
  for (const auto& [id, past] : pasts_) {
    if (id == kNodeEntity) continue;
    for_cpu += grown(past, kCpuWait);
    used += grown(past, kCpuUse);
  }
  // What runs outside all pods is in the node's use alone.
  return for_cpu * taken / (taken + std::max(used, grown(node, kCpuUse)));
}

void WaitHistory::weigh_waiting(MonotonicNs last_ended, std::uint64_t steps, bool watched) {
  const double lost_s = std::exchange(waits_longer_, std::nullopt).value_or(LongerWait{}).lost_s;
  const std::optional<std::uint64_t> onset = watched ? onset_of(0) : std::nullopt;
  double longer = onset ? 0 : static_cast<double>(kNan);
  if (onset) {
    renew_usuals(last_ended, *onset);
    const Span now{step_ - std::min(step_, kBegunSteps), step_};
    for (const auto& [id, past] : pasts_)
      if (id != kNodeEntity) longer += longer_wait(past, *past.usuals_, now);
    longer -= hypervisor_wait(now);
  }
  for (std::uint64_t step = step_ - steps; step < step_; ++step)
    waits_[step % kSteps] = static_cast<float>(longer);
  if (!onset) return;
  double most = 0;
  std::size_t known = 0;
  for (std::uint64_t step = oldest_step(); step + kFeltAfterSteps < step_; ++step) {
    const float before = waits_[step % kSteps];
    if (std::isnan(before)) continue;
    most = std::max(most, static_cast<double>(before));
    ++known;
  }
  if (known < kUsualSteps) return;
  const bool felt = longer >= kLeastFelt && longer > most;
  waits_longer_ =
      felt ? LongerWait{longer, lost_s + longer * kStepS * static_cast<double>(steps)} : LongerWait{};
}

double WaitHistory::longer_wait(const Past& past, const Usuals& usuals, Span window) const {
  double longer = silence(growth(past, kNetworkUse, usuals[kNetworkUse], window));
  for (std::size_t m = kCpuWait; is_wait(m); ++m) {
    const double more = growth(past, m, usuals[m], window).more;
    longer += m == kLockWait ? std::min(1.0, more) : more;
  }
  return longer;
}

// An entity that was not there used nothing and waited for nothing.
float WaitHistory::value(const Past& past, std::size_t measure, std::uint64_t step) const {
  return step < past.first_step_ ? 0 : past.steps_[step % kSteps][measure];
}

WaitHistory::Usuals WaitHistory::usuals(const Past& past, std::uint64_t onset) const {
  Usuals out;
  for (std::size_t m = 0; m < kMeasures; ++m) out[m] = usual(past, m, onset);
  return out;
}

WaitHistory::Usual WaitHistory::usual(const Past& past, std::size_t measure, std::uint64_t onset) const {
  std::array<float, kSteps> values;
  const Span before{std::max(past.first_step_, oldest_step()), onset};
  const std::span<float> seen = watched(past, measure, before, values);
  if (seen.empty()) return {};
  Usual out;
  if (is_wait(measure)) {
    out.mean = static_cast<double>(quantile(seen, 0.5));
    out.strays = kQuartileToDeviation * (static_cast<double>(quantile(seen, 0.75)) - out.mean);
    return out;
  }
  double square = 0;
  for (const float each : seen) {
    const auto v = static_cast<double>(each);
    out.mean += v;
    square += v * v;
  }
  const auto n = static_cast<double>(seen.size());
  out.mean /= n;
  out.strays = std::sqrt(std::max(0.0, square / n - out.mean * out.mean));
  return out;
}

std::span<float> WaitHistory::watched(const Past& past, std::size_t measure, Span span,
                                      std::array<float, kSteps>& values) const {
  std::size_t n = 0;
  for (std::uint64_t s = span.begin; s < span.end; ++s) {
    const float v = value(past, measure, s);
    if (!std::isnan(v)) values[n++] = v;
  }
  return std::span(values).first(n);
}

double WaitHistory::stolen(const Growth& by_hypervisor) {
  return by_hypervisor.more < kLeastStolen ? 0 : by_hypervisor.more;
}

// At half of the usual packets a load that had doubled is as it was; at none all the time is waited for.
double WaitHistory::silence(const Growth& sent) {
  if (!sent.watched || sent.usual < kTalks || sent.now > sent.usual / 2) return 0;
  return 1 - sent.now / (sent.usual / 2);
}

WaitHistory::Growth WaitHistory::growth(const Past& past, std::size_t measure, const Usual& usual,
                                        Span window) const {
  Growth out;
  out.usual = usual.mean;
  std::array<float, kSteps> values;
  const std::span<float> seen = watched(past, measure, window, values);
  if (seen.empty()) return out;
  out.watched = true;
  out.now = is_wait(measure)
                ? static_cast<double>(quantile(seen, 0.5))
                : std::accumulate(seen.begin(), seen.end(), 0.0) / static_cast<double>(seen.size());
  // A shell waits for its children from its first moment on: of a newcomer nobody knows whether that is more.
  const bool is_newcomer = window.end < past.first_step_ + kOnsetSteps + kUsualSteps;
  if (measure == kLockWait && is_newcomer) return out;
  out.more = std::max(0.0, out.now - usual.mean - usual.strays);
  return out;
}

std::uint64_t WaitHistory::began(const Past& past, std::size_t measure, const Growth& grown,
                                 Span span) const {
  if (!grown.watched) return 0;
  const double half = (grown.usual + grown.now) / 2;
  std::uint64_t step = span.begin;
  while (step + 1 < span.end && !(static_cast<double>(value(past, measure, step)) >= half)) ++step;
  return step;
}

}  // namespace vedette
