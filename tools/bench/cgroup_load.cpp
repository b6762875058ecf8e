// usage: cgroup_load CGROUPS CALLS_PER_SECOND
// Makes CGROUPS cgroups named /vedette-bench/N, as a container has them (in the v2 hierarchy, and in the v1
// hierarchies memory, pids and cpu where those are mounted), each with one process, that together make
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
constexpr const char* kTop = "/vedette-bench";

std::vector<std::string> find_hierarchies() {
  std::vector<std::string> mounts;
  std::ifstream table("/proc/self/mountinfo");
  for (std::string line; std::getline(table, line);) {
    const bool v2 = line.find(" - cgroup2 ") != std::string::npos;
    const bool v1 = line.find(" - cgroup ") != std::string::npos &&
                    (line.ends_with(",memory") || line.ends_with(",pids") || line.ends_with(",cpu") ||
                     line.ends_with(",cpuacct") || line.ends_with(",cpu,cpuacct"));
    if (!v1 && !v2) continue;
    std::istringstream fields(line);
    std::string field;
    for (int i = 0; i < 5; ++i) fields >> field;
    mounts.push_back(field);
  }
  return mounts;
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
  const std::vector<std::string> hierarchies = find_hierarchies();
  if (cgroups <= 0 || rate <= 0 || hierarchies.empty()) {
    std::fprintf(stderr, "usage: cgroup_load CGROUPS CALLS_PER_SECOND (and a cgroup hierarchy is needed)\n");
    return 2;
  }
  const long per_burst = rate / cgroups * kBurstMicroseconds / 1'000'000;

  std::vector<pid_t> children;
  for (long i = 0; i < cgroups; ++i) {
    std::vector<std::string> made;
    for (const std::string& mount : hierarchies) {
      ::mkdir((mount + kTop).c_str(), 0755);
      made.push_back(mount + kTop + "/" + std::to_string(i));
      ::mkdir(made.back().c_str(), 0755);
    }
    const pid_t child = ::fork();
    if (child == 0) {
      ::prctl(PR_SET_PDEATHSIG, SIGKILL);
      for (const std::string& cgroup : made) std::ofstream(cgroup + "/cgroup.procs") << ::getpid();
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
  for (const std::string& mount : hierarchies) {
    for (long i = 0; i < cgroups; ++i) ::rmdir((mount + kTop + "/" + std::to_string(i)).c_str());
    ::rmdir((mount + kTop).c_str());
  }
  return 0;
}
