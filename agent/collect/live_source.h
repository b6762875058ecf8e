// This node, now: joins the kernel's probes, the files of /proc and cgroups, the kernel log and the pod table
// into one Observation per tick. Made by main.cpp, called by the tick thread only.
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <tuple>
#include <unordered_map>
#include <vector>

#include "agent/base/handle.h"
#include "agent/base/latest.h"
#include "agent/collect/cgroup_tree.h"
#include "agent/collect/detail_labels.h"
#include "agent/collect/file_counts.h"
#include "agent/collect/file_sources.h"
#include "agent/collect/kernel_probes.h"
#include "agent/collect/log_source.h"
#include "agent/collect/source.h"
#include "agent/pods/pod_info.h"
#include "agent/pods/pod_table.h"

namespace vedette {

struct LiveOptions {
  // Twice a second: what is not urgent enough to wake the tick is judged within that.
  std::chrono::milliseconds tick_interval{500};
  // How long an entity without a living cgroup still stands in `entities`: ten ticks, so that its last words
  // are judged and shown.
  std::chrono::seconds linger{5};
  // At most this many ticks a second because of urgent records: a storm of them may not eat the CPU, and the
  // timer comes anyway.
  double urgent_ticks_per_second = 10;
  // More lost starts a second make counters of locks and memory unknown.
  double lost_starts_per_s = kLostStartsPerS;
  // Files cost a millisecond or more per 50 cgroups and change slowly: between two rounds of reading them the
  // last values are repeated.
  FileOptions files;
  // Only cgroup hierarchies mounted at or below this directory count; empty: all in /proc/self/mountinfo.
  std::string cgroup_root;
  std::string kernel_log = "/dev/kmsg";
  std::shared_ptr<const LogRules> log_rules = LogRules::builtin();
  // Readable when the process shall stop (a signalfd of SIGTERM and SIGINT); not owned. -1: none.
  int stop_fd = -1;
  // Names of pods; null without Kubernetes. Must outlive the source.
  const Latest<PodList>* pods = nullptr;
  std::function<std::string()> pods_error;  // why they are not what the API server has; empty: they are
  // False: no BPF at all, files only.
  bool use_kernel_probes = true;
  KernelOptions kernel;
  PodTableOptions pod_table;
};

class LiveSource : public Source {
public:
  // Fails only where nothing could be seen: no /proc, no timer. Probes and files that are missing are
  // degraded in Observation::probes, each with its reason.
  static Result<std::unique_ptr<LiveSource>> make(const LiveOptions& options);
  ~LiveSource() override;

  // The first call answers at once. Fails if the system's poll does.
  Result<Wait> wait() override;
  Status collect(Observation& observation) override;

  // What was given up to stay within the budget; not known without probes.
  BudgetUse budget() const;
  // Kernel memory of the probes' maps; 0 without probes.
  std::uint64_t bpf_map_bytes() const;
  // Time of the last reading of all files on this thread.
  std::chrono::nanoseconds file_cost() const { return file_cost_; }

private:
  struct EntityState {
    EntityPtr entity;
    Gauges gauges;
    FileCounts counts;
    std::uint64_t restarts = 0;  // of its containers, as told last
    bool alive = true;
    // Seen with a process or a count: a slice that only groups others, or an empty cgroup, is nobody.
    bool active = false;
    bool read = false;  // its files, at least once
    // A cgroup of it had no slot: what the probes count of it is not known until then.
    MonotonicNs slotless_until_ns = 0;
    MonotonicNs died_ns = 0;
    std::size_t row = 0;  // in the observation under construction; 0: none
  };

  explicit LiveSource(const LiveOptions& options);
  Status open();
  void open_log();
  void start_probes();
  void scan(MonotonicNs now);
  void name_from_kernel(MonotonicNs now);
  void update_names(MonotonicNs now);
  void update_states(MonotonicNs now);
  void find_slotless(const Losses& losses, MonotonicNs now);
  void forget_dead(MonotonicNs now);
  void read_files(MonotonicNs now);
  void read_entity(EntityState& state, const LivingEntity& living, MonotonicNs now);
  void read_surveys();
  void read_details();
  void take_mounts(MonotonicNs now);
  void find_short(const Losses& losses, double interval_s, MonotonicNs now);
  void lay_out(Observation& observation);
  void add_totals(Observation& observation, MonotonicNs now);
  void read_log(MonotonicNs now);
  void add_events(Observation& observation);
  void add_health(Observation& observation) const;

  LiveOptions options_;
  FileHandle timer_;
  PodTable table_;
  CgroupTree tree_;
  FileSources files_;
  std::optional<LogSource> log_;
  std::unique_ptr<KernelProbes> kernel_;
  std::string kernel_reason_;
  std::string log_reason_;

  std::vector<CgroupTotals> totals_;
  std::vector<RawEvent> raw_events_;
  std::vector<KernelEvent> log_events_;
  std::vector<LivingEntity> living_;
  std::map<EntityId, EntityState> states_;  // without the node; by id, so that rows keep their order
  Gauges node_gauges_;
  FileCounts node_counts_;
  DetailLabels labels_;
  std::map<std::tuple<EntityId, std::uint32_t, std::int32_t>, std::uint64_t> detail_counts_;
  std::shared_ptr<const std::vector<DetailCount>> details_;
  std::vector<Connections> connections_;  // read, and not told yet
  std::uint64_t living_version_ = 0;
  std::uint64_t pods_version_ = 0;
  std::uint64_t population_ = 0;
  bool scan_wanted_ = true;
  MonotonicNs scanned_ns_ = 0;
  MonotonicNs files_ns_ = 0;
  MonotonicNs last_ns_ = 0;
  std::uint64_t missed_ticks_ = 0;
  std::uint64_t log_lost_ = 0;
  MonotonicNs log_retry_ns_ = 0;                                 // 0: its reading never failed
  std::uint64_t no_slot_ = 0;                                    // as of the last tick
  std::unordered_map<CgroupId, MonotonicNs> forget_at_;          // slots of removed cgroups
  std::array<std::uint64_t, SLOT_COUNTER_COUNT> starts_lost_{};  // as of the last tick
  std::array<MonotonicNs, SLOT_COUNTER_COUNT> short_until_ns_{};
  std::bitset<COUNTER_COUNT> short_;  // counters that lack what those starts would have become
  double urgent_tokens_ = 0;
  MonotonicNs tokens_ns_ = 0;
  std::chrono::nanoseconds file_cost_{0};
};

}  // namespace vedette
