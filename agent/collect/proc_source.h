// Open descriptors of processes against their own limits, and which processes an entity has. Called by
// collect/LiveSource, tick thread only.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include <dirent.h>

#include "agent/base/clock.h"
#include "agent/collect/kept_file.h"
#include "agent/collect/psi_source.h"
#include "agent/pods/pod_table.h"

namespace vedette {

struct ProcOptions {
  std::string proc = "/proc";
  // Where the members of LivingEntity are found: the primary hierarchy's mount.
  std::string cgroups;
  // setrlimit is called at start, if ever; reading a limit costs 9 us, so a process is asked this often.
  std::uint64_t limit_age_ns = 30'000'000'000;
};

// Soft limit of "Max open files" in /proc/PID/limits; nothing if unlimited or not said.
std::optional<double> parse_open_files_limit(std::string_view limits);

// Descriptors of the process whose /proc/PID/fd this is. Beyond 4,096 the number of the highest one, plus
// one: no fewer, and next to no more, for the kernel gives away the lowest first. To list a million would
// take seconds.
std::uint64_t descriptors_in(DIR* directory);

class ProcSource {
public:
  ProcSource(ProcOptions options, FileBudget& budget);

  // open_files, open_files_use: file-nr, and that of file-max. False if the file is not there.
  bool read_node(Gauges& gauges);

  // open_files: sum of all processes; open_files_use: the worst process. kMissing if no process can be looked
  // at (without CAP_SYS_PTRACE other users' processes cannot, before Linux 6.2). GAUGE_pids is set already,
  // or kMissing: while it stays and no process is gone, they are the same processes.
  void read(const LivingEntity& entity, MonotonicNs now, Gauges& gauges);
  void forget(EntityId entity) { entities_.erase(entity); }

  // Processes of the entity at the last read(); empty if it was never read.
  const std::vector<std::uint32_t>& processes(EntityId entity) const;

private:
  struct Watched {
    std::vector<std::string> members;
    std::vector<KeptFile> procs;
    std::vector<std::uint32_t> processes;
    double tasks = kMissing;  // GAUGE_pids when they were listed, all of them there
    unsigned rounds = 0;      // since
  };
  struct Process {
    std::optional<double> limit;
    MonotonicNs read_ns = 0;
  };

  void list_processes(Watched& watched);
  // False if one of them is gone, or cannot be looked at.
  bool count_files(const Watched& watched, MonotonicNs now, Gauges& gauges);
  std::optional<double> count_descriptors(std::uint32_t process);
  std::optional<double> open_files_limit(std::uint32_t process, MonotonicNs now);

  ProcOptions options_;
  FileBudget& budget_;
  ReadBuffer buffer_;
  FileHandle proc_;
  bool size_is_count_ = false;
  KeptFile file_nr_;
  std::unordered_map<EntityId, Watched> entities_;
  std::unordered_map<std::uint32_t, Process> processes_;
  MonotonicNs swept_ns_ = 0;
};

}  // namespace vedette
