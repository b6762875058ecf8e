#include "agent/base/duration.h"

#include <array>
#include <charconv>
#include <cmath>
#include <cstdio>
#include <ctime>
#include <utility>

namespace vedette {
namespace {

constexpr std::array<std::pair<char, double>, 4> kUnits{{{'d', 86'400}, {'h', 3'600}, {'m', 60}, {'s', 1}}};

}  // namespace

std::optional<double> parse_duration(std::string_view text) {
  double number = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
  if (error != std::errc() || end + 1 != text.data() + text.size() || !(number >= 0) || std::isinf(number))
    return std::nullopt;
  for (const auto& [unit, seconds] : kUnits) {
    if (*end == unit) return number * seconds;
  }
  return std::nullopt;
}

std::string duration_text(double seconds) {
  char text[40];
  for (const auto& [unit, length] : kUnits) {
    if (seconds >= length && std::fmod(seconds, length) == 0) {
      std::snprintf(text, sizeof text, "%.0f%c", seconds / length, unit);
      return text;
    }
  }
  std::snprintf(text, sizeof text, "%gs", seconds);
  return text;
}

std::string utc_stamp(WallNs wall_ns) {
  const auto seconds = static_cast<std::time_t>(wall_ns / 1'000'000'000ULL);
  std::tm time{};
  ::gmtime_r(&seconds, &time);
  char text[32];
  std::strftime(text, sizeof text, "%Y%m%d-%H%M%S", &time);
  return text;
}

}  // namespace vedette
