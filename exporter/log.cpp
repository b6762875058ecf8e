#include "exporter/log.h"

#include <spdlog/spdlog.h>

#include "agent/base/clean_text.h"
#include "exporter/names.h"

namespace vedette {

void LogSink::publish(const std::shared_ptr<const Snapshot>& snapshot) {
  decltype(conditions_) active;
  for (const Condition& condition : snapshot->conditions) {
    const std::pair key(condition.reason, condition.entity->id);
    const std::string name = clean_text(condition.entity->name);
    active[key] = {name, condition.severity};
    const auto known = conditions_.find(key);
    if (known == conditions_.end() || known->second.second != condition.severity) {
      spdlog::log(condition.severity == Severity::kInfo ? spdlog::level::info : spdlog::level::warn,
                  "{} {}: {} (confidence {:.2f}): {}", name, condition.reason, to_string(condition.severity),
                  condition.confidence, clean_text(condition.message));
    }
  }
  for (const auto& [key, was] : conditions_) {
    if (!active.contains(key)) spdlog::info("{} {}: over", was.first, key.first);
  }
  conditions_ = std::move(active);

  const BudgetUse& budget = snapshot->self.budget;
  const bool in_turns = kBudgetSteps[budget.step].in_time;
  for (const ProbeHealth& probe : snapshot->observation.probes) {
    const auto [known, fresh] = probes_.try_emplace(probe.name, ProbeState::kAttached);
    // What is watched in turns is the budget's line below, not two lines a turn.
    if (known->second == probe.state || (in_turns && probe.state != ProbeState::kDegraded)) continue;
    known->second = probe.state;
    if (probe.state == ProbeState::kAttached) {
      spdlog::info("probe {}: attached", probe.name);
    } else if (probe.state == ProbeState::kOff) {
      spdlog::info("probe {}: off: {}", probe.name, probe.reason);
    } else {
      spdlog::warn("probe {}: {}: {}", probe.name, to_string(probe.state), probe.reason);
    }
  }

  if (budget.step != budget_.step) {
    spdlog::log(
        budget.step > budget_.step ? spdlog::level::warn : spdlog::level::info,
        "budget: step {}: {} ({:.2f} % of all CPUs' time by probes, {:.2f} % by the agent; {:.2f} % allowed)",
        budget.step, kBudgetSteps[budget.step].does, 100 * budget.kernel_share.value_or(0),
        100 * budget.agent_share, 100 * budget.cpu_share);
  }
  if (budget.exhausted && !budget_.exhausted)
    spdlog::warn(
        "budget: {:.2f} % of all CPUs' time by probes and {:.2f} % by the agent exceed the {:.2f} % allowed, "
        "and no step is left that would help",
        100 * budget.kernel_share.value_or(0), 100 * budget.agent_share, 100 * budget.cpu_share);
  if (budget.maps != budget_.maps) spdlog::warn("budget: {}", budget.maps);
  budget_ = budget;

  const Decision& decision = snapshot->decision;
  if (decision.generation != generation_) {
    if (decision.taint != tainted_) {
      spdlog::warn("{} {} the node: {} {}", decision.mode == Mode::kEnforce ? "decided to" : "would",
                   decision.taint ? "taint" : "untaint", decision.reason, clean_text(decision.message));
    }
    generation_ = decision.generation;
    tainted_ = decision.taint;
  }
  const Losses& losses = snapshot->observation.losses;
  std::uint64_t lost = 0;
  std::string what;
  const auto add = [&](std::uint64_t count, const auto&... of) {
    if (count == 0) return;
    what += (what.empty() ? "" : ", ") + std::to_string(count);
    (what.append(of), ...);
    lost += count;
  };
  for (std::size_t i = 0; i < kEvents.size(); ++i) add(losses.lost[i], " ", kEvents[i].name, " records");
  for (const ProbeHealth& probe : snapshot->observation.probes)
    add(probe.misses.value_or(0), " runs of probe ", probe.name);
  add(losses.no_slot, " counts without a slot");
  // Doubling thresholds: a flood of losses is a handful of lines, not a flood of its own.
  if (lost > 2 * lost_) {
    spdlog::warn("telemetry: lost so far: {}; see `vedette probes`", what);
    lost_ = lost;
  }
}

}  // namespace vedette
