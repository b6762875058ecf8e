#include "tools/cli/format.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdio>
#include <ctime>

#include "agent/features/feature_table.h"

namespace vedette {
namespace {

constexpr const char* kMissingText = "–";
// What varies by less is drawn as a calm line in the middle rather than as a wall of full blocks.
constexpr double kSteady = 0.1;

std::string printed(const char* form, double number) {
  std::array<char, 64> buffer;
  std::snprintf(buffer.data(), buffer.size(), form, number);
  return buffer.data();
}

// Two significant digits below 10, whole numbers above: more is noise on a screen that moves.
std::string short_number(double number) {
  const double size = std::fabs(number);
  if (size == 0) return "0";
  if (size < 0.095) return printed("%.2g", number);
  if (size < 9.95) {
    std::string text = printed("%.1f", number);
    if (text.ends_with(".0")) text.erase(text.size() - 2);
    return text;
  }
  return printed("%.0f", number);
}

// "forks.rate" of "forks.rate_2s": over how short a time it is makes no other unit.
std::string_view without_window(std::string_view column) {
  return column.substr(0, column.size() - (column.ends_with(kBriefly) ? kBriefly.size() : 0));
}

bool continues(char byte) {
  return (static_cast<unsigned char>(byte) & 0xc0) == 0x80;
}

// `text`'s first `columns` code points.
std::string_view head(std::string_view text, std::size_t columns) {
  std::size_t bytes = 0;
  while (bytes < text.size()) {
    if (!continues(text[bytes]) && columns-- == 0) break;
    ++bytes;
  }
  return text.substr(0, bytes);
}

}  // namespace

std::string format_number(double number) {
  if (std::isnan(number)) return kMissingText;
  const double size = std::fabs(number);
  if (size < 999.5) return short_number(number);
  if (size < 999.5e3) return short_number(number / 1e3) + "k";
  if (size < 999.5e6) return short_number(number / 1e6) + "M";
  if (size < 999.5e9) return short_number(number / 1e9) + "G";
  return printed("%.1e", number);
}

std::string format_bytes(double bytes) {
  if (std::isnan(bytes)) return kMissingText;
  constexpr std::array<const char*, 6> kUnits{"B", "KiB", "MiB", "GiB", "TiB", "PiB"};
  std::size_t unit = 0;
  while (std::fabs(bytes) >= 999.5 && unit + 1 < kUnits.size()) {
    bytes /= 1024;
    ++unit;
  }
  return (unit == 0 ? printed("%.0f", bytes) : short_number(bytes)) + " " + kUnits[unit];
}

std::string format_duration(double seconds) {
  if (std::isnan(seconds)) return kMissingText;
  if (seconds < 0) return "-" + format_duration(-seconds);
  if (seconds == 0) return "0 s";
  if (seconds < 999.5e-9) return short_number(seconds * 1e9) + " ns";
  if (seconds < 999.5e-6) return short_number(seconds * 1e6) + " us";
  if (seconds < 0.9995) return short_number(seconds * 1e3) + " ms";
  if (seconds < 119.5) return short_number(seconds) + " s";
  const long minutes = std::lround(seconds / 60);
  if (minutes < 60) return std::to_string(minutes) + " min";
  const auto two = [](long big, const char* big_unit, long small, const char* small_unit) {
    const std::string text = std::to_string(big) + " " + big_unit;
    return small == 0 ? text : text + " " + std::to_string(small) + " " + small_unit;
  };
  if (minutes < 24L * 60) return two(minutes / 60, "h", minutes % 60, "min");
  const long hours = std::lround(seconds / 3600);
  return two(hours / 24, "d", hours % 24, "h");
}

std::string format_percent(double share) {
  if (std::isnan(share)) return kMissingText;
  const double percent = share * 100;
  if (percent != 0 && std::fabs(percent) < 0.05) return "<0.1 %";
  // One decimal is enough for a share: 0.084 % says no more than 0.1 %.
  return short_number(std::round(percent * 10) / 10) + " %";
}

std::string format_cores(double cores) {
  return std::isnan(cores) ? kMissingText : printed("%.2f", cores);
}

std::string format_clock(std::uint64_t wall_ns, std::uint64_t now_wall_ns) {
  const auto local = [](std::uint64_t ns) {
    const auto seconds = static_cast<std::time_t>(ns / 1'000'000'000);
    std::tm time{};
    ::localtime_r(&seconds, &time);
    return time;
  };
  const std::tm then = local(wall_ns);
  const std::tm now = local(now_wall_ns);
  const bool same_day = then.tm_yday == now.tm_yday && then.tm_year == now.tm_year;
  std::array<char, 32> buffer;
  std::strftime(buffer.data(), buffer.size(), same_day ? "%H:%M:%S" : "%b %e %H:%M:%S", &then);
  return buffer.data();
}

std::string format_feature(std::string_view column, std::string_view unit, double value) {
  if (std::isnan(value)) return kMissingText;
  column = without_window(column);
  if (column.ends_with(".eta") || column.ends_with(".p99")) return format_duration(value);
  const bool slope = column.ends_with(".slope");
  const bool rate = slope || column.ends_with(".rate");
  std::string text;
  if (unit == "bytes") {
    text = format_bytes(value);
  } else if (unit == "ratio" || unit == "share") {
    text = format_percent(value);
  } else if (unit == "ns") {
    text = format_duration(value / 1e9);
  } else if (unit == "s") {
    text = format_duration(value);
  } else if (unit == "cores") {
    text = format_cores(value) + " cores";
  } else {
    text = format_number(value);
    if (!rate && !unit.empty()) text += " " + std::string(unit);
  }
  if (slope && value > 0) text = "+" + text;
  return rate ? text + "/s" : text;
}

std::string feature_label(std::string_view column) {
  const std::size_t dot = column.find('.');
  std::string label(column.substr(0, dot));
  const std::string_view suffix = dot == std::string_view::npos ? "" : without_window(column.substr(dot));
  if (label.ends_with("_ns")) label.erase(label.size() - 3);
  if (label.ends_with("_bytes")) label.erase(label.size() - 6);
  std::replace(label.begin(), label.end(), '_', ' ');
  if (suffix == ".p99") return label + " p99";
  if (suffix == ".slope") return label + " change";
  if (suffix == ".eta") return label + " reaches its limit in";
  return label;
}

std::string sparkline(const std::vector<double>& points, std::size_t columns, double ceiling) {
  constexpr std::array<const char*, 8> kBlocks{"▁", "▂", "▃", "▄", "▅", "▆", "▇", "█"};
  const std::size_t shown = std::min(points.size(), columns);
  const auto first = points.end() - static_cast<std::ptrdiff_t>(shown);
  bool steady = false;
  if (ceiling <= 0) {
    double lowest = NAN;
    double highest = NAN;
    for (auto point = first; point != points.end(); ++point) {
      lowest = std::fmin(lowest, *point);
      highest = std::fmax(highest, *point);
    }
    ceiling = highest;
    steady = highest > 0 && highest - lowest <= kSteady * highest;
  }
  std::string line(columns - shown, ' ');
  for (auto point = first; point != points.end(); ++point) {
    if (std::isnan(*point)) {
      line += ' ';
      continue;
    }
    if (steady) {
      line += kBlocks[kBlocks.size() / 2 - 1];
      continue;
    }
    const double share = ceiling > 0 ? std::clamp(*point / ceiling, 0.0, 1.0) : 0.0;
    line += kBlocks[std::min(static_cast<std::size_t>(share * kBlocks.size()), kBlocks.size() - 1)];
  }
  return line;
}

std::vector<double> condense(const std::vector<double>& points, std::size_t columns) {
  if (points.size() <= columns) return points;
  if (columns == 0) return {};
  std::vector<double> condensed(columns, NAN);
  for (std::size_t i = 0; i < points.size(); ++i) {
    double& highest = condensed[i * columns / points.size()];
    highest = std::fmax(highest, points[i]);
  }
  return condensed;
}

std::size_t text_width(std::string_view text) {
  return static_cast<std::size_t>(
      std::count_if(text.begin(), text.end(), [](char byte) { return !continues(byte); }));
}

std::string clip(std::string_view text, std::size_t columns) {
  if (text_width(text) <= columns) return std::string(text);
  if (columns == 0) return "";
  return std::string(head(text, columns - 1)) + "…";
}

std::string pad_right(std::string_view text, std::size_t columns) {
  std::string clipped = clip(text, columns);
  return clipped + std::string(columns - text_width(clipped), ' ');
}

std::string pad_left(std::string_view text, std::size_t columns) {
  const std::string clipped = clip(text, columns);
  return std::string(columns - text_width(clipped), ' ') + clipped;
}

std::string wrap(std::string_view text, std::size_t columns, std::size_t indent) {
  const std::size_t room = columns > indent + 10 ? columns - indent : 10;
  std::string lines;
  std::string line;
  const auto flush = [&] {
    lines += std::string(indent, ' ') + line + "\n";
    line.clear();
  };
  while (!text.empty()) {
    const std::size_t space = text.find(' ');
    std::string_view word = text.substr(0, space);
    text.remove_prefix(space == std::string_view::npos ? text.size() : space + 1);
    if (!line.empty() && text_width(line) + 1 + text_width(word) > room) flush();
    while (text_width(word) > room) {
      line = head(word, room);
      word.remove_prefix(line.size());
      flush();
    }
    if (!line.empty()) line += ' ';
    line += word;
  }
  if (!line.empty()) flush();
  return lines;
}

}  // namespace vedette
