// A ring flooded with ten times what it holds: every record must be received or counted as lost. Prints the
// balance as JSON for ring-flood beside this file.
#include <cstdint>
#include <cstdio>
#include <vector>

#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include "agent/collect/kernel_probes.h"

namespace {

// Records of 120 bytes behind a header of 8.
constexpr std::uint32_t kRingBytes = 64 * 1024;
constexpr int kRecords = 10 * static_cast<int>(kRingBytes) / 128;

}  // namespace

int main() {
  vedette::KernelOptions options;
  options.ring_bytes = kRingBytes;
  const auto probes = vedette::KernelProbes::make(options);
  if (!probes) {
    std::fprintf(stderr, "%s\n", probes.error().text.c_str());
    return 1;
  }
  // One record each: a process killed by a signal. Nobody reads meanwhile.
  for (int i = 0; i < kRecords; ++i) {
    const pid_t pid = ::fork();
    if (pid == 0) {
      ::kill(::getpid(), SIGKILL);
      ::_exit(0);
    }
    ::waitpid(pid, nullptr, 0);
  }
  std::vector<vedette::RawEvent> events;
  vedette::Losses losses;
  long long produced = 0;
  long long lost = 0;
  // What else runs on this machine sends records too, and one may be between its count and its arrival: twice
  // the same balance is the balance.
  for (long long last = -1; last != produced;) {
    last = produced;
    (*probes)->read_events(events);
    (*probes)->read_losses(losses);
    produced = 0;
    lost = 0;
    for (const std::uint64_t count : losses.produced) produced += static_cast<long long>(count);
    for (const std::uint64_t count : losses.lost) lost += static_cast<long long>(count);
  }
  std::printf("{\"deaths\": %d, \"produced\": %lld, \"received\": %zu, \"lost\": %lld}\n", kRecords, produced,
              events.size(), lost);
  return 0;
}
