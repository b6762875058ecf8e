#include <algorithm>
#include <cmath>

#include "exporter/api.pb.h"
#include "tools/cli/format.h"
#include "tools/cli/views.h"

namespace vedette {
namespace {

// As wide as its widest entry, but no wider than leaves room for the rest.
template <typename List, typename Text>
std::size_t width_of(const List& list, const char* title, const Text& text) {
  std::size_t width = text_width(title);
  for (const auto& item : list) width = std::max(width, text_width(text(item)));
  return std::min<std::size_t>(width, 60) + 2;
}

}  // namespace

std::string policy_view(const api::Response& response, const Screen& screen) {
  const api::Policy& policy = response.policy();
  std::string text = "Policy: " + policy.origin() + "\n";
  if (!policy.reload_error().empty())
    text += screen.paint(
        Paint::kRed, wrap("refused since, so still this one: " + policy.reload_error(), screen.columns, 0));
  if (!policy.restart_for().empty())
    text += screen.paint(Paint::kYellow, wrap("changed in the file, needs a restart: " + policy.restart_for(),
                                              screen.columns, 0));
  const auto about = [](const api::PolicyRule& rule) { return rule.about(); };
  const auto when = [](const api::PolicyRule& rule) { return rule.when(); };
  const std::size_t about_width = width_of(policy.rules(), "ABOUT", about);
  const std::size_t when_width = width_of(policy.rules(), "WHEN", when);
  text += screen.paint(Paint::kDim, pad_left("RULE", 4) + "  " + pad_right("ABOUT", about_width) +
                                        pad_right("WHEN", when_width) + "DOES") +
          "\n";
  int number = 0;
  for (const api::PolicyRule& rule : policy.rules()) {
    const std::size_t indent = 6 + about_width + when_width;
    std::string does = rule.does();
    // Behind its columns where there is room, else below them.
    if (indent + 20 <= screen.columns) {
      does = wrap(does, screen.columns, indent).substr(indent);
    } else {
      does = "\n" + wrap(does, screen.columns, 6);
    }
    text += pad_left(std::to_string(++number), 4) + "  " + pad_right(rule.about(), about_width) +
            pad_right(rule.when(), when_width) + does;
  }
  std::string rule =
      "The first rule about a condition decides; the strongest effect over all conditions of the node wins.";
  if (policy.relapse_doublings() > 0)
    rule += " The same trouble again within a day takes twice as long to recover, up to " +
            std::to_string(policy.relapse_doublings()) + " times in a row.";
  text += "\n" + wrap(rule, screen.columns, 0);
  if (!policy.critical().empty()) {
    std::string pods;
    for (const std::string& pod : policy.critical()) pods += " " + pod;
    text += wrap("Where one of these pods runs, NoExecute becomes NoSchedule:" + pods, screen.columns, 0);
  }
  if (!policy.present()) return text;
  text += "\n" +
          screen.paint(Paint::kDim, pad_left("RULE", 4) + "  " + pad_right("NAME", 26) +
                                        pad_right("VERDICTS", 10) + pad_right("RIGHT", 8) +
                                        pad_right("UNDECIDED", 11) + "TO ACT") +
          "\n";
  number = 0;
  for (const api::PolicyRule& entry : policy.rules()) {
    const std::uint64_t verdicts = entry.confirmed() + entry.refuted();
    const double right =
        verdicts == 0 ? NAN : static_cast<double>(entry.confirmed()) / static_cast<double>(verdicts);
    std::string to_act = "it needs no record";
    if (entry.needs_verdicts() > 0) {
      to_act = "it needs " + std::to_string(entry.needs_verdicts()) + " verdicts at precision " +
               format_percent(entry.needs_precision()) + ", and " +
               (entry.lacks().empty() ? "has them" : entry.lacks() + ": until then it advises");
    }
    text += pad_left(std::to_string(++number), 4) + "  " + pad_right(entry.name(), 26) +
            pad_right(std::to_string(verdicts), 10) + pad_right(format_percent(right), 8) +
            pad_right(std::to_string(entry.undecided()), 11) + to_act + "\n";
  }
  text += "\n";
  if (policy.judgements().empty()) text += "No condition is present.\n";
  for (const api::Judgement& judgement : policy.judgements()) {
    text += screen.paint(Paint::kBold, judgement.reason()) + " of " + judgement.entity() +
            (judgement.rule().empty() ? "" : ", rule " + judgement.rule()) + "\n" +
            screen.paint(judgement.acts() ? Paint::kRed : Paint::kPlain,
                         wrap(judgement.why(), screen.columns, 4));
  }
  return text;
}

}  // namespace vedette
