#include "tools/cli/format.h"

#include <cmath>

#include <doctest/doctest.h>

namespace {

using namespace vedette;

TEST_CASE("numbers are short and keep their meaning") {
  CHECK(format_number(0) == "0");
  CHECK(format_number(0.42) == "0.4");
  CHECK(format_number(0.042) == "0.042");
  CHECK(format_number(3) == "3");
  CHECK(format_number(9.96) == "10");
  CHECK(format_number(999) == "999");
  CHECK(format_number(999.7) == "1k");
  CHECK(format_number(1500) == "1.5k");
  CHECK(format_number(12'345'678) == "12M");
  CHECK(format_number(-1500) == "-1.5k");
  CHECK(format_number(NAN) == "–");
}

TEST_CASE("bytes are in binary units") {
  CHECK(format_bytes(0) == "0 B");
  CHECK(format_bytes(512) == "512 B");
  CHECK(format_bytes(1024) == "1 KiB");
  CHECK(format_bytes(1000) == "1 KiB");
  CHECK(format_bytes(21.0 * 1024 * 1024) == "21 MiB");
  CHECK(format_bytes(1.5 * 1024 * 1024 * 1024) == "1.5 GiB");
  CHECK(format_bytes(NAN) == "–");
}

TEST_CASE("durations use the unit that fits") {
  CHECK(format_duration(0) == "0 s");
  CHECK(format_duration(420e-9) == "420 ns");
  CHECK(format_duration(38e-6) == "38 us");
  CHECK(format_duration(0.0012) == "1.2 ms");
  CHECK(format_duration(0.9999) == "1 s");
  CHECK(format_duration(24) == "24 s");
  CHECK(format_duration(119) == "119 s");
  CHECK(format_duration(180) == "3 min");
  CHECK(format_duration(3600) == "1 h");
  CHECK(format_duration(7500) == "2 h 5 min");
  CHECK(format_duration(3.0 * 86400 + 4 * 3600) == "3 d 4 h");
  CHECK(format_duration(-24) == "-24 s");
  CHECK(format_duration(NAN) == "–");
}

TEST_CASE("a share that is not zero never reads as zero") {
  CHECK(format_percent(0) == "0 %");
  CHECK(format_percent(0.0001) == "<0.1 %");
  CHECK(format_percent(0.00084) == "0.1 %");
  CHECK(format_percent(0.006) == "0.6 %");
  CHECK(format_percent(0.97) == "97 %");
  CHECK(format_percent(NAN) == "–");
}

TEST_CASE("a feature is written in its signal's unit, and says what its column means") {
  CHECK(format_feature("memory_bytes", "bytes", 64.0 * 1024 * 1024) == "64 MiB");
  CHECK(format_feature("memory_bytes.slope", "bytes", 1.2 * 1024 * 1024) == "+1.2 MiB/s");
  CHECK(format_feature("memory_use", "ratio", 0.97) == "97 %");
  CHECK(format_feature("memory_use.eta", "s", 24) == "24 s");
  CHECK(format_feature("syscalls.rate", "calls", 1500) == "1.5k/s");
  CHECK(format_feature("runqueue_wait_ns.rate", "ns", 2e6) == "2 ms/s");
  CHECK(format_feature("runqueue_wait_ns.rate_2s", "ns", 2e6) == "2 ms/s");
  CHECK(format_feature("runqueue_latency.p99", "s", 0.038) == "38 ms");
  CHECK(format_feature("pids", "tasks", 12) == "12 tasks");
  CHECK(format_feature("cpu_cores", "cores", 1.25) == "1.25 cores");
  CHECK(format_feature("pids", "tasks", NAN) == "–");
  CHECK(feature_label("memory_use.eta") == "memory use reaches its limit in");
  CHECK(feature_label("runqueue_wait_ns.rate") == "runqueue wait");
  CHECK(feature_label("syscall_latency.p99_2s") == "syscall latency p99");
  CHECK(feature_label("runqueue_latency.p99") == "runqueue latency p99");
}

TEST_CASE("a sparkline is as wide as asked, scaled, and blank where nothing is known") {
  CHECK(sparkline({0, 4, 8}, 3) == "▁▅█");
  CHECK(sparkline({0, 4, 8}, 5) == "  ▁▅█");
  CHECK(sparkline({9, 0, 4, 8}, 3) == "▁▅█");
  CHECK(sparkline({0, NAN, 8}, 3) == "▁ █");
  CHECK(sparkline({0, 0}, 2) == "▁▁");
  CHECK(sparkline({100, 99, 100}, 3) == "▄▄▄");
  CHECK(sparkline({0.5, 0.5}, 2, 1) == "▅▅");
  CHECK(sparkline({7}, 1, 1) == "█");
  CHECK(sparkline({}, 3) == "   ");
  CHECK(sparkline({NAN}, 1) == " ");
}

TEST_CASE("condensing keeps the peaks and the length") {
  CHECK(condense({1, 9, 2, 3}, 2) == std::vector<double>{9, 3});
  CHECK(condense({1, 2}, 5) == std::vector<double>{1, 2});
  CHECK(condense(std::vector<double>(61, 1), 20).size() == 20);
  CHECK(condense({1}, 0).empty());
}

TEST_CASE("text is clipped and filled by code points, not bytes") {
  CHECK(text_width("▁▅█ é") == 5);
  CHECK(clip("pod/shop/cart", 8) == "pod/sho…");
  CHECK(clip("▁▅█", 3) == "▁▅█");
  CHECK(pad_right("é", 3) == "é  ");
  CHECK(pad_left("é", 3) == "  é");
  CHECK(clip("abc", 0) == "");
}

TEST_CASE("wrapping keeps every line within its columns, long words included") {
  const std::string wrapped = wrap("the kernel has no tracepoint " + std::string(70, 'x') + " at all", 40, 4);
  std::size_t from = 0;
  std::size_t lines = 0;
  for (std::size_t end = 0; (end = wrapped.find('\n', from)) != std::string::npos; from = end + 1) {
    CHECK(end - from <= 40);
    CHECK(wrapped.substr(from, 4) == "    ");
    ++lines;
  }
  CHECK(lines == 4);
  CHECK(wrap("", 40, 4) == "");
}

}  // namespace
