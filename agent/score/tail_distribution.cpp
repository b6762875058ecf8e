#include "agent/score/tail_distribution.h"

#include <algorithm>
#include <cmath>

#include "agent/score/exact_math.h"

namespace vedette {
namespace {

constexpr float kBinsPerUnit = 32;
constexpr double kTailShare = 0.02;
constexpr double kMinRows = 60;  // no tail before so many are known
// Who judges young baselines judges badly: while young the distribution forgets within a quarter of its age.
constexpr double kYouthPart = 4;
constexpr double kPriorPeaks = 10;  // the shape starts exponential and moves with the peaks it has
// Values are logarithms, so an exponential tail is a heavy one already; a longer one would be made of the
// incidents among the peaks, and hide the next.
constexpr double kShortestShape = -0.5;
constexpr double kLongestShape = 0;
constexpr double kNearlyExponential = 0.01;
constexpr float kLog10OfE = 0.434294482F;
constexpr float kBeyondTail = 37;  // of a tail with an end: the rarest float there is

}  // namespace

void TailDistribution::add(float value, double rows) {
  const auto place = static_cast<std::size_t>(std::max(value, 0.F) * kBinsPerUnit);
  const std::size_t bin = std::min(place, kBins - 1);
  rows_[bin] += static_cast<float>(rows);
  end_ = std::max(end_, bin + 1);
  total_ += static_cast<float>(rows);
}

void TailDistribution::pass(double rows, const TailOptions& options) {
  since_fit_ += rows;
  if (since_fit_ >= options.refit_rows) fit(options);
}

TailDistribution::Memory TailDistribution::memory() const {
  return {{rows_.begin(), rows_.begin() + static_cast<std::ptrdiff_t>(end_)},
          age_,
          level_,
          tail_share_,
          shape_,
          spread_};
}

std::optional<TailDistribution> TailDistribution::from(const Memory& memory) {
  // More rows than any age gives, so that sums stay numbers.
  constexpr float kMostRows = 1e9F;
  constexpr auto kEndOfBins = static_cast<float>(kBins) / kBinsPerUnit;
  const auto possible = [](float rows) { return rows >= 0 && rows <= kMostRows; };
  const bool fitted = memory.level >= 0 && memory.level <= kEndOfBins && memory.tail_share > 0 &&
                      memory.tail_share <= 1 && memory.shape >= static_cast<float>(kShortestShape) &&
                      memory.shape <= static_cast<float>(kLongestShape) && memory.spread >= 0 &&
                      memory.spread <= kMostRows;
  if (!fitted || memory.rows.size() > kBins || !(memory.age_rows >= 0) || !std::isfinite(memory.age_rows) ||
      !std::ranges::all_of(memory.rows, possible)) {
    return std::nullopt;
  }
  TailDistribution tail;
  std::ranges::copy(memory.rows, tail.rows_.begin());
  tail.end_ = memory.rows.size();
  for (const float rows : memory.rows) tail.total_ += rows;
  tail.age_ = memory.age_rows;
  tail.level_ = memory.level;
  tail.tail_share_ = memory.tail_share;
  tail.shape_ = memory.shape;
  // A share of nothing is none.
  tail.spread_ = tail.total_ > 0 ? memory.spread : 0;
  return tail;
}

void TailDistribution::relearn(double rows) {
  age_ = std::min(age_, rows);
  if (static_cast<double>(total_) <= rows) return;
  const float keep = static_cast<float>(rows) / total_;
  for (float& each : rows_) each *= keep;
  total_ *= keep;
}

void TailDistribution::fit(const TailOptions& options) {
  age_ += since_fit_;
  const double half_life = std::min(options.half_life_rows, age_ / kYouthPart);
  const float keep = 1 - forgetting(since_fit_, half_life);
  since_fit_ = 0;
  double total = 0;
  for (float& each : rows_) total += static_cast<double>(each *= keep);
  total_ = static_cast<float>(total);
  if (total < kMinRows) return;
  double above = 0;
  double share = 0;
  std::size_t first = kBins - 1;  // lowest bin of the tail
  for (std::size_t i = kBins; i-- > 0;) {
    above += static_cast<double>(rows_[i]);
    if (above > kTailShare * total) break;
    share = above / total;
    first = i;
  }
  level_ = static_cast<float>(first) / kBinsPerUnit;
  // A tail of nothing still has the share that one unseen row would have.
  tail_share_ = static_cast<float>(std::max(share, 1 / (total + 1)));
  double peaks = 0;
  double sum = 0;
  double squares = 0;
  for (std::size_t i = first; i < kBins; ++i) {
    const double middle = (static_cast<double>(i - first) + 0.5) / static_cast<double>(kBinsPerUnit);
    const auto weight = static_cast<double>(rows_[i]);
    peaks += weight;
    sum += weight * middle;
    squares += weight * middle * middle;
  }
  // Moments: mean m = s / (1 - k), variance v = m^2 / (1 - 2 k) (Hosking, Wallis 1987). The least mean is two
  // bins: below, the histogram itself is too coarse to know.
  constexpr double kLeastMean = 2.0 / static_cast<double>(kBinsPerUnit);
  const double mean = std::max(peaks > 0 ? sum / peaks : 0.0, kLeastMean);
  const double variance = std::max(peaks > 0 ? squares / peaks - mean * mean : 0.0, mean * mean / 2);
  const double independent = peaks / options.overlap_rows;
  const double from_moments = (1 - mean * mean / variance) / 2;
  const double shape =
      std::clamp(from_moments * independent / (independent + kPriorPeaks), kShortestShape, kLongestShape);
  shape_ = static_cast<float>(shape);
  spread_ = static_cast<float>(mean * (1 - shape));
}

float TailDistribution::rarity(float value) const {
  if (!known()) return 0;
  const float over = value - level_;
  if (over <= 0) {
    const float place = std::max(value, 0.F) * kBinsPerUnit;
    const auto bin = static_cast<std::size_t>(place);  // below the level's
    float above = rows_[bin] * (1 - (place - static_cast<float>(bin)));
    for (std::size_t i = bin + 1; i < end_; ++i) above += rows_[i];
    const float share = above / total_;
    return -exact_log10(std::clamp(share, tail_share_, 1.F));
  }
  const float at_level = -exact_log10(tail_share_);
  if (std::abs(shape_) < static_cast<float>(kNearlyExponential)) return at_level + over / spread_ * kLog10OfE;
  const float base = 1 + shape_ * over / spread_;
  constexpr float kEnd = 1e-12F;  // of a tail with one
  return base > kEnd ? std::min(at_level + exact_log10(base) / shape_, kBeyondTail) : kBeyondTail;
}

}  // namespace vedette
