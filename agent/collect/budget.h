// What the agent may cost, and what it gives up, in which order, when it costs more. Pure: it is told what
// was measured and answers what to do; no clock, no kernel. Used by collect/kernel_probes, tick thread only.
#pragma once

#include <array>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "agent/base/clock.h"

namespace vedette {

struct BudgetOptions {
  // Share of the time of all CPUs that the probes (run time of their programs, as the kernel measures it) and
  // the agent's own process may take together. 2 % is what nobody would notice missing; an idle agent takes a
  // tenth of it on two CPUs.
  double cpu_share = 0.02;
  // Kernel memory of the maps. The defaults of KernelOptions need 34 MiB from 32 CPUs on, and less below.
  std::uint32_t map_mib = 40;
  // Stay on this step whatever it costs. None: as the cost demands.
  std::optional<unsigned> step;
  // On the last step the hot probes watch for `watch` in every `period`: a twentieth, which costs a server
  // that does nothing but system calls and packets half a percent. Less than 3 s would leave no rates at all,
  // for those want a whole second between two ticks.
  std::chrono::nanoseconds watch = std::chrono::seconds(3);
  std::chrono::nanoseconds period = std::chrono::seconds(60);
};

// One thing to give up. Exactly one of gap_mask, probe and in_time says what.
struct BudgetStep {
  std::string_view does;
  std::uint32_t gap_mask = 0;  // probe_controls::gap_mask from here on
  std::string_view probe{};    // detached from here on
  bool in_time = false;        // kHotProbes watch now and then only
};

// From what costs an answer least to what costs it most. Never here: what is evidence by itself (faults,
// ext4, mce, memory, ...), which runs rarely, and cgroups, which hands out the slots.
inline constexpr std::array<BudgetStep, 7> kBudgetSteps{{
    {.does = "everything is watched", .gap_mask = 63},
    // Quantiles of a busy pod want some hundred samples in 10 s; whoever calls so often still has them.
    {.does = "one call in 128 is timed", .gap_mask = 255},
    {.does = "one call in 2,048 is timed", .gap_mask = 4095},
    // A busy kernel waits for its locks more often than for anything else, and no verdict rests on it.
    {.does = "kernel locks are not watched", .probe = "locks"},
    // Two runs per packet; connections, their failures and retransmits are still seen by tcp and sockets.
    {.does = "packets and DNS are not watched", .probe = "packets"},
    // Floods of dropped packets are what this would pay for; the devices' own counters still tell of them.
    {.does = "reasons of dropped packets are not watched", .probe = "drops"},
    {.does = "system calls, scheduling, sockets and disks are watched 3 s in 60", .in_time = true},
}};
inline constexpr std::array<std::string_view, 5> kHotProbes{"syscalls", "sched", "tcp", "sockets", "disk"};

// Shares of the time of all CPUs.
struct CostSample {
  double agent = 0;
  std::map<std::string, double, std::less<>> probes;

  double kernel() const;
};

class Budget {
public:
  explicit Budget(BudgetOptions options);

  // Takes the next step when two samples in a row are over the budget, and the last one back when the cost it
  // had before, scaled to the present load, leaves room. What had to be given up again soon after it came
  // back waits twice as long the next time. A step that could save next to nothing (its probe is not there,
  // or idle) is not taken.
  void update(MonotonicNs now, const CostSample& cost);

  // The highest step taken, 0: none.
  unsigned step() const;
  // Is it time to measure again, without waiting for the usual period?
  bool hurries() const;
  // The newest sample is over the budget and no step left would help.
  bool exhausted() const { return exhausted_; }

  std::uint32_t gap_mask() const;
  bool in_time() const;
  // Is this probe to be off at this moment?
  bool sheds(std::string_view probe, MonotonicNs now) const;

  const BudgetOptions& options() const { return options_; }
  const CostSample& newest() const { return newest_; }

private:
  struct Taken {
    unsigned step;
    double factor;  // cost of the probes before it, of that after it
  };

  bool takes(unsigned step) const;
  void shed(MonotonicNs now);
  void restore(MonotonicNs now);

  BudgetOptions options_;
  std::vector<Taken> taken_;  // the last one comes back first
  CostSample newest_;
  double kernel_before_ = 0;  // the step just taken; 0: its saving is known
  unsigned over_ = 0;         // samples in a row
  bool changed_ = false;      // since the newest sample
  bool exhausted_ = false;
  MonotonicNs changed_ns_ = 0;
  MonotonicNs restored_ns_ = 0;
  std::chrono::nanoseconds hold_;
};

// What the agent says about its budget: to logs, metrics and people.
struct BudgetUse {
  bool known = false;  // false: without probes there is none
  unsigned step = 0;   // of kBudgetSteps
  bool fixed = false;  // by the configuration
  bool exhausted = false;
  double cpu_share = 0;                  // allowed, of all CPUs' time
  std::optional<double> kernel_share{};  // of the newest sample; none yet
  double agent_share = 0;
  std::string unmeasured{};  // why there is no sample; empty: there is, or will be
  std::string maps{};        // why maps are smaller than configured; empty: they are not
};

struct MapSizes {
  std::uint32_t slots = 0;
  std::uint32_t lanes = 0;
  std::uint32_t ring_bytes = 0;
  unsigned cpus = 1;

  // Kernel memory of all maps, the probes' own included: an estimate from above.
  std::uint64_t bytes() const;
};

// Halves lanes (counts stay whole, adds become atomic), then slots (late cgroups have none), until they fit.
MapSizes fit_maps(MapSizes wanted, std::uint32_t map_mib);

}  // namespace vedette
