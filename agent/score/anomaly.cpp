#include "agent/score/anomaly.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <set>
#include <string_view>
#include <tuple>
#include <utility>

#include "agent/base/clock.h"
#include "agent/collect/signals.h"
#include "agent/score/exact_math.h"

namespace vedette {
namespace {

// Every rate and p99 of the last two seconds, every gauge and its slope.
constexpr std::size_t kJudged = kRateColumns + 2 * kGauges.size();
constexpr float kDecades = 8;  // of the score's scale
// Ticks come a little early or late.
constexpr double kNearlyARow = 0.8;

}  // namespace

// How a column is compared. Most quantities span decades and are compared as log2(1 + |x| / scale); shares
// and ratios as they are, in units of `scale`. `scale` is the smallest amount that matters to anybody, so a
// signal that never moves may move by that much and is still calm.
struct AnomalyScorer::Column {
  std::size_t feature = 0;
  float scale = 1;
  bool logarithmic = true;

  // In transformed units. Logarithmic: a quarter of a doubling of what is far above the scale.
  float floor() const { return logarithmic ? 0.25F : 1.F; }
  float restored(float y) const {
    if (!logarithmic) return y * scale;
    return std::copysign(scale * (exact_exp2(std::abs(y)) - 1), y);
  }

  static std::vector<Column> all() {
    std::vector<Column> columns;
    columns.reserve(kJudged);
    std::size_t feature = kRateColumns;
    // One event in the 2 s of a rate is .5/s: no deviation. Nanoseconds per second: 5 ms each second.
    for (const SignalInfo& signal : kCounters) {
      columns.push_back({feature++, signal.unit == "ns" ? 5e6F : 1.F, true});
    }
    // 20 us: a timer's slack, below which no latency of a call is remarkable.
    for (std::size_t i = 0; i < kHistograms.size(); ++i) columns.push_back({feature++, 20e-6F, true});
    for (const SignalInfo& signal : kGauges) {
      const bool share = signal.unit == "ratio" || signal.unit == "share";
      // 2 % of a limit; a fiftieth of a core; 4 MiB of memory; two of what is counted.
      const float scale = share                    ? 0.02F
                          : signal.unit == "cores" ? 0.02F
                          : signal.unit == "bytes" ? 4194304.F
                                                   : 2.F;
      columns.push_back({feature++, scale, !share});
      columns.push_back({feature++, scale / 30, !share});  // that much within the trend's window
      if (signal.unit == "ratio") ++feature;               // its eta
    }
    return columns;
  }
};

struct AnomalyScorer::State {
  Detector detector{kJudged};
  std::string workload;  // empty: not known yet, or nothing of it outlives it
  std::string revision;
  std::uint32_t restarts = 0;  // of its entity, as they were when it began
  Learning learning = Learning::kNew;
  double learns_until_s = 0;  // of its age
  float handicap = 0;         // decades
  double calm_s = 0;          // since it was flagged last
  bool flagged = false;
  bool was_flagged = false;  // within the minute
  double age_s = 0;
  double unjudged_s = 0;
  std::uint64_t seen_in_tick = 0;

  // What it knows is worth keeping. While it learns another version it is neither the old one's nor its own.
  bool is_wise() const { return !workload.empty() && detector.known() && learning != Learning::kNewVersion; }

  Baseline baseline() const { return {workload, revision, detector, false, handicap, false}; }

  // The newest verdict.
  float rarity = 0;
  float magnitude = 0;
  std::vector<Reason> reasons;
};

AnomalyScorer::AnomalyScorer(AnomalyOptions options)
    : options_(options), columns_(Column::all()), row_(columns_.size()) {
  for (const Column& column : columns_) floors_.push_back(column.floor());
}

AnomalyScorer::~AnomalyScorer() = default;

std::size_t AnomalyScorer::bytes_per_entity() {
  return sizeof(State) - sizeof(Detector) + Detector::bytes(kJudged);
}

void AnomalyScorer::transform(std::span<const float> row) {
  for (std::size_t i = 0; i < kJudged; ++i) {
    const Column& column = columns_[i];
    const float raw = row[column.feature] / column.scale;
    const float logarithm = std::copysign(exact_log2(1 + std::abs(raw)), raw);
    // The logarithm of an infinite or missing value may look like a number.
    const bool finite = std::abs(raw) <= std::numeric_limits<float>::max();
    const float missing = std::numeric_limits<float>::quiet_NaN();
    row_[i] = finite ? (column.logarithmic ? logarithm : raw) : missing;
  }
}

bool AnomalyScorer::is_typical(const State& state) const {
  switch (state.learning) {
    case Learning::kDone:
    case Learning::kNew:
      return true;
    case Learning::kKnown:  // a beginning is none
      return false;
    case Learning::kNewVersion:
    case Learning::kReplicas:
    case Learning::kNewSignals:
      return state.age_s >= state.learns_until_s - options_.warm_up_s / 2;
  }
  return true;
}

void AnomalyScorer::judge(std::span<const float> row, State& state) const {
  const Detector::Verdict verdict = state.detector.judge(row_, floors_, state.unjudged_s / options_.row_s,
                                                         options_.detector, is_typical(state));
  state.rarity = verdict.rarity;
  state.magnitude = 0;
  state.reasons.clear();
  for (const Detector::Part& part : verdict.top) {
    if (part.share <= 0) continue;
    const Column& column = columns_[part.column];
    // The baseline as it is now: one tick's learning is below what a reader can see.
    state.reasons.push_back({static_cast<std::uint32_t>(column.feature), row[column.feature],
                             column.restored(state.detector.usual(part.column)), part.deviation});
    state.magnitude += std::abs(part.deviation) / static_cast<float>(Detector::kTop);
  }
}

const std::vector<std::string>& AnomalyScorer::columns() {
  static const std::vector<std::string> names = [] {
    std::vector<std::string> all;
    for (const Column& column : Column::all()) all.push_back(feature_columns()[column.feature].name);
    return all;
  }();
  return names;
}

void AnomalyScorer::learn(const Baselines& baselines) {
  std::set<std::string_view> living;
  for (const auto& [id, state] : states_) {
    if (state->learning != Learning::kNew) living.insert(state->workload);
  }
  // The first of a file are the last to be forgotten.
  for (auto given = baselines.list.rbegin(); given != baselines.list.rend(); ++given) {
    Baseline baseline = *given;
    baseline.of_other_node = baseline.of_other_node || baselines.of_other_node;
    if (living.contains(baseline.workload) || (baseline.of_other_node && baseline.workload == kNodeWorkload))
      continue;
    const auto absent = absent_.find(baseline.workload);
    const auto rank = [](const Baseline& each) {
      return std::pair(!each.of_other_node, each.detector.age_rows());
    };
    if (absent != absent_.end() && rank(absent->second.baseline) >= rank(baseline)) continue;
    const std::string workload = baseline.workload;
    absent_.insert_or_assign(workload, Absent{std::move(baseline), ++left_});
  }
  bound_absent();
  // Those that began without: they know next to nothing yet.
  for (const auto& [id, state] : states_) {
    if (state->learning == Learning::kNew) state->workload.clear();
  }
}

void AnomalyScorer::recognise(const Entity& entity, State& state) {
  std::string workload = baseline_workload(entity);
  if (workload.empty()) return;
  struct Known {
    const Detector* detector = nullptr;
    const std::string* revision = nullptr;
    Learning learning = Learning::kDone;
    float handicap = 0;
    EntityId id = 0;
  };
  const auto rank = [&](const Known& known) {
    const bool settled = known.learning == Learning::kDone || known.learning == Learning::kKnown;
    return std::tuple(settled, *known.revision == entity.revision, known.detector->age_rows(), known.id);
  };
  Known best;
  const auto consider = [&](const Known& known) {
    if (best.detector == nullptr || rank(known) > rank(best)) best = known;
  };
  // Not yet among them itself.
  bool has_siblings = false;
  for (const auto& [id, other] : states_) {
    if (other->workload != workload) continue;
    has_siblings = true;
    if (other->detector.known() && other->learning != Learning::kNew)
      consider({&other->detector, &other->revision, other->learning, other->handicap, id});
  }
  const auto absent = absent_.find(workload);
  if (absent != absent_.end()) {
    const Baseline& left = absent->second.baseline;
    consider({&left.detector, &left.revision, left.of_other_columns ? Learning::kNewSignals : Learning::kDone,
              left.handicap, 0});
  }

  state.workload = std::move(workload);
  state.revision = entity.revision;
  states_changed_ = true;
  if (best.detector == nullptr) return;
  const bool other_version =
      !best.revision->empty() && !state.revision.empty() && *best.revision != state.revision;
  if (!other_version) state.handicap = std::max(state.handicap, best.handicap);
  // It was nameless for so long that it knows more itself.
  if (state.learning != Learning::kNew && state.detector.age_rows() >= best.detector->age_rows()) return;
  const Learning learning = other_version ? Learning::kNewVersion : best.learning;
  state.detector = *best.detector;
  state.detector.begin_anew();
  if (learning == Learning::kDone || learning == Learning::kKnown) {
    // From now on this one knows it.
    if (absent != absent_.end() && !has_siblings) absent_.erase(absent);
    state.learning = Learning::kKnown;
    state.learns_until_s = state.age_s + options_.settle_s;
  } else {
    relearn(state, learning);
  }
}

void AnomalyScorer::relearn(State& state, Learning why) const {
  if (why == Learning::kNewSignals) {
    state.detector.relearn_rarity(options_.relearn_rows);
  } else {
    state.detector.relearn(options_.relearn_rows, options_.detector);
  }
  state.learning = why;
  state.learns_until_s = state.age_s + options_.warm_up_s;
}

void AnomalyScorer::begin_again(State& state) const {
  // What one has learnt from nothing is of these minutes anyway.
  if (state.learning == Learning::kNew) return;
  state.detector.begin_anew();
  if (state.learning == Learning::kDone) state.learning = Learning::kKnown;
  state.learns_until_s = std::max(state.learns_until_s, state.age_s + options_.settle_s);
}

void AnomalyScorer::count_replicas(MonotonicNs now) {
  if (states_changed_) {
    states_changed_ = false;
    std::map<std::string_view, std::size_t> counts;
    for (const auto& [id, state] : states_) {
      if (!state->workload.empty()) ++counts[state->workload];
    }
    std::erase_if(replicas_, [&](const auto& entry) { return !counts.contains(entry.first); });
    for (const auto& [workload, count] : counts) {
      Replicas& replicas = replicas_[std::string(workload)];
      if (replicas.now == count) continue;
      replicas.now = count;
      replicas.since_ns = now;
      replicas_pending_ = true;
    }
  }
  if (!replicas_pending_) return;
  replicas_pending_ = false;
  std::set<std::string_view> changed;
  for (auto& [workload, replicas] : replicas_) {
    if (replicas.known == replicas.now) continue;
    if (seconds_between(replicas.since_ns, now) < options_.replicas_hold_s) {
      replicas_pending_ = true;
      continue;
    }
    if (replicas.known != 0) changed.insert(workload);
    replicas.known = replicas.now;
  }
  for (const auto& [id, state] : states_) {
    // What one has learnt from nothing is of these minutes anyway; another version is the greater change.
    if (!changed.contains(state->workload) || state->learning == Learning::kNew) continue;
    relearn(*state, state->learning == Learning::kNewVersion ? Learning::kNewVersion : Learning::kReplicas);
  }
}

void AnomalyScorer::leave(const State& state) {
  if (!state.is_wise()) return;
  const bool known_by_sibling = std::ranges::any_of(states_, [&](const auto& entry) {
    const State& other = *entry.second;
    return &other != &state && other.is_wise() && other.workload == state.workload &&
           other.revision == state.revision;
  });
  if (known_by_sibling) return;
  absent_.insert_or_assign(state.workload, Absent{state.baseline(), ++left_});
  bound_absent();
}

void AnomalyScorer::bound_absent() {
  while (absent_.size() > options_.max_absent) {
    absent_.erase(std::ranges::min_element(absent_, {}, [](const auto& entry) {
      return std::pair(!entry.second.baseline.of_other_node, entry.second.order);
    }));
  }
}

std::vector<std::string> AnomalyScorer::workloads() const {
  std::set<std::string> living;
  for (const auto& [id, state] : states_) {
    if (state->is_wise()) living.insert(state->workload);
  }
  std::vector<std::pair<std::uint64_t, std::string>> left;
  for (const auto& [workload, absent] : absent_) {
    if (!living.contains(workload)) left.emplace_back(absent.order, workload);
  }
  std::ranges::sort(left, std::ranges::greater{});
  std::vector<std::string> names{living.begin(), living.end()};
  for (auto& [order, workload] : left) names.push_back(std::move(workload));
  return names;
}

std::optional<Baseline> AnomalyScorer::baseline(const std::string& workload) const {
  const State* wisest = nullptr;
  for (const auto& [id, state] : states_) {
    if (state->workload != workload || !state->is_wise()) continue;
    if (wisest == nullptr || state->detector.age_rows() > wisest->detector.age_rows()) wisest = state.get();
  }
  if (wisest != nullptr) return wisest->baseline();
  const auto absent = absent_.find(workload);
  return absent == absent_.end() ? std::nullopt : std::optional(absent->second.baseline);
}

float AnomalyScorer::threshold(std::size_t entities) const {
  constexpr double kWeekS = 7.0 * 86'400;
  constexpr double kMostShare = 0.05;
  const double share = options_.false_alarms_per_week * options_.flag_s /
                       (kWeekS * static_cast<double>(std::max<std::size_t>(entities, 1)));
  return -exact_log10(static_cast<float>(std::min(share, kMostShare)));
}

float AnomalyScorer::handicapped(float handicap, double decades) const {
  return std::min(handicap + static_cast<float>(decades), static_cast<float>(options_.max_handicap));
}

void AnomalyScorer::heed(const std::vector<Lesson>& lessons) {
  lessons_.insert(lessons_.end(), lessons.begin(), lessons.end());
}

void AnomalyScorer::teach(std::string_view workload, std::string_view name, float& handicap) const {
  for (const Lesson& lesson : lessons_) {
    if (lesson.workload.empty() ? lesson.entity != name : lesson.workload != workload) continue;
    handicap = lesson.right ? 0 : handicapped(handicap, options_.told_handicap);
  }
}

bool AnomalyScorer::flag(State& state, float least, double elapsed_s) const {
  constexpr double kAnotherS = 60;  // calm for so long: the flag is over, and the next is another
  const float enough = state.flagged ? least - static_cast<float>(options_.keep) : least;
  const bool flagged = state.learning == Learning::kDone && state.rarity > enough &&
                       static_cast<double>(state.magnitude) >= options_.min_deviation;
  state.flagged = flagged;
  state.handicap *= 1 - forgetting(elapsed_s, options_.handicap_half_life_s);
  state.calm_s = flagged ? 0 : state.calm_s + elapsed_s;
  if (!flagged && state.was_flagged && state.calm_s >= kAnotherS)
    state.handicap = handicapped(state.handicap, options_.handicap);
  state.was_flagged = flagged || (state.was_flagged && state.calm_s < kAnotherS);
  return flagged;
}

void AnomalyScorer::score(const FeatureTable& table, Scores& scores) {
  ++tick_;
  const MonotonicNs now = table.time.monotonic_ns;
  const double elapsed_s = tick_ == 1 ? 0 : seconds_between(last_ns_, now);
  last_ns_ = std::max(last_ns_, now);
  const std::size_t rows = std::min(table.entities.size(), scores.entities.size());
  const float base = threshold(rows);
  for (std::size_t i = 0; i < rows; ++i) {
    std::unique_ptr<State>& state = states_[table.entities[i]->id];
    if (!state) {
      state = std::make_unique<State>();
      state->unjudged_s = table.entities[i]->id % 2 == 0 ? 0 : options_.row_s / 2;
      state->learns_until_s = options_.warm_up_s;
      state->restarts = table.entities[i]->restarts;
    }
    if (state->workload.empty()) recognise(*table.entities[i], *state);
    state->seen_in_tick = tick_;
    state->age_s += elapsed_s;
    if (std::exchange(state->restarts, table.entities[i]->restarts) != table.entities[i]->restarts)
      begin_again(*state);
    state->unjudged_s += elapsed_s;
    if (state->unjudged_s >= kNearlyARow * options_.row_s) {
      transform(table.row(i));
      judge(table.row(i), *state);
      state->unjudged_s = 0;
    }
    teach(state->workload, table.entities[i]->name, state->handicap);
    EntityScore& out = scores.entities[i];
    if (state->age_s >= state->learns_until_s)
      state->learning = state->detector.known() ? Learning::kDone : Learning::kNew;
    out.learning = state->learning;
    out.anomaly = static_cast<double>(std::clamp(state->rarity / kDecades, 0.F, 1.F));
    // The scale ends at kDecades: what is beyond it is rare enough for any threshold.
    const float least = std::min(base + state->handicap, kDecades - 0.01F);
    out.anomaly_threshold = out.warming_up() ? 1 : static_cast<double>(least / kDecades);
    out.anomalous = flag(*state, least, elapsed_s);
    out.anomaly_reasons = state->reasons;
  }
  if (!lessons_.empty()) {
    for (auto& [workload, absent] : absent_) teach(workload, {}, absent.baseline.handicap);
  }
  if (states_.size() > rows) {
    std::vector<EntityId> gone;
    for (const auto& [id, state] : states_) {
      if (state->seen_in_tick != tick_) gone.push_back(id);
    }
    std::ranges::sort(gone);
    for (const EntityId id : gone) {
      State& state = *states_[id];
      teach(state.workload, {}, state.handicap);
      leave(state);
      states_.erase(id);
    }
    states_changed_ = true;
  }
  lessons_.clear();
  count_replicas(now);
}

}  // namespace vedette
