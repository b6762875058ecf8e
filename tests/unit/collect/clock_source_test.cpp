#include "agent/collect/clock_source.h"

#include <cmath>

#include <doctest/doctest.h>

#include "agent/base/clock.h"

namespace vedette {
namespace {

constexpr std::int64_t kSecondNs = 1'000'000'000;
constexpr std::int64_t kToday = 1'700'000'000 * kSecondNs;

class Watch {
public:
  Watch() { gauges.fill(kMissing); }
  // Steps counted by this reading.
  std::uint64_t read(const std::optional<ClockReading>& reading) {
    source_.take(reading, gauges, counts_);
    Sample sample;
    counts_.take(sample);
    return sample.counters[COUNTER_clock_jumps];
  }
  Gauges gauges;

private:
  ClockSource source_;
  FileCounts counts_;
};

ClockReading at(std::int64_t wall_ns, std::int64_t boot_ns) {
  ClockReading reading;
  reading.wall_ns = wall_ns;
  reading.boot_ns = boot_ns;
  return reading;
}

TEST_CASE("A step of the wall clock by more than a second is a jump, forwards and back; a slew is none") {
  Watch watch;
  CHECK(watch.read(at(kToday, 10 * kSecondNs)) == 0);
  CHECK(watch.read(at(kToday + 2 * kSecondNs, 12 * kSecondNs)) == 0);
  CHECK(watch.read(at(kToday + 9 * kSecondNs, 14 * kSecondNs)) == 1);
  CHECK(watch.read(at(kToday + 11 * kSecondNs, 16 * kSecondNs)) == 0);
  CHECK(watch.read(at(kToday + 8 * kSecondNs, 18 * kSecondNs)) == 1);
  CHECK(watch.read(at(kToday + 8 * kSecondNs + 900'000'000, 18 * kSecondNs)) == 0);
}

TEST_CASE("A night asleep moves both clocks, and a reading that was held up is left out") {
  Watch watch;
  watch.read(at(kToday, 10 * kSecondNs));
  CHECK(watch.read(at(kToday + 30'000 * kSecondNs, 30'010 * kSecondNs)) == 0);
  CHECK(watch.read(std::nullopt) == 0);
  CHECK(watch.read(at(kToday + 30'002 * kSecondNs, 30'012 * kSecondNs)) == 0);
}

TEST_CASE("What adjtimex says becomes gauges, and its refusal leaves them missing") {
  Watch watch;
  auto reading = at(kToday, kSecondNs);
  watch.read(reading);
  CHECK(std::isnan(watch.gauges[GAUGE_clock_unsynchronized]));
  CHECK(std::isnan(watch.gauges[GAUGE_clock_error_s]));
  reading.unsynchronized = true;
  reading.error_s = 16;
  watch.read(reading);
  CHECK(watch.gauges[GAUGE_clock_unsynchronized] == 1);
  CHECK(watch.gauges[GAUGE_clock_error_s] == 16);
}

TEST_CASE("This machine's clocks are read, close to each other and unchanged") {
  const auto reading = read_clocks();
  if (!reading) return;  // held up: the very case it is made for
  CHECK(std::llabs(reading->wall_ns - static_cast<std::int64_t>(wall_now())) < kSecondNs);
  CHECK(reading->boot_ns > 0);
  CHECK(reading->error_s >= 0);
}

}  // namespace
}  // namespace vedette
