// A condition as status and explain show it. A pure function: any thread.
#pragma once

#include <cstdint>
#include <string>

#include "tools/cli/screen.h"

namespace vedette {

namespace api {
class Condition;
class Reason;
}  // namespace api

// Two to four lines: what and for how long; the message; the strongest reasons; when it ends, if it does.
std::string condition_text(const api::Condition& condition, std::uint64_t now_wall_ns, const Screen& screen,
                           bool with_entity);

// "memory use 97 %", or with what is usual: "runqueue latency p99 38 ms (usually 1.2 ms)".
std::string reason_text(const api::Reason& reason);

}  // namespace vedette
