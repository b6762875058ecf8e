// What Prometheus needs and a snapshot has not: sums since the agent's start, one series per entity for the
// busiest and one for all the rest, and the same with the labels of each, so that the number of series is
// bounded. add() is called by the tick thread, copy() by scrapes: one lock, held for microseconds by both.
#pragma once

#include <array>
#include <cstdint>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <tuple>
#include <unordered_map>
#include <vector>

#include "agent/snapshot.h"

namespace vedette {

// A Prometheus histogram of durations with the agent's own bounds.
struct DurationHistogram {
  explicit DurationHistogram(std::vector<double> upper_bounds_s)
      : bounds_s(std::move(upper_bounds_s)), counts(bounds_s.size() + 1) {}
  void add(double seconds);

  std::vector<double> bounds_s;       // ascending
  std::vector<std::uint64_t> counts;  // one more than bounds: the last is open
  double sum_s = 0;
};

struct EntityTotals {
  std::array<std::uint64_t, COUNTER_COUNT> counters{};
  std::array<Buckets, HISTOGRAM_COUNT> histograms{};

  void add(const Sample& sample);
};

// What was counted by label, of one series' owner: the most frequent labels of each detail by themselves, all
// others as one. Whoever belongs to which is decided at elections; no count is lost by that, and none goes
// backwards.
class DetailTotals {
public:
  struct Count {
    vedette_detail detail;
    std::string label;
    std::uint64_t count;
  };

  void add(vedette_detail detail, const std::string& label, std::uint64_t added);
  void elect();
  // By detail and label; `other` as label of the folded ones.
  std::vector<Count> copy(const std::string& other) const;
  // Labels without a series of their own.
  std::size_t folded(vedette_detail detail) const;

private:
  struct Label {
    double activity = 0;  // counts, halved at each election
    bool own = false;
    std::uint64_t count = 0;  // since it has its own series
  };
  std::array<std::map<std::string, Label>, DETAIL_COUNT> labels_;
  std::array<std::size_t, DETAIL_COUNT> own_{};
  std::array<std::uint64_t, DETAIL_COUNT> other_{};
};

struct TotalsCopy {
  struct Series {
    EntityPtr entity;
    EntityTotals totals;
    std::vector<DetailTotals::Count> details;
  };
  std::vector<Series> own;  // at most the bound, and the node
  EntityTotals rest;        // of the folded entities, while they were folded
  std::vector<DetailTotals::Count> rest_details;
  std::array<std::size_t, DETAIL_COUNT> folded_labels{};  // of all entities
  DurationHistogram tick;
  DurationHistogram evidence_to_ack;
};

class Totals {
public:
  // `top_entities`: how many beside the node keep their own series.
  explicit Totals(std::size_t top_entities);

  void add(const Snapshot& snapshot);
  TotalsCopy copy() const;

private:
  struct Own {
    EntityTotals totals;
    DetailTotals details;
  };
  struct Tracked {
    EntityPtr entity;
    MonotonicNs seen_ns = 0;
    double activity = 0;  // system calls and context switches, halved at each election
    bool troubled = false;
    std::unique_ptr<Own> own;  // counted since it has its own series; null: it has none
  };

  void add_details(const Observation& observation);
  void elect(MonotonicNs now_ns);
  void add_acks(const std::vector<double>& newest);

  const std::size_t top_entities_;
  mutable std::mutex mutex_;
  // By name, not id: a pod that came back under its old name goes on with its series instead of doubling it.
  std::unordered_map<std::string, Tracked> tracked_;
  EntityTotals rest_;
  DetailTotals rest_details_;
  std::shared_ptr<const std::vector<DetailCount>> details_;  // the newest reading
  std::map<std::tuple<EntityId, vedette_detail, std::string>, std::uint64_t> detail_counts_;  // as of it
  std::size_t own_count_ = 0;
  MonotonicNs elected_ns_ = 0;
  MonotonicNs now_ns_ = 0;  // of the newest tick
  std::vector<double> acks_;
  DurationHistogram tick_;
  DurationHistogram evidence_to_ack_;
};

}  // namespace vedette
