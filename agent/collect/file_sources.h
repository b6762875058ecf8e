// All sources that read files, as one: of the node, and of each entity. What may block is read by threads of
// their own, whose newest answer is taken. Owned by collect/LiveSource, tick thread only.
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "agent/collect/cgroup_source.h"
#include "agent/collect/clock_source.h"
#include "agent/collect/file_counts.h"
#include "agent/collect/hardware_source.h"
#include "agent/collect/kernel_source.h"
#include "agent/collect/mounts_source.h"
#include "agent/collect/netdev_source.h"
#include "agent/collect/pmu_source.h"
#include "agent/collect/proc_source.h"
#include "agent/collect/psi_source.h"
#include "agent/collect/services_source.h"
#include "agent/collect/sockstat_source.h"

namespace vedette {

struct FileOptions {
  std::string proc = "/proc";
  // Where the host's own files are: its sysfs, its resolv.conf, its sockets. Empty: PROC/1/root, or where we
  // are ourselves without the right to look there.
  std::string host;
  // How often all is read.
  std::chrono::milliseconds interval{2000};
  // Hardware's errors are told by events at once; its books are looked at this often, 1 ms and more for a
  // hundred CPUs.
  std::chrono::milliseconds hardware_interval{5000};
  // A network namespace is read this often, 100 us for a pod's: an overflow that lasts is seen soon enough.
  std::chrono::milliseconds sockets_interval{10000};
  ServicesOptions services;
  // Descriptors kept open to save their opening, at most half of RLIMIT_NOFILE: 11 per entity and 1 per
  // cgroup, 5 kB of kernel memory each.
  std::size_t kept_files = 2048;
};

class FileSources {
public:
  // `members`: where the members of LivingEntity are found, the primary hierarchy's mount.
  FileSources(const FileOptions& options, const CgroupMounts& cgroups, const std::string& members);

  // Called once in `interval`: `gauges` come in kMissing.
  void read_node(MonotonicNs now, Gauges& gauges, FileCounts& counts);
  void read(const LivingEntity& entity, MonotonicNs now, Gauges& gauges, FileCounts& counts);
  void forget(EntityId entity);

  // Processes of the entity at the last read().
  const std::vector<std::uint32_t>& processes(EntityId entity) const { return proc_.processes(entity); }

  // Whose mounts to look at from now on: of all that were read().
  void watch_mounts(const std::vector<LivingEntity>& living);
  // Called each tick, then take_mounts() for whom it concerns: sets the mounts' gauges, or kMissing.
  void update_mounts(MonotonicNs now);
  void take_mounts(EntityId entity, Gauges& gauges) const;

  void add_health(std::vector<ProbeHealth>& probes) const;

private:
  FileOptions options_;
  bool has_cgroups_;
  FileBudget budget_;
  PsiSource psi_;
  CgroupSource cgroup_;
  KernelSource kernel_;
  NetdevSource netdev_;
  PmuSource pmu_;
  ClockSource clock_;
  ProcSource proc_;
  SockstatSource sockstat_;
  bool psi_ok_ = true;
  bool kernel_ok_ = true;
  bool netdev_ok_ = true;
  bool proc_ok_ = true;
  bool sockstat_ok_ = true;
  std::shared_ptr<const MountsReading> mounts_reading_;  // null: none, or too old
  std::string mounts_reason_;
  std::string hardware_reason_;
  std::string services_reason_;
  // Last: their threads end first.
  MountsSource mounts_;
  HardwareSource hardware_;
  ServicesSource services_;
};

}  // namespace vedette
