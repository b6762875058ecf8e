#include "exporter/totals.h"

#include <algorithm>
#include <unordered_set>

#include "agent/base/clean_text.h"
#include "exporter/names.h"

namespace vedette {
namespace {

// A series that ended stays for two usual scrape intervals (30 s), so that its last values are scraped.
constexpr double kDepartedSeconds = 60;
// Who keeps a series is decided rarely: each change ends one series and starts another.
constexpr double kElectionSeconds = 60;
// A challenger needs twice the activity of who has the series, or two of equal weight would swap it for ever.
constexpr double kIncumbentBonus = 2;
// Labels of one detail and entity with series of their own: a pod's disks, exit codes and slow calls are
// fewer, and those it connects to most.
constexpr std::size_t kTopLabels = 16;
// A label that folded and then was not seen for ten elections is forgotten: 2^-10 of its activity is left.
constexpr double kForgotten = 0.001;

double weight(double activity, bool own) {
  return activity * (own ? kIncumbentBonus : 1.0);
}

}  // namespace

void DurationHistogram::add(double seconds) {
  const auto bound = std::lower_bound(bounds_s.begin(), bounds_s.end(), seconds);
  ++counts[static_cast<std::size_t>(bound - bounds_s.begin())];
  sum_s += seconds;
}

void EntityTotals::add(const Sample& sample) {
  for (std::size_t i = 0; i < counters.size(); ++i) counters[i] += sample.counters[i];
  for (std::size_t i = 0; i < histograms.size(); ++i) {
    if (std::ranges::all_of(sample.histograms[i], [](auto count) { return count == 0; })) continue;
    for (std::size_t bucket = 0; bucket < HISTOGRAM_BUCKETS; ++bucket) {
      histograms[i][bucket] += sample.histograms[i][bucket];
    }
  }
}

void DetailTotals::add(vedette_detail detail, const std::string& label, std::uint64_t added) {
  const auto [place, fresh] = labels_[detail].try_emplace(label);
  Label& known = place->second;
  if (fresh && own_[detail] < kTopLabels) {
    known.own = true;
    ++own_[detail];
  }
  known.activity += static_cast<double>(added);
  (known.own ? known.count : other_[detail]) += added;
}

void DetailTotals::elect() {
  for (std::size_t detail = 0; detail < labels_.size(); ++detail) {
    auto& labels = labels_[detail];
    if (labels.size() > kTopLabels) {
      std::vector<Label*> candidates;
      for (auto& [name, label] : labels) candidates.push_back(&label);
      std::stable_sort(candidates.begin(), candidates.end(), [](const Label* left, const Label* right) {
        return weight(left->activity, left->own) > weight(right->activity, right->own);
      });
      for (std::size_t i = 0; i < candidates.size(); ++i) {
        const bool own = i < kTopLabels;
        if (own != candidates[i]->own) candidates[i]->count = 0;
        candidates[i]->own = own;
      }
      own_[detail] = kTopLabels;
    }
    for (auto& [name, label] : labels) label.activity /= 2;
    std::erase_if(labels,
                  [](const auto& item) { return !item.second.own && item.second.activity < kForgotten; });
  }
}

std::vector<DetailTotals::Count> DetailTotals::copy(const std::string& other) const {
  std::vector<Count> counts;
  for (std::size_t i = 0; i < labels_.size(); ++i) {
    const auto detail = static_cast<vedette_detail>(i);
    for (const auto& [name, label] : labels_[i]) {
      if (label.own) counts.push_back({detail, name, label.count});
    }
    if (other_[i] > 0) counts.push_back({detail, other, other_[i]});
  }
  return counts;
}

std::size_t DetailTotals::folded(vedette_detail detail) const {
  return labels_[detail].size() - own_[detail];
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
  for (const Condition& condition : snapshot.conditions) troubled.insert(condition.entity->id);

  const std::lock_guard lock(mutex_);
  now_ns_ = now_ns;
  for (std::size_t i = 0; i < observation.samples.size() && i < observation.entities.size(); ++i) {
    const EntityPtr& entity = observation.entities[i];
    const Sample& sample = observation.samples[i];
    Tracked& tracked = tracked_[entity->name];
    if (tracked.entity == nullptr && (entity->id == kNodeEntity || own_count_ < top_entities_)) {
      tracked.own = std::make_unique<Own>();
      if (entity->id != kNodeEntity) ++own_count_;
    }
    tracked.entity = entity;
    tracked.seen_ns = now_ns;
    tracked.troubled = troubled.contains(entity->id);
    tracked.activity +=
        static_cast<double>(sample.counters[COUNTER_syscalls] + sample.counters[COUNTER_context_switches]);
    (tracked.own ? tracked.own->totals : rest_).add(sample);
  }
  add_details(observation);
  if (seconds_between(elected_ns_, now_ns) >= kElectionSeconds) elect(now_ns);

  tick_.add(snapshot.self.tick_ms / 1e3);
  add_acks(snapshot.act.evidence_to_ack_s);
}

// A reading holds totals and forgets an entity that is gone; what was added goes where its owner's counts go.
void Totals::add_details(const Observation& observation) {
  if (observation.details == nullptr || observation.details == details_) return;
  details_ = observation.details;
  decltype(detail_counts_) counts;
  for (const DetailCount& now : *details_) {
    const auto place =
        counts.insert_or_assign({now.entity->id, now.detail, clean_text(now.label)}, now.count).first;
    const auto before = detail_counts_.find(place->first);
    // Less than before: a server that came back under its name.
    const std::uint64_t known = before == detail_counts_.end() ? 0 : before->second;
    const std::uint64_t added = now.count >= known ? now.count - known : now.count;
    if (added == 0) continue;
    const auto tracked = tracked_.find(now.entity->name);
    const bool own = tracked != tracked_.end() && tracked->second.own;
    (own ? tracked->second.own->details : rest_details_).add(now.detail, std::get<2>(place->first), added);
  }
  detail_counts_ = std::move(counts);
}

void Totals::elect(MonotonicNs now_ns) {
  elected_ns_ = now_ns;
  rest_details_.elect();
  for (auto& [name, tracked] : tracked_) {
    if (tracked.own) tracked.own->details.elect();
  }
  // Who has no series leaves none behind.
  std::erase_if(tracked_, [&](const auto& item) {
    const Tracked& tracked = item.second;
    return seconds_between(tracked.seen_ns, now_ns) > (tracked.own ? kDepartedSeconds : 0);
  });

  std::vector<Tracked*> candidates;
  for (auto& [name, tracked] : tracked_) {
    if (tracked.entity->id != kNodeEntity) candidates.push_back(&tracked);
  }
  std::sort(candidates.begin(), candidates.end(), [&](const Tracked* left, const Tracked* right) {
    if (left->troubled != right->troubled) return left->troubled;
    const double of_left = weight(left->activity, left->own != nullptr);
    const double of_right = weight(right->activity, right->own != nullptr);
    if (of_left != of_right) return of_left > of_right;
    return left->entity->name < right->entity->name;
  });
  own_count_ = std::min(candidates.size(), top_entities_);
  for (std::size_t i = 0; i < candidates.size(); ++i) {
    Tracked& tracked = *candidates[i];
    if (i >= own_count_) {
      tracked.own.reset();
    } else if (!tracked.own) {
      tracked.own = std::make_unique<Own>();
    }
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
  TotalsCopy copied{{}, rest_, rest_details_.copy(kRestName), {}, tick_, evidence_to_ack_};
  copied.own.reserve(own_count_ + 1);
  for (const auto& [name, tracked] : tracked_) {
    const bool departed = seconds_between(tracked.seen_ns, now_ns_) > kDepartedSeconds;
    if (!tracked.own || departed) continue;
    copied.own.push_back({tracked.entity, tracked.own->totals, tracked.own->details.copy(kRestName)});
    for (std::size_t i = 0; i < DETAIL_COUNT; ++i)
      copied.folded_labels[i] += tracked.own->details.folded(static_cast<vedette_detail>(i));
  }
  for (std::size_t i = 0; i < DETAIL_COUNT; ++i)
    copied.folded_labels[i] += rest_details_.folded(static_cast<vedette_detail>(i));
  return copied;
}

}  // namespace vedette
