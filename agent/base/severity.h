// How bad a trouble is, and of what part of the node: the words that rules, conditions and people share.
// Constants: any thread.
#pragma once

#include <cstdint>
#include <string_view>

namespace vedette {

enum class Severity : std::uint8_t { kInfo, kDegraded, kUnhealthy };
enum class Domain : std::uint8_t { kKernel, kMemory, kCpu, kStorage, kNetwork, kHardware, kRuntime };

std::string_view to_string(Severity severity);
std::string_view to_string(Domain domain);

}  // namespace vedette
