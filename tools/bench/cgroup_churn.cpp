// usage: cgroup_churn COUNT PER_SECOND
// Makes COUNT cgroups one after the other, as a container has them; in each a process fails to open a file
// some times, a number of its own for each cgroup, and ends; then the cgroup is removed. Meanwhile a set of
// probes of its own is read as the agent reads it, and whatever it tells of a removed cgroup must be what was
// done under that name. Prints the balance as JSON for churn beside this file.
#include <algorithm>
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <map>
#include <string>
#include <thread>
#include <vector>

#include <fcntl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "agent/collect/kernel_probes.h"
#include "tools/bench/bench_cgroups.h"

namespace {

constexpr const char* kPrefix = "churn-";
// Coprime to any run of slots that are given out in turn: two users of one slot never have the same number.
constexpr unsigned kNumbers = 97;
constexpr int kReadEvery = 20;  // cgroups: far fewer than there are free slots

unsigned failures_of(int index) {
  return 1 + static_cast<unsigned>(index) % kNumbers;
}

class Witness {
public:
  explicit Witness(vedette::KernelProbes& probes) : probes_(probes) {}

  void read() {
    probes_.read_totals(changed_);
    events_.clear();
    probes_.read_events(events_);
    std::map<std::uint64_t, std::string> names;
    probes_.known_cgroups([&](const vedette::KnownCgroup& known) {
      if (known.removed) names[known.cgroup_id] = known.name;
    });
    for (const vedette::CgroupTotals& totals : changed_) {
      failures_[totals.cgroup_id] += totals.counters[COUNTER_errors_file];
      if (!totals.removed || totals.cgroup_id == 0) continue;
      const std::string& name = names[totals.cgroup_id];
      if (name.starts_with(kPrefix)) {
        ++checked;
        const int index = std::atoi(name.c_str() + std::string_view(kPrefix).size());
        if (failures_[totals.cgroup_id] != failures_of(index)) ++mixed_up;
      }
      failures_.erase(totals.cgroup_id);
      probes_.forget(totals.cgroup_id);
    }
  }

  int checked = 0;
  int mixed_up = 0;

private:
  vedette::KernelProbes& probes_;
  std::vector<vedette::CgroupTotals> changed_;
  std::vector<vedette::RawEvent> events_;
  std::map<std::uint64_t, std::uint64_t> failures_;
};

}  // namespace

int main(int argc, char** argv) {
  const int count = argc == 3 ? std::atoi(argv[1]) : 0;
  const int rate = argc == 3 ? std::atoi(argv[2]) : 0;
  if (count <= 0 || rate <= 0) {
    std::fprintf(stderr, "usage: cgroup_churn COUNT PER_SECOND\n");
    return 2;
  }
  vedette::KernelOptions options;
  options.budget.step = 0;  // this process is no agent: what it does costs more than one may
  const auto probes = vedette::KernelProbes::make(options);
  if (!probes) {
    std::fprintf(stderr, "%s\n", probes.error().text.c_str());
    return 1;
  }
  Witness witness(**probes);
  const vedette::bench::ContainerCgroups cgroups;
  auto next = std::chrono::steady_clock::now();
  for (int i = 0; i < count; ++i) {
    const std::string name = kPrefix + std::to_string(i);
    cgroups.make(name);
    const pid_t child = ::fork();
    if (child == 0) {
      cgroups.join(name);
      for (unsigned n = failures_of(i); n > 0; --n) (void)!::open("/vedette-bench-is-not-here", O_RDONLY);
      ::_exit(0);
    }
    ::waitpid(child, nullptr, 0);
    cgroups.remove(name);
    if (i % kReadEvery == 0) witness.read();
    // After a stall it goes on at the same pace: no more than this were ever asked for in a second.
    next = std::max(next + std::chrono::microseconds(1'000'000 / rate), std::chrono::steady_clock::now());
    std::this_thread::sleep_until(next);
  }
  std::this_thread::sleep_for(std::chrono::milliseconds(50));
  witness.read();
  vedette::Losses losses;
  (*probes)->read_losses(losses);
  std::printf("{\"made\": %d, \"checked\": %d, \"mixed_up\": %d, \"no_slot\": %llu}\n", count,
              witness.checked, witness.mixed_up, static_cast<unsigned long long>(losses.no_slot));
  return 0;
}
