#include "agent/collect/pmu_source.h"

#include <array>

#include <doctest/doctest.h>
#include <linux/perf_event.h>
#include <sys/mman.h>
#include <unistd.h>

#include "tests/skip.h"

namespace vedette {
namespace {

// Events that the kernel counts itself, by the same interface, on every machine.
constexpr std::array<PmuEvent, 1> kPageFaults{
    {{COUNTER_cpu_cycles, PERF_TYPE_SOFTWARE, PERF_COUNT_SW_PAGE_FAULTS}}};
// No kernel has so many types.
constexpr std::array<PmuEvent, 1> kNoSuchEvent{{{COUNTER_cpu_cycles, 0x7fffffff, 0}}};

void touch_pages(std::size_t count) {
  const std::size_t page = static_cast<std::size_t>(::sysconf(_SC_PAGESIZE));
  void* place = ::mmap(nullptr, count * page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  REQUIRE(place != MAP_FAILED);
  ::madvise(place, count * page, MADV_NOHUGEPAGE);
  for (std::size_t i = 0; i < count; ++i) static_cast<volatile char*>(place)[i * page] = 1;
  ::munmap(place, count * page);
}

TEST_CASE("What all CPUs count is told as a whole, from the first reading on") {
  PmuSource source(kPageFaults);
  if (!source.works()) VEDETTE_SKIP("perf_event_open: " + source.reason());
  FileCounts counts;
  Sample sample;
  source.read(counts);
  counts.take(sample);
  CHECK(sample.counters[COUNTER_cpu_cycles] == 0);  // where counting begins
  CHECK(!sample.unknown.test(COUNTER_cpu_cycles));
  constexpr std::size_t kPages = 20'000;
  touch_pages(kPages);
  source.read(counts);
  counts.take(sample);
  CHECK(sample.counters[COUNTER_cpu_cycles] >= kPages);
  CHECK(sample.counters[COUNTER_cpu_cycles] < 1000 * kPages);
}

TEST_CASE("A machine without such counters is no fault, and what they would say stays unknown") {
  PmuSource source(kNoSuchEvent);
  CHECK(source.absent());
  CHECK(source.reason() == "the CPUs of this machine show no performance counters");
  FileCounts counts;
  Sample sample;
  source.read(counts);
  counts.take(sample);
  CHECK(sample.unknown.test(COUNTER_cpu_cycles));
}

}  // namespace
}  // namespace vedette
