// A picture of one entity over time: scores, signals, conditions and actions as SVG, in the reader's light or
// dark. Pure: values in, text out. `vedette replay --plot` gathers the values.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace vedette {

struct PlotLine {
  std::string name;            // "anomaly"; at the line's end
  std::string kind;            // its colour: "anomaly", "threshold", "risk", "signal"
  std::vector<double> points;  // one per time; NaN: missing
};

struct PlotPanel {
  std::string name;       // "memory use"
  std::string low, high;  // what the axis ends at, in words
  double floor = 0, ceiling = 1;
  std::vector<PlotLine> lines;
};

struct PlotBar {
  std::uint64_t from_wall_ns = 0, to_wall_ns = 0;
  std::string kind;  // its colour: "info", "degraded", "unhealthy", "taint"
  std::string text;  // within it, where it fits; always as its tooltip
};

struct PlotRow {
  std::string name;  // "OOMKilled"
  std::vector<PlotBar> bars;
};

struct Plot {
  std::string title, subtitle;
  std::vector<std::uint64_t> wall_ns;  // of the points
  std::vector<PlotPanel> panels;
  std::vector<PlotRow> rows;
};

// A whole SVG document. Times on its axis are local.
std::string plot_svg(const Plot& plot);

}  // namespace vedette
