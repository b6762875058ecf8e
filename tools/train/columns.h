// The one list of columns a risk model may use, each kind with its reason. Read by vedette-train and the
// benchmark of the tick. Constants: any thread.
#pragma once

#include <array>
#include <string_view>

namespace vedette {

// A model trained on one machine must hold on the next: only what means the same on both. Shares of a limit,
// their trends and the time left to it; error rates, which are zero on a healthy machine of any size; shares
// of time. Left out: absolute sizes (memory_bytes, cpu_cores, pids, open_files) and traffic (syscalls.rate,
// forks.rate, ...), which say how big a pod is, latencies, which say how fast a machine is, and oom_kills and
// ext4_errors, which are the failures themselves: a model that sees them announces what has happened.
inline constexpr std::array<std::string_view, 30> kRiskColumns{
    // how full, how fast it fills, how long it lasts: the three resources whose end is the label
    "memory_use",
    "memory_use.slope",
    "memory_use.eta",
    "open_files_use",
    "open_files_use.slope",
    "open_files_use.eta",
    "disk_space_use",
    "disk_space_use.slope",
    "disk_space_use.eta",
    "disk_inodes_use",
    "disk_inodes_use.slope",
    "disk_inodes_use.eta",
    "pids_use",
    "pids_use.slope",
    "pids_use.eta",
    // the same resources refused already, now and then, before the failure that ends it
    "errors_space.rate",
    "errors_memory.rate",
    "errors_descriptors.rate",
    "errors_processes.rate",
    "errors_io.rate",
    // how hard the kernel works to keep up: stalls per second, and shares of time
    "direct_reclaims.rate",
    "pressure_memory",
    "pressure_memory.slope",
    "pressure_memory_full",
    "pressure_io",
    "pressure_io.slope",
    "pressure_io_full",
    // whether the pod is held back, which slows a leak
    "cpu_limit_use",
    "cpu_throttled",
    "pressure_cpu",
};

}  // namespace vedette
