#include "agent/act/decision.h"

namespace vedette {

std::string_view to_string(Mode mode) {
  return mode == Mode::kObserve ? "observe" : "enforce";
}

}  // namespace vedette
