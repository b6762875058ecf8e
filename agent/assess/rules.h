// What counts as trouble, as tables: kernel events and levels that become conditions. Read by assessor.cpp
// alone; assess/README.md lists the same reasons for people. Constants: any thread. (Lines of the kernel log:
// data, see collect/log_rules.yaml.)
#pragma once

#include <array>
#include <cstdint>
#include <string_view>

#include "agent/assess/condition.h"
#include "bpf/events.h"

namespace vedette {

// An event that is trouble by itself. From `unhealthy_at` pieces of evidence within one recovery time on, the
// condition is kUnhealthy; 0: never, it stays kDegraded.
struct EventRule {
  std::uint32_t type;
  std::string_view reason;
  Domain domain;
  std::uint32_t unhealthy_at;
};

// OOM kills are missing here: whose trouble one is depends on whose limit was hit (assessor.cpp).
inline constexpr std::array<EventRule, 3> kEventRules{{
    // The filesystem contradicts itself: whatever is written next may be lost. One is enough.
    {EVENT_ext4_error, "FilesystemError", Domain::kStorage, 1},
    // One task may wait for one dead NFS server; three mean that a resource of the node is gone.
    {EVENT_hung_task, "TaskHung", Domain::kKernel, 3},
    // A single bad sector is remapped by the disk; errors that go on are not.
    {EVENT_block_error, "DiskError", Domain::kStorage, 3},
}};

// A share of a limit that stays high. On a pod it is that pod's trouble, told but never acted upon.
struct LevelRule {
  std::string_view feature;
  std::string_view reason;
  Domain domain;
  double enter;  // at or above it for kLevelHoldS seconds: active
  double leave;  // below it: recovering; the gap keeps a value that hovers from flapping
};

// Long enough that a compiler's peak or a log about to rotate passes unnamed.
inline constexpr double kLevelHoldS = 10;

inline constexpr std::array<LevelRule, 5> kLevelRules{{
    // The kubelet evicts at 90 to 95 % by its own default; what it did not solve at 97 % is worth a word.
    {"disk_space_use", "DiskFull", Domain::kStorage, 0.97, 0.95},
    {"disk_inodes_use", "InodesExhausted", Domain::kStorage, 0.97, 0.95},
    {"memory_use", "MemoryNearLimit", Domain::kMemory, 0.97, 0.94},
    {"pids_use", "PidsNearLimit", Domain::kKernel, 0.95, 0.90},
    {"open_files_use", "DescriptorsNearLimit", Domain::kKernel, 0.95, 0.90},
}};

}  // namespace vedette
