#include "agent/assess/overall.h"

namespace vedette {

std::string_view to_string(Overall overall) {
  switch (overall) {
    case Overall::kHealthy:
      return "healthy";
    case Overall::kDegraded:
      return "degraded";
    case Overall::kUnhealthy:
      return "unhealthy";
  }
  return "";
}

Overall overall(const std::vector<Condition>& conditions) {
  Overall worst = Overall::kHealthy;
  for (const Condition& condition : conditions) {
    if (condition.severity < Severity::kDegraded) continue;
    if (condition.entity->id == kNodeEntity && condition.severity == Severity::kUnhealthy)
      return Overall::kUnhealthy;
    worst = Overall::kDegraded;
  }
  return worst;
}

}  // namespace vedette
