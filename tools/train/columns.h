// The one list of columns a risk model may use, each group with its reason. Read by vedette-train and the
// benchmark of the tick. Constants: any thread.
#pragma once

#include <array>
#include <string_view>

namespace vedette {

struct RiskColumn {
  std::string_view name;
  int direction;  // how the risk may move with it: 1 up, -1 down, 0 either (XGBoost's monotone constraint)
};

// A model trained on one machine must hold on the next: only what means the same on both. Shares of a limit,
// their trends and the time left to it; refusals, which are zero on a healthy machine of any size; stalls.
// Left out, with the reason:
//   absolute sizes (memory_bytes, cpu_cores, pids, open_files) and traffic (syscalls.rate, forks.rate, ...)
//     say how big a pod is; latencies say how fast a machine is
//   oom_kills, ext4_errors, ... are failures: a model that sees them announces what has happened
//   pids_use, disk_inodes_use, cpu_*, pressure_cpu, pressure_io cause none of the three failures of the
//     campaign: there they can only tell one synthetic workload from another
// The directions are physics, not data: a fuller or faster filling resource is never the safer one.
inline constexpr std::array<RiskColumn, 15> kRiskColumns{{
    // How full, how fast it fills, how long it lasts: the resources whose end is the label.
    {"memory_use", 1},
    {"memory_use.slope", 1},
    {"memory_use.eta", -1},
    {"open_files_use", 1},
    {"open_files_use.slope", 1},
    {"open_files_use.eta", -1},
    {"disk_space_use", 1},
    {"disk_space_use.slope", 1},
    {"disk_space_use.eta", -1},
    // The same resources refused already, now and then, before the failure that ends it.
    {"errors_memory.rate", 1},
    {"errors_descriptors.rate", 1},
    {"errors_space.rate", 1},
    // How hard the kernel works to find memory.
    {"direct_reclaims.rate", 1},
    {"pressure_memory", 1},
    {"pressure_memory_full", 1},
}};

}  // namespace vedette
