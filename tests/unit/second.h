// The unit of the tests' clocks.
#pragma once

#include "agent/base/clock.h"

namespace vedette {

constexpr MonotonicNs kSecond = 1'000'000'000;

}  // namespace vedette
