// Text from outside (cgroup paths, process names, arguments) made safe to send and to show: what leaves is
// valid UTF-8, which protobuf and Prometheus insist on, without control characters, which a terminal obeys.
// A pure function: any thread.
#pragma once

#include <string>
#include <string_view>

namespace vedette {

bool is_utf8(std::string_view text);

// Each byte that is no part of a valid sequence, and each control character, becomes '?'.
std::string clean_text(std::string_view text);

}  // namespace vedette
