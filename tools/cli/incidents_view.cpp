#include "exporter/api.pb.h"
#include "tools/cli/format.h"
#include "tools/cli/views.h"

namespace vedette {
namespace {

double seconds(std::uint64_t from_ns, std::uint64_t to_ns) {
  return to_ns > from_ns ? static_cast<double>(to_ns - from_ns) / 1e9 : 0;
}

std::string newest_verdict(const api::Incident& incident) {
  return incident.feedback_size() == 0 ? "" : incident.feedback(incident.feedback_size() - 1).verdict();
}

// "FilesystemError and 2 more".
std::string what_of(const api::Incident& incident) {
  if (incident.conditions_size() == 0) return "";
  std::string text = incident.conditions(0).reason();
  const std::uint32_t more = static_cast<std::uint32_t>(incident.conditions_size()) - 1 + incident.more();
  if (more > 0) text += " and " + std::to_string(more) + " more";
  return text;
}

// "unit/a, unit/b and 7 more".
std::string list_of(const google::protobuf::RepeatedPtrField<std::string>& names) {
  constexpr int kShown = 8;
  std::string text;
  for (int i = 0; i < names.size() && i < kShown; ++i) text += (i > 0 ? ", " : "") + names[i];
  return names.size() <= kShown ? text : text + " and " + std::to_string(names.size() - kShown) + " more";
}

// What was done, as the rest of a sentence that begins with the time.
std::string sentence(const api::IncidentAction& action) {
  const std::string taint = "vedette.dev/unhealthy=" + action.reason() + ":" + action.effect();
  const std::string why = action.why().empty() ? "" : ": " + action.why();
  if (action.what() == "would_taint") return "would set the taint " + taint + why;
  if (action.what() == "decided_taint") return "decided to set the taint " + taint + why;
  if (action.what() == "would_lift") return "would lift the taint " + taint + why;
  if (action.what() == "decided_lift") return "decided to lift the taint " + taint + why;
  if (action.what() == "advised_taint") return "advised the taint " + taint + why;
  if (action.what() == "advised_lift") return "advises the taint " + taint + " no longer" + why;
  if (action.what() == "trusted") return "trusts the node again" + why;
  if (action.what() == "taint_set") return "the taint " + taint + " is on the node";
  if (action.what() == "taint_lifted") return "the taint " + taint + " is off the node";
  if (action.what() == "held_back") return "held back" + why;
  return action.what() + " " + taint + why;
}

}  // namespace

std::string incidents_view(const api::Response& response, const Screen& screen) {
  const api::Incidents& incidents = response.incidents();
  const std::uint64_t now = response.agent().wall_ns();
  std::string text;
  if (incidents.list_size() == 0) {
    text = "No incident.\n";
  } else {
    constexpr std::size_t kRoom = 23 + 17 + 14 + 11 + 8;  // of the columns before the last
    const std::size_t last = screen.columns > kRoom + 30 ? screen.columns - kRoom : 30;
    text = screen.paint(Paint::kDim, pad_right("INCIDENT", 23) + pad_right("BEGAN", 17) +
                                         pad_right("LASTED", 14) + pad_right("WORST", 11) +
                                         pad_right("SAID", 8) + "WHAT, PUT DOWN TO") +
           "\n";
    for (const api::Incident& incident : incidents.list()) {
      const bool open = incident.closed_wall_ns() == 0;
      const double lasted = seconds(incident.opened_wall_ns(), open ? now : incident.closed_wall_ns());
      text += screen.paint(open ? Paint::kBold : Paint::kPlain, pad_right(incident.id(), 23)) +
              pad_right(format_clock(incident.opened_wall_ns(), now), 17) +
              pad_right((open ? "open " : "") + format_duration(lasted), 14) +
              screen.paint(paint_of(incident.severity()), pad_right(incident.severity(), 11)) +
              pad_right(newest_verdict(incident), 8) +
              clip(what_of(incident) + ", " + incident.cause(), last) + "\n";
    }
  }
  if (!incidents.notice().empty())
    text += screen.paint(Paint::kYellow, wrap(incidents.notice(), screen.columns, 0));
  return text;
}

std::string incident_view(const api::Response& response, const Screen& screen) {
  const api::Incident& incident = response.incident();
  const std::uint64_t now = response.agent().wall_ns();
  const bool open = incident.closed_wall_ns() == 0;
  const std::string began = format_clock(incident.opened_wall_ns(), now);
  std::string text = screen.paint(paint_of(incident.severity()), mark_of(incident.severity())) + " " +
                     screen.paint(Paint::kBold, "Incident " + incident.id()) + " ";
  if (open) {
    text += "is open since " + began + ", for " + format_duration(seconds(incident.opened_wall_ns(), now));
  } else {
    text += "began at " + began + " and lasted " +
            format_duration(seconds(incident.opened_wall_ns(), incident.closed_wall_ns()));
    if (incident.cut_short()) text += " or less: the agent ended before it did";
  }
  text += "; at worst " + screen.paint(paint_of(incident.severity()), incident.severity()) + ".\n\n";
  text +=
      wrap("It is put down to " + incident.cause() + ": " + incident.cause_why() + ".", screen.columns, 0);
  if (!incident.settled())
    text += wrap("This may still change: it is looked at for 10 s.", screen.columns, 0);
  if (incident.victims_size() > 0)
    text += wrap("Suffering: " + list_of(incident.victims()) + ".", screen.columns, 0);
  if (incident.suspects_size() > 0)
    text += "\n" + screen.paint(Paint::kBold, "Who explains how much of the waiting") + "\n";
  for (const api::Suspect& suspect : incident.suspects())
    text += "  " + pad_left(format_percent(suspect.score()), 6) + "  " + suspect.entity() + "\n" +
            wrap(suspect.why(), screen.columns, 10);

  text += "\n" + screen.paint(Paint::kBold, "What began when") + "\n";
  for (const api::IncidentCondition& condition : incident.conditions()) {
    const bool lasts = condition.ended_wall_ns() == 0;
    std::string line = condition.entity() + ": " + condition.message();
    if (condition.confidence() < 0.995) line += ", confidence " + format_percent(condition.confidence());
    line += lasts
                ? "; it lasts"
                : "; over " + format_duration(seconds(condition.began_wall_ns(), condition.ended_wall_ns())) +
                      " later";
    if (condition.came_true()) line += "; what it announced came";
    text +=
        "  " +
        pad_left("+" + format_duration(seconds(incident.opened_wall_ns(), condition.began_wall_ns())), 9) +
        "  " +
        screen.paint(paint_of(condition.severity()), condition.reason() + " (" + condition.severity() + ")") +
        "\n" + wrap(line, screen.columns, 13);
  }
  if (incident.more() > 0) text += "  and " + std::to_string(incident.more()) + " more\n";
  if (incident.actions_size() > 0) text += "\n" + screen.paint(Paint::kBold, "What the agent did") + "\n";
  for (const api::IncidentAction& action : incident.actions())
    text += wrap(format_clock(action.wall_ns(), now) + "  " + sentence(action), screen.columns, 2);
  if (incident.feedback_size() > 0) text += "\n" + screen.paint(Paint::kBold, "What was said") + "\n";
  for (const api::Feedback& feedback : incident.feedback())
    text += wrap(format_clock(feedback.wall_ns(), now) + "  " + feedback.verdict() + ": " + feedback.why(),
                 screen.columns, 2);
  if (!incident.slice().empty())
    text += "\n" + screen.paint(Paint::kBold, "Recorded") + "\n" +
            wrap(incident.slice() + ": `vedette replay` judges it again", screen.columns, 2);
  return text;
}

}  // namespace vedette
