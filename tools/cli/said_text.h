// What an operator has said to the agent, for `vedette status` and the commands that say it. Pure: any
// thread.
#pragma once

#include <cstdint>
#include <string>

namespace vedette {

namespace api {
class OperatorSay;
}  // namespace api

// One line for each: "paused until 14:02:11 (annotation)"; "nothing is paused or vetoed" where there is none.
std::string said_text(const api::OperatorSay& said, std::uint64_t now_wall_ns);

}  // namespace vedette
