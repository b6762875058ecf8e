#include "tools/cli/plot.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdio>

#include "agent/base/clean_text.h"
#include "tools/cli/format.h"

namespace vedette {
namespace {

constexpr double kWidth = 960;
constexpr double kLeft = 190;   // names
constexpr double kRight = 110;  // ends of axes, names of lines
constexpr double kTop = 62;
constexpr double kPanel = 58;
constexpr double kFirstPanel = 110;  // the scores
constexpr double kRow = 22;
constexpr double kGap = 16;
constexpr double kSpan = kWidth - kLeft - kRight;
constexpr std::size_t kColumns = 600;  // of points: more than a screen shows are merged

// What is coloured, and how on light and on dark paper. Written out for both: not every viewer of pictures
// knows CSS variables.
struct Colour {
  const char* selector;
  const char* property;
  const char* light;
  const char* dark;
};
constexpr std::array<Colour, 18> kColours{{
    {".paper", "fill", "#ffffff", "#0d1117"},
    {"text", "fill", "#1f2328", "#e6edf3"},
    {"text.dim", "fill", "#59636e", "#9198a1"},
    {".grid", "stroke", "#d8dee4", "#30363d"},
    {".line.anomaly", "stroke", "#0969da", "#58a6ff"},
    {"text.anomaly", "fill", "#0969da", "#58a6ff"},
    {".line.risk", "stroke", "#8250df", "#bc8cff"},
    {"text.risk", "fill", "#8250df", "#bc8cff"},
    {".line.threshold", "stroke", "#bc4c00", "#f0883e"},
    {"text.threshold", "fill", "#bc4c00", "#f0883e"},
    {".line.signal", "stroke", "#1a7f7f", "#56d4c8"},
    {"rect.info", "fill", "#8c959f", "#6e7681"},
    {"rect.degraded", "fill", "#d4a72c", "#d29922"},
    {"rect.unhealthy", "fill", "#cf222e", "#f85149"},
    {"rect.taint", "fill", "#57606a", "#b1bac4"},
    {"text.on-bar", "fill", "#ffffff", "#0d1117"},
    {"text.on-degraded", "fill", "#1f2328", "#0d1117"},
    {"text.signal", "fill", "#1f2328", "#e6edf3"},
}};
// Colours alone never tell: lines have names, bars have words, the threshold is dashed.
constexpr const char* kShapes = R"(
  text { font: 12px system-ui, sans-serif; }
  .title { font-size: 16px; font-weight: 600; }
  .small { font-size: 11px; }
  .end { text-anchor: end; }
  .middle { text-anchor: middle; }
  .grid { stroke-width: 1; }
  .line { fill: none; stroke-width: 1.5; stroke-linejoin: round; }
  .line.threshold { stroke-dasharray: 5 3; }
)";

std::string style() {
  std::string light;
  std::string dark;
  for (const Colour& each : kColours) {
    const std::string rule = std::string("  ") + each.selector + " { " + each.property + ": ";
    light.append(rule).append(each.light).append("; }\n");
    dark.append(rule).append(each.dark).append("; }\n");
  }
  return "<style>" + std::string(kShapes) + light + "  @media (prefers-color-scheme: dark) {\n" + dark +
         "  }\n</style>\n";
}

std::string escaped(const std::string& text) {
  std::string out;
  for (const char c : clean_text(text)) {
    switch (c) {
      case '<':
        out += "&lt;";
        break;
      case '>':
        out += "&gt;";
        break;
      case '&':
        out += "&amp;";
        break;
      case '"':
        out += "&quot;";
        break;
      default:
        out += c;
    }
  }
  return out;
}

std::string number(double value) {
  char text[32];
  std::snprintf(text, sizeof text, "%.1f", value);
  return text;
}

class Svg {
public:
  explicit Svg(const Plot& plot) : plot_(plot) {
    if (plot.wall_ns.empty()) return;
    from_ns_ = plot.wall_ns.front();
    to_ns_ = std::max(plot.wall_ns.back(), from_ns_ + 1);
  }

  std::string text() {
    height_ = kTop;
    std::string panels;
    for (std::size_t i = 0; i < plot_.panels.size(); ++i) {
      panels += panel(plot_.panels[i], i == 0 ? kFirstPanel : kPanel);
    }
    std::string rows;
    for (const PlotRow& each : plot_.rows) rows += row(each);
    const std::string axis = times();
    std::string out = "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 " + number(kWidth) + " " +
                      number(height_) + "\" width=\"" + number(kWidth) + "\" height=\"" + number(height_) +
                      "\" role=\"img\">\n<title>" + escaped(plot_.title) + "</title>\n<desc>" +
                      escaped(plot_.subtitle) + "</desc>\n" + style() +
                      "<rect class=\"paper\" width=\"100%\" height=\"100%\"/>\n";
    out += label(16, 26, "title", plot_.title) + label(16, 46, "dim", plot_.subtitle);
    return out + axis + panels + rows + "</svg>\n";
  }

private:
  static std::string label(double x, double y, const char* classes, const std::string& words) {
    return "<text x=\"" + number(x) + "\" y=\"" + number(y) + "\" class=\"" + classes + "\">" +
           escaped(words) + "</text>\n";
  }
  static std::string rule(double x1, double y1, double x2, double y2) {
    return "<line x1=\"" + number(x1) + "\" y1=\"" + number(y1) + "\" x2=\"" + number(x2) + "\" y2=\"" +
           number(y2) + "\" class=\"grid\"/>\n";
  }

  double x_of(std::uint64_t wall_ns) const {
    const std::uint64_t held = std::clamp(wall_ns, from_ns_, to_ns_);
    return kLeft + kSpan * static_cast<double>(held - from_ns_) / static_cast<double>(to_ns_ - from_ns_);
  }

  std::string panel(const PlotPanel& panel, double height) {
    const double top = height_;
    const double bottom = top + height;
    height_ = bottom + kGap;
    std::string out = rule(kLeft, bottom, kLeft + kSpan, bottom);
    out += label(16, top + height / 2 + 4, "", clip(panel.name, 26));
    out += label(kLeft - 6, top + 9, "small dim end", panel.high) +
           label(kLeft - 6, bottom, "small dim end", panel.low);
    std::vector<double> taken;  // places of names at the right
    for (const PlotLine& line : panel.lines) {
      out += path(line, panel, top, bottom);
      if (line.name.empty()) continue;
      const auto last = std::find_if(line.points.rbegin(), line.points.rend(),
                                     [](double point) { return !std::isnan(point); });
      if (last == line.points.rend()) continue;
      double y = y_of(*last, panel, top, bottom) + 4;
      const auto is_taken = [&](double place) {
        return std::ranges::any_of(taken, [&](double other) { return std::abs(other - place) < 13; });
      };
      while (is_taken(y)) y -= 13;
      taken.push_back(y);
      out += label(kLeft + kSpan + 6, y, ("small " + line.kind).c_str(), line.name);
    }
    return out;
  }

  static double y_of(double value, const PlotPanel& panel, double top, double bottom) {
    const double share = (value - panel.floor) / (panel.ceiling - panel.floor);
    return bottom - (bottom - top) * std::clamp(share, 0.0, 1.0);
  }

  // A column of the picture shows the lowest and the highest of its points: no peak is lost.
  std::string path(const PlotLine& line, const PlotPanel& panel, double top, double bottom) const {
    struct Column {
      double low = NAN, high = NAN;
    };
    std::array<Column, kColumns> columns;
    for (std::size_t i = 0; i < std::min(line.points.size(), plot_.wall_ns.size()); ++i) {
      const double share = (x_of(plot_.wall_ns[i]) - kLeft) / kSpan;
      Column& column = columns[std::min(static_cast<std::size_t>(share * kColumns), kColumns - 1)];
      column.low = std::fmin(column.low, line.points[i]);
      column.high = std::fmax(column.high, line.points[i]);
    }
    // Points that are further apart than columns are joined; a gap in the values is a gap in the line.
    const std::size_t apart = 1 + 2 * kColumns / std::max<std::size_t>(plot_.wall_ns.size(), 1);
    std::string d;
    std::size_t newest = 0;
    for (std::size_t i = 0; i < kColumns; ++i) {
      const Column& column = columns[i];
      if (std::isnan(column.high)) continue;
      const std::string x = number(kLeft + kSpan * (static_cast<double>(i) + 0.5) / kColumns);
      const bool joined = !d.empty() && i - newest <= apart;
      d += (joined ? "L" : "M") + x + " " + number(y_of(column.high, panel, top, bottom));
      if (column.low < column.high) d += "L" + x + " " + number(y_of(column.low, panel, top, bottom));
      newest = i;
    }
    return "<path class=\"line " + line.kind + "\" d=\"" + d + "\"/>\n";
  }

  std::string row(const PlotRow& row) {
    const double top = height_;
    height_ += kRow;
    std::string out = label(16, top + 14, "", clip(row.name, 26));
    for (const PlotBar& bar : row.bars) {
      const double x = x_of(bar.from_wall_ns);
      const double width = std::max(x_of(bar.to_wall_ns) - x, 2.0);
      out += "<rect x=\"" + number(x) + "\" y=\"" + number(top + 2) + "\" width=\"" + number(width) +
             "\" height=\"" + number(kRow - 6) + "\" rx=\"2\" class=\"" + bar.kind + "\"><title>" +
             escaped(bar.text) + "</title></rect>\n";
      // Some 6.5 a letter.
      const double needs = 6.5 * static_cast<double>(text_width(bar.text)) + 8;
      if (width >= needs) {
        out +=
            label(x + 5, top + 14, bar.kind == "degraded" ? "small on-degraded" : "small on-bar", bar.text);
      } else if (x + width + needs < kWidth) {
        out += label(x + width + 5, top + 14, "small", bar.text);
      }
    }
    return out;
  }

  // Behind everything: lines at round times, the times below.
  std::string times() {
    constexpr std::array<double, 12> kSteps{1, 2, 5, 10, 30, 60, 120, 300, 600, 1'800, 3'600, 21'600};
    const double lasts_s = static_cast<double>(to_ns_ - from_ns_) / 1e9;
    const auto* step = std::ranges::find_if(kSteps, [&](double each) { return lasts_s / each <= 8; });
    const double step_s = step == kSteps.end() ? 86'400 : *step;
    const auto step_ns = static_cast<std::uint64_t>(step_s * 1e9);
    std::string out;
    const double bottom = height_ + 4;
    for (std::uint64_t at = (from_ns_ + step_ns - 1) / step_ns * step_ns; at <= to_ns_; at += step_ns) {
      out += rule(x_of(at), kTop - 4, x_of(at), bottom);
      out += label(x_of(at), bottom + 14, "small dim middle", format_clock(at, at));
    }
    height_ = bottom + 26;
    return out;
  }

  const Plot& plot_;
  std::uint64_t from_ns_ = 0, to_ns_ = 1;
  double height_ = 0;
};

}  // namespace

std::string plot_svg(const Plot& plot) {
  return Svg(plot).text();
}

}  // namespace vedette
