// log2, exp2 and random numbers out of integer steps and + - * / only: libm differs between versions, CPUs
// and compilers by the last bit, which a replay would show. Pure functions, any thread.
#pragma once

#include <bit>
#include <cstdint>

namespace vedette {

// log2(x) for normal x > 0, within 2e-7 of the larger of 1 and the result: the mantissa, brought to
// [sqrt(1/2), sqrt(2)), by the series of atanh to its 7th power. Free of branches, so loops vectorise.
inline float exact_log2(float x) {
  constexpr std::uint32_t kSqrtHalf = 0x3f3504f3;
  const auto bits = std::bit_cast<std::uint32_t>(x);
  const auto exponent = static_cast<std::int32_t>(bits - kSqrtHalf) >> 23;
  const auto mantissa = std::bit_cast<float>(bits - (static_cast<std::uint32_t>(exponent) << 23));
  const float s = (mantissa - 1) / (mantissa + 1);
  const float t = s * s;
  constexpr float kTwoOverLn2 = 2.88539008F;
  return static_cast<float>(exponent) + kTwoOverLn2 * s * (1 + t * (1.F / 3 + t * (1.F / 5 + t * (1.F / 7))));
}

// ln(x) for normal x > 0.
inline float exact_ln(float x) {
  constexpr float kLn2 = 0.693147181F;
  return exact_log2(x) * kLn2;
}

// log10(x) for normal x > 0.
inline float exact_log10(float x) {
  constexpr float kLog10Of2 = 0.30103F;
  return exact_log2(x) * kLog10Of2;
}

// 2^x, relative error below 1e-6; x is held to [-126, 126]. Taylor series of e^(f ln 2) for |f| <= 1/2.
inline float exact_exp2(float x) {
  const float held = x < -126 ? -126.F : (x > 126 ? 126.F : x);
  const auto whole = static_cast<std::int32_t>(held + (held < 0 ? -0.5F : 0.5F));
  const float y = (held - static_cast<float>(whole)) * 0.693147181F;
  const float power =
      1 + y * (1 + y * (1.F / 2 + y * (1.F / 6 + y * (1.F / 24 + y * (1.F / 120 + y * (1.F / 720))))));
  return power * std::bit_cast<float>(static_cast<std::uint32_t>(whole + 127) << 23);
}

// Share of an exponentially weighted mean that is new after `elapsed_s`: about 1 - 2^(-elapsed/half-life), by
// the Bernoulli series y / (1 + y/2 + y^2/12), within .3 % up to one half-life and never above .93.
inline float forgetting(double elapsed_s, double half_life_s) {
  constexpr double kLn2 = 0.6931471805599453;
  constexpr double kPeak = 3.4641;  // where the series has its maximum
  const double raw = elapsed_s * kLn2 / half_life_s;
  const double y = raw < kPeak ? raw : kPeak;
  return static_cast<float>(y / (1 + y / 2 + y * y / 12));
}

// splitmix64 (Steele, Lea, Flood 2014): the same sequence for the same seed everywhere.
class RandomBits {
public:
  explicit RandomBits(std::uint64_t seed) : state_(seed) {}

  std::uint64_t next() {
    std::uint64_t z = (state_ += 0x9e3779b97f4a7c15U);
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9U;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebU;
    return z ^ (z >> 31);
  }
  // Uniform in [0, count); the bias of 2^-32 * count does not matter here. 0 for count 0.
  std::uint32_t below(std::uint32_t count) {
    return static_cast<std::uint32_t>(((next() >> 32) * count) >> 32);
  }
  // Uniform in [0, 1).
  float uniform() { return static_cast<float>(next() >> 40) * (1.F / 16777216.F); }

private:
  std::uint64_t state_;
};

}  // namespace vedette
