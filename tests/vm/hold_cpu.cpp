// Keeps the CPU it runs on in the kernel for some seconds, by hold_cpu.bpf.c: for faults/stuck_cpu, in a
// guest.
#include <cstddef>

#include <bpf/bpf.h>
#include <bpf/libbpf.h>

// NOLINTNEXTLINE(readability-identifier-naming): of tests/CMakeLists.txt
extern "C" const unsigned char vedette_bpf_hold_cpu[], vedette_bpf_hold_cpu_end[];

int main() {
  const auto size = static_cast<std::size_t>(vedette_bpf_hold_cpu_end - vedette_bpf_hold_cpu);
  bpf_object* object = bpf_object__open_mem(vedette_bpf_hold_cpu, size, nullptr);
  if (object == nullptr || bpf_object__load(object) != 0) return 1;
  bpf_test_run_opts options{};
  options.sz = sizeof(options);
  return bpf_prog_test_run_opts(bpf_program__fd(bpf_object__next_program(object, nullptr)), &options) == 0
             ? 0
             : 1;
}
