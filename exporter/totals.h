// What Prometheus needs and a snapshot has not: sums since the agent's start, one series per entity for the
// busiest and one for all the rest, so that the number of series is bounded. add() is called by the tick
// thread, copy() by scrapes: one lock, held for microseconds by both.
#pragma once

#include <array>
#include <cstdint>
#include <mutex>
#include <string>
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

struct TotalsCopy {
  struct Series {
    EntityPtr entity;
    EntityTotals totals;
  };
  std::vector<Series> own;  // at most the bound, and the node
  EntityTotals rest;        // of the folded entities, while they were folded
  std::size_t folded = 0;   // living entities without a series of their own
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
  struct Tracked {
    EntityPtr entity;
    MonotonicNs seen_ns = 0;
    double activity = 0;  // system calls and context switches, halved at each election
    bool troubled = false;
    bool own = false;
    EntityTotals totals;  // since it has its own series
  };

  void elect(MonotonicNs now_ns);
  void add_acks(const std::vector<double>& newest);

  const std::size_t top_entities_;
  mutable std::mutex mutex_;
  // By name, not id: a pod that came back under its old name goes on with its series instead of doubling it.
  std::unordered_map<std::string, Tracked> tracked_;
  EntityTotals rest_;
  std::size_t own_count_ = 0;
  std::size_t folded_ = 0;
  MonotonicNs elected_ns_ = 0;
  MonotonicNs now_ns_ = 0;  // of the newest tick
  std::vector<double> acks_;
  DurationHistogram tick_;
  DurationHistogram evidence_to_ack_;
};

}  // namespace vedette
