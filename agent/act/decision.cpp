#include "agent/act/decision.h"

#include <algorithm>
#include <cctype>

namespace vedette {

std::string_view to_string(Mode mode) {
  return mode == Mode::kObserve ? "observe" : mode == Mode::kAdvise ? "advise" : "enforce";
}

std::string taint_value(const std::string& reason) {
  constexpr std::size_t kMaxTaintValue = 63;
  std::string value;
  for (const char c : reason.substr(0, kMaxTaintValue)) {
    const bool allowed = std::isalnum(static_cast<unsigned char>(c)) != 0 || c == '-' || c == '_' || c == '.';
    value += allowed ? c : '-';
  }
  const auto alnum = [](char c) { return std::isalnum(static_cast<unsigned char>(c)) != 0; };
  value.erase(value.begin(), std::find_if(value.begin(), value.end(), alnum));
  value.erase(std::find_if(value.rbegin(), value.rend(), alnum).base(), value.end());
  return value;
}

}  // namespace vedette
