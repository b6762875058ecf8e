#include "tools/cli/replay_plot.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <map>
#include <optional>
#include <utility>

#include "agent/base/clean_text.h"
#include "agent/features/feature_table.h"
#include "tools/cli/format.h"

namespace vedette {
namespace {

constexpr std::size_t kSignals = 4;  // as many as one glance takes
// Where no score had reasons: what anybody asks first.
constexpr std::array<std::string_view, kSignals> kUsualSignals{"cpu_cores", "memory_bytes",
                                                               "runqueue_latency.p99", "syscalls.rate"};

// Bars of what holds from tick to tick.
class Bars {
public:
  // `text` empty: it does not hold.
  void tick(const std::string& row, WallNs now, const std::string& kind, const std::string& text) {
    PlotRow& bars = find(row);
    const bool lasts = open_[row];
    if (lasts) bars.bars.back().to_wall_ns = now;
    open_[row] = !text.empty();
    if (text.empty()) return;
    if (lasts && bars.bars.back().kind == kind && bars.bars.back().text == text) return;
    bars.bars.push_back({now, now, kind, text});
  }
  std::vector<PlotRow> take() {
    std::erase_if(rows_, [](const PlotRow& row) { return row.bars.empty(); });
    return std::move(rows_);
  }
  const std::vector<PlotRow>& rows() const { return rows_; }

private:
  PlotRow& find(const std::string& name) {
    const auto place = std::ranges::find_if(rows_, [&](const PlotRow& row) { return row.name == name; });
    return place != rows_.end() ? *place : rows_.emplace_back(PlotRow{name, {}});
  }

  std::vector<PlotRow> rows_;  // in the order of their first tick
  std::map<std::string, bool> open_;
};

void scale(PlotPanel& panel, std::string_view column, std::string_view unit) {
  panel.floor = 0;
  panel.ceiling = 0;
  for (const double point : panel.lines.front().points) {
    if (!std::isfinite(point)) continue;
    panel.floor = std::min(panel.floor, point);
    panel.ceiling = std::max(panel.ceiling, point);
  }
  if (panel.ceiling <= panel.floor) panel.ceiling = panel.floor + 1;
  panel.low = format_feature(column, unit, panel.floor);
  panel.high = format_feature(column, unit, panel.ceiling);
}

std::string taint_text(const RecordedVerdict& verdict) {
  return verdict.taint ? verdict.reason + ":" + verdict.effect : "";
}

}  // namespace

void ReplaySurvey::add(const ReplayedTick& tick) {
  const Snapshot& snapshot = tick.snapshot;
  for (std::size_t row = 0; row < snapshot.features.entities.size(); ++row) {
    const Entity& entity = *snapshot.features.entities[row];
    Seen& seen = seen_[entity.id];
    seen.name = entity.name;
    const EntityScore& score = snapshot.scores.entities[row];
    for (const std::vector<Reason>* reasons : {&score.anomaly_reasons, &score.risk_reasons}) {
      if (reasons == &score.anomaly_reasons && !score.reasons_matter()) continue;
      for (const Reason& reason : *reasons)
        seen.weights[reason.column] += std::fabs(static_cast<double>(reason.weight));
    }
  }
  for (const Condition& condition : snapshot.conditions) {
    Seen& seen = seen_[condition.entity->id];
    if (!std::exchange(seen.troubled, true)) order_.push_back(condition.entity->id);
    seen.worst = std::max(seen.worst, condition.severity);
  }
}

Result<EntityId> ReplaySurvey::choose(const std::string& wanted) const {
  if (wanted.empty()) {
    // Who came first, of those that were worst.
    const auto worst = std::ranges::max_element(
        order_, [&](EntityId a, EntityId b) { return seen_.at(a).worst < seen_.at(b).worst; });
    return worst == order_.end() ? kNodeEntity : *worst;
  }
  std::vector<EntityId> found;
  for (const auto& [id, seen] : seen_) {
    if (seen.name == wanted) return id;
    if (seen.name.find(wanted) != std::string::npos) found.push_back(id);
  }
  if (found.size() == 1) return found.front();
  std::string text = found.empty() ? "nothing in the recording is named like \"" + wanted + "\""
                                   : "\"" + wanted + "\" matches several; which one?";
  for (std::size_t i = 0; i < std::min<std::size_t>(found.size(), 20); ++i)
    text += "\n  " + clean_text(seen_.at(found[i]).name);
  return fail(text);
}

std::vector<std::uint32_t> ReplaySurvey::signals_of(EntityId id) const {
  std::vector<std::pair<double, std::uint32_t>> by_weight;
  for (const auto& [column, weight] : seen_.at(id).weights) by_weight.emplace_back(-weight, column);
  std::ranges::sort(by_weight);
  std::vector<std::uint32_t> columns;
  const auto add = [&](std::uint32_t column) {
    if (columns.size() < kSignals && std::ranges::find(columns, column) == columns.end())
      columns.push_back(column);
  };
  for (const auto& entry : by_weight) add(entry.second);
  for (const std::string_view name : kUsualSignals) {
    if (const auto column = find_feature(name)) add(static_cast<std::uint32_t>(*column));
  }
  return columns;
}

Result<Plot> plot_of_replay(const ReplayOptions& options, const ReplaySurvey& survey,
                            const std::string& entity) {
  const Result<EntityId> chosen = survey.choose(entity);
  if (!chosen) return tl::unexpected(chosen.error());
  const EntityId id = *chosen;
  const std::vector<std::uint32_t> signals = survey.signals_of(id);

  Plot plot;
  PlotLine anomaly{"anomaly", "anomaly", {}};
  PlotLine threshold{"its alarm", "threshold", {}};
  PlotLine risk{"risk", "risk", {}};
  std::vector<PlotLine> lines(signals.size(), PlotLine{"", "signal", {}});
  Bars conditions;
  Bars actions;
  const auto add = [&](const ReplayedTick& tick) {
    const Snapshot& snapshot = tick.snapshot;
    const WallNs now = snapshot.observation.time.wall_ns;
    plot.wall_ns.push_back(now);
    const auto& entities = snapshot.features.entities;
    const auto place = std::ranges::find_if(entities, [&](const EntityPtr& each) { return each->id == id; });
    const auto row = static_cast<std::size_t>(place - entities.begin());
    const bool here = place != entities.end();
    const EntityScore score = here ? snapshot.scores.entities[row] : EntityScore{};
    anomaly.points.push_back(here ? score.anomaly : NAN);
    threshold.points.push_back(here ? score.anomaly_threshold : NAN);
    risk.points.push_back(here ? score.risk : NAN);
    for (std::size_t i = 0; i < signals.size(); ++i) {
      lines[i].points.push_back(here ? static_cast<double>(snapshot.features.row(row)[signals[i]]) : NAN);
    }
    std::map<std::string, const Condition*> present;
    for (const Condition& condition : snapshot.conditions) {
      if (condition.entity->id == id) {
        present[condition.reason] = &condition;
      } else if (condition.entity->id == kNodeEntity) {
        present["node: " + condition.reason] = &condition;
      }
    }
    for (const PlotRow& known : conditions.rows()) present.try_emplace(known.name, nullptr);
    for (const auto& [name, condition] : present) {
      const std::string severity = condition == nullptr ? "" : std::string(to_string(condition->severity));
      conditions.tick(name, now, severity, severity);
    }
    const bool enforces = snapshot.decision.mode == Mode::kEnforce;
    actions.tick("taint, then", now, "taint", taint_text(tick.then));
    actions.tick(enforces ? "taint, now" : "taint (would be set)", now, "taint", taint_text(tick.now));
    actions.tick("held back", now, "info", substance_of(tick.now.held_back));
    const std::string on_node =
        snapshot.act.tainted ? snapshot.act.taint_reason + ":" + snapshot.act.taint_effect : "";
    actions.tick("taint on the node", now, "taint", on_node);
  };
  auto replay = Replay::open(options);
  if (!replay) return tl::unexpected(replay.error());
  ReplayedTick tick;
  for (;;) {
    const Result<bool> more = (*replay)->next(tick);
    if (!more) return tl::unexpected(more.error());
    if (!*more) break;
    add(tick);
  }
  if (plot.wall_ns.empty()) return fail("recording " + options.path + ": it has no tick to draw");

  const double lasts_s = static_cast<double>(plot.wall_ns.back() - plot.wall_ns.front()) / kNsPerSecond;
  plot.title = survey.name_of(id);
  plot.subtitle =
      format_clock(plot.wall_ns.front(), 0) + ", " + format_duration(lasts_s) + " · " + options.path;
  if (options.policy) plot.subtitle += " · policy " + options.policy->origin;
  if (!options.model.empty()) plot.subtitle += " · model " + options.model;
  PlotPanel scores{"scores", "0", "1", 0, 1, {std::move(anomaly), std::move(threshold)}};
  const bool has_risk = std::ranges::any_of(risk.points, [](double point) { return !std::isnan(point); });
  if (has_risk) scores.lines.push_back(std::move(risk));
  plot.panels.push_back(std::move(scores));
  for (std::size_t i = 0; i < signals.size(); ++i) {
    const FeatureInfo& column = feature_columns()[signals[i]];
    const bool none =
        std::ranges::none_of(lines[i].points, [](double point) { return std::isfinite(point); });
    if (none) continue;
    PlotPanel panel;
    panel.name = feature_label(column.name);
    panel.lines.push_back(std::move(lines[i]));
    scale(panel, column.name, column.unit);
    plot.panels.push_back(std::move(panel));
  }
  plot.rows = conditions.take();
  for (PlotRow& row : actions.take()) plot.rows.push_back(std::move(row));
  return plot;
}

}  // namespace vedette
