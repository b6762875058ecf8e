// What one system call costs, and what hangs on it meanwhile. Driven by syscall-overhead beside this file.
//   syscall_cost measure         ns per getppid(), pinned to the last CPU: the fastest of many short runs
//   syscall_cost attached        how many programs named like Vedette's are loaded for system calls
//   syscall_cost hold empty      attaches an empty program to sys_enter and one to sys_exit until stdin ends
//   syscall_cost hold probes     attaches Vedette's probes and reads them as the agent does, until stdin ends
#include <algorithm>
#include <array>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <limits>
#include <string_view>
#include <vector>

#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <linux/bpf.h>
#include <poll.h>
#include <sched.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "agent/base/clock.h"
#include "agent/base/handle.h"
#include "agent/collect/kernel_probes.h"

namespace {

// Runs of some 4 ms: short enough that most see no interrupt but the timer's; their minimum over 1.5 s is
// steady to 2 %.
constexpr int kCallsPerRun = 10'000;
constexpr std::uint64_t kMeasureNs = 1'500'000'000;

int measure() {
  cpu_set_t cpus;
  CPU_ZERO(&cpus);
  CPU_SET(::sysconf(_SC_NPROCESSORS_ONLN) - 1, &cpus);
  ::sched_setaffinity(0, sizeof(cpus), &cpus);
  double best = std::numeric_limits<double>::max();
  const std::uint64_t end = vedette::monotonic_now() + kMeasureNs;
  while (vedette::monotonic_now() < end) {
    const std::uint64_t begin = vedette::monotonic_now();
    for (int i = 0; i < kCallsPerRun; ++i) ::syscall(SYS_getppid);
    best = std::min(best, static_cast<double>(vedette::monotonic_now() - begin) / kCallsPerRun);
  }
  std::printf("%.2f\n", best);
  return 0;
}

int attached() {
  int count = 0;
  for (__u32 id = 0; bpf_prog_get_next_id(id, &id) == 0;) {
    const vedette::FileHandle program(bpf_prog_get_fd_by_id(id));
    bpf_prog_info info{};
    __u32 size = sizeof(info);
    if (!program || bpf_obj_get_info_by_fd(program.get(), &info, &size) != 0) continue;
    const std::string_view name(info.name);
    count += name == "sys_enter" || name == "sys_exit" ? 1 : 0;
  }
  std::printf("%d\n", count);
  return 0;
}

void wait_for_end_of_input() {
  std::puts("ready");
  std::fflush(stdout);
  std::array<char, 16> input{};
  while (::read(STDIN_FILENO, input.data(), input.size()) > 0) {
  }
}

vedette::FileHandle attach_empty(const char* tracepoint) {
  // r0 = 0; exit
  const std::array<bpf_insn, 2> program{
      bpf_insn{.code = BPF_ALU64 | BPF_MOV | BPF_K, .dst_reg = 0, .src_reg = 0, .off = 0, .imm = 0},
      bpf_insn{.code = BPF_JMP | BPF_EXIT, .dst_reg = 0, .src_reg = 0, .off = 0, .imm = 0}};
  LIBBPF_OPTS(bpf_prog_load_opts, options, .expected_attach_type = BPF_TRACE_RAW_TP,
              .attach_btf_id = static_cast<__u32>(libbpf_find_vmlinux_btf_id(tracepoint, BPF_TRACE_RAW_TP)));
  const vedette::FileHandle loaded(
      bpf_prog_load(BPF_PROG_TYPE_TRACING, "empty", "GPL", program.data(), program.size(), &options));
  if (!loaded) return {};
  return vedette::FileHandle(bpf_raw_tracepoint_open(nullptr, loaded.get()));
}

int hold_empty() {
  const vedette::FileHandle enter = attach_empty("sys_enter");
  const vedette::FileHandle exit = attach_empty("sys_exit");
  if (!enter || !exit) {
    std::perror("attach the empty pair");
    return 1;
  }
  wait_for_end_of_input();
  return 0;
}

int hold_probes() {
  const auto probes = vedette::KernelProbes::make();
  if (!probes) {
    std::fprintf(stderr, "%s\n", probes.error().text.c_str());
    return 1;
  }
  std::puts("ready");
  std::fflush(stdout);
  std::vector<vedette::CgroupTotals> totals;
  std::vector<vedette::RawEvent> events;
  for (;;) {
    std::array<pollfd, 2> waits{pollfd{STDIN_FILENO, POLLIN, 0}, pollfd{(*probes)->wake_fd(), POLLIN, 0}};
    if (::poll(waits.data(), waits.size(), 250) > 0 && waits[0].revents != 0) return 0;
    (*probes)->read_totals(totals);
    events.clear();
    (*probes)->read_events(events);
  }
}

}  // namespace

int main(int argc, char** argv) {
  if (argc == 2 && std::string_view(argv[1]) == "measure") return measure();
  if (argc == 2 && std::string_view(argv[1]) == "attached") return attached();
  if (argc == 3 && std::string_view(argv[1]) == "hold") {
    if (std::string_view(argv[2]) == "empty") return hold_empty();
    if (std::string_view(argv[2]) == "probes") return hold_probes();
  }
  std::fprintf(stderr, "usage: syscall_cost measure | attached | hold empty | hold probes\n");
  return 2;
}
