#include <algorithm>
#include <cmath>
#include <functional>

#include "exporter/api.pb.h"
#include "tools/cli/format.h"
#include "tools/cli/views.h"

namespace vedette {
namespace {

const api::Trail* trail_of(const api::TopRow& row, std::string_view column) {
  for (const api::Trail& trail : row.trails()) {
    if (trail.column() == column) return &trail;
  }
  return nullptr;
}

double now_of(const api::TopRow& row, std::string_view column) {
  const api::Trail* trail = trail_of(row, column);
  return trail == nullptr || trail->points().empty() ? NAN : trail->points(trail->points_size() - 1);
}

std::string spark_of(const api::TopRow& row, std::string_view column, std::size_t columns) {
  const api::Trail* trail = trail_of(row, column);
  if (trail == nullptr) return std::string(columns, ' ');
  return sparkline(condense({trail->points().begin(), trail->points().end()}, columns), columns);
}

std::string state_of(const api::TopRow& row) {
  if (!row.severity().empty() && row.severity() != "info") return row.severity();
  if (row.anomalous()) return "anomalous";
  return row.warming_up() ? "warming" : "ok";
}

struct Column {
  const char* title;
  std::size_t width;
  bool left;
  int rank;  // the lower, the narrower a screen it is still shown on
  std::function<std::string(const api::TopRow&)> text;
};

// Those that fit into `room` columns, by rank; in the order they are shown.
std::vector<Column> columns_for(std::size_t room, std::size_t spark) {
  const std::vector<Column> all{
      {"STATE", 9, true, 0, state_of},
      {"REASON", 20, true, 9, [](const api::TopRow& row) { return row.reason(); }},
      {"RISK", 6, false, 1, [](const api::TopRow& row) { return format_percent(row.risk()); }},
      {"ANOM", 6, false, 8,
       [](const api::TopRow& row) { return row.warming_up() ? "–" : format_percent(row.anomaly()); }},
      {"CPU", 6, false, 2, [](const api::TopRow& row) { return format_cores(now_of(row, "cpu_cores")); }},
      {"CPU 1 min", spark, true, 6,
       [=](const api::TopRow& row) { return spark_of(row, "cpu_cores", spark); }},
      {"MEMORY", 8, false, 3,
       [](const api::TopRow& row) { return format_bytes(now_of(row, "memory_bytes")); }},
      {"LIMIT", 6, false, 10,
       [](const api::TopRow& row) { return format_percent(now_of(row, "memory_use")); }},
      {"MEM 1 min", spark, true, 11,
       [=](const api::TopRow& row) { return spark_of(row, "memory_bytes", spark); }},
      {"CALLS/S", 7, false, 4,
       [](const api::TopRow& row) { return format_number(now_of(row, "syscalls.rate")); }},
      {"CALLS 1 min", spark, true, 13,
       [=](const api::TopRow& row) { return spark_of(row, "syscalls.rate", spark); }},
      {"ERR/S", 6, false, 5,
       [](const api::TopRow& row) { return format_number(now_of(row, "errors.rate")); }},
      {"WAIT p99", 8, false, 7,
       [](const api::TopRow& row) { return format_duration(now_of(row, "runqueue_latency.p99")); }},
      {"FILES", 6, false, 12,
       [](const api::TopRow& row) { return format_percent(now_of(row, "open_files_use")); }},
  };
  std::vector<int> by_rank(all.size());
  for (const Column& column : all) {
    by_rank[static_cast<std::size_t>(column.rank)] = static_cast<int>(column.width) + 1;
  }
  int last = 0;
  int used = by_rank[0];  // the state always stands
  while (static_cast<std::size_t>(last) + 1 < all.size() &&
         used + by_rank[static_cast<std::size_t>(last) + 1] <= static_cast<int>(room)) {
    used += by_rank[static_cast<std::size_t>(++last)];
  }
  std::vector<Column> shown;
  std::copy_if(all.begin(), all.end(), std::back_inserter(shown),
               [&](const Column& column) { return column.rank <= last; });
  return shown;
}

std::vector<const api::TopRow*> ordered(const api::Top& top, TopOrder order) {
  std::vector<const api::TopRow*> rows;
  for (const api::TopRow& row : top.rows()) rows.push_back(&row);
  const auto key = [&](const api::TopRow& row) {
    double number = 0;
    switch (order) {
      case TopOrder::kSeverity:
        return 0.0;  // the agent's own order
      case TopOrder::kRisk:
        number = row.risk();
        break;
      case TopOrder::kAnomaly:
        number = row.warming_up() ? NAN : row.anomaly();
        break;
      case TopOrder::kCpu:
        number = now_of(row, "cpu_cores");
        break;
      case TopOrder::kMemory:
        number = now_of(row, "memory_bytes");
        break;
    }
    return std::isnan(number) ? -1.0 : number;
  };
  // The node stays first: it is what the others are read against.
  if (rows.size() > 1) {
    std::stable_sort(rows.begin() + 1, rows.end(), [&](const api::TopRow* left, const api::TopRow* right) {
      return key(*left) > key(*right);
    });
  }
  return rows;
}

const char* name_of(TopOrder order) {
  switch (order) {
    case TopOrder::kSeverity:
      return "worst";
    case TopOrder::kRisk:
      return "risk";
    case TopOrder::kAnomaly:
      return "anomaly";
    case TopOrder::kCpu:
      return "cpu";
    case TopOrder::kMemory:
      return "memory";
  }
  return "";
}

}  // namespace

std::string top_view(const api::Response& response, const Screen& screen, const TopState& state) {
  const api::Top& top = response.top();
  std::size_t longest = 8;
  for (const api::TopRow& row : top.rows()) longest = std::max(longest, text_width(row.entity().name()));
  // A name keeps at least 20 columns or what it needs before a further column may stand beside it.
  const std::size_t name_room = std::min<std::size_t>(longest, 20);
  const std::size_t spark = screen.columns >= 160 ? 20 : 10;
  const std::vector<Column> columns =
      columns_for(screen.columns > name_room ? screen.columns - name_room : 0, spark);
  std::size_t used = 0;
  for (const Column& column : columns) used += column.width + 1;
  const std::size_t name_columns = std::min(longest, screen.columns > used + 8 ? screen.columns - used : 8);

  std::size_t troubled = 0;
  for (const api::TopRow& row : top.rows())
    troubled += row.severity().empty() || row.severity() == "info" ? 0 : 1;
  const std::string facts = "  " + std::to_string(top.rows_size() + static_cast<int>(top.hidden())) +
                            " entities, " + std::to_string(troubled) + " in trouble · by " +
                            name_of(state.order) + " · " +
                            format_clock(response.agent().wall_ns(), response.agent().wall_ns());
  const std::string headline = response.agent().node() + " is " + top.overall();
  const std::size_t facts_room =
      screen.columns > text_width(headline) + 2 ? screen.columns - text_width(headline) - 2 : 0;
  std::vector<std::string> lines{screen.paint(paint_of(top.overall()), mark_of(top.overall())) + " " +
                                     screen.paint(Paint::kBold, response.agent().node()) + " is " +
                                     screen.paint(paint_of(top.overall()), top.overall()) +
                                     screen.paint(Paint::kDim, clip(facts, facts_room)),
                                 ""};
  std::string titles = pad_right("NAME", name_columns);
  for (const Column& column : columns) {
    titles +=
        " " + (column.left ? pad_right(column.title, column.width) : pad_left(column.title, column.width));
  }
  lines.push_back(screen.paint(Paint::kDim, clip(titles, screen.columns)));

  const std::vector<const api::TopRow*> rows = ordered(top, state.order);
  constexpr std::size_t kFrameLines = 4;  // headline, blank, titles, keys
  const std::size_t room = !state.live                 ? rows.size()
                           : screen.rows > kFrameLines ? screen.rows - kFrameLines
                                                       : 1;
  const std::size_t first = std::min(state.scroll, rows.size() > room ? rows.size() - room : 0);
  for (std::size_t i = first; i < rows.size() && i < first + room; ++i) {
    const api::TopRow& row = *rows[i];
    const std::string row_state = state_of(row);
    std::string line = pad_right(row.entity().name(), name_columns);
    for (const Column& column : columns) {
      const std::string cell = column.text(row);
      const std::string padded = column.left ? pad_right(cell, column.width) : pad_left(cell, column.width);
      const bool is_state = std::string_view(column.title) == "STATE";
      const bool is_spark = std::string_view(column.title).ends_with("min");
      line += " " + screen.paint(is_state && row_state != "ok" ? paint_of(row_state)
                                 : is_spark                    ? Paint::kDim
                                                               : Paint::kPlain,
                                 padded);
    }
    lines.push_back(line);
  }
  if (top.hidden() > 0 && !state.live) lines.push_back(std::to_string(top.hidden()) + " more are not shown");
  if (state.live) {
    lines.resize(screen.rows - 1);
    const std::size_t below = rows.size() - std::min(rows.size(), first + room);
    std::string keys = "q quit · sort by s worst r risk a anomaly c cpu m memory";
    if (below + first > 0) keys += " · ↑↓ " + std::to_string(below) + " more below";
    lines.push_back(state.notice.empty() ? screen.paint(Paint::kDim, clip(keys, screen.columns))
                                         : screen.paint(Paint::kYellow, clip(state.notice, screen.columns)));
  }
  std::string text;
  for (const std::string& line : lines) text += line + "\n";
  return text;
}

}  // namespace vedette
