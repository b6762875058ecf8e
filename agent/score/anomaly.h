// How unusual is each entity now, compared with itself? Turns features into rows for a detector (detector.h)
// of each entity, and its verdicts into scores. Called by the tick thread once per tick; state is its own.
// Deterministic bit for bit (exact_math.h).
#pragma once

#include <map>
#include <memory>
#include <optional>
#include <string>
#include <unordered_map>
#include <vector>

#include "agent/score/baselines.h"
#include "agent/score/detector.h"
#include "agent/score/scorer.h"

namespace vedette {

struct AnomalyOptions {
  // Flags in a week, of the node and all its entities together, although nothing is wrong; assess/ asks for
  // some seconds in a row on top. A flag lasts about as long as the window of a rate.
  double false_alarms_per_week = 14;
  double flag_s = 10;
  // Who was flagged must be rarer by so many decades to be flagged again, up to the most, and half of it is
  // forgiven in the time: whoever cries wolf every hour is heard less, and every entity has its own record.
  double handicap = 0.5;
  double max_handicap = 2;
  double handicap_half_life_s = 86'400;
  // No flag in an entity's first minutes: its baselines and its score distribution are made of them.
  double warm_up_s = 300;
  // So long, where the workload is known: rates fill their windows, and beginnings are no trouble.
  double settle_s = 120;
  // After a change of version or of the number of pods, what was known counts as so many rows; scores count
  // as usual again from the middle of the warm-up on, when columns are.
  double relearn_rows = 60;
  // Of workloads without a pod at present, 31 KiB each at most. Other nodes' are forgotten first, then those
  // that left first.
  std::size_t max_absent = 256;
  // The time that is one row of the detector's memories, whatever the ticks are. An entity is judged once in
  // that time, half of them in one tick and half in the next; between, it keeps its verdict.
  double row_s = 0.5;
  // Whatever the statistics say, a mean of the three largest deviations below this is never flagged.
  double min_deviation = 3;
  // A minute until a column is judged. Rates are those of 10 s: 20 rows share their events, and need no
  // smoothing.
  DetectorOptions detector = {
      .smooth_half_life_rows = 0.5, .min_history_rows = 120, .tail = {.overlap_rows = 20}};
};

class AnomalyScorer final : public Scorer {
public:
  explicit AnomalyScorer(AnomalyOptions options);
  ~AnomalyScorer() override;

  // Fills the anomaly part of each score: `anomaly` = -log10(tail probability) / 8, so .25 is 1 in 100 and 1
  // is 1 in 10^8 of the entity's own recent time; `anomaly_threshold` is the entity's part of the false
  // alarms allowed, and its handicap, on that scale (the level they stand for rolls with its scores), and 1
  // in warm-up. Reasons: the columns with the three largest shares of the distance, with the baseline as
  // `usual` and the deviation as `weight`; columns without history or missing now are skipped. Etas are not
  // judged: they jump by nature and say nothing beyond their gauge and its slope.
  void score(const FeatureTable& table, Scores& scores) override;

  // A pod of a known workload begins with its baseline: that of the sibling that knows most, or what the last
  // one left. Then it settles for `settle_s` only; with another revision than the baseline's it relearns for
  // `warm_up_s`, and so do all pods of a workload when their number on this node changes.
  void learn(const Baselines& baselines) override;
  // Of what baseline() has something: those that live first, then those that left last.
  std::vector<std::string> workloads() const;
  std::optional<Baseline> baseline(const std::string& workload) const;
  // What the detectors' columns are called, in their order.
  static const std::vector<std::string>& columns();

  std::size_t entities() const { return states_.size(); }
  static std::size_t bytes_per_entity();  // at most; less where fewer columns move

private:
  struct State;
  struct Column;

  // Of a workload without a pod.
  struct Absent {
    Baseline baseline;
    bool of_other_node = false;
    std::uint64_t left_in_tick = 0;
  };

  void transform(std::span<const float> row);
  void judge(std::span<const float> row, State& state) const;
  bool is_typical(const State& state) const;
  void recognise(const Entity& entity, State& state);
  void relearn(State& state, Learning why) const;
  // Whose workload has more or fewer pods than before relearns.
  void count_siblings();
  // Each of so many entities' part of the false alarms, as -log10 of a share of its time.
  float threshold(std::size_t entities) const;
  bool flag(State& state, float least, double elapsed_s) const;
  void leave(const State& state);
  void bound_absent();

  AnomalyOptions options_;
  std::vector<Column> columns_;
  std::vector<float> floors_;
  std::vector<float> row_;  // of the entity being judged, transformed
  std::unordered_map<EntityId, std::unique_ptr<State>> states_;
  std::map<std::string, Absent> absent_;  // by workload
  bool siblings_changed_ = false;
  MonotonicNs last_ns_ = 0;
  std::uint64_t tick_ = 0;
};

}  // namespace vedette
