// What counts as trouble, as tables: kernel events and levels that become conditions. Read by assessor.cpp,
// and by reasons.cpp, for their names; assess/README.md lists the same reasons for people. Constants: any
// thread. (Lines of the kernel log: data, see collect/log_rules.yaml.)
#pragma once

#include <array>
#include <cstdint>
#include <string_view>

#include "agent/assess/condition.h"
#include "agent/collect/observation.h"
#include "bpf/events.h"

namespace vedette {

// An event that is trouble by itself. From `unhealthy_at` pieces of evidence within one recovery time on, the
// condition is kUnhealthy; 0: never, it stays at `severity`.
struct EventRule {
  std::uint32_t type;
  std::string_view reason;
  Domain domain;
  std::uint32_t unhealthy_at;
  Severity severity = Severity::kDegraded;
  // Which events of that type; null: all. The first rule that applies is taken.
  bool (*applies)(const KernelEvent&) = nullptr;
};

inline bool is_corrected(const KernelEvent& machine_check) {
  return machine_check.text == "corrected";
}
// enum mf_result: ignored, failed, recovered, delayed.
inline bool is_contained(const KernelEvent& memory_failure) {
  return memory_failure.extra == 2 || memory_failure.extra == 3;
}
// AER_NONFATAL, AER_FATAL, AER_CORRECTABLE.
inline bool is_fatal(const KernelEvent& pcie_error) {
  return pcie_error.extra == 1;
}
inline bool is_correctable(const KernelEvent& pcie_error) {
  return pcie_error.extra == 2;
}
inline bool is_timeout(const KernelEvent& scsi_error) {
  return scsi_error.text == "timeout";
}

inline constexpr std::string_view kTaskHung = "TaskHung";

// Of conditions that no table makes: of OOM kills, by whose limit was hit, and of scores.
inline constexpr std::string_view kNodeOutOfMemory = "NodeOutOfMemory";
inline constexpr std::string_view kOomKilled = "OOMKilled";
inline constexpr std::string_view kPredictedFailure = "PredictedFailure";
inline constexpr std::string_view kAnomaly = "Anomaly";
inline constexpr std::array kScoreAndKillReasons{kNodeOutOfMemory, kOomKilled, kPredictedFailure, kAnomaly};

// OOM kills are missing here: whose trouble one is depends on whose limit was hit (assessor.cpp).
inline constexpr std::array<EventRule, 13> kEventRules{{
    // The filesystem contradicts itself: whatever is written next may be lost. One is enough.
    {EVENT_ext4_error, "FilesystemError", Domain::kStorage, 1},
    // One task may wait for one dead NFS server; three mean that a resource of the node is gone.
    {EVENT_hung_task, kTaskHung, Domain::kKernel, 3},
    // A single bad sector is remapped by the disk; errors that go on are not.
    {EVENT_block_error, "DiskError", Domain::kStorage, 3},
    // Below the retries of driver and block layer: what could not be helped comes as a block_error as well.
    {EVENT_scsi_error, "DiskTimeout", Domain::kStorage, 0, Severity::kDegraded, is_timeout},
    {EVENT_scsi_error, "DiskCommandFailed", Domain::kStorage, 0, Severity::kInfo},
    {EVENT_nvme_error, "DiskCommandFailed", Domain::kStorage, 0, Severity::kInfo},
    // Corrected errors cost nothing and every fleet has them: many are a reason to look, never to leave.
    {EVENT_machine_check, "HardwareErrorCorrected", Domain::kHardware, 0, Severity::kInfo, is_corrected},
    // Not corrected, yet the machine lives: the data was poisoned and nobody used it so far. The third in a
    // few
    // minutes is no cosmic ray.
    {EVENT_machine_check, "HardwareError", Domain::kHardware, 3},
    // A page that was taken out of use in time is what the kernel is built for; a module that loses three has
    // more.
    {EVENT_memory_failure, "MemoryFailure", Domain::kHardware, 3, Severity::kDegraded, is_contained},
    // Somebody still uses a page that does not hold what was written to it.
    {EVENT_memory_failure, "MemoryFailure", Domain::kHardware, 1},
    {EVENT_pcie_error, "PcieErrorCorrected", Domain::kHardware, 0, Severity::kInfo, is_correctable},
    // A link that is reset and comes back; again and again, its device is lost to whoever needs it.
    {EVENT_pcie_error, "PcieError", Domain::kHardware, 3, Severity::kDegraded, is_fatal},
    // A transaction failed, the link did not.
    {EVENT_pcie_error, "PcieError", Domain::kHardware, 0},
}};

// A value that stays bad: at or above `enter` until it is below `leave`; or, where `leave` is the greater, at
// or below `enter` until it is above `leave`. The gap keeps a value that hovers from flapping. On a pod it is
// that pod's trouble, told but never acted upon.
struct LevelRule {
  std::string_view feature;
  std::string_view reason;
  Domain domain;
  double enter;
  double leave;
  double hold_s;  // so long without a break, before it counts
  Severity on_node = Severity::kDegraded;
  std::string_view words{};  // what it means; empty: the share of what the node, or the entity's limit, has
  bool suffers = false;      // on a pod, as in Condition; the node's is the sum of its pods'
};

// Long enough that a compiler's peak or a log about to rotate passes unnamed.
inline constexpr double kPeakS = 10;
// Three questions in a row without an answer: a restart of the daemon takes less.
inline constexpr double kServiceS = 25;
// Longer than the window of a rate: one burst that is lost is none.
inline constexpr double kAskedInVainS = 11;
// A neighbour that is busy for a moment is none of a host with too many.
inline constexpr double kStolenS = 60;
// A daemon that synchronizes a clock takes minutes after boot.
inline constexpr double kClockS = 600;

// None of these makes a node unhealthy: a threshold may be wrong for a node that its owner finds well.
inline constexpr std::array<LevelRule, 16> kLevelRules{{
    // The kubelet evicts at 90 to 95 % by its own default; what it did not solve at 97 % is worth a word.
    {"disk_space_use", "DiskFull", Domain::kStorage, 0.97, 0.95, kPeakS},
    {"disk_inodes_use", "InodesExhausted", Domain::kStorage, 0.97, 0.95, kPeakS},
    {"memory_use", "MemoryNearLimit", Domain::kMemory, 0.97, 0.94, kPeakS},
    {"pids_use", "PidsNearLimit", Domain::kKernel, 0.95, 0.90, kPeakS},
    {"open_files_use", "DescriptorsNearLimit", Domain::kKernel, 0.95, 0.90, kPeakS},
    // At the limit new connections are dropped, whoever's they are.
    {"conntrack_use", "ConntrackNearLimit", Domain::kNetwork, 0.90, 0.85, kPeakS},
    // Every task of the node waits for time that no task of it has.
    {"steal_time", "CpuStolen", Domain::kCpu, 0.10, 0.05, kStolenS, Severity::kInfo,
     "of all CPUs' time is given to others by the hypervisor"},
    {"read_only_mounts", "ReadOnlyMount", Domain::kStorage, 1, 1, kPeakS, Severity::kDegraded,
     "filesystems that were writable are read-only"},
    {"failed_disks", "DiskFailed", Domain::kStorage, 1, 1, kPeakS, Severity::kDegraded,
     "disks do not run, their drivers say"},
    // A rate over ten seconds, which one error raises above zero; a corrected error is no news (kEventRules).
    {"memory_errors_uncorrected.rate", "MemoryErrorUncorrected", Domain::kHardware, 1e-6, 1e-6, 0,
     Severity::kDegraded, "memory errors a second that the controller could not correct"},
    {"kubelet_up", "KubeletDown", Domain::kRuntime, 0, 0.5, kServiceS, Severity::kDegraded,
     "the kubelet does not answer /healthz"},
    {"runtime_up", "RuntimeDown", Domain::kRuntime, 0, 0.5, kServiceS, Severity::kDegraded,
     "the container runtime does not answer on its socket"},
    {"dns_up", "DnsDown", Domain::kNetwork, 0, 0.5, kServiceS, Severity::kDegraded,
     "the node's name server does not answer"},
    // No program means to ask in vain, and each of these has waited for 5 s. One makes a rate of .1 for ten
    // seconds: it takes another.
    {"dns_timeouts.rate", "DnsTimeouts", Domain::kNetwork, 0.09, 0.05, kAskedInVainS, Severity::kInfo,
     "DNS queries a second that nobody answered within 5 s", true},
    // Many machines take their time from a hypervisor and never tell their kernel.
    {"clock_unsynchronized", "ClockUnsynchronized", Domain::kKernel, 1, 1, kClockS, Severity::kInfo,
     "nothing synchronizes the kernel's clock"},
    {"clock_jumps.rate", "ClockJumped", Domain::kKernel, 1e-6, 1e-6, 0, Severity::kInfo,
     "steps of the wall clock a second"},
}};

}  // namespace vedette
