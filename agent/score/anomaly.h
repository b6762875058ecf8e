// How unusual is each entity now, compared with itself? Turns features into rows for a detector (detector.h)
// of each entity, and its verdicts into scores. Called by the tick thread once per tick; state is its own.
// Deterministic bit for bit (exact_math.h).
#pragma once

#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "agent/score/baselines.h"
#include "agent/score/detector.h"
#include "agent/score/scorer.h"

namespace vedette {

struct AnomalyOptions {
  // Flags in a week, of the node and all its entities together, although nothing is wrong; assess/ asks for
  // a second in a row on top. A flag lasts for so long (of 24 real workloads 3.4 to 4.3 s, at any rarity).
  double false_alarms_per_week = 14;
  double flag_s = 4;
  // Who is flagged stays so until it is less rare by so many decades: what hovers does not flap.
  double keep = 1;
  // Who was flagged must be rarer by so many decades to be flagged again, up to the most, and half of it is
  // forgiven in the time: a workload that cries wolf every hour is heard less, and no other is.
  double handicap = 0.5;
  double told_handicap = 1;  // the same for whom a person said that the alarm was false or benign
  double max_handicap = 2;
  double handicap_half_life_s = 86'400;
  // No flag in an entity's first minutes: its baselines and its score distribution are made of them.
  double warm_up_s = 300;
  // So long, where the workload is known: rates fill their windows, and beginnings are no trouble.
  double settle_s = 120;
  // After a change of version or of the number of pods, what was known counts as so many rows; scores count
  // as usual again from the middle of the warm-up on, when columns are.
  double relearn_rows = 60;
  // A number of pods is another one when it has held for so long: one that is replaced changes nothing.
  double replicas_hold_s = 60;
  // Of workloads without a pod at present, 31 KiB each at most: as many as a file holds, or a restart would
  // lose some. Other nodes' are forgotten first, then those that left first.
  std::size_t max_absent = 512;
  // The time that is one row of the detector's memories, whatever the ticks are. An entity is judged once in
  // that time, half of them in one tick and half in the next; between, it keeps its verdict.
  double row_s = 0.5;
  // Whatever the statistics say, a mean of the three largest deviations below this is never flagged.
  double min_deviation = 3;
  // A minute until a column is judged. Rates are those of 2 s: 4 rows share their events, and need no
  // smoothing; half of what was rare is forgotten in 14 hours. What holds for 3 s is no burst.
  DetectorOptions detector = {
      .smooth_half_life_rows = 0.5,
      .held_rows = 6,
      .min_history_rows = 120,
      .tail = {.half_life_rows = 100'000, .overlap_rows = 4, .record_half_life_rows = 400'000}};
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
  // `warm_up_s`, and so do all pods of a workload when their number on this node has changed. What was learnt
  // here is never replaced by what another node knows. Who was started again begins and settles once more.
  void learn(const Baselines& baselines) override;
  // Whose alarm a person called false or benign must be rarer to be flagged again, as after flags of its own;
  // who was rightly flagged need not be. So must all of its workload, and who begins with what the last of it
  // left.
  void heed(const std::vector<Lesson>& lessons) override;
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
    std::uint64_t order = 0;  // in which they left
  };
  // How many pods a workload has on this node.
  struct Replicas {
    std::size_t known = 0;  // that has held; 0: none yet
    std::size_t now = 0;
    MonotonicNs since_ns = 0;
  };

  void transform(std::span<const float> row);
  void judge(std::span<const float> row, State& state) const;
  bool is_typical(const State& state) const;
  void recognise(const Entity& entity, State& state);
  void relearn(State& state, Learning why) const;
  void begin_again(State& state) const;
  // Whose workload has more or fewer pods than before relearns.
  void count_replicas(MonotonicNs now);
  // Each of so many entities' part of the false alarms, as -log10 of a share of its time.
  float threshold(std::size_t entities) const;
  bool flag(State& state, float least, double elapsed_s) const;
  // What was said of a workload, or of one that is none's, to the handicap of one of it.
  void teach(std::string_view workload, std::string_view name, float& handicap) const;
  float handicapped(float handicap, double decades) const;
  void leave(const State& state);
  void bound_absent();

  AnomalyOptions options_;
  std::vector<Column> columns_;
  std::vector<float> floors_;
  std::vector<float> row_;       // of the entity being judged, transformed
  std::vector<Lesson> lessons_;  // not yet taken to heart
  std::unordered_map<EntityId, std::unique_ptr<State>> states_;
  std::map<std::string, Absent> absent_;  // by workload
  std::uint64_t left_ = 0;
  std::map<std::string, Replicas> replicas_;  // by workload
  bool states_changed_ = false;
  bool replicas_pending_ = false;  // one of them has not held yet
  MonotonicNs last_ns_ = 0;
  std::uint64_t tick_ = 0;
};

}  // namespace vedette
