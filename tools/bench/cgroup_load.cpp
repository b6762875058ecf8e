// usage: cgroup_load CGROUPS CALLS_PER_SECOND
// Makes CGROUPS cgroups named /vedette-bench/N, as a container has them, each with one process, that together
// make CALLS_PER_SECOND system calls; runs until its standard input closes, then removes them. Prints
// "ready".
#include <cstdio>
#include <cstdlib>
#include <string>
#include <vector>

#include <signal.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tools/bench/bench_cgroups.h"

namespace {

// Calls come in bursts this far apart: fine enough for a steady load, coarse enough to cost no CPU itself.
constexpr unsigned kBurstMicroseconds = 50'000;

[[noreturn]] void make_calls(long per_burst) {
  for (;;) {
    for (long i = 1; i < per_burst; ++i) ::syscall(SYS_getppid);
    ::usleep(kBurstMicroseconds);
  }
}

}  // namespace

int main(int argc, char** argv) {
  const long count = argc == 3 ? std::atol(argv[1]) : 0;
  const long rate = argc == 3 ? std::atol(argv[2]) : 0;
  if (count <= 0 || rate <= 0) {
    std::fprintf(stderr, "usage: cgroup_load CGROUPS CALLS_PER_SECOND\n");
    return 2;
  }
  const long per_burst = rate / count * kBurstMicroseconds / 1'000'000;

  const vedette::bench::ContainerCgroups cgroups;
  std::vector<pid_t> children;
  for (long i = 0; i < count; ++i) {
    cgroups.make(std::to_string(i));
    const pid_t child = ::fork();
    if (child == 0) {
      ::prctl(PR_SET_PDEATHSIG, SIGKILL);
      cgroups.join(std::to_string(i));
      make_calls(per_burst);
    }
    children.push_back(child);
  }
  std::puts("ready");
  std::fflush(stdout);
  char byte = 0;
  while (::read(STDIN_FILENO, &byte, 1) > 0) {
  }
  for (const pid_t child : children) {
    ::kill(child, SIGKILL);
    ::waitpid(child, nullptr, 0);
  }
  for (long i = 0; i < count; ++i) cgroups.remove(std::to_string(i));
  return 0;
}
