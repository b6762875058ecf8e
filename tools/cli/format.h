// Numbers as people read them, and text that fits a terminal. Pure functions: any thread. All answer "–" for
// NaN (missing), and count a code point as one column.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace vedette {

std::string format_number(double number);     // 0.42, 38, 1.5k, 12M
std::string format_bytes(double bytes);       // 512 B, 21 MiB, 1.5 GiB
std::string format_duration(double seconds);  // 420 ns, 38 us, 1.2 ms, 24 s, 3 min, 2 h 5 min, 3 d 4 h
std::string format_percent(double share);     // 0 %, 0.6 %, 97 %
// Local time, with the date where that is another day than `now_wall_ns`: 09:33:20, Nov 22 09:33:20.
std::string format_clock(std::uint64_t wall_ns, std::uint64_t now_wall_ns);
std::string format_cores(double cores);  // 0.05, 1.25

// A feature's value in its own unit: column "memory_bytes.slope", unit "bytes" -> "+1.2 MiB/s".
std::string format_feature(std::string_view column, std::string_view unit, double value);
// "runqueue_latency.p99" -> "runqueue latency p99", "memory_use.eta" -> "memory use reaches its limit in".
std::string feature_label(std::string_view column);

// The newest `columns` points as blocks ▁ to █, scaled from 0 to `ceiling` (0: to the highest point, and
// a line in the middle if they hardly differ); a missing point is a blank, and blanks fill up on the left.
std::string sparkline(const std::vector<double>& points, std::size_t columns, double ceiling = 0);

// The same stretch in at most `columns` points, each the highest of those it stands for.
std::vector<double> condense(const std::vector<double>& points, std::size_t columns);

std::size_t text_width(std::string_view text);
std::string clip(std::string_view text, std::size_t columns);       // ends in … where something is missing
std::string pad_right(std::string_view text, std::size_t columns);  // clipped and filled up
std::string pad_left(std::string_view text, std::size_t columns);
// Lines of at most `columns`, each behind `indent` spaces; each ends in a newline.
std::string wrap(std::string_view text, std::size_t columns, std::size_t indent);

}  // namespace vedette
