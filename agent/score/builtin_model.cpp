#include "agent/score/builtin_model.h"

// Labels of agent/CMakeLists.txt.
// NOLINTNEXTLINE(readability-identifier-naming)
extern "C" const char vedette_risk_model[], vedette_risk_model_end[];

namespace vedette {

std::string_view builtin_risk_model() {
  return {vedette_risk_model, static_cast<std::size_t>(vedette_risk_model_end - vedette_risk_model)};
}

}  // namespace vedette
