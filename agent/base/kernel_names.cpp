#include "agent/base/kernel_names.h"

#include <cstring>
#include <string_view>
#include <unordered_map>

namespace vedette {

std::string syscall_name(std::int64_t number) {
  static const std::unordered_map<std::int64_t, std::string_view> names{
#include "agent/base/syscall_table.inc"
  };
  if (number < 0) return "none";
  const auto found = names.find(number);
  return found == names.end() ? "call " + std::to_string(number) : std::string(found->second);
}

std::string signal_name(std::int64_t number) {
  const char* name = ::sigabbrev_np(static_cast<int>(number));
  return name == nullptr ? "signal " + std::to_string(number) : std::string("SIG") + name;
}

std::string device_number(std::int64_t device) {
  constexpr int kMinorBits = 20;
  return std::to_string(device >> kMinorBits) + ":" + std::to_string(device & ((1 << kMinorBits) - 1));
}

}  // namespace vedette
