#include "agent/assess/condition.h"

namespace vedette {

std::string_view to_string(Severity severity) {
  switch (severity) {
    case Severity::kInfo:
      return "info";
    case Severity::kDegraded:
      return "degraded";
    case Severity::kUnhealthy:
      return "unhealthy";
  }
  return "";
}

std::string_view to_string(Domain domain) {
  switch (domain) {
    case Domain::kKernel:
      return "kernel";
    case Domain::kMemory:
      return "memory";
    case Domain::kCpu:
      return "cpu";
    case Domain::kStorage:
      return "storage";
    case Domain::kNetwork:
      return "network";
  }
  return "";
}

std::string_view to_string(Evidence evidence) {
  switch (evidence) {
    case Evidence::kEvent:
      return "event";
    case Evidence::kLevel:
      return "level";
    case Evidence::kRisk:
      return "risk";
    case Evidence::kAnomaly:
      return "anomaly";
  }
  return "";
}

}  // namespace vedette
