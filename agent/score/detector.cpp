#include "agent/score/detector.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "agent/score/exact_math.h"

namespace vedette {
namespace {

constexpr float kClip = 10000;    // of z, before it is bent
constexpr float kShownClip = 16;  // of a reason
// The ridge is given to one dimension in so many rows, in turn, and then for all rows since its last turn.
constexpr std::uint16_t kRidgeEvery = 4;
// Until it has its history the factor takes no more of one row than this.
constexpr float kFirstShare = 0.05F;
constexpr float kTiny = 1e-30F;  // keeps 0 / 0 of rows without time out
// The strongest deviations may raise an alarm alone too, on a tenth of the budget: of many noisy columns one
// that is far off moves the distance too little. On another tenth what is less rare and holds.
constexpr std::array<float, Detector::kJudges> kHandicap{0, 1, 1};  // decades
constexpr double kOverRows = 5;  // calm for so long: the next time in the tail is another incident

float bent(float z, float bend) {
  const float size = std::abs(z) / bend;
  return std::copysign(bend * exact_ln(size + std::sqrt(size * size + 1)), z);
}

float calmed(float square, float calm) {
  return calm * exact_ln(1 + square / calm);
}

float energy_of(std::span<float> jolt, float bend, float calm) {
  float energy = 0;
  for (float& each : jolt) {
    each = bent(each, bend);
    energy += calmed(each * each, calm);
  }
  return energy;
}

}  // namespace

Detector::Detector(std::size_t columns) : columns_(columns) {}

std::size_t Detector::bytes(std::size_t columns) {
  return sizeof(Detector) + columns * sizeof(Column) + kMaxJoint * sizeof(std::uint32_t) +
         kMaxDims * (kMaxDims + 1) / 2 * sizeof(float);
}

Detector::Memory Detector::memory() const {
  Memory memory;
  memory.columns.reserve(columns_.size());
  for (const Column& column : columns_)
    memory.columns.push_back({column.mean, column.variance, column.weight});
  memory.joint = joint_;
  memory.step_square.assign(step_square_.begin(), step_square_.begin() + joint_.size());
  memory.factor = factor_;
  memory.factor_weight = factor_weight_;
  memory.age_rows = age_rows_;
  std::ranges::transform(tails_, memory.tails.begin(), &TailDistribution::memory);
  return memory;
}

Result<Detector> Detector::from(const Memory& memory) {
  const auto is_share = [](float value) { return value >= 0 && value <= 1; };
  // Beyond any that logarithms and shares give, and far from where squares end.
  const auto is_sane = [](float value) { return std::abs(value) <= 1e12F; };
  Detector detector(memory.columns.size());
  for (std::size_t i = 0; i < memory.columns.size(); ++i) {
    const Memory::Column& kept = memory.columns[i];
    if (!is_sane(kept.mean) || !is_sane(kept.variance) || kept.variance < 0) return fail("mean or variance");
    if (!is_share(kept.weight)) return fail("weight");
    Column& column = detector.columns_[i];
    column.mean = kept.mean;
    column.variance = kept.variance;
    column.weight = kept.weight;
  }
  if (memory.joint.size() > kMaxJoint) return fail("joint");
  for (const std::uint32_t index : memory.joint) {
    if (index >= memory.columns.size() || detector.columns_[index].place != kApart) return fail("joint");
    detector.take_place(index);
  }
  if (!memory.step_square.empty() && memory.step_square.size() != memory.joint.size())
    return fail("step_square");
  for (std::size_t i = 0; i < memory.step_square.size(); ++i) {
    if (!is_sane(memory.step_square[i]) || memory.step_square[i] < 0) return fail("step_square");
    detector.step_square_[i] = memory.step_square[i];
  }
  const std::size_t dims = kParts * memory.joint.size();
  if (memory.factor.size() != dims * (dims + 1) / 2) return fail("factor");
  if (!std::ranges::all_of(memory.factor, is_sane)) return fail("factor");
  std::size_t diagonal = 0;
  for (std::size_t j = 0; j < dims; ++j) {
    if (!(memory.factor[diagonal] > 0)) return fail("factor");
    diagonal += dims - j;
  }
  detector.factor_ = memory.factor;
  if (!is_share(memory.factor_weight)) return fail("factor_weight");
  detector.factor_weight_ = memory.factor_weight;
  if (!(memory.age_rows >= 0) || !std::isfinite(memory.age_rows)) return fail("age_rows");
  detector.age_rows_ = memory.age_rows;
  for (std::size_t judge = 0; judge < kJudges; ++judge) {
    const auto tail = TailDistribution::from(memory.tails[judge]);
    if (!tail) return fail("tail");
    detector.tails_[judge] = *tail;
  }
  detector.begin_anew();
  return detector;
}

void Detector::begin_anew() {
  for (Column& column : columns_) {
    column.last = column.mean;
    column.brief = 0;
  }
  distance_ = 0;
  top_ = 0;
  energy_ = 0;
  recent_.fill(0);
  above_rows_ = 0;
  below_rows_ = 0;
}

void Detector::relearn(double rows, const DetectorOptions& options) {
  const float most = forgetting(rows, options.slow_half_life_rows);
  for (Column& column : columns_) column.weight = std::min(column.weight, most);
  factor_weight_ = std::min(factor_weight_, most);
  relearn_rarity(rows);
}

void Detector::relearn_rarity(double rows) {
  for (TailDistribution& tail : tails_) tail.relearn(rows);
}

void Detector::take_place(std::size_t column) {
  const std::size_t place = joint_.size();
  columns_[column].place = static_cast<std::uint8_t>(place);
  joint_.push_back(static_cast<std::uint32_t>(column));
  // As of rows that have nothing to do with each other, until its steps tell more.
  step_square_[place] = 2 * columns_[column].variance;
}

void Detector::admit(std::size_t column, float ridge) {
  const std::size_t before = kParts * joint_.size();
  take_place(column);
  const std::size_t after = before + kParts;
  std::vector<float> grown(after * (after + 1) / 2, 0.F);
  auto to = grown.begin();
  auto from = factor_.cbegin();
  for (std::size_t j = 0; j < after; ++j) {
    const auto kept = static_cast<std::ptrdiff_t>(j < before ? before - j : 0);
    std::copy_n(from, kept, to);
    if (kept == 0) *to = ridge;
    from += kept;
    to += static_cast<std::ptrdiff_t>(after - j);
  }
  factor_ = std::move(grown);
}

// Method C1 of Gill, Golub, Murray, Saunders 1974: the forward substitution L p = x is part of the update.
void Detector::turn(std::size_t from, float keep, float share, std::span<float> x, std::span<float> spread) {
  const std::size_t n = x.size();
  std::size_t start = 0;
  for (std::size_t j = 0; j < from; ++j) start += n - j;
  float alpha = share;
  for (std::size_t j = from; j < n; ++j) {
    float* const __restrict__ column = &factor_[start];  // never overlaps x
    const float p = x[j];
    const float old = column[0];
    spread[j] = old;
    const float kept = old * keep;
    const float now = kept + alpha * p * p;
    const float gain = p * alpha / now;
    alpha *= kept / now;
    column[0] = now;
    float* const __restrict__ rest = &x[j];
    for (std::size_t i = 1; i < n - j; ++i) {
      const float left = rest[i] - p * column[i];
      rest[i] = left;
      column[i] += gain * left;
    }
    start += n - j;
  }
}

float Detector::read_column(std::size_t index, float value, float floor, const Gains& gains, Moment& moment) {
  constexpr float kNotApart = std::numeric_limits<float>::quiet_NaN();
  Column& column = columns_[index];
  const float learn_clip = gains.options.learn_clip;
  // Most columns of most pods never move. What follows would leave these as they are, too.
  if (column.is_still() && value == column.mean) {
    column.weight += gains.slow * (1 - column.weight);
    return kNotApart;
  }
  const float sd = std::sqrt(column.variance + floor * floor);
  const float off = value - column.mean;
  const float step = value - column.last;
  const bool judged = column.weight >= gains.mature;
  float apart = kNotApart;
  if (judged) {
    const float raw = std::clamp(off / sd, -kClip, kClip);
    const float moved = std::clamp(step / sd, -kClip, kClip);
    if (column.place == kApart && joint_.size() < kMaxJoint && std::abs(moved) > gains.options.moves)
      admit(index, gains.options.ridge);
    if (column.place == kApart) {
      apart = raw;
    } else {
      moment.x[kParts * column.place] = raw;
      moment.x[kParts * column.place + 2] = moved;
      moment.level[column.place] = raw;
      float& usual = step_square_[column.place];
      const float most = usual + floor * floor;
      moment.jolt[column.place] = std::clamp(step / std::sqrt(most), -kClip, kClip);
      usual += gains.step * (std::min(step * step, learn_clip * learn_clip * most) - usual);
    }
  }
  // While young a baseline takes what comes; later an outlier teaches it no more than learn_clip.
  const float learnt = judged ? std::clamp(off, -learn_clip * sd, learn_clip * sd) : off;
  column.weight += gains.slow * (1 - column.weight);
  const float part = gains.slow / (column.weight + kTiny);
  column.mean += part * learnt;
  column.variance = (1 - part) * (column.variance + part * learnt * learnt);
  column.last = value;
  return apart;
}

Detector::Verdict Detector::judge(std::span<const float> row, std::span<const float> floors, double rows,
                                  const DetectorOptions& options, bool typical) {
  const Gains gains{.slow = forgetting(rows, options.slow_half_life_rows),
                    .step = forgetting(rows, options.step_half_life_rows),
                    .brief = forgetting(rows, options.short_half_life_rows),
                    .smooth = forgetting(rows, options.smooth_half_life_rows),
                    .mature = forgetting(options.min_history_rows, options.slow_half_life_rows),
                    .options = options};
  Moment moment;
  moment.level.fill(std::numeric_limits<float>::quiet_NaN());
  Verdict verdict;
  float distance = 0;
  // Those apart of so many columns, as they come: their logarithms are taken four columns at once.
  std::array<float, kBlock> apart;
  for (std::size_t first = 0; first < columns_.size(); first += kBlock) {
    apart.fill(std::numeric_limits<float>::quiet_NaN());
    for (std::size_t i = first; i < std::min(first + kBlock, columns_.size()); ++i) {
      const bool is_number = std::abs(row[i]) <= std::numeric_limits<float>::max();
      if (is_number) apart[i - first] = read_column(i, row[i], floors[i], gains, moment);
    }
    distance = judge_apart(first, apart, gains, distance, verdict);
  }
  distance += judge_jointly(moment, gains, verdict);
  float top = 0;
  for (const Part& part : verdict.top) top += std::abs(part.deviation) / static_cast<float>(kTop);
  distance_ += gains.smooth * (distance - distance_);
  energy_ += gains.smooth * (energy_of(moment.jolt, options.bend, options.calm) - energy_);
  top_ += gains.smooth * (top - top_);

  // The distance of many calm columns would hide one that is not.
  const float strongest = exact_log2(1 + top_);
  const float joined =
      exact_log2(1 + distance_) + strongest + options.energy_weight * exact_log2(1 + energy_);
  const auto held_rows = std::clamp<std::size_t>(options.held_rows, 1, kMostHeld);
  next_recent_ = static_cast<std::uint8_t>((next_recent_ + 1U) % held_rows);
  recent_[next_recent_] = joined;
  const float held = std::ranges::min(std::span(recent_).first(held_rows));
  verdict.rarity = judge_rarity({joined, strongest, held}, rows, options, typical);
  return verdict;
}

float Detector::judge_rarity(const std::array<float, kJudges>& values, double rows,
                             const DetectorOptions& options, bool typical) {
  std::array<float, kJudges> rarities;
  float told = 0;
  float believed = 0;
  for (std::size_t judge = 0; judge < kJudges; ++judge) {
    tails_[judge].pass(rows, options.tail);
    rarities[judge] = tails_[judge].rarity(values[judge]);
    const float rarity = rarities[judge] - kHandicap[judge];
    told = std::max(told, rarity);
    // As far as its own record of false alarms allows.
    believed = std::max(believed, rarity - tails_[judge].excess());
  }
  const bool high = told > options.incident_rarity;
  below_rows_ = high ? 0 : below_rows_ + rows;
  above_rows_ = below_rows_ > kOverRows * options.tail.overlap_rows ? 0 : above_rows_ + (high ? rows : 0);
  age_rows_ += rows;
  // Before the baselines have their history every deviation is 0 and would teach a false calm.
  if (typical && age_rows_ >= 2 * options.min_history_rows) {
    const bool incident = high && above_rows_ > options.incident_rows * options.tail.overlap_rows;
    const double weight = incident ? options.incident_weight * rows : rows;
    for (std::size_t judge = 0; judge < kJudges; ++judge) {
      tails_[judge].note(rarities[judge], weight);
      tails_[judge].add(values[judge], weight);
    }
  }
  return believed;
}

float Detector::judge_apart(std::size_t first, const std::array<float, kBlock>& raw, const Gains& gains,
                            float distance, Verdict& verdict) {
  const float bend = gains.options.bend;
  const float calm = gains.options.calm;
  // By themselves, so that the loops run four columns at once.
  std::array<float, kBlock> z;
  std::array<float, kBlock> share;
  for (std::size_t k = 0; k < kBlock; ++k) z[k] = bent(raw[k], bend);
  for (std::size_t k = 0; k < kBlock; ++k) share[k] = calmed(z[k] * z[k], calm);
  for (std::size_t k = 0; k < kBlock; ++k) {
    if (std::isnan(raw[k])) continue;
    distance += share[k];
    offer({static_cast<std::uint32_t>(first + k), std::clamp(raw[k], -kShownClip, kShownClip), share[k]},
          verdict);
    float& brief = columns_[first + k].brief;
    brief += gains.brief * (z[k] - brief);
  }
  return distance;
}

float Detector::judge_jointly(Moment& moment, const Gains& gains, Verdict& verdict) {
  if (joint_.empty()) return 0;
  const float bend = gains.options.bend;
  const float calm = gains.options.calm;
  const std::array<float, kMaxJoint>& level = moment.level;
  const std::span x = std::span(moment.x).first(kParts * joint_.size());
  for (float& each : x) each = bent(each, bend);  // by itself, so that the loop runs four dimensions at once
  for (std::size_t place = 0; place < joint_.size(); ++place) {
    if (std::isnan(level[place])) continue;
    float& brief = columns_[joint_[place]].brief;
    const float z = x[kParts * place];
    x[kParts * place + 1] = z - brief;
    brief += gains.brief * (z - brief);
  }
  factor_weight_ += gains.slow * (1 - factor_weight_);
  const float share = std::min(gains.slow / (factor_weight_ + kTiny), kFirstShare);
  std::array<float, kMaxDims> spread;  // variances first, then squares in units of them
  turn(0, 1 - share, share, x, spread);
  // By themselves, so that the loop runs four dimensions at once.
  std::array<float, kMaxDims> share_of;
  for (std::size_t k = 0; k < x.size(); ++k) {
    spread[k] = x[k] * x[k] / spread[k];
    share_of[k] = calmed(spread[k], calm);
  }
  float distance = 0;
  for (std::size_t place = 0; place < joint_.size(); ++place) {
    if (std::isnan(level[place])) continue;
    float deviation = level[place];
    float sum = 0;
    for (std::size_t at = kParts * place; at < kParts * (place + 1); ++at) {
      sum += share_of[at];
      const bool own = at == kParts * place;  // the level is told as it is
      if (!own && spread[at] > deviation * deviation) deviation = std::copysign(std::sqrt(spread[at]), x[at]);
    }
    distance += sum;
    offer({joint_[place], std::clamp(deviation, -kShownClip, kShownClip), sum}, verdict);
  }
  if (++rows_since_ridge_ >= kRidgeEvery) {
    rows_since_ridge_ = 0;
    next_ridge_ = next_ridge_ + 1U < x.size() ? next_ridge_ + 1U : 0U;
    std::fill(x.begin(), x.end(), 0.F);
    x[next_ridge_] = 1;
    turn(next_ridge_, 1, share * gains.options.ridge * static_cast<float>(kRidgeEvery * x.size()), x, spread);
  }
  return distance;
}

void Detector::offer(const Part& part, Verdict& verdict) {
  if (part.share <= verdict.top.back().share) return;
  std::size_t place = kTop - 1;
  for (; place > 0 && part.share > verdict.top[place - 1].share; --place) {
    verdict.top[place] = verdict.top[place - 1];
  }
  verdict.top[place] = part;
}

}  // namespace vedette
