#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/socket.h>

#include "agent/collect/netdev_source.h"
#include "tests/bpf/bpf_fixture.h"

using namespace vedette;
using namespace vedette::bpf_test;

namespace {

struct Tracked {
  std::uint64_t entries = 0;  // as the kernel counts them
  std::uint64_t limit = 0;
  double use = 0;  // as the source tells
};

constexpr std::uint64_t kFlows = 50;

// Each datagram from a port of its own is a flow.
bool make_flows() {
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_port = htons(9);
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  for (std::uint64_t i = 0; i < kFlows; ++i) {
    const FileHandle sender(::socket(AF_INET, SOCK_DGRAM, 0));
    if (::sendto(sender.get(), "x", 1, 0, reinterpret_cast<sockaddr*>(&address), sizeof(address)) != 1)
      return false;
  }
  return true;
}

// The first process of a namespace: whose network it is that a source takes for the host's.
int track(Tracked& tracked) {
  if (::mount("none", "/", nullptr, MS_REC | MS_PRIVATE, nullptr) != 0 ||
      ::mount("proc", "/proc", "proc", 0, nullptr) != 0)
    return 97;
  if (shell("iptables -A INPUT -m conntrack --ctstate INVALID -j DROP") != 0) return 97;
  if (!make_flows()) return 1;
  FileBudget budget(16);
  NetdevSource source("/proc", "/sys", budget);
  Sample sample;
  FileCounts counts;
  if (!source.read(1, sample.gauges, counts)) return 2;
  tracked.use = sample.gauges[GAUGE_conntrack_use];
  const auto number = [](const char* file) { return std::strtoull(read_text(file).c_str(), nullptr, 10); };
  tracked.entries = number("/proc/sys/net/netfilter/nf_conntrack_count");
  tracked.limit = number("/proc/sys/net/netfilter/nf_conntrack_max");
  return 0;
}

}  // namespace

TEST_CASE("tracked connections of their limit are what the kernel says they are") {
  const Shared<Tracked> tracked;
  const Cgroup nowhere(attach()->cgroup_mount());
  const int status = run_in(
      nowhere,
      [&] {
        if (::unshare(CLONE_NEWPID | CLONE_NEWNS) != 0) return 97;
        const pid_t first = ::fork();
        if (first == 0) ::_exit(track(*tracked));
        int result = 0;
        ::waitpid(first, &result, 0);
        return WIFEXITED(result) ? WEXITSTATUS(result) : 3;
      },
      own_network());
  if (no_network(status)) VEDETTE_SKIP("no network namespace here");
  if (WIFEXITED(status) && WEXITSTATUS(status) == 97) VEDETTE_SKIP("no connection tracking by iptables here");
  REQUIRE(status == 0);
  CHECK(tracked->entries >= kFlows);
  REQUIRE(tracked->limit > 0);
  CHECK(tracked->use ==
        doctest::Approx(static_cast<double>(tracked->entries) / static_cast<double>(tracked->limit)));
}
