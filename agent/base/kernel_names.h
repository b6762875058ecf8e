// What the kernel calls its system calls (this architecture's, from the header the agent was built with),
// signals and devices. Used by collect/ and assess/; pure, any thread.
#pragma once

#include <cstdint>
#include <string>

namespace vedette {

// "openat"; "call 1234" for a number that the header does not know, "none" for a negative one.
std::string syscall_name(std::int64_t number);
// "SIGKILL"; "signal 40" for one without a name, as real-time signals are.
std::string signal_name(std::int64_t number);
// "8:1", of a block device by the kernel's number (major << 20 | minor).
std::string device_number(std::int64_t device);

}  // namespace vedette
