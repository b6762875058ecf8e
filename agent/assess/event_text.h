// What the kernel told, in a sentence: for the messages of conditions and for `vedette explain`. Pure
// functions: any thread.
#pragma once

#include <string>

#include "agent/collect/observation.h"

namespace vedette {

// What happened; what a task did or met without the task: "was killed by the OOM killer at its cgroup's
// memory limit, 512 MiB resident". Has text of the kernel in it as it came.
std::string describe(const KernelEvent& event);

// "nginx (pid 812)"; "a task" where no name came along.
std::string who(const KernelEvent& event);

}  // namespace vedette
