// usage: cgroup_load CGROUPS CALLS_PER_SECOND
// Makes CGROUPS cgroups below the v2 mount's /vedette-bench, each with one process, that together make
// CALLS_PER_SECOND system calls; runs until its standard input closes, then removes them. Prints "ready".
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <sstream>
#include <string>
#include <vector>

#include <fcntl.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

namespace {

// Calls come in bursts this far apart: fine enough for a steady load, coarse enough to cost no CPU itself.
constexpr unsigned kBurstMicroseconds = 50'000;

std::string find_cgroup2() {
  std::ifstream mounts("/proc/self/mountinfo");
  for (std::string line; std::getline(mounts, line);) {
    if (line.find(" - cgroup2 ") == std::string::npos) continue;
    std::istringstream fields(line);
    std::string field;
    for (int i = 0; i < 5; ++i) fields >> field;
    return field;
  }
  return {};
}

[[noreturn]] void make_calls(long per_burst) {
  for (;;) {
    for (long i = 1; i < per_burst; ++i) ::syscall(SYS_getppid);
    ::usleep(kBurstMicroseconds);
  }
}

}  // namespace

int main(int argc, char** argv) {
  const long cgroups = argc == 3 ? std::atol(argv[1]) : 0;
  const long rate = argc == 3 ? std::atol(argv[2]) : 0;
  const std::string root = find_cgroup2();
  if (cgroups <= 0 || rate <= 0 || root.empty()) {
    std::fprintf(stderr, "usage: cgroup_load CGROUPS CALLS_PER_SECOND (and a cgroup2 mount is needed)\n");
    return 2;
  }
  const std::string top = root + "/vedette-bench";
  ::mkdir(top.c_str(), 0755);
  const long per_burst = rate / cgroups * kBurstMicroseconds / 1'000'000;

  std::vector<pid_t> children;
  for (long i = 0; i < cgroups; ++i) {
    const std::string cgroup = top + "/" + std::to_string(i);
    ::mkdir(cgroup.c_str(), 0755);
    const pid_t child = ::fork();
    if (child == 0) {
      ::prctl(PR_SET_PDEATHSIG, SIGKILL);
      std::ofstream(cgroup + "/cgroup.procs") << ::getpid();
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
  for (long i = 0; i < cgroups; ++i) ::rmdir((top + "/" + std::to_string(i)).c_str());
  ::rmdir(top.c_str());
  return 0;
}
