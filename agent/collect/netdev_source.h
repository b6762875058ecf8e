// Network devices of the host and what packets wait for: softnet, carrier, connection tracking. Called by
// collect/FileSources, tick thread only: none of these files waits for a device.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "agent/base/clock.h"
#include "agent/collect/file_counts.h"
#include "agent/collect/kept_file.h"
#include "agent/collect/psi_source.h"

namespace vedette {

// A line of /proc/net/softnet_stat: of a CPU that is online.
struct SoftnetCpu {
  std::uint64_t cpu = 0;
  std::uint64_t drops = 0;
  std::uint64_t squeezes = 0;
};
// Empty if there is no such line. Before Linux 5.10 lines do not name their CPU: then it is their place.
std::vector<SoftnetCpu> parse_softnet(std::string_view text);

class NetdevSource {
public:
  // `proc` is where procfs is mounted; the host's network is that of process 1, or our own where there is no
  // directory of process 1. `sys` is a sysfs that shows the same network.
  NetdevSource(const std::string& proc, std::string sys, FileBudget& budget);

  // softnet_*; nic_errors and nic_drops (both directions) and carrier_changes of devices that stand for
  // hardware: they have a "device" in sysfs. Bridges, bonds, veth, tunnels and lo do not: what they carry
  // passes a hardware device too, or never leaves the machine. conntrack_use: missing while connection
  // tracking is not loaded. False if softnet_stat or dev is not there.
  bool read(MonotonicNs now, Gauges& gauges, FileCounts& counts);

private:
  struct Device {
    bool hardware = false;
    CountPart errors;
    CountPart drops;
    CountPart carrier_changes;
    MonotonicNs seen_ns = 0;
  };

  struct Cpu {
    CountPart drops;
    CountPart squeezes;
  };

  bool read_softnet(FileCounts& counts);
  bool read_devices(MonotonicNs now, FileCounts& counts);
  std::optional<std::uint64_t> read_conntrack_entries();

  std::string sys_;
  ReadBuffer buffer_;
  ReadBuffer carrier_buffer_;  // while `buffer_` holds the list of devices
  KeptFile softnet_;
  KeptFile devices_file_;
  KeptFile conntrack_;
  KeptFile conntrack_max_;
  std::unordered_map<std::uint64_t, Cpu> cpus_;  // one that is offline counts on when it comes back
  std::uint64_t softnet_drops_ = 0;
  std::uint64_t softnet_squeezes_ = 0;
  std::unordered_map<std::string, Device> devices_;
  // What all devices ever counted: a device that is taken out leaves no hole.
  std::uint64_t errors_ = 0;
  std::uint64_t drops_ = 0;
  std::uint64_t carrier_changes_ = 0;
};

}  // namespace vedette
