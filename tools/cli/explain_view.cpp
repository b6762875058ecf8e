#include <algorithm>
#include <cmath>

#include "exporter/api.pb.h"
#include "tools/cli/condition_text.h"
#include "tools/cli/format.h"
#include "tools/cli/views.h"

namespace vedette {
namespace {

// What stands before a sparkline: two blanks, label, value, two blanks.
constexpr std::size_t kTrailMargin = 38;
// When and how long ago, before an event.
constexpr std::size_t kEventMargin = 26;

// By api.proto's words; an agent of another version may have others.
std::string why_not_judged(const std::string& learning) {
  if (learning == "settling")
    return "begins with what its workload is known to do; judged when it has settled";
  if (learning == "new_version") return "another version of its workload: learns anew what is usual";
  if (learning == "replicas_changed")
    return "its workload has more or fewer pods here than before: learns anew what is usual";
  if (learning == "new_signals")
    return "what is known of it was learnt from other signals: learns anew what is rare";
  return "warming up: too little seen to say what is usual";
}

class ExplainText {
public:
  ExplainText(const api::Response& response, const Screen& screen)
      : response_(response), explain_(response.explain()), screen_(screen) {}

  std::string text() {
    headline();
    conditions();
    forecasts();
    reasons("Unusual (in standard deviations)", explain_.anomaly_reasons());
    reasons("Why at risk (in log-odds)", explain_.risk_reasons());
    trails();
    events();
    return std::move(text_);
  }

private:
  void title(const std::string& words) { text_ += "\n" + screen_.paint(Paint::kBold, words) + "\n"; }

  void headline() {
    const api::TopRow& row = explain_.row();
    const std::string state = !row.severity().empty() && row.severity() != "info" ? row.severity()
                              : row.anomalous()                                   ? "anomalous"
                                                                                  : "healthy";
    text_ += screen_.paint(paint_of(state), mark_of(state)) + " " +
             screen_.paint(Paint::kBold, row.entity().name()) + " is " +
             screen_.paint(paint_of(state), state);
    if (!row.entity().workload().empty())
      text_ += screen_.paint(Paint::kDim, "  (" + row.entity().workload() + ")");
    text_ += "\n";
    std::string scores = row.warming_up() ? why_not_judged(row.learning())
                                          : "anomaly " + format_percent(row.anomaly()) + " (threshold " +
                                                format_percent(row.anomaly_threshold()) + ")";
    const bool told = std::ranges::any_of(explain_.conditions(), [](const api::Condition& condition) {
      return condition.reason() == "Anomaly";
    });
    if (row.anomalous() && !told)
      scores += ", not told: nobody waits longer for it, and it has not held for long";
    scores += std::isnan(row.risk()) ? " · no failure risk"
                                     : " · failure within a minute " + format_percent(row.risk());
    text_ += wrap(scores, screen_.columns, 2);
  }

  void conditions() {
    if (explain_.conditions().empty()) return;
    title("Conditions");
    for (const api::Condition& condition : explain_.conditions())
      text_ += condition_text(condition, response_.agent().wall_ns(), screen_, false);
  }

  void forecasts() {
    if (explain_.forecasts().empty()) return;
    title("Forecast");
    for (const api::Forecast& forecast : explain_.forecasts()) {
      const std::string line = pad_right(feature_label(forecast.signal()), 18) + " " +
                               pad_left(format_percent(forecast.value()), 6) + "  " +
                               pad_left("+" + format_percent(forecast.slope_per_s()) + "/s", 12) +
                               "  reaches its limit in " + format_duration(forecast.eta_s());
      text_ += "  " + clip(line, screen_.columns - 2) + "\n";
    }
  }

  void reasons(const std::string& words, const google::protobuf::RepeatedPtrField<api::Reason>& list) {
    if (list.empty()) return;
    title(words);
    for (const api::Reason& reason : list) {
      const std::string usual =
          std::isnan(reason.usual())
              ? ""
              : "usually " + format_feature(reason.column(), reason.unit(), reason.usual());
      const std::string weight = (reason.weight() > 0 ? "+" : "") + format_number(reason.weight());
      const std::string line = pad_right(feature_label(reason.column()), 34) + " " +
                               pad_left(format_feature(reason.column(), reason.unit(), reason.value()), 11) +
                               "  ";
      text_ += "  " + line + pad_right(usual, 20) + " " + screen_.paint(Paint::kDim, weight) + "\n";
    }
  }

  void trails() {
    // One column per second where there is room.
    const std::size_t room = screen_.columns > kTrailMargin + 10 ? screen_.columns - kTrailMargin : 10;
    std::string lines;
    std::size_t seconds = 0;
    for (const api::Trail& trail : explain_.row().trails()) {
      const std::vector<double> points(trail.points().begin(), trail.points().end());
      if (std::all_of(points.begin(), points.end(), [](double point) { return std::isnan(point); })) continue;
      seconds = std::min(points.size(), room);
      const bool share = trail.unit() == "ratio" || trail.unit() == "share";
      lines += "  " + pad_right(feature_label(trail.column()), 21) + " " +
               pad_left(format_feature(trail.column(), trail.unit(), points.back()), 12) + "  " +
               sparkline(points, seconds, share ? 1 : 0) + "\n";
    }
    if (lines.empty()) return;
    title("Last " + std::to_string(seconds) + " s");
    text_ += lines;
  }

  void events() {
    title("Kernel events");
    if (explain_.events().empty()) {
      text_ += "  none remembered\n";
      return;
    }
    for (const api::Event& event : explain_.events()) {
      std::string what = event.text();
      if (!event.container().empty()) what += " (container " + event.container() + ")";
      if (!event.comm().empty()) what.insert(0, event.comm() + "[" + std::to_string(event.pid()) + "] ");
      if (event.count() > 1) what += " (" + std::to_string(event.count()) + " times)";
      const std::string when = "  " + format_clock(event.wall_ns(), event.wall_ns()) + "  " +
                               pad_left(format_duration(event.age_s()) + " ago", 12);
      const std::string lines = wrap(what, screen_.columns, kEventMargin);
      text_ += screen_.paint(Paint::kDim, when) + lines.substr(std::min(lines.size(), text_width(when)));
    }
  }

  const api::Response& response_;
  const api::Explain& explain_;
  const Screen& screen_;
  std::string text_;
};

}  // namespace

std::string explain_view(const api::Response& response, const Screen& screen) {
  return ExplainText(response, screen).text();
}

}  // namespace vedette
