// Times as people write them in configurations and on a command line: "30s", "5m", "2h", "1d". Pure
// functions: any thread.
#pragma once

#include <optional>
#include <string>
#include <string_view>

namespace vedette {

inline constexpr const char* kDurationForm = "a time like 30s, 5m, 2h or 1d";

// Seconds, or nothing where `text` is not a number and one of the units.
std::optional<double> parse_duration(std::string_view text);
// The reverse, in the greatest unit that divides it.
std::string duration_text(double seconds);

}  // namespace vedette
