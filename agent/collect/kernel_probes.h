// The probes of bpf/ in the running kernel: loads and attaches them, gives every cgroup its slot, and reads
// what they counted and reported. Used by collect/live_source only. make() blocks (each attachment waits for
// the kernel); everything else belongs to the tick thread and makes no blocking call: what must wait later is
// done by a worker of its own.
#pragma once

#include <array>
#include <bitset>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "agent/base/result.h"
#include "agent/collect/budget.h"
#include "agent/collect/observation.h"
#include "bpf/embedded.h"
#include "bpf/events.h"

namespace vedette {

// Rows of a slot. Beyond so many CPUs neighbours share one, with atomic adds: 512 slots then take 32 MiB
// however many CPUs there are, and at 256 CPUs eight that share a cache share a line of it.
inline constexpr std::uint32_t kMaxLanes = 32;
// Twenty times what a node of 110 pods has.
inline constexpr std::uint32_t kMaxSlots = 8192;

struct KernelOptions {
  // One per cgroup of the v2 hierarchy, slot 0 included: 110 pods with three cgroups each, system services
  // beside them, and room for those being removed. Kernel memory: slots * lanes * sizeof(totals).
  std::uint32_t slots = 512;
  // Rows of a slot: 0 for one per CPU, at most 32; CPUs share rows where there are more of them.
  std::uint32_t lanes = 0;
  // 2,000 records: an exec storm of 8,000 a second between two ticks. A power of two of at least one page.
  std::uint32_t ring_bytes = 256 * 1024;
  // Distinct labels at one time, 96 bytes each: 110 pods with some dozen devices, calls and codes each, and
  // as many that they connect to.
  std::uint32_t details = 8192;
  // An uninterruptible block this long becomes a slow_call event: no healthy disk answers that late.
  std::chrono::nanoseconds slow_call = std::chrono::milliseconds(100);
  // The kernel measures its BPF programs for `cost_sample` in every `cost_period`: measuring costs two clock
  // reads per run, and one second in sixty is enough to know them. Zero sample: never.
  std::chrono::nanoseconds cost_period = std::chrono::seconds(60);
  std::chrono::nanoseconds cost_sample = std::chrono::seconds(1);
  BudgetOptions budget;
  std::vector<std::string> off;  // probes not to load, by name ("tcp")
  std::span<const EmbeddedProbe> probes = embedded_probes();
  // See ProbeSetOptions.
  std::string modules = "/sys/module";
  std::chrono::milliseconds modules_period{60'000};
};

// What one cgroup added since the read before.
struct CgroupTotals {
  std::uint64_t cgroup_id = 0;  // inode of its directory under the v2 mount; 0: cgroups without a slot
  bool removed = false;         // rmdir was seen: these are its last words; call forget() once used
  std::array<std::uint64_t, COUNTER_COUNT> counters{};
  std::array<Buckets, HISTOGRAM_COUNT> histograms{};
  std::bitset<HISTOGRAM_COUNT> observed;  // those that are not empty
};

// A cgroup as the kernel announced it: enough to name one that was gone before anybody looked.
struct KnownCgroup {
  std::uint64_t cgroup_id = 0;
  std::uint64_t parent_id = 0;  // 0: the root of the hierarchy
  bool removed = false;
  std::string_view name;  // of its directory, cut at 103 bytes; valid until the next call
};

// bpf/events.h; here `text` is always printable and ends with a zero byte, whatever the kernel wrote.
using RawEvent = ::event;

class KernelProbes {
public:
  // Fails only without any means to go on (no BPF, no BTF, no v2 hierarchy, too few rights); a single probe
  // that cannot load is degraded in health(), or off where this kernel has nothing for it to watch. When it
  // returns, every cgroup has its slot and all is counted.
  static Result<std::unique_ptr<KernelProbes>> make(const KernelOptions& options = {});

  KernelProbes(const KernelProbes&) = delete;
  KernelProbes& operator=(const KernelProbes&) = delete;
  ~KernelProbes();  // detaches: .2 ms each

  // Readable (poll, epoll) when an urgent record waits, or the ring is half full; read_events() clears it.
  int wake_fd() const;

  // Replaces `changed` by what was added since the last call, summed over the CPUs, in the order of slots.
  // Only cgroups with something new, and removed ones (until forget()), appear. Counts of slot 0 have
  // cgroup_id 0. Also where health() is renewed, where a sample of the cost begins or ends and the budget is
  // applied, and where cgroups without a slot are looked for.
  void read_totals(std::vector<CgroupTotals>& changed);

  // Appends the waiting records, oldest first.
  void read_events(std::vector<RawEvent>& events);

  // Asks the probes that look around instead of counting (bpf/signals.h, survey_record): what `visit` gets is
  // the present. A probe whose survey fails is degraded until one succeeds. Some 100 us per 1,000 tasks. Also
  // where the missed runs in health() are renewed.
  void survey(const std::function<void(const survey_record&)>& visit);

  // What was added to each count by label since the last call. Labels of cgroups that are gone are told one
  // last time. Two or three system calls per label.
  void read_details(const std::function<void(const detail_key&, std::uint64_t)>& visit);

  // Gives a removed cgroup's slot back; what it still did meanwhile is lost (and counted as such).
  void forget(std::uint64_t cgroup_id);

  // All cgroups with a slot, removed ones until forget().
  void known_cgroups(const std::function<void(const KnownCgroup&)>& visit) const;
  // No slot was free at the last read_totals(): cgroups that are not among the known ones are counted as
  // nobody's.
  bool is_full() const;
  // Fewer than half were: whoever keeps those of the dead for late counts should not. A slot that is given
  // back is free at the read after next, and until then 200 births a second take 200.
  bool is_crowded() const;

  // Fills produced, lost, received, no_slot, no_task_storage, no_start and no_detail; leaves the rest alone.
  void read_losses(Losses& losses) const;

  // One per probe, in the order of their names. `runs` and `run_ns` are of the samples taken so far.
  const std::vector<ProbeHealth>& health() const;

  // What was given up, as of the newest read_totals(), and what the newest sample cost.
  BudgetUse budget() const;

  // Kernel memory of all maps, as the kernel accounts it where it says so (5.10 estimates).
  std::uint64_t map_bytes() const;

  // Where the v2 hierarchy is mounted ("/sys/fs/cgroup", "/sys/fs/cgroup/unified").
  const std::string& cgroup_mount() const;

private:
  struct State;
  explicit KernelProbes(std::unique_ptr<State> state);
  std::unique_ptr<State> state_;
};

}  // namespace vedette
