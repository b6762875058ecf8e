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
// their trends and the time left to it; error rates, which are zero on a healthy machine of any size; shares
// of time. Left out: absolute sizes (memory_bytes, cpu_cores, pids, open_files) and traffic (syscalls.rate,
// forks.rate, ...), which say how big a pod is; latencies, which say how fast a machine is; and oom_kills and
// ext4_errors, which are failures themselves: a model that sees them announces what has happened.
// The directions are physics, not data: a fuller or faster filling resource never is the safer one.
inline constexpr std::array<RiskColumn, 30> kRiskColumns{{
    // How full, how fast it fills, how long it lasts: the resources whose end is the label, and their kin.
    {"memory_use", 1},
    {"memory_use.slope", 1},
    {"memory_use.eta", -1},
    {"open_files_use", 1},
    {"open_files_use.slope", 1},
    {"open_files_use.eta", -1},
    {"disk_space_use", 1},
    {"disk_space_use.slope", 1},
    {"disk_space_use.eta", -1},
    {"disk_inodes_use", 1},
    {"disk_inodes_use.slope", 1},
    {"disk_inodes_use.eta", -1},
    {"pids_use", 1},
    {"pids_use.slope", 1},
    {"pids_use.eta", -1},
    // The same resources refused already, now and then, before the failure that ends it.
    {"errors_space.rate", 1},
    {"errors_memory.rate", 1},
    {"errors_descriptors.rate", 1},
    {"errors_processes.rate", 1},
    {"errors_io.rate", 1},
    // How hard the kernel works to keep up: stalls per second, and shares of time.
    {"direct_reclaims.rate", 1},
    {"pressure_memory", 1},
    {"pressure_memory.slope", 0},
    {"pressure_memory_full", 1},
    {"pressure_io", 0},
    {"pressure_io.slope", 0},
    {"pressure_io_full", 0},
    // Whether the pod is held back, which slows a leak.
    {"cpu_limit_use", 0},
    {"cpu_throttled", 0},
    {"pressure_cpu", 0},
}};

}  // namespace vedette
