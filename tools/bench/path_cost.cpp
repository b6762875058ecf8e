// What one trip on a path through the kernel takes, in ns: the fastest of many short runs, so that what
// disturbs a run does not count; one CPU, so that nothing depends on where the scheduler puts what. Driven by
// the *-overhead benchmarks beside this file, with nothing and with various programs attached.
//   path_cost syscall        getppid()
//   path_cost switch         a byte to another process and back, through two pipes: two context switches
//   path_cost connect        a TCP connection: connect, accept, both ends closed
//   path_cost bulk           64 KiB written to and read from a TCP connection
//   path_cost echo           64 bytes to another process and back, on a TCP connection
//   path_cost read DEVICE    4 KiB from a random place, O_DIRECT
// The network is 127.0.0.0/8 of a network namespace of its own: no firewall of the machine is measured, and
// no connection of an earlier run is in TIME_WAIT there.
#include <algorithm>
#include <array>
#include <cerrno>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <random>
#include <string_view>
#include <utility>
#include <vector>

#include <arpa/inet.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <net/if.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sched.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "agent/base/clock.h"
#include "agent/base/handle.h"

using vedette::FileHandle;

namespace {

// Short enough that most runs see no interrupt but the timer's; the minimum over 1.5 s is steady to 2 %.
constexpr std::uint64_t kRunNs = 4'000'000;
constexpr std::uint64_t kMeasureNs = 1'500'000'000;

[[noreturn]] void fail(const char* what) {
  std::fprintf(stderr, "path_cost: %s: %s\n", what, std::strerror(errno));
  std::exit(1);
}
void check(bool good, const char* what) {
  if (!good) fail(what);
}
template <typename Size>
void check_size(ssize_t got, Size wanted, const char* what) {
  if (got != static_cast<ssize_t>(wanted)) fail(what);
}

// `share`: which of all runs, from the fastest, is told.
template <typename Trip>
void measure(Trip trip, double share = 0) {
  const auto run = [&](int trips) {
    const std::uint64_t begin = vedette::monotonic_now();
    for (int i = 0; i < trips; ++i) trip();
    return vedette::monotonic_now() - begin;
  };
  int trips = 1;
  while (run(trips) < kRunNs / 2 && trips < 1 << 20) trips *= 2;
  std::vector<double> runs;
  for (const std::uint64_t end = vedette::monotonic_now() + kMeasureNs; vedette::monotonic_now() < end;) {
    runs.push_back(static_cast<double>(run(trips)) / trips);
  }
  const auto told = runs.begin() + static_cast<std::ptrdiff_t>(share * static_cast<double>(runs.size()));
  std::nth_element(runs.begin(), told, runs.end());
  std::printf("%.2f\n", *told);
}

void stay_on_last_cpu() {
  cpu_set_t cpus;
  CPU_ZERO(&cpus);
  CPU_SET(::sysconf(_SC_NPROCESSORS_ONLN) - 1, &cpus);
  ::sched_setaffinity(0, sizeof(cpus), &cpus);
}

// A process that sends back, in pieces of the same size, what it reads; it ends with this one.
void start_echo(int in, int out, std::size_t bytes) {
  const pid_t child = ::fork();
  check(child >= 0, "fork");
  if (child != 0) return;
  ::prctl(PR_SET_PDEATHSIG, SIGKILL);
  std::vector<char> buffer(bytes);
  while (::read(in, buffer.data(), bytes) == static_cast<ssize_t>(bytes)) {
    if (::write(out, buffer.data(), bytes) != static_cast<ssize_t>(bytes)) break;
  }
  ::_exit(0);
}

void measure_switch() {
  std::array<int, 2> there{};
  std::array<int, 2> back{};
  check(::pipe(there.data()) == 0 && ::pipe(back.data()) == 0, "pipe");
  start_echo(there[0], back[1], 1);
  char byte = 0;
  measure([&] {
    check_size(::write(there[1], &byte, 1), 1, "write to the pipe");
    check_size(::read(back[0], &byte, 1), 1, "read from the pipe");
  });
}

void make_network() {
  check(::unshare(CLONE_NEWNET) == 0, "unshare the network namespace");
  const FileHandle any(::socket(AF_INET, SOCK_DGRAM, 0));
  ifreq request{};
  std::strcpy(request.ifr_name, "lo");
  request.ifr_flags = IFF_UP;
  check(any && ::ioctl(any.get(), SIOCSIFFLAGS, &request) == 0, "bring up lo");
}

constexpr std::uint16_t kPort = 4000;

sockaddr_in address_of(std::uint32_t host) {
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(host);
  address.sin_port = htons(kPort);
  return address;
}

// Far more than any window this needs: 64 KiB are never held back half-way.
void widen(int fd) {
  const int bytes = 8 << 20;
  const int yes = 1;
  ::setsockopt(fd, SOL_SOCKET, SO_RCVBUFFORCE, &bytes, sizeof(bytes));
  ::setsockopt(fd, SOL_SOCKET, SO_SNDBUFFORCE, &bytes, sizeof(bytes));
  ::setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &yes, sizeof(yes));
}

FileHandle listen_in_network() {
  make_network();
  FileHandle listening(::socket(AF_INET, SOCK_STREAM, 0));
  const sockaddr_in any = address_of(INADDR_ANY);
  widen(listening.get());
  check(::bind(listening.get(), reinterpret_cast<const sockaddr*>(&any), sizeof(any)) == 0 &&
            ::listen(listening.get(), 16) == 0,
        "listen");
  return listening;
}

FileHandle connect_to(std::uint32_t host) {
  FileHandle client(::socket(AF_INET, SOCK_STREAM, 0));
  const sockaddr_in address = address_of(host);
  check(client && ::connect(client.get(), reinterpret_cast<const sockaddr*>(&address), sizeof(address)) == 0,
        "connect");
  return client;
}

struct Connection {
  FileHandle client, server;
};
Connection make_connection() {
  const FileHandle listening = listen_in_network();
  FileHandle client = connect_to(INADDR_LOOPBACK);
  FileHandle server(::accept(listening.get(), nullptr, nullptr));
  check(static_cast<bool>(server), "accept");
  widen(client.get());
  return {std::move(client), std::move(server)};
}

void measure_connect() {
  const FileHandle listening = listen_in_network();
  // Each of 200 addresses has ports of its own: the search for a free one stays short.
  std::uint32_t next = 0;
  measure([&] {
    FileHandle client = connect_to(INADDR_LOOPBACK + next++ % 200);
    const FileHandle server(::accept(listening.get(), nullptr, nullptr));
    check(static_cast<bool>(server), "accept");
    client.reset();
  });
}

void measure_bulk() {
  const Connection connection = make_connection();
  std::vector<char> buffer(std::size_t{64} * 1024);
  measure([&] {
    check_size(::write(connection.client.get(), buffer.data(), buffer.size()), buffer.size(), "write");
    check_size(::recv(connection.server.get(), buffer.data(), buffer.size(), MSG_WAITALL), buffer.size(),
               "read");
  });
}

void measure_echo() {
  const Connection connection = make_connection();
  std::array<char, 64> buffer{};
  start_echo(connection.server.get(), connection.server.get(), buffer.size());
  measure([&] {
    check_size(::write(connection.client.get(), buffer.data(), buffer.size()), buffer.size(), "write");
    check_size(::read(connection.client.get(), buffer.data(), buffer.size()), buffer.size(), "read");
  });
}

void measure_read(const char* device) {
  constexpr std::size_t kBlock = 4096;
  const FileHandle disk(::open(device, O_RDONLY | O_DIRECT | O_CLOEXEC));
  std::uint64_t bytes = 0;
  check(disk && ::ioctl(disk.get(), BLKGETSIZE64, &bytes) == 0, device);
  // In the fastest few runs, by a fifth, the loop's worker had not gone to sleep between two reads: chance.
  const std::unique_ptr<void, void (*)(void*)> block(std::aligned_alloc(kBlock, kBlock), std::free);
  std::minstd_rand random(1);
  measure(
      [&] {
        const auto at = static_cast<off_t>(random() % (bytes / kBlock) * kBlock);
        check_size(::pread(disk.get(), block.get(), kBlock, at), kBlock, "read from the device");
      },
      0.25);
}

}  // namespace

int main(int argc, char** argv) {
  const std::string_view path = argc > 1 ? argv[1] : "";
  stay_on_last_cpu();
  if (argc == 2 && path == "syscall") {
    measure([] { ::syscall(SYS_getppid); });
  } else if (argc == 2 && path == "switch") {
    measure_switch();
  } else if (argc == 2 && path == "connect") {
    measure_connect();
  } else if (argc == 2 && path == "bulk") {
    measure_bulk();
  } else if (argc == 2 && path == "echo") {
    measure_echo();
  } else if (argc == 3 && path == "read") {
    measure_read(argv[2]);
  } else {
    std::fprintf(stderr, "usage: path_cost syscall | switch | connect | bulk | echo | read DEVICE\n");
    return 2;
  }
  return 0;
}
