// usage: event_flood EVENTS SECONDS
// As many records for the ring as this machine can cause, EVENTS at most, for SECONDS at most: on each CPU
// one process that execs, one whose children die of a signal, and one whose connects are refused (127.0.0.1,
// port 1). Prints how many of each there were as JSON.
#include <array>
#include <atomic>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <new>
#include <vector>

#include <arpa/inet.h>
#include <netinet/in.h>
#include <signal.h>
#include <spawn.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "agent/base/clock.h"

namespace {

struct Shared {
  std::atomic<std::uint64_t> left;
  std::atomic<std::uint64_t> execs;
  std::atomic<std::uint64_t> deaths;
  std::atomic<std::uint64_t> refused;
  std::uint64_t end_ns;

  // True if another event may be made.
  bool take() {
    if (vedette::monotonic_now() >= end_ns) return false;
    std::uint64_t now = left.load();
    while (now != 0) {
      if (left.compare_exchange_weak(now, now - 1)) return true;
    }
    return false;
  }
};

void exec_one(Shared& shared) {
  std::array<char*, 2> arguments{const_cast<char*>("/bin/true"), nullptr};
  pid_t pid = 0;
  if (::posix_spawn(&pid, arguments[0], nullptr, nullptr, arguments.data(), nullptr) != 0) return;
  ::waitpid(pid, nullptr, 0);
  ++shared.execs;
}

void die_once(Shared& shared) {
  const pid_t pid = ::fork();
  if (pid == 0) {
    ::kill(::getpid(), SIGKILL);
    ::_exit(0);
  }
  if (pid < 0) return;
  ::waitpid(pid, nullptr, 0);
  ++shared.deaths;
}

void be_refused(Shared& shared) {
  const int fd = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  sockaddr_in closed{};
  closed.sin_family = AF_INET;
  closed.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  closed.sin_port = htons(1);
  if (::connect(fd, reinterpret_cast<const sockaddr*>(&closed), sizeof(closed)) != 0) ++shared.refused;
  ::close(fd);
}

}  // namespace

int main(int argc, char** argv) {
  const unsigned long long events = argc == 3 ? std::strtoull(argv[1], nullptr, 10) : 0;
  const unsigned long seconds = argc == 3 ? std::strtoul(argv[2], nullptr, 10) : 0;
  if (events == 0 || seconds == 0) {
    std::fprintf(stderr, "usage: event_flood EVENTS SECONDS\n");
    return 2;
  }
  void* memory = ::mmap(nullptr, sizeof(Shared), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  if (memory == MAP_FAILED) return 1;
  Shared& shared = *new (memory) Shared{};
  const std::uint64_t begin = vedette::monotonic_now();
  shared.left = events;
  shared.end_ns = begin + seconds * 1'000'000'000ULL;

  std::vector<pid_t> workers;
  const long cpus = ::sysconf(_SC_NPROCESSORS_ONLN);
  for (long i = 0; i < cpus; ++i) {
    for (void (*const cause)(Shared&) : {exec_one, die_once, be_refused}) {
      const pid_t pid = ::fork();
      if (pid == 0) {
        ::prctl(PR_SET_PDEATHSIG, SIGKILL);
        while (shared.take()) cause(shared);
        ::_exit(0);
      }
      workers.push_back(pid);
    }
  }
  for (const pid_t pid : workers) ::waitpid(pid, nullptr, 0);
  std::printf("{\"execs\": %llu, \"deaths\": %llu, \"refused\": %llu, \"seconds\": %.1f}\n",
              static_cast<unsigned long long>(shared.execs.load()),
              static_cast<unsigned long long>(shared.deaths.load()),
              static_cast<unsigned long long>(shared.refused.load()),
              vedette::seconds_between(begin, vedette::monotonic_now()));
  return 0;
}
