#include "agent/base/severity.h"

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
    case Domain::kHardware:
      return "hardware";
    case Domain::kRuntime:
      return "runtime";
  }
  return "";
}

}  // namespace vedette
