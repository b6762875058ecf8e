#include "exporter/history.h"

#include <algorithm>
#include <cmath>

namespace vedette {
namespace {

// A minute of seconds: what a sparkline shows, and the horizon of the failure risk.
constexpr std::size_t kTrailPoints = 60;
// Ticks come several times a second; a shade below 1 s, so that a tick a little early still counts.
constexpr double kTrailIntervalSeconds = 0.95;
// What `explain` shows on one screen.
constexpr std::size_t kEventsPerEntity = 16;
// A flooded ring brings tens of thousands of records in one tick: the newest are enough to remember, and 512
// copies stay below 100 us.
constexpr std::size_t kEventsPerTick = 512;

struct TrailSource {
  std::vector<std::size_t> features;  // summed
};

const std::array<TrailSource, kTrailColumns.size()>& trail_sources() {
  static const std::array<TrailSource, kTrailColumns.size()> sources = [] {
    std::array<TrailSource, kTrailColumns.size()> made;
    for (std::size_t i = 0; i < made.size(); ++i) {
      if (kTrailColumns[i].name == "errors.rate") {
        for (std::size_t column = 0; column < feature_columns().size(); ++column) {
          const FeatureInfo& feature = feature_columns()[column];
          if (feature.signal.starts_with("errors_") && !is_brief(feature)) made[i].features.push_back(column);
        }
      } else if (const auto column = find_feature(kTrailColumns[i].name)) {
        made[i].features.push_back(*column);
      }
    }
    return made;
  }();
  return sources;
}

bool same(const KernelEvent& left, const KernelEvent& right) {
  return left.type == right.type && left.value == right.value && left.comm == right.comm &&
         left.text == right.text;
}

}  // namespace

TrailPoint trail_point(const Snapshot& snapshot, std::size_t row) {
  TrailPoint point;
  point.fill(static_cast<float>(kMissing));
  if (row < snapshot.features.entities.size()) {
    const std::span<const float> values = snapshot.features.row(row);
    for (std::size_t i = 0; i < point.size(); ++i) {
      const TrailSource& source = trail_sources()[i];
      if (source.features.empty()) continue;
      float sum = 0;
      for (const std::size_t column : source.features) sum += values[column];
      point[i] = sum;
    }
  }
  if (row < snapshot.scores.entities.size()) {
    const EntityScore& score = snapshot.scores.entities[row];
    if (!score.warming_up()) point[kTrailColumns.size() - 2] = static_cast<float>(score.anomaly);
    point[kTrailColumns.size() - 1] = static_cast<float>(score.risk);
  }
  return point;
}

void History::add(const Snapshot& snapshot) {
  const MonotonicNs now_ns = snapshot.observation.time.monotonic_ns;
  const std::lock_guard lock(mutex_);
  if (sampled_ns_ == 0 || seconds_between(sampled_ns_, now_ns) >= kTrailIntervalSeconds) {
    sampled_ns_ = now_ns;
    ++round_;
    for (std::size_t row = 0; row < snapshot.features.entities.size(); ++row) {
      Memory& memory = memories_[snapshot.features.entities[row]->id];
      memory.seen = round_;
      if (memory.points.size() < kTrailPoints) {
        memory.points.reserve(kTrailPoints);
        memory.points.push_back(trail_point(snapshot, row));
      } else {
        memory.points[memory.oldest] = trail_point(snapshot, row);
        memory.oldest = (memory.oldest + 1) % kTrailPoints;
      }
    }
    std::erase_if(memories_, [&](const auto& item) { return item.second.seen != round_; });
  }

  const std::vector<KernelEvent>& events = snapshot.observation.events;
  const std::size_t first = events.size() > kEventsPerTick ? events.size() - kEventsPerTick : 0;
  for (std::size_t i = first; i < events.size(); ++i) {
    // An entity first seen by this very tick has no memory until the next second's point: make it one.
    Memory& memory = memories_[events[i].entity];
    if (memory.seen == 0) memory.seen = round_;
    if (!memory.events.empty() && same(memory.events.back().event, events[i])) {
      memory.events.back().event = events[i];
      ++memory.events.back().count;
      continue;
    }
    memory.events.push_back({events[i], 1});
    if (memory.events.size() > kEventsPerEntity) memory.events.erase(memory.events.begin());
  }
}

std::vector<TrailPoint> History::trail(EntityId entity) const {
  const std::lock_guard lock(mutex_);
  const auto found = memories_.find(entity);
  if (found == memories_.end()) return {};
  std::vector<TrailPoint> points = found->second.points;
  const auto oldest = points.begin() + static_cast<std::ptrdiff_t>(found->second.oldest);
  std::rotate(points.begin(), oldest, points.end());
  return points;
}

std::vector<RecentEvent> History::events(EntityId entity) const {
  const std::lock_guard lock(mutex_);
  const auto found = memories_.find(entity);
  if (found == memories_.end()) return {};
  return {found->second.events.rbegin(), found->second.events.rend()};
}

}  // namespace vedette
