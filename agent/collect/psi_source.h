// Pressure stall information: the share of time that tasks waited for CPU, memory or I/O. For the node from
// /proc/pressure, for an entity from its cgroup v2 directory. Called by collect/LiveSource, tick thread only.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "agent/base/clock.h"
#include "agent/collect/kept_file.h"
#include "agent/collect/observation.h"
#include "agent/pods/pod_table.h"

namespace vedette {

using Gauges = std::array<double, GAUGE_COUNT>;

struct PressureTotals {
  double some_us = 0;
  double full_us = 0;
  double some_avg10 = 0;  // percent
  double full_avg10 = 0;
};
// "some avg10=0.00 ... total=123\nfull ..."; a kernel before 5.13 has no "full" for cpu.
std::optional<PressureTotals> parse_pressure(std::string_view text);

class PsiSource {
public:
  // `pressure` is the node's directory ("/proc/pressure"), `unified` the mount of cgroup v2, empty if there
  // is none: then only the node has pressure.
  PsiSource(const std::string& pressure, std::string unified, FileBudget& budget);

  // Sets the pressure_* gauges to the share since the last call (in the first one: of the last 10 s), or
  // leaves them kMissing. False if the kernel has no PSI.
  bool read_node(MonotonicNs now, Gauges& gauges);
  // As above; of several roots the worst one.
  void read(const LivingEntity& entity, MonotonicNs now, Gauges& gauges);
  void forget(EntityId entity) { entities_.erase(entity); }

private:
  struct File {
    File(std::string path, FileBudget& budget) : file(std::move(path), budget) {}
    KeptFile file;
    PressureTotals last;
    MonotonicNs last_ns = 0;
  };
  struct Directory {
    File cpu;
    File memory;
    File io;
  };
  struct Watched {
    std::vector<std::string> roots;
    std::vector<Directory> directories;
  };

  Directory open(const std::string& path);
  bool read_directory(Directory& directory, MonotonicNs now, Gauges& gauges);
  bool read_file(File& file, MonotonicNs now, double* some, double* full);

  std::string unified_;
  FileBudget& budget_;
  ReadBuffer buffer_;
  Directory node_;
  std::unordered_map<EntityId, Watched> entities_;
};

}  // namespace vedette
