#include "agent/collect/budget.h"

#include <algorithm>
#include <numeric>

#include "bpf/events.h"
#include "bpf/signals.h"

namespace vedette {
namespace {

using std::chrono::nanoseconds;

// One second of many calls is no reason to go blind.
constexpr unsigned kSamplesToShed = 2;
// What a step must be able to save, of the budget.
constexpr double kWorthIt = 0.05;
// What comes back must leave this much of the budget to the next breath of the load.
constexpr double kRoom = 0.8;
// From one change to the next step back, and how long that may grow.
constexpr nanoseconds kHold = std::chrono::minutes(1);
constexpr nanoseconds kMaxHold = std::chrono::hours(1);
// What is off cannot be measured: though it would not fit as it was, it is tried after this long.
constexpr nanoseconds kTryAnyway = kMaxHold;
// A sample of an idle machine says nothing about factors.
constexpr double kMaxFactor = 100;

nanoseconds between(MonotonicNs from, MonotonicNs to) {
  return nanoseconds(to - from);
}

bool is_hot(std::string_view probe) {
  return std::ranges::find(kHotProbes, probe) != kHotProbes.end();
}

double most_saved(const BudgetStep& step, const CostSample& cost) {
  double saved = 0;
  for (const auto& [probe, share] : cost.probes) {
    if (step.gap_mask != 0 || step.probe == probe || (step.in_time && is_hot(probe))) saved += share;
  }
  return saved;
}

}  // namespace

double CostSample::kernel() const {
  return std::accumulate(probes.begin(), probes.end(), 0.0,
                         [](double sum, const auto& probe) { return sum + probe.second; });
}

Budget::Budget(BudgetOptions options) : options_(options), hold_(kHold) {
  for (unsigned step = 1; step <= options_.step.value_or(0) && step < kBudgetSteps.size(); ++step)
    taken_.push_back({step, 1});
}

bool Budget::takes(unsigned step) const {
  return std::ranges::find(taken_, step, &Taken::step) != taken_.end();
}

unsigned Budget::step() const {
  unsigned highest = 0;
  for (const Taken& taken : taken_) highest = std::max(highest, taken.step);
  return highest;
}

bool Budget::hurries() const {
  return changed_ || (over_ > 0 && !exhausted_);
}

std::uint32_t Budget::gap_mask() const {
  std::uint32_t mask = kBudgetSteps.front().gap_mask;
  for (const Taken& taken : taken_) mask = std::max(mask, kBudgetSteps[taken.step].gap_mask);
  return mask;
}

bool Budget::in_time() const {
  return std::ranges::any_of(taken_, [](const Taken& taken) { return kBudgetSteps[taken.step].in_time; });
}

bool Budget::sheds(std::string_view probe, MonotonicNs now) const {
  if (in_time() && is_hot(probe) && nanoseconds(now) % options_.period >= options_.watch) return true;
  return std::ranges::any_of(taken_,
                             [&](const Taken& taken) { return kBudgetSteps[taken.step].probe == probe; });
}

void Budget::update(MonotonicNs now, const CostSample& cost) {
  newest_ = cost;
  changed_ = false;
  exhausted_ = false;
  const double kernel = cost.kernel();
  if (kernel_before_ > 0 && !taken_.empty())
    taken_.back().factor = std::clamp(kernel > 0 ? kernel_before_ / kernel : kMaxFactor, 1.0, kMaxFactor);
  kernel_before_ = 0;

  if (kernel + cost.agent > options_.cpu_share) {
    if (++over_ >= kSamplesToShed) shed(now);
  } else {
    over_ = 0;
    restore(now);
  }
}

void Budget::shed(MonotonicNs now) {
  for (unsigned step = 1; step < kBudgetSteps.size() && !options_.step; ++step) {
    if (takes(step) || most_saved(kBudgetSteps[step], newest_) < kWorthIt * options_.cpu_share) continue;
    if (restored_ns_ != 0) hold_ = between(restored_ns_, now) < hold_ ? std::min(2 * hold_, kMaxHold) : kHold;
    restored_ns_ = 0;
    kernel_before_ = newest_.kernel();
    taken_.push_back({step, 1});
    changed_ = true;
    changed_ns_ = now;
    over_ = 0;
    return;
  }
  exhausted_ = true;
}

void Budget::restore(MonotonicNs now) {
  if (options_.step || taken_.empty()) return;
  const double expected = newest_.agent + newest_.kernel() * taken_.back().factor;
  const bool fits = expected <= kRoom * options_.cpu_share;
  if (between(changed_ns_, now) < (fits ? hold_ : kTryAnyway)) return;
  if (restored_ns_ != 0) hold_ = kHold;  // what came back before has stayed
  taken_.pop_back();
  restored_ns_ = now;
  changed_ = true;
  changed_ns_ = now;
}

std::uint64_t MapSizes::bytes() const {
  // A hash entry with its bucket; the probes' own maps (starts, known destinations, ...) all together.
  constexpr std::uint64_t kHashEntry = 96;
  constexpr std::uint64_t kOwnMaps = 6 << 20;  // 3.9 MiB measured
  return std::uint64_t{slots} * lanes * sizeof(totals) + slots * (sizeof(slot_owner) + kHashEntry) +
         cpus * (sizeof(probe_losses) + sizeof(cpu_memo)) + ring_bytes + kOwnMaps;
}

MapSizes fit_maps(MapSizes wanted, std::uint32_t map_mib) {
  constexpr std::uint32_t kFewestSlots = 16;
  while (wanted.bytes() > std::uint64_t{map_mib} << 20) {
    if (wanted.lanes > 1) {
      wanted.lanes /= 2;
    } else if (wanted.slots > kFewestSlots) {
      wanted.slots = std::max(kFewestSlots, wanted.slots / 2);
    } else {
      break;
    }
  }
  return wanted;
}

}  // namespace vedette
