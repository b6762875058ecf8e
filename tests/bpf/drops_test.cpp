#include <memory>

#include <arpa/inet.h>
#include <bpf/btf.h>
#include <netinet/in.h>
#include <netinet/ip.h>
#include <sys/socket.h>

#include "tests/bpf/bpf_fixture.h"

using namespace vedette;
using namespace vedette::bpf_test;

namespace {

// The running kernel's number for a reason; 0 before 5.17, where there are none; -1: it does not know this
// one.
std::int32_t reason_number(std::string_view name) {
  const std::unique_ptr<btf, void (*)(btf*)> kernel(btf__load_vmlinux_btf(), btf__free);
  const int id = kernel ? btf__find_by_name_kind(kernel.get(), "skb_drop_reason", BTF_KIND_ENUM) : -1;
  if (id < 0) return 0;
  const btf_type* type = btf__type_by_id(kernel.get(), static_cast<__u32>(id));
  const auto* value = btf_enum(type);
  for (unsigned i = 0; i < btf_vlen(type); ++i, ++value) {
    if (name == btf__name_by_offset(kernel.get(), value->name_off)) return value->val;
  }
  return -1;
}

// IP packets to ourselves with a protocol that nobody here speaks.
int send_unknown_protocol(int count) {
  const FileHandle sender(::socket(AF_INET, SOCK_RAW, IPPROTO_RAW));
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  ip header{};
  header.ip_v = 4;
  header.ip_hl = sizeof(header) / 4;
  header.ip_ttl = 1;
  header.ip_p = 254;  // for experiments (RFC 3692)
  header.ip_dst = address.sin_addr;
  for (int i = 0; i < count; ++i) {
    if (::sendto(sender.get(), &header, sizeof(header), 0, reinterpret_cast<sockaddr*>(&address),
                 sizeof(address)) < 0)
      return 1;
  }
  return 0;
}

// Of the node: whichever cgroup's row they were counted in.
std::uint64_t packets_dropped(KernelProbes& probes) {
  static std::uint64_t sum = 0;
  std::vector<CgroupTotals> totals;
  probes.read_totals(totals);
  for (const CgroupTotals& one : totals) sum += one.counters[COUNTER_packets_dropped];
  return sum;
}

}  // namespace

TEST_CASE("each packet the kernel drops is counted by the reason the kernel gives") {
  const std::int32_t reason = reason_number("SKB_DROP_REASON_IP_NOPROTO");
  if (reason < 0) VEDETTE_SKIP("this kernel drops them without that reason (before 5.18)");
  const auto probes = attach();
  Heard heard(*probes);
  const Cgroup cgroup(probes->cgroup_mount());
  constexpr int kPackets = 70;
  const std::uint64_t before = heard.detail(DETAIL_packets_dropped_by_reason, reason);
  const std::uint64_t all_before = packets_dropped(*probes);
  const int status = run_in(
      cgroup, [] { return send_unknown_protocol(kPackets); }, own_network());
  if (no_network(status)) VEDETTE_SKIP("no network namespace here");
  REQUIRE(status == 0);
  const std::uint64_t dropped = heard.detail(DETAIL_packets_dropped_by_reason, reason) - before;
  const std::uint64_t all = packets_dropped(*probes) - all_before;
  CHECK(all >= dropped);  // for whatever reason, and wherever on the node
  if (reason > 0) {
    CHECK(dropped == kPackets);
  } else {
    CHECK(dropped >= kPackets);  // other packets' too
  }
}

TEST_CASE("the last FIN of a connection, which nobody reads, is no packet that was dropped") {
  const std::int32_t purge = reason_number("SKB_DROP_REASON_QUEUE_PURGE");
  if (purge <= 0) VEDETTE_SKIP("this kernel does not tell them apart (before 6.8)");
  const auto probes = attach();
  Heard heard(*probes);
  const Cgroup cgroup(probes->cgroup_mount());
  const int status = run_in(
      cgroup,
      [] {
        const FileHandle listener(::socket(AF_INET, SOCK_STREAM, 0));
        sockaddr_in address{};
        socklen_t size = sizeof(address);
        if (::listen(listener.get(), 1) != 0) return 1;
        ::getsockname(listener.get(), reinterpret_cast<sockaddr*>(&address), &size);
        for (int i = 0; i < 50; ++i) {
          FileHandle client(::socket(AF_INET, SOCK_STREAM, 0));
          if (::connect(client.get(), reinterpret_cast<sockaddr*>(&address), size) != 0) return 2;
          FileHandle server(::accept(listener.get(), nullptr, nullptr));
          if (!server) return 3;
          client.reset();
          server.reset();  // its FIN finds nobody who would read it
        }
        return 0;
      },
      own_network());
  if (no_network(status)) VEDETTE_SKIP("no network namespace here");
  REQUIRE(status == 0);
  CHECK(heard.detail(DETAIL_packets_dropped_by_reason, purge) == 0);
}
