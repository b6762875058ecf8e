#include <arpa/inet.h>
#include <linux/if_packet.h>
#include <net/ethernet.h>
#include <net/if.h>
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

// Datagrams to that address, each from a port of its own: a closed socket's may be given again.
bool send_datagrams(const char* to, std::uint64_t count) {
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_port = htons(9);
  address.sin_addr.s_addr = ::inet_addr(to);
  std::vector<FileHandle> senders;
  for (std::uint64_t i = 0; i < count; ++i) {
    const FileHandle& sender = senders.emplace_back(::socket(AF_INET, SOCK_DGRAM, 0));
    if (::sendto(sender.get(), "x", 1, 0, reinterpret_cast<sockaddr*>(&address), sizeof(address)) != 1)
      return false;
  }
  return true;
}

// Frames of a protocol that nobody speaks (IEEE 802's for experiments), out of that device.
bool send_frames(const char* device, std::uint64_t count) {
  const FileHandle sender(::socket(AF_PACKET, SOCK_RAW, 0));
  sockaddr_ll address{};
  address.sll_family = AF_PACKET;
  address.sll_ifindex = static_cast<int>(::if_nametoindex(device));
  std::array<unsigned char, ETH_ZLEN> frame{0xff, 0xff, 0xff, 0xff, 0xff, 0xff};
  frame[12] = 0x88;
  frame[13] = 0xb5;
  const auto size = static_cast<ssize_t>(frame.size());
  for (std::uint64_t i = 0; i < count; ++i) {
    if (::sendto(sender.get(), frame.data(), frame.size(), 0, reinterpret_cast<sockaddr*>(&address),
                 sizeof(address)) != size)
      return false;
  }
  return true;
}

// As the first process of a namespace with a network of its own: this is what a source takes for the host's.
// 97: `work` lacked something, 98: there can be none.
int run_first(const std::function<int()>& work, const std::string& network = "true") {
  const Cgroup nowhere(attach()->cgroup_mount());
  return run_in(
      nowhere,
      [&] {
        if (::unshare(CLONE_NEWPID | CLONE_NEWNS) != 0) return 97;
        const pid_t first = ::fork();
        if (first == 0) {
          const bool own_proc = ::mount("none", "/", nullptr, MS_REC | MS_PRIVATE, nullptr) == 0 &&
                                ::mount("proc", "/proc", "proc", 0, nullptr) == 0;
          ::_exit(own_proc ? work() : 97);
        }
        int result = 0;
        ::waitpid(first, &result, 0);
        return WIFEXITED(result) ? WEXITSTATUS(result) : 3;
      },
      own_network(network));
}

int track(Tracked& tracked) {
  if (shell("iptables -A INPUT -m conntrack --ctstate INVALID -j DROP") != 0) return 97;
  if (!send_datagrams("127.0.0.1", kFlows)) return 1;
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

constexpr std::uint64_t kLost = 7;

// What a source counts of `lose`, with a sysfs that says which device stands for hardware: none does of those
// that can be made here.
int count_lost(const char* hardware, const std::function<bool()>& lose, Sample& sample) {
  const auto sys = std::filesystem::temp_directory_path() / "sys";
  if (::mount("none", std::filesystem::temp_directory_path().c_str(), "tmpfs", 0, nullptr) != 0) return 97;
  std::filesystem::create_directories(sys / "class/net" / hardware / "device");
  FileBudget budget(16);
  NetdevSource source("/proc", sys, budget);
  FileCounts counts;
  MonotonicNs now = 1;
  if (!source.read(now, sample.gauges, counts) || !lose()) return 1;
  const bool all = eventually([&] {
    if (!source.read(++now, sample.gauges, counts)) return false;
    counts.take(sample);
    return sample.counters[COUNTER_nic_drops] + sample.counters[COUNTER_nic_errors] >= kLost;
  });
  return all ? 0 : 2;
}

}  // namespace

TEST_CASE("tracked connections of their limit are what the kernel says they are") {
  const Shared<Tracked> tracked;
  const int status = run_first([&] { return track(*tracked); });
  if (no_network(status)) VEDETTE_SKIP("no network namespace here");
  if (WIFEXITED(status) && WEXITSTATUS(status) == 97) VEDETTE_SKIP("no connection tracking by iptables here");
  REQUIRE(status == 0);
  CHECK(tracked->entries >= kFlows);
  REQUIRE(tracked->limit > 0);
  CHECK(tracked->use ==
        doctest::Approx(static_cast<double>(tracked->entries) / static_cast<double>(tracked->limit)));
}

TEST_CASE("packets that a device drops are counted, those of a device that is no hardware are not") {
  const Shared<Sample> sample;
  const int status = run_first(
      [&] {
        return count_lost(
            "far", [] { return send_frames("far", kLost + 1) && send_frames("near", kLost); }, *sample);
      },
      "ip link add near type veth peer name far && ip link set near up && ip link set far up");
  if (no_network(status)) VEDETTE_SKIP("no pair of virtual devices here");
  REQUIRE(status == 0);
  CHECK(sample->counters[COUNTER_nic_drops] == kLost);
  CHECK(sample->counters[COUNTER_nic_errors] == 0);
}

TEST_CASE("packets that a device cannot send are its errors") {
  const Shared<Sample> sample;
  shell("modprobe ipip");
  const int status = run_first(
      [&] {
        return count_lost(
            "tunnel", [] { return send_datagrams("192.0.2.2", kLost); }, *sample);
      },
      "ip link add tunnel type ipip remote 198.51.100.1 && ip addr add 192.0.2.1/24 dev tunnel && "
      "ip link set tunnel up");  // nobody knows the way to its other end
  if (no_network(status)) VEDETTE_SKIP("no tunnel here");
  REQUIRE(status == 0);
  CHECK(sample->counters[COUNTER_nic_errors] == kLost);
  CHECK(sample->counters[COUNTER_nic_drops] == 0);
}
