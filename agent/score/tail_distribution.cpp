#include "agent/score/tail_distribution.h"

#include <algorithm>
#include <cmath>

#include "agent/score/exact_math.h"

namespace vedette {
namespace {

constexpr float kBinsPerUnit = 32;
// The tail is the upper 2 %, or more while that would be fewer than five independent peaks; never more than
// a quarter.
constexpr double kTailShare = 0.02;
constexpr double kLeastPeaks = 5;
constexpr double kLargestTailShare = 0.25;
constexpr double kMinRows = 60;  // no tail before so many are known
// Who judges young baselines judges badly: while young the distribution forgets within half of its age.
constexpr double kYouthPart = 2;
// Before any peak was seen the tail is an exponential with the mean excess over the median (of 24 real
// workloads the tail's was .6 to 1.4 times that), or what most of them had, where that is less.
constexpr double kPriorExcess = 0.75;
// Values are logarithms, so an exponential tail is a heavy one already; a longer one would be made of the
// incidents among the peaks, and hide the next.
constexpr double kShortestShape = -0.5;
constexpr double kLongestShape = 0;
constexpr double kNearlyExponential = 0.01;
constexpr float kEndOfTail = 1e-12F;  // nearly, of one that ends
constexpr float kBeyondTail = 85;     // -ln: the rarest float there is
// A surprise is what is called so rare, as -log10. Nobody knows better before two of them should have come.
constexpr float kSurprise = 3;
constexpr float kSurpriseShare = 1e-3F;
constexpr float kPriorSurprises = 2;
constexpr float kMostGiven = 0.5F;  // decades

}  // namespace

void TailDistribution::add(float value, double rows) {
  const auto place = static_cast<std::size_t>(std::max(value, 0.F) * kBinsPerUnit);
  const std::size_t bin = std::min(place, kBins - 1);
  rows_[bin] += static_cast<float>(rows);
  end_ = std::max(end_, bin + 1);
  total_ += static_cast<float>(rows);
}

void TailDistribution::note(float rarity, double rows) {
  if (!known()) return;
  judged_ += static_cast<float>(rows);
  if (rarity > kSurprise) surprises_ += static_cast<float>(rows);
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
          spread_,
          peaks_,
          judged_,
          surprises_};
}

std::optional<TailDistribution> TailDistribution::from(const Memory& memory) {
  // More rows than any age gives, so that sums stay numbers.
  constexpr float kMostRows = 1e9F;
  constexpr auto kEndOfBins = static_cast<float>(kBins) / kBinsPerUnit;
  const auto possible = [](float rows) { return rows >= 0 && rows <= kMostRows; };
  const bool fitted = memory.level >= 0 && memory.level < kEndOfBins && memory.tail_share > 0 &&
                      memory.tail_share <= 1 && memory.shape >= static_cast<float>(kShortestShape) &&
                      memory.shape <= static_cast<float>(kLongestShape) && memory.spread >= 0 &&
                      memory.spread <= kMostRows && memory.peaks >= 0 && memory.peaks <= kMostRows &&
                      memory.judged >= 0 && memory.judged <= kMostRows && memory.surprises >= 0 &&
                      memory.surprises <= memory.judged;
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
  // Files from before it was kept have 0.
  tail.peaks_ = std::max(memory.peaks, kPriorPeaks);
  tail.judged_ = memory.judged;
  tail.surprises_ = memory.surprises;
  // A share of nothing is none.
  tail.spread_ = tail.total_ > 0 ? memory.spread : 0;
  return tail;
}

void TailDistribution::relearn(double rows) {
  // What it was wrong about was another one's.
  judged_ = 0;
  surprises_ = 0;
  excess_ = 0;
  age_ = std::min(age_, rows);
  if (static_cast<double>(total_) <= rows) return;
  const float keep = static_cast<float>(rows) / total_;
  for (float& each : rows_) each *= keep;
  total_ *= keep;
  peaks_ = std::max(peaks_ * keep, kPriorPeaks);
}

// How often it was wrong, of what it called rare: so much is taken of what it says, or given, within bounds,
// where surprises are missing.
void TailDistribution::review(const TailOptions& options) {
  const float keep = 1 - forgetting(since_fit_, options.record_half_life_rows);
  judged_ *= keep;
  surprises_ *= keep;
  const float prior = kPriorSurprises * static_cast<float>(options.overlap_rows);
  const float share = (surprises_ + prior) / (judged_ + prior / kSurpriseShare);
  excess_ = std::max(exact_log10(share / kSurpriseShare), -kMostGiven);
}

void TailDistribution::fit(const TailOptions& options) {
  review(options);
  age_ += since_fit_;
  const double half_life = std::min(options.half_life_rows, age_ / kYouthPart);
  const float keep = 1 - forgetting(since_fit_, half_life);
  since_fit_ = 0;
  double total = 0;
  for (std::size_t i = 0; i < end_; ++i) total += static_cast<double>(rows_[i] *= keep);
  total_ = static_cast<float>(total);
  if (total < kMinRows) return;
  const double largest =
      std::clamp(kLeastPeaks * options.overlap_rows / total, kTailShare, kLargestTailShare);
  const Upper tail = upper(largest * total);
  level_ = static_cast<float>(tail.first) / kBinsPerUnit;
  // A tail of nothing still has the share that one unseen row would have.
  tail_share_ = static_cast<float>(std::max(tail.rows / total, 1 / (total + 1)));
  // Moments: mean m = s / (1 - k), variance v = m^2 / (1 - 2 k) (Hosking, Wallis 1987).
  const double independent = tail.rows / options.overlap_rows;
  const double variance = std::max(tail.variance, tail.mean * tail.mean / 2);
  const double from_moments = (1 - tail.mean * tail.mean / variance) / 2;
  const double prior_peaks = static_cast<double>(kPriorPeaks);
  const double known = independent + prior_peaks;
  const double shape = std::clamp(from_moments * independent / known, kShortestShape, kLongestShape);
  const double prior = std::min(upper(total / 2).mean, kPriorExcess);
  const double mean = (tail.mean * independent + prior * prior_peaks) / known;
  shape_ = static_cast<float>(shape);
  spread_ = static_cast<float>(mean * (1 - shape));
  peaks_ = static_cast<float>(known);
}

TailDistribution::Upper TailDistribution::upper(double most) const {
  Upper upper;
  upper.first = std::min(end_, kBins - 1);
  if (end_ == kBins)
    upper.rows = static_cast<double>(rows_[kBins - 1]);  // beyond are all alike: always in it
  while (upper.first > 0 && upper.rows + static_cast<double>(rows_[upper.first - 1]) <= most)
    upper.rows += static_cast<double>(rows_[--upper.first]);
  double sum = 0;
  double squares = 0;
  for (std::size_t i = upper.first; i < end_; ++i) {
    const double middle = (static_cast<double>(i - upper.first) + 0.5) / static_cast<double>(kBinsPerUnit);
    const auto weight = static_cast<double>(rows_[i]);
    sum += weight * middle;
    squares += weight * middle * middle;
  }
  // The least mean is two bins: below, the histogram itself is too coarse to know.
  constexpr double kLeastMean = 2.0 / static_cast<double>(kBinsPerUnit);
  upper.mean = std::max(upper.rows > 0 ? sum / upper.rows : 0.0, kLeastMean);
  upper.variance = std::max(upper.rows > 0 ? squares / upper.rows - upper.mean * upper.mean : 0.0, 0.0);
  return upper;
}

float TailDistribution::rarity(float value) const {
  if (!known()) return 0;
  const float over = value - level_;
  if (over <= 0) {
    const float place = std::max(value, 0.F) * kBinsPerUnit;
    const auto bin = static_cast<std::size_t>(place);  // below the level's
    // What is below is summed, not what is above: of the least value it is exactly nothing.
    float below = rows_[bin] * (place - static_cast<float>(bin));
    for (std::size_t i = 0; i < bin; ++i) below += rows_[i];
    const float share = 1 - below / total_;
    return -exact_log10(std::clamp(share, tail_share_, 1.F));
  }
  float beyond = over / spread_;  // -ln of the share of the peaks that reach so far
  if (std::abs(shape_) >= static_cast<float>(kNearlyExponential)) {
    const float base = 1 + shape_ * beyond;
    beyond = base > kEndOfTail ? exact_ln(base) / shape_ : kBeyondTail;
  }
  // The spread is known from n peaks only: more of what looks rare happens. Of an exponential with a gamma
  // prior the predictive share is (1 + x / n)^-n.
  return -exact_log10(tail_share_) + peaks_ * exact_log10(1 + std::min(beyond, kBeyondTail) / peaks_);
}

}  // namespace vedette
