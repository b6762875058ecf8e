// Times as people write them in configurations and on a command line ("30s", "5m", "2h", "1d") and as names
// of files and incidents have them. Pure functions: any thread.
#pragma once

#include <optional>
#include <string>
#include <string_view>

#include "agent/base/clock.h"

namespace vedette {

inline constexpr const char* kDurationForm = "a time like 30s, 5m, 2h or 1d";

// Seconds, or nothing where `text` is not a number and one of the units.
std::optional<double> parse_duration(std::string_view text);
// The reverse, in the greatest unit that divides it.
std::string duration_text(double seconds);
// "20261127-023131": UTC, in an order that is that of time.
std::string utc_stamp(WallNs wall_ns);

}  // namespace vedette
