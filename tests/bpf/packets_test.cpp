#include <algorithm>

#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/socket.h>

#include "tests/bpf/bpf_fixture.h"

using namespace vedette;
using namespace vedette::bpf_test;

namespace {

constexpr std::uint16_t kDnsPort = 53;
constexpr std::uint8_t kNoError = 0;
constexpr std::uint8_t kServFail = 2;
constexpr std::uint8_t kNxDomain = 3;
constexpr std::uint8_t kRefused = 5;

struct Address {
  sockaddr_storage storage{};
  socklen_t size = sizeof(storage);
  sockaddr* get() { return reinterpret_cast<sockaddr*>(&storage); }
  std::uint16_t port() const { return ntohs(reinterpret_cast<const sockaddr_in*>(&storage)->sin_port); }
};

Address loopback(int family, std::uint16_t port) {
  Address address;
  address.storage.ss_family = static_cast<sa_family_t>(family);
  if (family == AF_INET) {
    auto* v4 = reinterpret_cast<sockaddr_in*>(&address.storage);
    v4->sin_port = htons(port);
    v4->sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    address.size = sizeof(*v4);
  } else {
    auto* v6 = reinterpret_cast<sockaddr_in6*>(&address.storage);
    v6->sin6_port = htons(port);
    v6->sin6_addr = in6addr_loopback;
    address.size = sizeof(*v6);
  }
  return address;
}

FileHandle bound(Address& address) {
  FileHandle fd(::socket(address.storage.ss_family, SOCK_DGRAM, 0));
  if (::bind(fd.get(), address.get(), address.size) != 0) return {};
  ::getsockname(fd.get(), address.get(), &address.size);
  return fd;
}

// A DNS message with one question: what a resolver sends, or (with bits in `flags`) what it gets.
std::vector<std::uint8_t> message(std::uint16_t id, std::uint16_t flags, const std::string& name) {
  std::vector<std::uint8_t> bytes{static_cast<std::uint8_t>(id >> 8),
                                  static_cast<std::uint8_t>(id),
                                  static_cast<std::uint8_t>(flags >> 8),
                                  static_cast<std::uint8_t>(flags),
                                  0,
                                  1,
                                  0,
                                  0,
                                  0,
                                  0,
                                  0,
                                  0};
  for (std::size_t at = 0; at < name.size();) {
    const std::size_t end = std::min(name.find('.', at), name.size());
    bytes.push_back(static_cast<std::uint8_t>(end - at));
    bytes.insert(bytes.end(), name.begin() + static_cast<std::ptrdiff_t>(at),
                 name.begin() + static_cast<std::ptrdiff_t>(end));
    at = end + 1;
  }
  for (const int byte : {0, 0, 1, 0, 1}) bytes.push_back(static_cast<std::uint8_t>(byte));  // root, A, IN
  return bytes;
}

constexpr std::uint16_t kQuestion = 0x0100;  // recursion desired
constexpr std::uint16_t kAnswer = 0x8180;

// A resolver and a name server in one process, each with its socket on the loopback.
class Talk {
public:
  explicit Talk(int family)
      : server_address_(loopback(family, kDnsPort)), client_address_(loopback(family, 0)) {
    server_ = bound(server_address_);
    client_ = bound(client_address_);
  }
  bool ready() const { return server_ && client_; }
  bool ask(std::uint16_t id, const std::string& name) {
    return send(client_, message(id, kQuestion, name), server_address_);
  }
  bool answer(std::uint16_t id, const std::string& name, std::uint8_t code) {
    return send(server_, message(id, kAnswer | code, name), client_address_);
  }
  // The server's next datagram, taken away.
  bool heard() {
    std::array<char, 512> buffer{};
    return ::recv(server_.get(), buffer.data(), buffer.size(), MSG_DONTWAIT) > 0;
  }

private:
  static bool send(const FileHandle& from, const std::vector<std::uint8_t>& bytes, Address& to) {
    return ::sendto(from.get(), bytes.data(), bytes.size(), 0, to.get(), to.size) ==
           static_cast<ssize_t>(bytes.size());
  }
  Address server_address_, client_address_;
  FileHandle server_, client_;
};

void hear_surveys(KernelProbes& probes) {
  probes.survey([](const survey_record&) {});
}

void check_packets(int family, std::uint64_t header_bytes) {
  const auto probes = attach();
  Heard heard(*probes);
  const Cgroup sending(probes->cgroup_mount());
  const Cgroup receiving(probes->cgroup_mount());
  constexpr int kPackets = 40;
  constexpr std::size_t kBytes = 100;
  const Shared<std::atomic<int>> port;

  Child receiver({&receiving}, [&] {
    Address address = loopback(family, 0);
    const FileHandle socket = bound(address);
    if (!socket) {
      *port = -1;
      return 1;
    }
    *port = address.port();
    std::array<char, kBytes> buffer{};
    for (int i = 0; i < kPackets; ++i) {
      if (::recv(socket.get(), buffer.data(), buffer.size(), 0) != kBytes) return 2;
    }
    return 0;
  });
  REQUIRE(eventually([&] { return *port != 0; }));
  if (*port < 0) VEDETTE_SKIP("no such loopback here");
  REQUIRE(run_in(sending, [&] {
            Address address = loopback(family, static_cast<std::uint16_t>(port->load()));
            const FileHandle socket(::socket(family, SOCK_DGRAM, 0));
            const std::array<char, kBytes> bytes{};
            for (int i = 0; i < kPackets; ++i) {
              if (::sendto(socket.get(), bytes.data(), kBytes, 0, address.get(), address.size) != kBytes)
                return 1;
            }
            return 0;
          }) == 0);
  REQUIRE(receiver.wait() == 0);

  const std::uint64_t all_bytes = kPackets * (header_bytes + kBytes);
  const CgroupTotals& sent = heard.in(sending);
  CHECK(sent.counters[COUNTER_packets_sent] == kPackets);
  CHECK(sent.counters[COUNTER_sent_bytes] == all_bytes);
  CHECK(sent.counters[COUNTER_packets_received] == 0);
  const CgroupTotals& received = heard.in(receiving);
  CHECK(received.counters[COUNTER_packets_received] == kPackets);
  CHECK(received.counters[COUNTER_received_bytes] == all_bytes);
  CHECK(received.counters[COUNTER_packets_sent] == 0);
}

void check_dns(int family) {
  const auto probes = attach();
  Heard heard(*probes);
  const Cgroup cgroup(probes->cgroup_mount());
  const std::string longest = std::string(60, 'a') + "." + std::string(60, 'b') + ".example";
  const int status = run_in(
      cgroup,
      [&] {
        Talk talk(family);
        if (!talk.ready()) return 98;
        std::uint16_t id = 1000;
        const auto exchange = [&](const std::string& name, std::uint8_t code, int times) {
          for (int i = 0; i < times; ++i, ++id) {
            if (!talk.ask(id, name) || !talk.heard() || !talk.answer(id, name, code)) return false;
          }
          return true;
        };
        const bool told = exchange("www.example.com", kNoError, 20) &&
                          exchange("No.Such.Host.default.svc", kNxDomain, 7) &&
                          exchange("nor.this", kNxDomain, 1) && exchange("broken.example", kServFail, 3) &&
                          exchange("closed.example", kRefused, 2) && exchange(longest, kNxDomain, 1);
        // An answer that nobody asked for changes nothing.
        return told && talk.answer(id, "stray.example", kNoError) ? 0 : 1;
      },
      own_network());
  if (no_network(status)) VEDETTE_SKIP("no network namespace, or no loopback of this family, here");
  REQUIRE(status == 0);

  const CgroupTotals& totals = heard.in(cgroup);
  CHECK(totals.counters[COUNTER_dns_queries] == 20 + 7 + 1 + 3 + 2 + 1);
  CHECK(totals.counters[COUNTER_dns_nxdomain] == 7 + 1 + 1);
  CHECK(totals.counters[COUNTER_dns_servfail] == 3 + 2);
  CHECK(totals.counters[COUNTER_dns_timeouts] == 0);
  CHECK(totals.counters[COUNTER_packets_sent] == 2 * 34 + 1);
  CHECK(heard.observed(cgroup.id(), HISTOGRAM_dns_latency) == 34);

  // Each name and code once, however often it was asked for.
  const std::vector<RawEvent> failures = heard.events(EVENT_dns_failed, cgroup.id());
  REQUIRE(failures.size() == 5);
  CHECK(std::string(failures[0].text) == "no.such.host.default.svc");
  CHECK(failures[0].value == kNxDomain);
  CHECK(std::string(failures[1].text) == "nor.this");
  CHECK(std::string(failures[2].text) == "broken.example");
  CHECK(failures[2].value == kServFail);
  CHECK(std::string(failures[3].text) == "closed.example");
  CHECK(failures[3].value == kRefused);
  CHECK(std::string(failures[4].text) == longest.substr(0, EVENT_TEXT_BYTES - 1));
}

}  // namespace

TEST_CASE("IPv4 packets are counted for the cgroup that sent them, and for the one whose socket got them") {
  check_packets(AF_INET, 20 + 8);
}

TEST_CASE("IPv6 packets are counted for the cgroup that sent them, and for the one whose socket got them") {
  check_packets(AF_INET6, 40 + 8);
}

TEST_CASE("DNS questions, their answers and failures are counted, and a failing name is told once") {
  check_dns(AF_INET);
}

TEST_CASE("DNS over IPv6 is counted alike") {
  check_dns(AF_INET6);
}

TEST_CASE("a DNS question without an answer times out once, and what finds no room is counted as lost") {
  const auto probes = attach();
  Heard heard(*probes);
  const Cgroup cgroup(probes->cgroup_mount());
  constexpr std::uint16_t kRoom = 4096;  // max_entries of dns_pending
  constexpr std::uint16_t kTooMany = 100;
  constexpr auto kPatience = std::chrono::seconds(5);
  if (no_network(run_in(
          cgroup, [] { return 0; }, own_network())))
    VEDETTE_SKIP("no network namespace here");
  const auto begin = std::chrono::steady_clock::now();
  const Shared<std::atomic<bool>> answer_now;
  Child child(
      {&cgroup},
      [&] {
        Talk talk(AF_INET);
        if (!talk.ready()) return 1;
        for (std::uint16_t id = 0; id < kRoom + kTooMany; ++id) {
          if (!talk.ask(id, "nobody.example") || !talk.heard()) return 2;
          if (id == 0 && !talk.ask(id, "nobody.example")) return 3;  // again: the same question
        }
        while (!*answer_now) ::usleep(1000);
        return talk.answer(1, "nobody.example", kNoError) ? 0 : 4;  // too late
      },
      own_network());
  CHECK(eventually([&] { return heard.in(cgroup).counters[COUNTER_dns_queries] == kRoom + kTooMany + 1; }));
  hear_surveys(*probes);
  // The survey takes none away before its time. (On a machine that is slow enough, some are old by now.)
  if (std::chrono::steady_clock::now() - begin < kPatience)
    CHECK(heard.in(cgroup).counters[COUNTER_dns_timeouts] == 0);
  CHECK(eventually([&] {
    hear_surveys(*probes);
    return heard.in(cgroup).counters[COUNTER_dns_timeouts] == kRoom;
  }));
  CHECK(std::chrono::steady_clock::now() - begin >= kPatience);
  *answer_now = true;
  REQUIRE(child.wait() == 0);
  hear_surveys(*probes);
  CHECK(heard.in(cgroup).counters[COUNTER_dns_timeouts] == kRoom);
  CHECK(heard.observed(cgroup.id(), HISTOGRAM_dns_latency) == 0);
  Losses losses;
  probes->read_losses(losses);
  CHECK(losses.no_task_storage >= kTooMany);

  const std::vector<RawEvent> failures = heard.events(EVENT_dns_failed, cgroup.id());
  REQUIRE(failures.size() == 1);
  CHECK(failures[0].value == -1);
  CHECK(std::string(failures[0].text) == "nobody.example");
}
