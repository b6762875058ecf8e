#include "tools/cli/plot.h"

#include <cmath>

#include <doctest/doctest.h>

namespace vedette {
namespace {

bool has(const std::string& text, const std::string& part) {
  return text.find(part) != std::string::npos;
}

std::size_t count(const std::string& text, const std::string& part) {
  std::size_t found = 0;
  for (std::size_t at = text.find(part); at != std::string::npos; at = text.find(part, at + 1)) ++found;
  return found;
}

Plot plot_of(std::size_t ticks) {
  Plot plot;
  plot.title = "unit/<checkout> & \"co\"\x01.service";
  PlotLine anomaly{"anomaly", "anomaly", {}};
  PlotLine threshold{"its alarm", "threshold", {}};
  for (std::size_t i = 0; i < ticks; ++i) {
    plot.wall_ns.push_back(1'800'000'000'000'000'000 + i * 500'000'000);
    anomaly.points.push_back(i == ticks / 2 ? 1 : 0.25);
    threshold.points.push_back(0.5);
  }
  plot.panels.push_back({"scores", "0", "1", 0, 1, {anomaly, threshold}});
  plot.rows.push_back({"OOMKilled", {{plot.wall_ns.front(), plot.wall_ns.back(), "degraded", "degraded"}}});
  return plot;
}

}  // namespace

TEST_CASE("a picture has its lines, bars and words, for light and dark, and names are made safe") {
  const std::string svg = plot_svg(plot_of(100));
  CHECK(svg.starts_with("<svg xmlns=\"http://www.w3.org/2000/svg\""));
  CHECK(has(svg, "prefers-color-scheme: dark"));
  CHECK(has(svg, "unit/&lt;checkout&gt; &amp; &quot;co&quot;?.service"));
  CHECK(count(svg, "<path class=\"line anomaly\"") == 1);
  CHECK(count(svg, "<path class=\"line threshold\"") == 1);
  CHECK(count(svg, "class=\"degraded\"") == 1);
  CHECK(has(svg, ">OOMKilled</text>"));
  CHECK(has(svg, ">its alarm</text>"));
  CHECK_FALSE(has(svg, "nan"));
}

TEST_CASE("one high point among thousands is drawn, and a gap in the values is a gap in the line") {
  const std::string svg = plot_svg(plot_of(20'000));
  CHECK(svg.size() < 60'000);
  // 0.25 of a panel of 110 that begins at 62 ends at 144.5; 1 is its top.
  CHECK(has(svg, " 144.5"));
  CHECK(has(svg, " 62.0"));

  Plot gap = plot_of(1'000);
  for (std::size_t i = 300; i < 600; ++i) gap.panels[0].lines[0].points[i] = NAN;
  const std::string with_gap = plot_svg(gap);
  const std::size_t at = with_gap.find("<path class=\"line anomaly\"");
  const std::string path = with_gap.substr(at, with_gap.find("/>", at) - at);
  CHECK(count(path, "M") == 2);
}

TEST_CASE("a picture of one tick, or of none, is a picture") {
  for (const std::size_t ticks : {0, 1}) {
    Plot plot;
    plot.title = "node";
    if (ticks == 1) plot = plot_of(1);
    const std::string svg = plot_svg(plot);
    CHECK(svg.ends_with("</svg>\n"));
    CHECK_FALSE(has(svg, "nan"));
    CHECK_FALSE(has(svg, "\"inf"));
    CHECK_FALSE(has(svg, "\"-inf"));
  }
}

}  // namespace vedette
