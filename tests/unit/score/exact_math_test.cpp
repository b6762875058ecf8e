#include "agent/score/exact_math.h"

#include <cmath>

#include <doctest/doctest.h>

TEST_CASE("log2 and exp2 agree with libm to float precision over their whole range") {
  float x = 1e-30F;
  for (int i = 0; i < 10000 && x < 1e30F; ++i) {
    x *= 1.0137F;
    const double truth = std::log2(static_cast<double>(x));
    CHECK(std::abs(static_cast<double>(vedette::exact_log2(x)) - truth) <=
          2e-7 * std::max(1.0, std::abs(truth)));
  }
  for (int i = -3396; i <= 3396; ++i) {
    const float power = static_cast<float>(i) * 0.0371F;
    const double truth = std::exp2(static_cast<double>(power));
    CHECK(std::abs(static_cast<double>(vedette::exact_exp2(power)) / truth - 1) < 1e-6);
  }
  CHECK(vedette::exact_ln(1) == 0);
  CHECK(vedette::exact_ln(10) == doctest::Approx(std::log(10)).epsilon(1e-6));
  CHECK(vedette::exact_log2(1) == 0);
  CHECK(vedette::exact_log2(1024) == 10);
  CHECK(vedette::exact_exp2(10) == 1024);
  CHECK(vedette::exact_exp2(1e9F) == std::exp2(126.F));
  CHECK(vedette::exact_exp2(-1e9F) == std::exp2(-126.F));
}

TEST_CASE("forgetting is nothing at once, half after the half-life and never more than all") {
  CHECK(vedette::forgetting(0, 60) == 0);
  CHECK(vedette::forgetting(60, 60) == doctest::Approx(0.5).epsilon(0.003));
  CHECK(vedette::forgetting(1, 60) == doctest::Approx(1 - std::exp2(-1.0 / 60)).epsilon(1e-4));
  CHECK(vedette::forgetting(1e9, 60) < 1);
  CHECK(vedette::forgetting(1e9, 60) > 0.9);
}

TEST_CASE("random numbers stay in range and repeat with their seed") {
  vedette::RandomBits a(5);
  vedette::RandomBits b(5);
  double sum = 0;
  for (int i = 0; i < 10000; ++i) {
    const float u = a.uniform();
    CHECK(u == b.uniform());
    CHECK(u >= 0);
    CHECK(u < 1);
    sum += static_cast<double>(u);
    CHECK(a.below(7) < 7);
    b.below(7);
  }
  CHECK(sum / 10000 == doctest::Approx(0.5).epsilon(0.02));
  CHECK(a.below(0) == 0);
}
