#include <arpa/inet.h>
#include <linux/sock_diag.h>
#include <netinet/in.h>
#include <netinet/ip_icmp.h>
#include <sys/socket.h>

#include "tests/bpf/bpf_fixture.h"

using namespace vedette;
using namespace vedette::bpf_test;

namespace {

constexpr std::uint32_t kSent = 300;

struct Flood {
  std::uint32_t read = 0;
  std::uint32_t dropped = 0;  // by the socket, as the kernel itself counts it
};

sockaddr_in loopback() {
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  return address;
}

// A socket with the smallest buffer there is.
FileHandle cramped(int protocol) {
  FileHandle fd(::socket(AF_INET, SOCK_DGRAM, protocol));
  const int small = 1;
  ::setsockopt(fd.get(), SOL_SOCKET, SO_RCVBUF, &small, sizeof(small));
  return fd;
}

bool send_all(const FileHandle& from, const std::vector<char>& packet, sockaddr_in to) {
  for (std::uint32_t i = 0; i < kSent; ++i) {
    if (::sendto(from.get(), packet.data(), packet.size(), 0, reinterpret_cast<sockaddr*>(&to), sizeof(to)) <
        0)
      return false;
  }
  return true;
}

bool take_stock(const FileHandle& fd, Flood& flood) {
  std::array<std::uint32_t, SK_MEMINFO_VARS> memory{};
  socklen_t length = sizeof(memory);
  if (::getsockopt(fd.get(), SOL_SOCKET, SO_MEMINFO, memory.data(), &length) != 0) return false;
  flood.dropped = memory[SK_MEMINFO_DROPS];
  std::array<char, 1> packet{};
  while (::recv(fd.get(), packet.data(), packet.size(), MSG_DONTWAIT) > 0) ++flood.read;
  return true;
}

// Sends kSent datagrams to `receiver`, who reads them afterwards.
bool flood_datagrams(const FileHandle& receiver, std::size_t bytes, Flood& flood) {
  sockaddr_in address = loopback();
  socklen_t size = sizeof(address);
  if (::bind(receiver.get(), reinterpret_cast<sockaddr*>(&address), size) != 0) return false;
  ::getsockname(receiver.get(), reinterpret_cast<sockaddr*>(&address), &size);
  const FileHandle sender(::socket(AF_INET, SOCK_DGRAM, 0));
  return send_all(sender, std::vector<char>(bytes), address) && take_stock(receiver, flood);
}

// For some milliseconds no UDP socket of this machine gets more memory than the kernel hands out unseen: up
// to 1 MiB for each CPU.
class NoUdpMemory {
public:
  NoUdpMemory() : usual_(read_text(kLimit)) { works_ = !usual_.empty() && write_text(kLimit, "1 1 1"); }
  NoUdpMemory(const NoUdpMemory&) = delete;
  NoUdpMemory& operator=(const NoUdpMemory&) = delete;
  ~NoUdpMemory() {
    if (works_) write_text(kLimit, usual_);
  }
  bool works() const { return works_; }

private:
  static constexpr const char* kLimit = "/proc/sys/net/ipv4/udp_mem";
  std::string usual_;
  bool works_;
};

}  // namespace

TEST_CASE("datagrams that a full UDP socket refuses are counted for the cgroup that made the socket") {
  const auto probes = attach();
  Heard heard(*probes);
  const Cgroup cgroup(probes->cgroup_mount());
  const Shared<Flood> flood;
  REQUIRE(run_in(cgroup, [&] {
            const FileHandle receiver = cramped(0);
            return flood_datagrams(receiver, 512, *flood) ? 0 : 1;
          }) == 0);
  REQUIRE(flood->dropped > 0);
  REQUIRE(flood->read + flood->dropped == kSent);
  const CgroupTotals& totals = heard.in(cgroup);
  CHECK(totals.counters[COUNTER_udp_receive_errors] == flood->dropped);
  CHECK(totals.counters[COUNTER_socket_overruns] == 0);  // UDP has a count of its own
}

TEST_CASE("packets for which another socket has no room are overruns") {
  const auto probes = attach();
  Heard heard(*probes);
  const Cgroup cgroup(probes->cgroup_mount());
  const Shared<Flood> flood;
  const int status = run_in(
      cgroup,
      [&] {
        // Asks itself for echoes and does not listen.
        const FileHandle pinger = cramped(IPPROTO_ICMP);
        std::vector<char> request(512);
        request[0] = ICMP_ECHO;
        return send_all(pinger, request, loopback()) && take_stock(pinger, *flood) ? 0 : 1;
      },
      own_network("echo 0 0 > /proc/sys/net/ipv4/ping_group_range"));
  if (no_network(status)) VEDETTE_SKIP("no network namespace here");
  REQUIRE(status == 0);
  REQUIRE(flood->dropped > 0);
  REQUIRE(flood->read + flood->dropped == kSent);
  const CgroupTotals& totals = heard.in(cgroup);
  CHECK(totals.counters[COUNTER_socket_overruns] == flood->dropped);
  CHECK(totals.counters[COUNTER_udp_receive_errors] == 0);
}

TEST_CASE("a socket whose protocol has used up its memory is overrun, however large its own buffer is") {
  const auto probes = attach();
  Heard heard(*probes);
  const Cgroup cgroup(probes->cgroup_mount());
  const Shared<Flood> flood;
  {
    const NoUdpMemory limit;
    if (!limit.works()) VEDETTE_SKIP("udp_mem cannot be set here");
    REQUIRE(run_in(cgroup, [&] {
              const FileHandle receiver(::socket(AF_INET, SOCK_DGRAM, 0));
              const int large = 16 << 20;
              ::setsockopt(receiver.get(), SOL_SOCKET, SO_RCVBUFFORCE, &large, sizeof(large));
              constexpr std::size_t kBytes = 16'000;  // all together more than is handed out unseen
              return flood_datagrams(receiver, kBytes, *flood) ? 0 : 1;
            }) == 0);
  }
  REQUIRE(flood->dropped > 0);
  REQUIRE(flood->read + flood->dropped == kSent);
  const CgroupTotals& totals = heard.in(cgroup);
  CHECK(totals.counters[COUNTER_socket_overruns] == flood->dropped);
}
