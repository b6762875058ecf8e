// What the kernel knows about a running agent's BPF objects, as JSON; ids are in /proc/PID/fdinfo. Driven by
// agent_run.py.
//   bpf_objects maps CPUS         bytes of all maps the agent would make with its defaults on so many CPUs,
//   by its own
//                                 reckoning
//   bpf_objects cost SECONDS ID.. runs and nanoseconds of these programs within so many seconds
//   bpf_objects slots ID...       of these maps: cgroups that have a slot, and slots that wait for one. Takes
//   the free
//                                 ones and puts them back: a cgroup made within these microseconds gets none.
#include <algorithm>
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <span>
#include <string_view>
#include <thread>
#include <utility>
#include <vector>

#include <bpf/bpf.h>
#include <linux/bpf.h>

#include "agent/base/handle.h"
#include "agent/collect/kernel_probes.h"

using vedette::FileHandle;

namespace {

__u32 id_of(const char* text) {
  return static_cast<__u32>(std::strtoul(text, nullptr, 10));
}

int print_maps(unsigned cpus) {
  const vedette::KernelOptions defaults;
  const vedette::MapSizes sizes = vedette::fit_maps({.slots = defaults.slots,
                                                     .lanes = std::min(cpus, vedette::kMaxLanes),
                                                     .ring_bytes = defaults.ring_bytes,
                                                     .cpus = cpus},
                                                    defaults.budget.map_mib);
  std::printf("{\"bytes\": %llu, \"slots\": %u, \"lanes\": %u}\n",
              static_cast<unsigned long long>(sizes.bytes()), sizes.slots, sizes.lanes);
  return 0;
}

struct Cost {
  std::uint64_t runs = 0;
  std::uint64_t ns = 0;
};
Cost cost_of(const std::vector<FileHandle>& programs) {
  Cost cost;
  for (const FileHandle& program : programs) {
    bpf_prog_info info{};
    __u32 size = sizeof(info);
    if (bpf_obj_get_info_by_fd(program.get(), &info, &size) != 0) continue;
    cost.runs += info.run_cnt;
    cost.ns += info.run_time_ns;
  }
  return cost;
}

int print_cost(double seconds, std::span<char*> ids) {
  std::vector<FileHandle> programs;
  for (const char* id : ids) {
    programs.emplace_back(bpf_prog_get_fd_by_id(id_of(id)));
    if (!programs.back()) programs.pop_back();  // detached meanwhile
  }
  const FileHandle measuring(bpf_enable_stats(BPF_STATS_RUN_TIME));
  if (!measuring) {
    std::perror("bpf_objects: enable the kernel's BPF statistics");
    return 1;
  }
  const Cost begin = cost_of(programs);
  std::this_thread::sleep_for(std::chrono::duration<double>(seconds));
  const Cost end = cost_of(programs);
  std::printf("{\"programs\": %zu, \"runs\": %llu, \"ns\": %llu}\n", programs.size(),
              static_cast<unsigned long long>(end.runs - begin.runs),
              static_cast<unsigned long long>(end.ns - begin.ns));
  return 0;
}

int print_slots(std::span<char*> ids) {
  FileHandle slots;
  FileHandle free_slots;
  for (const char* id : ids) {
    FileHandle map(bpf_map_get_fd_by_id(id_of(id)));
    bpf_map_info info{};
    __u32 size = sizeof(info);
    if (!map || bpf_obj_get_info_by_fd(map.get(), &info, &size) != 0) continue;
    const std::string_view name = info.name;
    if (name == "slots") {
      slots = std::move(map);
    } else if (name == "free_slots") {
      free_slots = std::move(map);
    }
  }
  if (!slots || !free_slots) {
    std::fprintf(stderr, "bpf_objects: no map slots or free_slots among these\n");
    return 1;
  }
  std::uint64_t key = 0;
  std::size_t used = 0;
  for (const void* last = nullptr; bpf_map_get_next_key(slots.get(), last, &key) == 0; last = &key) ++used;
  std::vector<std::uint32_t> taken;
  for (std::uint32_t slot = 0; bpf_map_lookup_and_delete_elem(free_slots.get(), nullptr, &slot) == 0;) {
    taken.push_back(slot);
  }
  const std::size_t waiting = taken.size();
  for (; !taken.empty(); taken.pop_back()) {
    bpf_map_update_elem(free_slots.get(), nullptr, &taken.back(), BPF_ANY);
  }
  std::printf("{\"used\": %zu, \"free\": %zu}\n", used, waiting);
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  const std::span<char*> words(argv + 1, static_cast<std::size_t>(argc - 1));
  const std::string_view what = words.empty() ? "" : words.front();
  if (what == "maps" && words.size() == 2) return print_maps(id_of(words[1]));
  if (what == "cost" && words.size() > 2) return print_cost(std::atof(words[1]), words.subspan(2));
  if (what == "slots" && words.size() > 1) return print_slots(words.subspan(1));
  std::fprintf(stderr, "usage: bpf_objects maps CPUS | cost SECONDS ID... | slots ID...\n");
  return 2;
}
