#include "exporter/totals.h"

#include <algorithm>
#include <unordered_set>

namespace vedette {
namespace {

// A series that ended stays for two usual scrape intervals (30 s), so that its last values are scraped.
constexpr double kDepartedSeconds = 60;
// Who keeps a series is decided rarely: each change ends one series and starts another.
constexpr double kElectionSeconds = 60;
// A challenger needs twice the activity of who has the series, or two of equal weight would swap it for ever.
constexpr double kIncumbentBonus = 2;

}  // namespace

void DurationHistogram::add(double seconds) {
  const auto bound = std::lower_bound(bounds_s.begin(), bounds_s.end(), seconds);
  ++counts[static_cast<std::size_t>(bound - bounds_s.begin())];
  sum_s += seconds;
}

void EntityTotals::add(const Sample& sample) {
  for (std::size_t i = 0; i < counters.size(); ++i) counters[i] += sample.counters[i];
  for (std::size_t i = 0; i < histograms.size(); ++i) {
    for (std::size_t bucket = 0; bucket < HISTOGRAM_BUCKETS; ++bucket) {
      histograms[i][bucket] += sample.histograms[i][bucket];
    }
  }
}

// The bounds: a tick should stay below 1 ms, a taint below 30 ms (half of them) and 100 ms (all but 1 in
// 100).
Totals::Totals(std::size_t top_entities)
    : top_entities_(top_entities),
      tick_({0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.1}),
      evidence_to_ack_({0.005, 0.01, 0.02, 0.03, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 30}) {}

void Totals::add(const Snapshot& snapshot) {
  const Observation& observation = snapshot.observation;
  const MonotonicNs now_ns = observation.time.monotonic_ns;
  std::unordered_set<EntityId> troubled;
  for (const Condition& condition : snapshot.conditions) {
    if (condition.entity != nullptr) troubled.insert(condition.entity->id);
  }

  const std::lock_guard lock(mutex_);
  folded_ = 0;
  now_ns_ = now_ns;
  for (std::size_t i = 0; i < observation.samples.size() && i < observation.entities.size(); ++i) {
    const EntityPtr& entity = observation.entities[i];
    const Sample& sample = observation.samples[i];
    Tracked& tracked = tracked_[entity->name];
    if (tracked.entity == nullptr && (entity->id == kNodeEntity || own_count_ < top_entities_)) {
      tracked.own = true;
      if (entity->id != kNodeEntity) ++own_count_;
    }
    tracked.entity = entity;
    tracked.seen_ns = now_ns;
    tracked.troubled = troubled.contains(entity->id);
    tracked.activity +=
        static_cast<double>(sample.counters[COUNTER_syscalls] + sample.counters[COUNTER_context_switches]);
    (tracked.own ? tracked.totals : rest_).add(sample);
    if (!tracked.own) ++folded_;
  }
  if (seconds_between(elected_ns_, now_ns) >= kElectionSeconds) elect(now_ns);

  tick_.add(snapshot.self.tick_ms / 1e3);
  add_acks(snapshot.act.evidence_to_ack_s);
}

void Totals::elect(MonotonicNs now_ns) {
  elected_ns_ = now_ns;
  std::erase_if(tracked_, [&](const auto& item) {
    return seconds_between(item.second.seen_ns, now_ns) > kDepartedSeconds;
  });

  std::vector<Tracked*> candidates;
  for (auto& [name, tracked] : tracked_) {
    if (tracked.entity->id != kNodeEntity) candidates.push_back(&tracked);
  }
  const auto weight = [](const Tracked& one) { return one.activity * (one.own ? kIncumbentBonus : 1.0); };
  std::sort(candidates.begin(), candidates.end(), [&](const Tracked* left, const Tracked* right) {
    if (left->troubled != right->troubled) return left->troubled;
    if (weight(*left) != weight(*right)) return weight(*left) > weight(*right);
    return left->entity->name < right->entity->name;
  });
  own_count_ = std::min(candidates.size(), top_entities_);
  for (std::size_t i = 0; i < candidates.size(); ++i) {
    Tracked& tracked = *candidates[i];
    const bool own = i < own_count_;
    if (own != tracked.own) tracked.totals = EntityTotals{};
    tracked.own = own;
    tracked.activity /= 2;
  }
}

// The writer hands over the newest 1024 durations, not how many there ever were: find by how far the list
// moved on, which is where the old list's tail meets the new one's head.
void Totals::add_acks(const std::vector<double>& newest) {
  if (newest == acks_) return;
  std::size_t known = std::min(acks_.size(), newest.size());
  while (known > 0 && !std::equal(newest.begin(), newest.begin() + static_cast<std::ptrdiff_t>(known),
                                  acks_.end() - static_cast<std::ptrdiff_t>(known))) {
    --known;
  }
  for (std::size_t i = known; i < newest.size(); ++i) evidence_to_ack_.add(newest[i]);
  acks_ = newest;
}

TotalsCopy Totals::copy() const {
  const std::lock_guard lock(mutex_);
  TotalsCopy copied{{}, rest_, folded_, tick_, evidence_to_ack_};
  copied.own.reserve(own_count_ + 1);
  for (const auto& [name, tracked] : tracked_) {
    const bool departed = seconds_between(tracked.seen_ns, now_ns_) > kDepartedSeconds;
    if (tracked.own && !departed) copied.own.push_back({tracked.entity, tracked.totals});
  }
  return copied;
}

}  // namespace vedette
