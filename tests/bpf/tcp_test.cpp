#include <sstream>

#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sched.h>
#include <sys/socket.h>

#include "tests/bpf/bpf_fixture.h"

using namespace vedette;
using namespace vedette::bpf_test;

namespace {

sockaddr_in loopback(std::uint16_t port) {
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_port = htons(port);
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  return address;
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

// The kernel's own count of repeated SYNs in this network namespace; -1: it has none.
int sent_again_of_this_network() {
  std::ifstream file("/proc/self/net/netstat");
  std::string names;
  std::string values;
  std::getline(file, names);
  std::getline(file, values);
  std::istringstream name_stream(names);
  std::istringstream value_stream(values);
  std::string value;
  for (std::string name; name_stream >> name && value_stream >> value;) {
    if (name == "TCPSynRetrans") return std::stoi(value);
  }
  return -1;
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
  CHECK(totals.counters[COUNTER_tcp_resets_sent] == 1);  // the aborted one; a closed port has no socket
  CHECK(totals.counters[COUNTER_tcp_resets_received] == 1 + 3);
  CHECK(heard.observed(cgroup.id(), HISTOGRAM_tcp_connect_latency) == 5);

  const std::vector<RawEvent> failures = heard.events(EVENT_connect_failed, cgroup.id());
  REQUIRE(failures.size() == 3);
  CHECK(failures[0].value == ECONNREFUSED);
  CHECK(failures[0].extra == closed);
  CHECK(std::string(failures[0].text) == "127.0.0.1");
  CHECK(failures[0].pid > 0);
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
        sockaddr_in address{};
        address.sin_family = AF_INET;
        address.sin_port = htons(80);
        ::inet_pton(AF_INET, "192.0.2.7", &address.sin_addr);
        if (::connect(fd, reinterpret_cast<sockaddr*>(&address), sizeof(address)) == 0) return 96;
        if (errno != ETIMEDOUT) return 97;
        return sent_again_of_this_network();
      },
      [] {
        // A network of its own, with a neighbour that is not there: what is sent to it is thrown away.
        if (::unshare(CLONE_NEWNET) != 0 ||
            shell("ip link add near type veth peer name far && ip addr add 192.0.2.1/24 dev near && "
                  "ip link set near up && ip link set far up && "
                  "ip neigh add 192.0.2.7 lladdr 02:00:00:00:00:07 dev near") != 0)
          ::_exit(98);
      });
  if (WEXITSTATUS(status) == 98) VEDETTE_SKIP("no network namespace or veth here");
  const int sent_again = WEXITSTATUS(status);
  REQUIRE(sent_again > 0);
  REQUIRE(sent_again < 10);
  const CgroupTotals& totals = heard.in(cgroup);
  CHECK(totals.counters[COUNTER_tcp_retransmits] == static_cast<std::uint64_t>(sent_again));
  CHECK(totals.counters[COUNTER_tcp_connect_failures] == 1);
  CHECK(totals.counters[COUNTER_tcp_connects] == 0);
  const std::vector<RawEvent> failures = heard.events(EVENT_connect_failed, cgroup.id());
  REQUIRE(failures.size() == 1);
  CHECK(failures[0].value == ETIMEDOUT);
  CHECK(std::string(failures[0].text) == "192.0.2.7");
}
