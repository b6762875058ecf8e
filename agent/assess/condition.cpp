#include "agent/assess/condition.h"

namespace vedette {

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
