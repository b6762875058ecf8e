#include "agent/act/decision.h"

namespace vedette {

std::string_view to_string(Mode mode) {
  return mode == Mode::kObserve ? "observe" : mode == Mode::kAdvise ? "advise" : "enforce";
}

}  // namespace vedette
