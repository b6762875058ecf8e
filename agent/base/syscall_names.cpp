#include "agent/base/syscall_names.h"

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

}  // namespace vedette
