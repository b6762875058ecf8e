// Names of this architecture's system calls, made from its header when the agent is built. Used by collect/
// and the exporter; pure, any thread.
#pragma once

#include <cstdint>
#include <string>

namespace vedette {

// "openat"; "call 1234" for a number that the header does not know, "none" for a negative one.
std::string syscall_name(std::int64_t number);

}  // namespace vedette
