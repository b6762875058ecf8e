#include "tools/cli/budget_text.h"

#include "exporter/api.pb.h"
#include "tools/cli/format.h"

namespace vedette {

std::string budget_text(const api::Budget& budget) {
  std::string text;
  if (budget.measured()) {
    text = format_percent(budget.kernel_share() + budget.agent_share()) + " of all CPUs' time (probes " +
           format_percent(budget.kernel_share()) + ", agent " + format_percent(budget.agent_share()) + "), " +
           format_percent(budget.cpu_share()) + " allowed";
  } else {
    text = format_percent(budget.cpu_share()) + " of all CPUs' time allowed, " +
           (budget.unmeasured().empty() ? "not measured yet" : budget.unmeasured());
  }
  text += " · step " + std::to_string(budget.step()) + " of " + std::to_string(budget.steps()) +
          (budget.fixed() ? " (fixed): " : ": ") + budget.does();
  if (budget.exhausted())
    text +=
        budget.fixed() ? " · over the budget" : " · over the budget, and nothing left to give up would help";
  if (!budget.maps().empty()) text += " · " + budget.maps();
  return text;
}

bool is_strained(const api::Budget& budget) {
  return (budget.step() > 0 && !budget.fixed()) || budget.exhausted() || !budget.maps().empty();
}

}  // namespace vedette
