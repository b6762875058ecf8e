#include <array>
#include <cstring>
#include <sstream>

#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/ip.h>
#include <netinet/tcp.h>
#include <sched.h>
#include <sys/socket.h>

#include "tests/bpf/bpf_fixture.h"

using namespace vedette;
using namespace vedette::bpf_test;

namespace {

sockaddr_in address_of(const char* host, std::uint16_t port) {
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_port = htons(port);
  ::inet_pton(AF_INET, host, &address.sin_addr);
  return address;
}

sockaddr_in loopback(std::uint16_t port) {
  return address_of("127.0.0.1", port);
}

int connect_to(const sockaddr_in& address) {
  const int fd = ::socket(AF_INET, SOCK_STREAM, 0);
  if (::connect(fd, reinterpret_cast<const sockaddr*>(&address), sizeof(address)) == 0) return fd;
  ::close(fd);
  return -1;
}

// A port of the loopback where nobody listens: it was free a moment ago.
std::uint16_t closed_port() {
  const FileHandle fd(::socket(AF_INET, SOCK_STREAM, 0));
  sockaddr_in address = loopback(0);
  socklen_t size = sizeof(address);
  REQUIRE(::bind(fd.get(), reinterpret_cast<sockaddr*>(&address), size) == 0);
  REQUIRE(::getsockname(fd.get(), reinterpret_cast<sockaddr*>(&address), &size) == 0);
  return ntohs(address.sin_port);
}

// 192.0.2.0/24 behind a wire at whose other end nobody listens.
const std::string kEmptyNetwork =
    "ip link add near type veth peer name far && ip addr add 192.0.2.1/24 dev near && "
    "ip link set near up && ip link set far up";

// 192.0.2.7 is a neighbour that is not there: what is sent to it is thrown away.
const std::string kSilentPeer =
    kEmptyNetwork + " && ip neigh add 192.0.2.7 lladdr 02:00:00:00:00:07 dev near";

// To it; nothing is waited for.
int begin_connect() {
  const int fd = ::socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
  const sockaddr_in address = address_of("192.0.2.7", 80);
  (void)::connect(fd, reinterpret_cast<const sockaddr*>(&address), sizeof(address));
  return fd;
}

std::uint16_t internet_checksum(const void* data, std::size_t size) {
  std::uint32_t sum = 0;
  for (std::size_t i = 0; i + 1 < size; i += 2) {
    std::uint16_t word = 0;
    std::memcpy(&word, static_cast<const char*>(data) + i, sizeof(word));
    sum += word;
  }
  while (sum >> 16 != 0) sum = (sum & 0xffff) + (sum >> 16);
  return static_cast<std::uint16_t>(~sum);
}

// As if the silent peer sent a SYN to port 80 of 192.0.2.1.
bool send_syn_of_silent_peer() {
  struct {
    iphdr ip{};
    tcphdr tcp{};
  } packet;
  packet.ip.version = 4;
  packet.ip.ihl = sizeof(packet.ip) / 4;
  packet.ip.ttl = 64;
  packet.ip.protocol = IPPROTO_TCP;
  ::inet_pton(AF_INET, "192.0.2.7", &packet.ip.saddr);
  ::inet_pton(AF_INET, "192.0.2.1", &packet.ip.daddr);
  packet.tcp.source = htons(40000);
  packet.tcp.dest = htons(80);
  packet.tcp.seq = htonl(1);
  packet.tcp.syn = 1;
  packet.tcp.doff = sizeof(packet.tcp) / 4;
  packet.tcp.window = htons(1024);
  // Of the addresses, the protocol and the length as well (RFC 9293, 3.1).
  struct {
    std::array<std::uint32_t, 2> addresses;
    std::array<std::uint16_t, 2> rest;
    tcphdr tcp;
  } summed{{packet.ip.saddr, packet.ip.daddr}, {htons(IPPROTO_TCP), htons(sizeof(packet.tcp))}, packet.tcp};
  packet.tcp.check = internet_checksum(&summed, sizeof(summed));
  const FileHandle raw(::socket(AF_INET, SOCK_RAW, IPPROTO_RAW));
  const sockaddr_in address = address_of("192.0.2.1", 0);
  return ::sendto(raw.get(), &packet, sizeof(packet), 0, reinterpret_cast<const sockaddr*>(&address),
                  sizeof(address)) == sizeof(packet);
}

// Refused connects to 127.0.0.1 at `port`, or from an IPv6 socket to ::ffff:127.0.0.1.
bool is_refused(std::uint16_t port, int family) {
  const FileHandle fd(::socket(family, SOCK_STREAM, 0));
  sockaddr_in v4 = loopback(port);
  sockaddr_in6 v6{};
  v6.sin6_family = AF_INET6;
  v6.sin6_port = htons(port);
  ::inet_pton(AF_INET6, "::ffff:127.0.0.1", &v6.sin6_addr);
  const int result = family == AF_INET ? ::connect(fd.get(), reinterpret_cast<sockaddr*>(&v4), sizeof(v4))
                                       : ::connect(fd.get(), reinterpret_cast<sockaddr*>(&v6), sizeof(v6));
  return result < 0 && errno == ECONNREFUSED;
}

// The kernel's own count of repeated SYNs in this network namespace, less those that could not be sent; -1:
// it has none.
int sent_again_of_this_network() {
  std::ifstream file("/proc/self/net/netstat");
  std::string names;
  std::string values;
  std::getline(file, names);
  std::getline(file, values);
  std::istringstream name_stream(names);
  std::istringstream value_stream(values);
  std::string value;
  int repeated = -1;
  int failed = 0;
  for (std::string name; name_stream >> name && value_stream >> value;) {
    if (name == "TCPSynRetrans") repeated = std::stoi(value);
    if (name == "TCPRetransFail") failed = std::stoi(value);
  }
  return repeated - failed;
}

}  // namespace

TEST_CASE("connects, accepts, refusals and resets are counted for the cgroup whose sockets they are") {
  const auto probes = attach();
  Heard heard(*probes);
  const Cgroup cgroup(probes->cgroup_mount());
  const std::uint16_t closed = closed_port();
  const int status = run_in(cgroup, [closed] {
    const int listener = ::socket(AF_INET, SOCK_STREAM, 0);
    sockaddr_in address = loopback(0);
    socklen_t size = sizeof(address);
    if (::bind(listener, reinterpret_cast<sockaddr*>(&address), size) != 0 || ::listen(listener, 16) != 0)
      return 1;
    ::getsockname(listener, reinterpret_cast<sockaddr*>(&address), &size);
    for (int i = 0; i < 5; ++i) {
      const int client = connect_to(address);
      const int server = ::accept(listener, nullptr, nullptr);
      if (client < 0 || server < 0) return 2;
      if (i == 0) {
        const linger abort{1, 0};  // close() resets
        ::setsockopt(client, SOL_SOCKET, SO_LINGER, &abort, sizeof(abort));
      }
      ::close(client);
      ::close(server);
    }
    for (int i = 0; i < 3; ++i) {
      if (connect_to(loopback(closed)) >= 0 || errno != ECONNREFUSED) return 3;
    }
    return 0;
  });
  REQUIRE(status == 0);

  const CgroupTotals& totals = heard.in(cgroup);
  CHECK(totals.counters[COUNTER_tcp_connects] == 5);
  CHECK(totals.counters[COUNTER_tcp_accepts] == 5);
  CHECK(totals.counters[COUNTER_tcp_connect_failures] == 3);
  CHECK(totals.counters[COUNTER_tcp_connects_refused] == 3);
  CHECK(totals.counters[COUNTER_tcp_connects_timed_out] == 0);
  CHECK(totals.counters[COUNTER_tcp_connects_unreachable] == 0);
  CHECK(totals.counters[COUNTER_tcp_resets_sent] == 1);  // the aborted one; a closed port has no socket
  CHECK(totals.counters[COUNTER_tcp_resets_received] == 1 + 3);
  CHECK(heard.observed(cgroup.id(), HISTOGRAM_tcp_connect_latency) == 5);
  CHECK(heard.detail(DETAIL_tcp_connects_by_server, static_cast<std::int32_t>(cgroup.id()), cgroup.id()) ==
        0);

  const std::vector<RawEvent> failures = heard.events(EVENT_connect_failed, cgroup.id());
  REQUIRE(failures.size() == 3);
  CHECK(failures[0].value == ECONNREFUSED);
  CHECK(failures[0].extra == closed);
  CHECK(std::string(failures[0].text) == "127.0.0.1");
  CHECK(failures[0].pid > 0);
}

TEST_CASE("a connection to somebody on this node is counted by who accepted it, however they talk") {
  struct Way {
    int client = AF_INET;
    int server = AF_INET;
  };
  const auto probes = attach();
  Heard heard(*probes);
  const Cgroup client(probes->cgroup_mount());
  const Cgroup server(probes->cgroup_mount());
  const auto by = [&](const Cgroup& who, const Cgroup& whom) {
    return heard.detail(DETAIL_tcp_connects_by_server, static_cast<std::int32_t>(whom.id()), who.id());
  };
  const bool ipv6 = FileHandle(::socket(AF_INET6, SOCK_STREAM, 0)) &&
                    read_text("/proc/net/if_inet6").find("lo") != std::string::npos;
  constexpr std::uint64_t kConnections = 7;
  std::uint64_t expected = 0;
  for (const Way& way : {Way{}, Way{AF_INET, AF_INET6}, Way{AF_INET6, AF_INET6}}) {
    if (way.server == AF_INET6 && !ipv6) continue;
    const Shared<std::atomic<int>> port;
    const auto address_of = [](int family, int number, sockaddr_in6& v6) {
      sockaddr_in v4 = loopback(static_cast<std::uint16_t>(number));
      v6 = {};
      if (family == AF_INET) {
        std::memcpy(&v6, &v4, sizeof(v4));
        return static_cast<socklen_t>(sizeof(v4));
      }
      v6.sin6_family = AF_INET6;
      v6.sin6_port = v4.sin_port;
      return static_cast<socklen_t>(sizeof(v6));
    };
    Child accepting({&server}, [&] {
      const FileHandle listener(::socket(way.server, SOCK_STREAM, 0));
      sockaddr_in6 place{};  // of IPv6 whatever comes, from IPv4 too
      socklen_t size = address_of(way.server, 0, place);
      auto* address = reinterpret_cast<sockaddr*>(&place);
      if (::bind(listener.get(), address, size) != 0 || ::listen(listener.get(), 16) != 0) return 1;
      ::getsockname(listener.get(), address, &size);
      port->store(ntohs(place.sin6_port));  // where IPv4 has it, too
      for (std::uint64_t i = 0; i < kConnections; ++i) {
        if (!FileHandle(::accept(listener.get(), nullptr, nullptr))) return 2;
      }
      return 0;
    });
    REQUIRE(eventually([&] { return port->load() != 0; }));
    REQUIRE(run_in(client, [&] {
              for (std::uint64_t i = 0; i < kConnections; ++i) {
                const FileHandle fd(::socket(way.client, SOCK_STREAM, 0));
                sockaddr_in6 place{};
                const socklen_t size = address_of(way.client, port->load(), place);
                if (way.client == AF_INET6) place.sin6_addr = in6addr_loopback;
                if (::connect(fd.get(), reinterpret_cast<sockaddr*>(&place), size) != 0) return 1;
              }
              return 0;
            }) == 0);
    REQUIRE(accepting.wait() == 0);
    expected += kConnections;
    CHECK(by(client, server) == expected);
    CHECK(by(server, client) == 0);
    CHECK(by(client, client) == 0);
  }
}

TEST_CASE("a refused connect over IPv6 carries its address") {
  const auto probes = attach();
  Heard heard(*probes);
  const Cgroup cgroup(probes->cgroup_mount());
  const std::uint16_t closed = closed_port();
  const int status = run_in(cgroup, [closed] {
    const int fd = ::socket(AF_INET6, SOCK_STREAM, 0);
    if (fd < 0) return 1;
    sockaddr_in6 address{};
    address.sin6_family = AF_INET6;
    address.sin6_port = htons(closed);
    address.sin6_addr = in6addr_loopback;
    return ::connect(fd, reinterpret_cast<sockaddr*>(&address), sizeof(address)) < 0 && errno == ECONNREFUSED
               ? 0
               : 1;
  });
  if (status != 0) VEDETTE_SKIP("no IPv6 loopback here");
  const std::vector<RawEvent> failures = heard.events(EVENT_connect_failed, cgroup.id());
  REQUIRE(failures.size() == 1);
  CHECK(std::string(failures[0].text) == "::1");
}

TEST_CASE("a peer that never answers: the SYN is sent again, then the connect has timed out") {
  const auto probes = attach();
  Heard heard(*probes);
  const Cgroup cgroup(probes->cgroup_mount());
  const int status = run_in(
      cgroup,
      [] {
        const int fd = ::socket(AF_INET, SOCK_STREAM, 0);
        const int tries = 1;
        ::setsockopt(fd, IPPROTO_TCP, TCP_SYNCNT, &tries, sizeof(tries));
        const sockaddr_in address = address_of("192.0.2.7", 80);
        if (::connect(fd, reinterpret_cast<const sockaddr*>(&address), sizeof(address)) == 0) return 96;
        if (errno != ETIMEDOUT) return 97;
        return sent_again_of_this_network();
      },
      own_network(kSilentPeer));
  if (no_network(status)) VEDETTE_SKIP("no network namespace or veth here");
  const int sent_again = WEXITSTATUS(status);
  REQUIRE(sent_again > 0);
  REQUIRE(sent_again < 10);
  const CgroupTotals& totals = heard.in(cgroup);
  CHECK(totals.counters[COUNTER_tcp_retransmits] == static_cast<std::uint64_t>(sent_again));
  CHECK(totals.counters[COUNTER_tcp_connect_failures] == 1);
  CHECK(totals.counters[COUNTER_tcp_connects_timed_out] == 1);
  CHECK(totals.counters[COUNTER_tcp_connects_refused] == 0);
  CHECK(totals.counters[COUNTER_tcp_connects] == 0);
  const std::vector<RawEvent> failures = heard.events(EVENT_connect_failed, cgroup.id());
  REQUIRE(failures.size() == 1);
  CHECK(failures[0].value == ETIMEDOUT);
  CHECK(std::string(failures[0].text) == "192.0.2.7");
}

TEST_CASE("a client that never confirms is answered again by whose listener it is") {
  const auto probes = attach();
  Heard heard(*probes);
  const Cgroup cgroup(probes->cgroup_mount());
  const int status = run_in(
      cgroup,
      [] {
        const FileHandle listener(::socket(AF_INET, SOCK_STREAM, 0));
        const sockaddr_in address = address_of("0.0.0.0", 80);
        if (::bind(listener.get(), reinterpret_cast<const sockaddr*>(&address), sizeof(address)) != 0)
          return 96;
        if (::listen(listener.get(), 1) != 0) return 97;
        if (!send_syn_of_silent_peer()) return 98;
        for (int i = 0; i < 50 && sent_again_of_this_network() == 0; ++i) ::usleep(100'000);
        return sent_again_of_this_network();
      },
      own_network(kSilentPeer +
                  " && ip link set lo up && "
                  "for name in all lo; do echo 0 > /proc/sys/net/ipv4/conf/$name/rp_filter; done"));
  if (no_network(status)) VEDETTE_SKIP("no network namespace or veth here");
  const int sent_again = WEXITSTATUS(status);
  REQUIRE(sent_again > 0);
  REQUIRE(sent_again < 10);
  CHECK(heard.in(cgroup).counters[COUNTER_tcp_retransmits] == static_cast<std::uint64_t>(sent_again));
  CHECK(heard.in(cgroup).counters[COUNTER_tcp_accepts] == 0);
}

TEST_CASE(
    "who gives up on a peer that left it waiting for a second has failed, who changes its mind has not") {
  const auto probes = attach();
  Heard heard(*probes);
  const Cgroup cgroup(probes->cgroup_mount());
  const int status = run_in(
      cgroup,
      [] {
        ::close(begin_connect());
        const int fd = begin_connect();
        ::usleep(1'100'000);
        ::close(fd);
        return 0;
      },
      own_network(kSilentPeer));
  if (no_network(status)) VEDETTE_SKIP("no network namespace or veth here");
  REQUIRE(status == 0);
  CHECK(heard.in(cgroup).counters[COUNTER_tcp_connect_failures] == 1);
  CHECK(heard.in(cgroup).counters[COUNTER_tcp_connects_timed_out] == 1);
}

TEST_CASE("a segment that cannot be sent again is none that was") {
  const auto probes = attach();
  Heard heard(*probes);
  const Cgroup cgroup(probes->cgroup_mount());
  const int status = run_in(
      cgroup,
      [] {
        begin_connect();
        if (shell("ip link set near down") != 0) return 97;
        ::usleep(2'500'000);  // the SYN's first repetition is due after one second
        return 0;
      },
      own_network(kSilentPeer));
  if (no_network(status)) VEDETTE_SKIP("no network namespace or veth here");
  REQUIRE(status == 0);
  CHECK(heard.in(cgroup).counters[COUNTER_tcp_retransmits] == 0);
}

TEST_CASE("without a way to the peer, a connect is unreachable") {
  const auto probes = attach();
  Heard heard(*probes);
  const Cgroup cgroup(probes->cgroup_mount());
  const int status = run_in(
      cgroup,
      [] {
        const FileHandle fd(::socket(AF_INET, SOCK_STREAM, 0));
        const sockaddr_in address = address_of("192.0.2.9", 80);
        if (::connect(fd.get(), reinterpret_cast<const sockaddr*>(&address), sizeof(address)) == 0) return 96;
        return errno == EHOSTUNREACH ? 0 : 97;
      },
      // Nobody answers the question who 192.0.2.9 is: the kernel gives up after one.
      own_network(kEmptyNetwork + " && cd /proc/sys/net/ipv4/neigh/near && echo 1 > mcast_solicit && "
                                  "echo 100 > retrans_time_ms"));
  if (no_network(status)) VEDETTE_SKIP("no network namespace or veth here");
  REQUIRE(status == 0);
  const CgroupTotals& totals = heard.in(cgroup);
  CHECK(totals.counters[COUNTER_tcp_connects_unreachable] == 1);
  CHECK(totals.counters[COUNTER_tcp_connect_failures] == 1);
  CHECK(totals.counters[COUNTER_tcp_connects_timed_out] == 0);
  const std::vector<RawEvent> failures = heard.events(EVENT_connect_failed, cgroup.id());
  REQUIRE(failures.size() == 1);
  CHECK(failures[0].value == EHOSTUNREACH);
}

TEST_CASE("a destination is new once for each cgroup, port and address, whatever socket it is reached by") {
  const auto probes = attach();
  Heard heard(*probes);
  const Cgroup first(probes->cgroup_mount());
  const Cgroup second(probes->cgroup_mount());
  constexpr std::uint16_t kPort = 1;  // tcpmux: nobody listens
  const auto connect = [](int ports) {
    for (int round = 0; round < 3; ++round) {
      for (int i = 0; i < ports; ++i) {
        if (!is_refused(static_cast<std::uint16_t>(kPort + i), AF_INET)) return 1;
      }
    }
    is_refused(kPort, AF_INET6);  // the same peer, if there is IPv6
    return 0;
  };
  const auto own = own_network();
  const int status = run_in(
      first, [&] { return connect(4); }, own);
  if (no_network(status)) VEDETTE_SKIP("no network namespace here");
  REQUIRE(status == 0);
  REQUIRE(run_in(
              second, [&] { return connect(1); }, own) == 0);

  CHECK(heard.in(first).counters[COUNTER_tcp_new_destinations] == 4);
  CHECK(heard.in(second).counters[COUNTER_tcp_new_destinations] == 1);
  CHECK(heard.in(first).counters[COUNTER_tcp_connects_refused] >= 12);
  const std::vector<RawEvent> met = heard.events(EVENT_new_destination, first.id());
  REQUIRE(met.size() == 4);
  for (std::size_t i = 0; i < met.size(); ++i) {
    CHECK(met[i].extra == kPort + static_cast<int>(i));
    CHECK(std::string(met[i].text) == "127.0.0.1");
    CHECK(met[i].pid > 0);
    CHECK(met[i].comm[0] != '\0');
  }
  CHECK(heard.events(EVENT_new_destination, second.id()).size() == 1);
}

TEST_CASE("a connect to a name server's TCP port is a DNS question over TCP") {
  const auto probes = attach();
  Heard heard(*probes);
  const Cgroup cgroup(probes->cgroup_mount());
  const int status = run_in(
      cgroup,
      [] {
        for (int i = 0; i < 3; ++i) {
          if (!is_refused(53, AF_INET)) return 1;
        }
        return is_refused(54, AF_INET) ? 0 : 1;
      },
      own_network());
  if (no_network(status)) VEDETTE_SKIP("no network namespace here");
  REQUIRE(status == 0);
  CHECK(heard.in(cgroup).counters[COUNTER_dns_tcp_queries] == 3);
}

TEST_CASE("one read in about 32 gives the round-trip time that the kernel itself tells of the connection") {
  const auto probes = attach();
  Heard heard(*probes);
  const Cgroup cgroup(probes->cgroup_mount());
  constexpr int kRounds = 6'500;
  struct Told {
    std::uint32_t shortest_us = ~0U;
    std::uint32_t longest_us = 0;
  };
  const Shared<Told> told;
  REQUIRE(run_in(cgroup, [&told] {
            const int listener = ::socket(AF_INET, SOCK_STREAM, 0);
            sockaddr_in address = loopback(0);
            socklen_t size = sizeof(address);
            if (::bind(listener, reinterpret_cast<sockaddr*>(&address), size) != 0 ||
                ::listen(listener, 1) != 0)
              return 1;
            ::getsockname(listener, reinterpret_cast<sockaddr*>(&address), &size);
            const int client = connect_to(address);
            const int server = ::accept(listener, nullptr, nullptr);
            const auto pass = [&told](int from, int to) {
              char byte = 0;
              if (::write(from, &byte, 1) != 1 || ::read(to, &byte, 1) != 1) return false;
              tcp_info info{};
              socklen_t length = sizeof(info);
              if (::getsockopt(to, IPPROTO_TCP, TCP_INFO, &info, &length) != 0) return false;
              told->shortest_us = std::min(told->shortest_us, info.tcpi_rtt);
              told->longest_us = std::max(told->longest_us, info.tcpi_rtt);
              return true;
            };
            for (int i = 0; i < kRounds; ++i) {
              if (!pass(client, server) || !pass(server, client)) return 2;
            }
            return 0;
          }) == 0);
  // Gaps are uniform in 1 ... 64: 400 samples expected, their standard deviation is 11.
  const std::uint64_t samples = heard.observed(cgroup.id(), HISTOGRAM_tcp_round_trip);
  CHECK(samples > 320);
  CHECK(samples < 480);
  // Whole us are what TCP_INFO tells: a bucket that ends within one counts.
  const Buckets& buckets = heard.in(cgroup).histograms[HISTOGRAM_tcp_round_trip];
  for (std::size_t bucket = 0; bucket < buckets.size(); ++bucket) {
    if (buckets[bucket] == 0) continue;
    const double upper_us = static_cast<double>(1ULL << bucket) * 1.024;
    CHECK_MESSAGE(upper_us >= told->shortest_us, "bucket ", bucket);
    CHECK_MESSAGE(upper_us / 2 <= told->longest_us + 1, "bucket ", bucket);
  }
}
