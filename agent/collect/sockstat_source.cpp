#include "agent/collect/sockstat_source.h"

#include <sys/stat.h>
#include <unistd.h>

namespace vedette {
namespace {

// A round reads a fifth of the namespaces, not all of them in every fifth round.
constexpr std::uint64_t kPhases = 5;

std::optional<std::uint64_t> sum(std::optional<std::uint64_t> a, std::optional<std::uint64_t> b) {
  if (!a && !b) return std::nullopt;
  return a.value_or(0) + b.value_or(0);
}

}  // namespace

std::optional<std::uint64_t> find_statistic(std::string_view text, std::string_view group,
                                            std::string_view name) {
  std::string_view names;
  while (next_line(text, names)) {
    if (next_word(names) != group) continue;
    std::string_view values;
    if (!next_line(text, values) || next_word(values) != group) return std::nullopt;
    for (;;) {
      const auto at = next_word(names);
      const auto value = next_word(values);
      if (at.empty() || value.empty()) break;
      if (at == name) return parse_number(value);
    }
  }
  return std::nullopt;
}

SockstatSource::SockstatSource(std::string proc, std::chrono::milliseconds interval)
    : proc_(std::move(proc)),
      host_(::access((proc_ + "/1/net/netstat").c_str(), R_OK) == 0 ? proc_ + "/1" : proc_ + "/self"),
      interval_ns_(to_ns(interval)) {}

// Not of ns/net: that may only be looked at with CAP_SYS_PTRACE. Each namespace has its own netstat,
// whoever's directory it is seen in.
std::optional<SockstatSource::Namespace> SockstatSource::namespace_of(const std::string& process) {
  struct stat status {};
  if (::stat((process + "/net/netstat").c_str(), &status) != 0) return std::nullopt;
  return Namespace{status.st_dev, status.st_ino};
}

SockstatSource::Totals SockstatSource::read_totals(const std::string& process, MonotonicNs now) {
  Totals totals;
  totals.read_ns = now;
  if (const auto text = buffer_.read_path(process + "/net/netstat")) {
    totals.listen_overflows = find_statistic(*text, "TcpExt:", "ListenOverflows");
    totals.syn_drops = find_statistic(*text, "TcpExt:", "ListenDrops");  // overflows are among them
    totals.zero_windows = find_statistic(*text, "TcpExt:", "TCPToZeroWindowAdv");
  }
  // Full buffers and bad checksums are among the InErrors.
  if (const auto text = buffer_.read_path(process + "/net/snmp")) {
    totals.udp_errors =
        sum(find_statistic(*text, "Udp:", "InErrors"), find_statistic(*text, "Udp:", "NoPorts"));
  }
  if (const auto text = buffer_.read_path(process + "/net/snmp6")) {
    const auto v6 = sum(find_number(*text, "Udp6InErrors"), find_number(*text, "Udp6NoPorts"));
    totals.udp_errors = sum(totals.udp_errors, v6);
  }
  return totals;
}

void SockstatSource::set(const Totals& totals, FileCounts& counts) {
  const auto set_one = [&](vedette_counter counter, const std::optional<std::uint64_t>& total) {
    if (total) {
      counts.set(counter, *total);
    } else {
      counts.forget(counter);
    }
  };
  set_one(COUNTER_listen_overflows, totals.listen_overflows);
  set_one(COUNTER_syn_drops, totals.syn_drops);
  set_one(COUNTER_zero_windows, totals.zero_windows);
  set_one(COUNTER_udp_errors, totals.udp_errors);
}

bool SockstatSource::read_node(MonotonicNs now, FileCounts& counts) {
  if (now >= node_due_ns_) {
    node_due_ns_ = now + interval_ns_;
    const Totals totals = read_totals(host_, now);
    node_readable_ = totals.listen_overflows && totals.udp_errors;
    set(totals, counts);
  }
  return node_readable_;
}

void SockstatSource::read(EntityId entity, const std::vector<std::uint32_t>& processes, MonotonicNs now,
                          FileCounts& counts) {
  auto [at, fresh] = entities_.try_emplace(entity);
  auto& watched = at->second;
  if (now < watched.due_ns) return;
  watched.due_ns = now + interval_ns_;
  if (fresh) watched.due_ns += interval_ns_ / kPhases * (entity % kPhases);

  std::string process;
  std::optional<Namespace> where;
  for (const auto pid : processes) {
    process = proc_ + "/" + std::to_string(pid);
    if ((where = namespace_of(process))) break;
  }
  if (!host_where_) host_where_ = namespace_of(host_);
  if (!host_where_ || where == host_where_) where.reset();
  // Totals of one namespace say nothing about another's.
  if (where != watched.where) set({}, counts);
  watched.where = where;
  if (!where) return;

  auto [found, unread] = namespaces_.try_emplace(*where);
  if (unread || now >= found->second.read_ns + interval_ns_) found->second = read_totals(process, now);
  set(found->second, counts);

  if (now >= swept_ns_ + interval_ns_) {
    swept_ns_ = now;
    constexpr MonotonicNs kForgotten = 3;  // intervals: whoever lives in it has had a turn
    std::erase_if(namespaces_,
                  [&](const auto& known) { return now > known.second.read_ns + kForgotten * interval_ns_; });
  }
}

}  // namespace vedette
