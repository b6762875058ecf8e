#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/socket.h>

#include "agent/collect/sockstat_source.h"
#include "tests/bpf/bpf_fixture.h"

using namespace vedette;
using namespace vedette::bpf_test;

namespace {

// A listener with the shortest queue, and so many more connects than it holds that some find it full.
int overflow_a_queue() {
  const FileHandle listener(::socket(AF_INET, SOCK_STREAM, 0));
  sockaddr_in address{};
  socklen_t size = sizeof(address);
  if (::listen(listener.get(), 0) != 0) return 1;
  ::getsockname(listener.get(), reinterpret_cast<sockaddr*>(&address), &size);
  std::vector<FileHandle> clients;
  for (int i = 0; i < 8; ++i) {
    clients.emplace_back(::socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0));
    if (::connect(clients.back().get(), reinterpret_cast<sockaddr*>(&address), size) != 0 &&
        errno != EINPROGRESS)
      return 2;
  }
  return 0;
}

struct Steps {
  std::atomic<int> wanted{0};
  std::atomic<int> done{0};
};

constexpr std::uint64_t kUnwanted = 9;

// Datagrams to a port of the loopback where nobody listens.
bool send_unwanted() {
  FileHandle free(::socket(AF_INET, SOCK_DGRAM, 0));
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  socklen_t size = sizeof(address);
  if (::bind(free.get(), reinterpret_cast<sockaddr*>(&address), size) != 0) return false;
  ::getsockname(free.get(), reinterpret_cast<sockaddr*>(&address), &size);
  free.reset();
  const FileHandle sender(::socket(AF_INET, SOCK_DGRAM, 0));
  for (std::uint64_t i = 0; i < kUnwanted; ++i) {
    if (::sendto(sender.get(), "x", 1, 0, reinterpret_cast<sockaddr*>(&address), size) != 1) return false;
  }
  return true;
}

std::uint64_t statistic_in(pid_t pid, const char* name) {
  ReadBuffer buffer;
  const auto text = buffer.read_path("/proc/" + std::to_string(pid) + "/net/netstat");
  const auto count = text ? find_statistic(*text, "TcpExt:", name) : std::nullopt;
  REQUIRE(count.has_value());
  return *count;
}

std::uint64_t overflows_in(pid_t pid) {
  return statistic_in(pid, "ListenOverflows");
}

// A receiver that reads nothing, and a sender that goes on until nothing fits any more.
int fill_a_receiver() {
  const FileHandle listener(::socket(AF_INET, SOCK_STREAM, 0));
  sockaddr_in address{};
  socklen_t size = sizeof(address);
  if (::listen(listener.get(), 1) != 0) return 1;
  ::getsockname(listener.get(), reinterpret_cast<sockaddr*>(&address), &size);
  const FileHandle sender(::socket(AF_INET, SOCK_STREAM, 0));
  if (::connect(sender.get(), reinterpret_cast<sockaddr*>(&address), size) != 0) return 2;
  const FileHandle receiver(::accept(listener.get(), nullptr, nullptr));
  ::fcntl(sender.get(), F_SETFL, O_NONBLOCK);
  const std::vector<char> bytes(64UL * 1024);
  for (int refused = 0; refused < 200;) {
    if (::send(sender.get(), bytes.data(), bytes.size(), MSG_NOSIGNAL) > 0) {
      refused = 0;
    } else {
      ++refused;
      ::usleep(1000);
    }
  }
  return 0;
}

}  // namespace

TEST_CASE(
    "what a full accept queue and unwanted datagrams cost is its pod's, and neither the host's nor of a pod "
    "there") {
  const Cgroup nowhere(attach()->cgroup_mount());
  const Shared<Steps> steps;
  const auto wait_and_overflow = [&] {
    for (int step = 1; step <= 2; ++step) {
      while (steps->wanted < step) ::usleep(1000);
      if (step == 2 && (overflow_a_queue() != 0 || !send_unwanted())) return 1;
      steps->done = step;
    }
    for (;;) ::pause();
  };
  Child pod({&nowhere}, wait_and_overflow, own_network());
  Child host({&nowhere}, [] {
    for (;;) ::pause();
    return 0;
  });
  const auto pid_of = [](const Child& child) { return std::vector{static_cast<std::uint32_t>(child.pid())}; };
  steps->wanted = 1;
  if (!eventually([&] { return steps->done == 1; }, 5)) VEDETTE_SKIP("no network namespace here");

  SockstatSource source("/proc", std::chrono::milliseconds(0));
  FileCounts of_pod;
  FileCounts of_host;
  FileCounts of_node;
  const auto read = [&](MonotonicNs now) {
    CHECK(source.read_node(now, of_node));
    source.read(1, pid_of(pod), now, of_pod);
    source.read(2, pid_of(host), now, of_host);
  };
  read(1);
  const std::uint64_t before = overflows_in(pod.pid());
  const std::uint64_t node_before = overflows_in(1);
  steps->wanted = 2;
  REQUIRE(eventually([&] { return steps->done == 2; }));
  // Answers to SYNs that were dropped are sent again, and dropped again: compare where it stands still.
  std::uint64_t after = 0;
  Sample sample;
  REQUIRE(eventually([&] {
    after = overflows_in(pod.pid());
    read(2);
    of_pod.take(sample);
    return overflows_in(pod.pid()) == after;
  }));
  CHECK(after > before);
  CHECK(sample.counters[COUNTER_listen_overflows] == after - before);
  CHECK(sample.counters[COUNTER_syn_drops] >= after - before);
  CHECK_FALSE(sample.unknown.test(COUNTER_udp_errors));
  CHECK(sample.counters[COUNTER_udp_errors] == kUnwanted);
  CHECK(sample.counters[COUNTER_zero_windows] == 0);

  Sample host_sample;
  of_host.take(host_sample);
  CHECK(host_sample.unknown.test(COUNTER_listen_overflows));
  Sample node_sample;
  of_node.take(node_sample);
  CHECK_FALSE(node_sample.unknown.test(COUNTER_listen_overflows));
  CHECK(node_sample.counters[COUNTER_listen_overflows] <= overflows_in(1) - node_before);
}

TEST_CASE("a receiver that does not read closes its window, as often as the kernel says") {
  const Cgroup nowhere(attach()->cgroup_mount());
  const Shared<Steps> steps;
  Child pod(
      {&nowhere},
      [&] {
        steps->done = 1;
        while (steps->wanted < 2) ::usleep(1000);
        if (fill_a_receiver() != 0) return 1;
        steps->done = 2;
        for (;;) ::pause();
      },
      own_network());
  if (!eventually([&] { return steps->done == 1; }, 5)) VEDETTE_SKIP("no network namespace here");
  SockstatSource source("/proc", std::chrono::milliseconds(0));
  FileCounts node;
  FileCounts counts;
  const std::vector pids{static_cast<std::uint32_t>(pod.pid())};
  CHECK(source.read_node(1, node));
  source.read(1, pids, 1, counts);
  const std::uint64_t before = statistic_in(pod.pid(), "TCPToZeroWindowAdv");
  steps->wanted = 2;
  REQUIRE(eventually([&] { return steps->done == 2; }));
  Sample sample;
  sample.counters.fill(0);
  std::uint64_t after = 0;
  MonotonicNs now = 2;
  REQUIRE(eventually([&] {
    after = statistic_in(pod.pid(), "TCPToZeroWindowAdv");
    CHECK(source.read_node(++now, node));
    source.read(1, pids, now, counts);
    counts.take(sample);
    return after > before && statistic_in(pod.pid(), "TCPToZeroWindowAdv") == after;
  }));
  CHECK(sample.counters[COUNTER_zero_windows] == after - before);
}
