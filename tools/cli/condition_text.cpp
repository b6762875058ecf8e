#include "tools/cli/condition_text.h"

#include <algorithm>
#include <cmath>

#include "exporter/api.pb.h"
#include "tools/cli/format.h"

namespace vedette {
namespace {

constexpr std::size_t kIndent = 4;

std::string joined(const std::vector<std::string>& parts) {
  std::string line;
  for (const std::string& part : parts) line += (line.empty() ? "" : " · ") + part;
  return line;
}

}  // namespace

std::string reason_text(const api::Reason& reason) {
  std::string text =
      feature_label(reason.column()) + " " + format_feature(reason.column(), reason.unit(), reason.value());
  if (!std::isnan(reason.usual())) {
    text += " (usually " + format_feature(reason.column(), reason.unit(), reason.usual()) + ")";
  }
  return text;
}

std::string condition_text(const api::Condition& condition, std::uint64_t now_wall_ns, const Screen& screen,
                           bool with_entity) {
  const std::string state = condition.severity() + " for " + format_duration(condition.active_s());
  std::string title = condition.reason();
  if (with_entity) title += "  " + condition.entity();
  const std::size_t room = screen.columns > state.size() + 6 ? screen.columns - state.size() - 6 : 20;
  title = pad_right(title, room);
  const std::size_t bold = std::min(title.size(), condition.reason().size());
  std::string text = "  " + screen.paint(paint_of(condition.severity()), mark_of(condition.severity())) +
                     " " + screen.paint(Paint::kBold, title.substr(0, bold)) + title.substr(bold) + "  " +
                     screen.paint(paint_of(condition.severity()), state) + "\n";
  if (!condition.message().empty()) text += wrap(condition.message(), screen.columns, kIndent);

  std::vector<std::string> why;
  for (const api::Reason& reason : condition.reasons()) why.push_back(reason_text(reason));
  if (why.empty()) why.assign(condition.details().begin(), condition.details().end());
  if (why.size() > 3) why.resize(3);
  if (!why.empty())
    text += screen.paint(Paint::kDim, wrap("because " + joined(why), screen.columns, kIndent));

  std::vector<std::string> facts{"since " + format_clock(condition.since_wall_ns(), now_wall_ns)};
  if (condition.count() > 1) {
    facts.push_back(format_number(condition.count()) + " pieces of evidence, the last " +
                    format_duration(condition.evidence_age_s()) + " ago");
  }
  if (condition.confidence() < 0.995) facts.push_back("confidence " + format_percent(condition.confidence()));
  if (condition.recovering())
    facts.push_back("recovering, over in " + format_duration(condition.recovers_in_s()));
  text += screen.paint(Paint::kDim, wrap(joined(facts), screen.columns, kIndent));
  return text;
}

}  // namespace vedette
