#include "agent/collect/file_sources.h"

#include <algorithm>
#include <utility>

#include <sys/resource.h>
#include <unistd.h>

namespace vedette {
namespace {

std::size_t file_budget(std::size_t wanted) {
  rlimit limit{};
  if (::getrlimit(RLIMIT_NOFILE, &limit) != 0) return 0;
  return std::min<std::size_t>(wanted, limit.rlim_cur / 2);
}

// In a pod: only with hostPID and CAP_SYS_PTRACE.
std::string host_root(const FileOptions& options) {
  if (!options.host.empty()) return options.host;
  const auto root = options.proc + "/1/root";
  return ::access((root + "/sys").c_str(), R_OK) == 0 ? root : std::string();
}

std::string not_answered(const char* what, double seconds) {
  if (seconds <= 0) return {};
  // Without the time: a label that is never the same is a series for each scrape.
  return std::string(what) + " does not answer";
}

}  // namespace

FileSources::FileSources(const FileOptions& options, const CgroupMounts& cgroups, const std::string& members)
    : options_(options),
      has_cgroups_(!members.empty()),
      budget_(file_budget(options.kept_files)),
      psi_(options.proc + "/pressure", cgroups.unified, budget_),
      cgroup_(cgroups, budget_),
      kernel_(options.proc, budget_),
      netdev_(options.proc, host_root(options) + "/sys", budget_),
      proc_(ProcOptions{.proc = options.proc, .cgroups = members}, budget_),
      sockstat_(options.proc, options.sockets_interval),
      mounts_(MountsOptions{.proc = options.proc, .interval = options.interval}),
      hardware_(host_root(options) + "/sys", options.hardware_interval),
      services_(options.services, host_root(options)) {}

void FileSources::read_node(MonotonicNs now, Gauges& gauges, FileCounts& counts) {
  psi_ok_ = psi_.read_node(now, gauges);
  kernel_ok_ = kernel_.read(now, gauges, counts);
  netdev_ok_ = netdev_.read(now, gauges, counts);
  pmu_.read(counts);
  clock_.take(read_clocks(), gauges, counts);
  hardware_.take(now, gauges, counts);
  hardware_reason_ = not_answered("a device", hardware_.held_s(now));
  services_.take(now, gauges);
  services_reason_ = not_answered("the check of a service", services_.held_s(now));
  proc_ok_ = proc_.read_node(gauges);
  sockstat_ok_ = sockstat_.read_node(now, counts);
}

void FileSources::read(const LivingEntity& entity, MonotonicNs now, Gauges& gauges, FileCounts& counts) {
  psi_.read(entity, now, gauges);
  cgroup_.read(entity, now, gauges, counts);
  proc_.read(entity, now, gauges);
  sockstat_.read(entity.entity->id, processes(entity.entity->id), now, counts);
}

void FileSources::forget(EntityId entity) {
  psi_.forget(entity);
  cgroup_.forget(entity);
  proc_.forget(entity);
  sockstat_.forget(entity);
}

void FileSources::watch_mounts(const std::vector<LivingEntity>& living) {
  MountsRequest request;
  for (const auto& one : living) request.groups.push_back({one.entity->id, processes(one.entity->id)});
  mounts_.watch(std::move(request));
}

void FileSources::update_mounts(MonotonicNs now) {
  mounts_reading_ = mounts_.latest();
  mounts_reason_.clear();
  // Three rounds without an answer: a disk holds the thread, and old figures would lie.
  constexpr int kRounds = 3;
  const auto patience_ns = to_ns(options_.interval * kRounds);
  if (mounts_reading_ && now > mounts_reading_->read_ns + patience_ns) {
    mounts_reason_ = not_answered("a filesystem", seconds_between(mounts_reading_->read_ns, now));
    mounts_reading_.reset();
  }
}

void FileSources::take_mounts(EntityId entity, Gauges& gauges) const {
  const MountUse* use = nullptr;
  if (mounts_reading_ && entity == kNodeEntity) {
    use = &mounts_reading_->node;
  } else if (mounts_reading_) {
    const auto found = mounts_reading_->entities.find(entity);
    if (found != mounts_reading_->entities.end()) use = &found->second;
  }
  gauges[GAUGE_disk_space_use] = use != nullptr ? use->space.value_or(kMissing) : kMissing;
  gauges[GAUGE_disk_inodes_use] = use != nullptr ? use->inodes.value_or(kMissing) : kMissing;
  if (entity != kNodeEntity) return;
  const auto read_only = mounts_reading_ ? mounts_reading_->read_only : std::nullopt;
  gauges[GAUGE_read_only_mounts] = read_only ? static_cast<double>(*read_only) : kMissing;
}

void FileSources::add_health(std::vector<ProbeHealth>& probes) const {
  const auto add = [&](const char* name, bool works, std::string reason) {
    probes.push_back({name, works ? ProbeState::kAttached : ProbeState::kDegraded,
                      works ? std::string() : std::move(reason), 0, 0});
  };
  add("psi", psi_ok_, "cannot read " + options_.proc + "/pressure: the kernel has no PSI, or it needs psi=1");
  add("cgroup", has_cgroups_, "no cgroup hierarchy is mounted");
  add("kernel", kernel_ok_, "cannot read stat, meminfo, vmstat or loadavg in " + options_.proc);
  add("netdev", netdev_ok_, "cannot read net/dev or net/softnet_stat in " + options_.proc);
  add("proc", proc_ok_, "cannot read " + options_.proc + "/sys/fs/file-nr");
  add("sockstat", sockstat_ok_, "cannot read net/netstat or net/snmp in " + options_.proc);
  add("pmu", pmu_.works(), pmu_.reason());
  if (pmu_.absent()) probes.back().state = ProbeState::kOff;
  add("clock", true, {});
  add("mounts", mounts_reason_.empty(), mounts_reason_);
  add("hardware", hardware_reason_.empty(), hardware_reason_);
  add("services", services_reason_.empty(), services_reason_);
}

}  // namespace vedette
