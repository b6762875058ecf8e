// What the kernel counts of all sockets of a network namespace: the host's, and each entity's that has one of
// its own. Owned by collect/FileSources, tick thread only.
#pragma once

#include <chrono>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <utility>
#include <vector>

#include "agent/base/clock.h"
#include "agent/collect/file_counts.h"
#include "agent/collect/kept_file.h"
#include "agent/pods/entity.h"

namespace vedette {

// The value `name` in `group` ("TcpExt:") of /proc/net/netstat or snmp: a line of names, a line of values.
std::optional<std::uint64_t> find_statistic(std::string_view text, std::string_view group,
                                            std::string_view name);

class SockstatSource {
public:
  // `proc` is where procfs is mounted; the host's namespace is that of process 1, or our own where there is
  // no process 1. Each namespace is read once in `interval` at most: its files cost some 40 us each.
  SockstatSource(std::string proc, std::chrono::milliseconds interval);

  // Sets listen_overflows, syn_drops, zero_windows and udp_errors of the host. False if they cannot be read.
  bool read_node(MonotonicNs now, FileCounts& counts);

  // The same of the namespace that the first of `processes` lives in that can be looked at. Unknown where
  // that is the host's: its numbers are nobody's in particular. Entities that share a namespace share its
  // numbers.
  void read(EntityId entity, const std::vector<std::uint32_t>& processes, MonotonicNs now,
            FileCounts& counts);
  void forget(EntityId entity) { entities_.erase(entity); }

private:
  // Device and inode of its netstat: no two that live have the same.
  using Namespace = std::pair<std::uint64_t, std::uint64_t>;
  struct HashNamespace {
    std::size_t operator()(const Namespace& which) const { return which.second * 31 + which.first; }
  };
  struct Totals {
    std::optional<std::uint64_t> listen_overflows;
    std::optional<std::uint64_t> syn_drops;
    std::optional<std::uint64_t> zero_windows;
    std::optional<std::uint64_t> udp_errors;
    MonotonicNs read_ns = 0;
  };
  struct Watched {
    std::optional<Namespace> where;  // none: the host's, or not to be told
    MonotonicNs due_ns = 0;
  };

  static std::optional<Namespace> namespace_of(const std::string& process);
  Totals read_totals(const std::string& process, MonotonicNs now);
  static void set(const Totals& totals, FileCounts& counts);

  std::string proc_;
  std::string host_;  // process 1, or our own
  std::optional<Namespace> host_where_;
  MonotonicNs interval_ns_;
  ReadBuffer buffer_;
  MonotonicNs node_due_ns_ = 0;
  bool node_readable_ = false;
  std::unordered_map<EntityId, Watched> entities_;
  std::unordered_map<Namespace, Totals, HashNamespace> namespaces_;  // without the host's
  MonotonicNs swept_ns_ = 0;
};

}  // namespace vedette
