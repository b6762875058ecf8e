// usage: bench_files CGROUPS ROUNDS
// Makes CGROUPS cgroups with limits and one process each in every hierarchy, lets the live source read all
// its files ROUNDS times without probes, and prints the microseconds of CPU of each round. Needs root.
#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <string>
#include <vector>

#include <signal.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "agent/collect/live_source.h"

using namespace vedette;

int main(int argc, char** argv) {
  if (argc != 3) {
    std::fprintf(stderr, "usage: bench_files CGROUPS ROUNDS\n");
    return 2;
  }
  const int cgroups = std::atoi(argv[1]);
  const int rounds = std::atoi(argv[2]);
  ReadBuffer buffer;
  const auto text = buffer.read_path("/proc/self/mountinfo");
  const auto mounts = find_cgroup_mounts(text.value_or(""));
  std::vector<std::string> made;
  std::vector<pid_t> children;
  const auto parent = "/vedette-bench-files";
  const auto roots = {mounts.unified, mounts.memory, mounts.cpu, mounts.cpuacct, mounts.pids};
  for (int i = -1; i < cgroups; ++i) {
    const pid_t child = i < 0 ? -1 : ::fork();
    if (child == 0) {
      ::prctl(PR_SET_PDEATHSIG, SIGKILL);
      for (;;) ::pause();
    }
    if (child > 0) children.push_back(child);
    for (const auto& root : roots) {
      if (root.empty()) continue;
      const auto directory = root + parent + (i < 0 ? "" : "/" + std::to_string(i));
      if (::mkdir(directory.c_str(), 0755) == 0) made.push_back(directory);
      if (i < 0) {
        std::ofstream(directory + "/cgroup.subtree_control") << "+memory +cpu +pids";
        continue;
      }
      for (const auto& [file, limit] :
           {std::pair{"/memory.max", "1000000000"}, std::pair{"/memory.limit_in_bytes", "1000000000"},
            std::pair{"/cpu.max", "50000 100000"}, std::pair{"/cpu.cfs_quota_us", "50000"},
            std::pair{"/pids.max", "100"}}) {
        std::ofstream(directory + file, std::ios::in) << limit;
      }
      std::ofstream(directory + "/cgroup.procs") << child;
    }
  }
  int status = 1;
  {
    LiveOptions options;
    options.use_kernel_probes = false;
    options.tick_interval = std::chrono::milliseconds(500);
    options.files.interval = std::chrono::milliseconds(500);
    if (auto source = LiveSource::make(options)) {
      Observation observation;
      // The first round opens everything.
      // The first round opens everything. CPU time, as what else runs here is not the files' cost.
      for (int i = 0; i <= rounds && (*source)->wait(); ++i) {
        const auto began = read_clock_ns(CLOCK_THREAD_CPUTIME_ID);
        if (!(*source)->collect(observation)) break;
        const auto spent = read_clock_ns(CLOCK_THREAD_CPUTIME_ID) - began;
        if (i > 0) std::printf("%.1f\n", static_cast<double>(spent) / 1000);
      }
      std::fprintf(stderr, "%zu entities\n", observation.entities.size());
      status = static_cast<int>(observation.entities.size()) > cgroups ? 0 : 1;
    }
  }
  for (const pid_t child : children) {
    ::kill(child, SIGKILL);
    ::waitpid(child, nullptr, 0);
  }
  std::reverse(made.begin(), made.end());  // children before their parents
  for (const std::string& directory : made) ::rmdir(directory.c_str());
  return status;
}
