#include "exporter/log.h"

#include <numeric>

#include <spdlog/spdlog.h>

namespace vedette {

void LogSink::publish(const std::shared_ptr<const Snapshot>& snapshot) {
  decltype(conditions_) active;
  for (const Condition& condition : snapshot->conditions) {
    const std::pair key(condition.reason, condition.entity->id);
    active[key] = {condition.entity->name, condition.severity};
    const auto known = conditions_.find(key);
    if (known == conditions_.end() || known->second.second != condition.severity) {
      spdlog::log(condition.severity == Severity::kInfo ? spdlog::level::info : spdlog::level::warn,
                  "{} {}: {} (confidence {:.2f}): {}", condition.entity->name, condition.reason,
                  to_string(condition.severity), condition.confidence, condition.message);
    }
  }
  for (const auto& [key, was] : conditions_) {
    if (!active.contains(key)) spdlog::info("{} {}: over", was.first, key.first);
  }
  conditions_ = std::move(active);

  for (const ProbeHealth& probe : snapshot->observation.probes) {
    const auto [known, fresh] = probes_.try_emplace(probe.name, ProbeState::kAttached);
    if (known->second == probe.state) continue;
    known->second = probe.state;
    if (probe.state == ProbeState::kAttached) {
      spdlog::info("probe {}: attached", probe.name);
    } else {
      spdlog::warn("probe {}: {}: {}", probe.name, probe.state == ProbeState::kOff ? "off" : "degraded",
                   probe.reason);
    }
  }

  const Decision& decision = snapshot->decision;
  if (decision.generation != generation_) {
    if (decision.taint != tainted_) {
      spdlog::warn("{} {} the node: {} {}", decision.mode == Mode::kEnforce ? "decided to" : "would",
                   decision.taint ? "taint" : "untaint", decision.reason, decision.message);
    }
    generation_ = decision.generation;
    tainted_ = decision.taint;
  }
  const Losses& losses = snapshot->observation.losses;
  const std::uint64_t lost =
      std::accumulate(losses.lost.begin(), losses.lost.end(), std::uint64_t{0}) + losses.no_slot;
  // Doubling thresholds: a flood of losses is a handful of lines, not a flood of its own.
  if (lost > 2 * lost_) {
    spdlog::warn("telemetry: {} records or counts lost so far; see `vedette probes`", lost);
    lost_ = lost;
  }
}

}  // namespace vedette
