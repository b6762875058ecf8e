#include "agent/collect/sockstat_source.h"

#include <array>
#include <filesystem>
#include <string>
#include <vector>

#include <doctest/doctest.h>

#include "tests/unit/collect/file_tree.h"
#include "tests/unit/second.h"

namespace vedette {
namespace {

using namespace std::chrono_literals;

constexpr auto kInterval = 10s;
constexpr EntityId kEntity = 5;  // of those that are due again right after an interval

// Processes, and the networks they live in: a network's files are the same in each of its processes.
class Processes {
public:
  Processes() {
    live_in(1, "host");
    count("host", {.overflows = 900, .drops = 1000, .zero_windows = 800, .udp_errors = 700});
  }
  struct Counts {
    int overflows = 0;
    int drops = 0;
    int zero_windows = 0;
    int udp_errors = 0;
    int udp6_errors = 0;
  };
  void live_in(int pid, const std::string& network) const {
    if (!std::filesystem::exists(tree_.path("/networks/" + network))) count(network, {});
    end(pid);
    std::filesystem::create_directories(tree_.path(directory(pid)));
    std::filesystem::create_directory_symlink(tree_.path("/networks/" + network),
                                              tree_.path(directory(pid) + "/net"));
  }
  void count(const std::string& network, const Counts& counts) const {
    const auto files = "/networks/" + network;
    const auto text = [](int number) { return std::to_string(number); };
    tree_.write(files + "/netstat",
                "TcpExt: SyncookiesSent ListenOverflows ListenDrops TCPToZeroWindowAdv\nTcpExt: 7 " +
                    text(counts.overflows) + " " + text(counts.drops) + " " + text(counts.zero_windows) +
                    "\nIpExt: InNoRoutes ListenDrops\nIpExt: 3 4\n");
    tree_.write(files + "/snmp",
                "Tcp: MaxConn InErrors\nTcp: -1 55\nUdp: InDatagrams NoPorts InErrors\nUdp: 9 2 " +
                    text(counts.udp_errors) + "\n");
    if (counts.udp6_errors != 0) {
      tree_.write(files + "/snmp6",
                  "Udp6NoPorts     \t0\nUdp6InErrors     \t" + text(counts.udp6_errors) + "\n");
    }
  }
  void end(int pid) const { tree_.remove(directory(pid)); }
  void remove(const std::string& network, const std::string& file) const {
    tree_.remove("/networks/" + network + "/" + file);
  }
  std::string proc() const { return tree_.path("/proc"); }

private:
  static std::string directory(int pid) { return "/proc/" + std::to_string(pid); }
  FileTree tree_;
};

Sample take(FileCounts& counts) {
  Sample sample;
  counts.take(sample);
  return sample;
}

TEST_CASE("A statistic is found under its name in its group, whatever columns a kernel has") {
  constexpr std::string_view kText = "TcpExt: A B C\nTcpExt: 1 2 3\nIpExt: C B\nIpExt: 4 5\n";
  CHECK(find_statistic(kText, "TcpExt:", "C") == 3);
  CHECK(find_statistic(kText, "IpExt:", "C") == 4);
  CHECK_FALSE(find_statistic(kText, "IpExt:", "A").has_value());
  CHECK_FALSE(find_statistic(kText, "Udp:", "A").has_value());
  CHECK_FALSE(find_statistic("TcpExt: A B\nTcpExt: 1\n", "TcpExt:", "B").has_value());
  CHECK_FALSE(find_statistic("TcpExt: A\n", "TcpExt:", "A").has_value());
}

TEST_CASE("The node's numbers are those of process 1, read once in an interval") {
  const Processes processes;
  SockstatSource source(processes.proc(), kInterval);
  FileCounts counts;
  CHECK(source.read_node(kSecond, counts));
  processes.count(
      "host", {.overflows = 903, .drops = 1005, .zero_windows = 801, .udp_errors = 702, .udp6_errors = 0});
  CHECK(source.read_node(3 * kSecond, counts));
  Sample sample = take(counts);
  CHECK_FALSE(sample.unknown.test(COUNTER_listen_overflows));
  CHECK(sample.counters[COUNTER_listen_overflows] == 0);
  CHECK(source.read_node(11 * kSecond, counts));
  sample = take(counts);
  CHECK(sample.counters[COUNTER_listen_overflows] == 3);
  CHECK(sample.counters[COUNTER_syn_drops] == 5);
  CHECK(sample.counters[COUNTER_zero_windows] == 1);
  CHECK(sample.counters[COUNTER_udp_errors] == 2);
}

TEST_CASE("Without netstat the node's numbers are unknown, not zero") {
  const Processes processes;
  processes.end(1);
  SockstatSource source(processes.proc(), kInterval);
  FileCounts counts;
  CHECK_FALSE(source.read_node(kSecond, counts));
  CHECK(take(counts).unknown.test(COUNTER_listen_overflows));
  CHECK(take(counts).unknown.test(COUNTER_udp_errors));
}

TEST_CASE("A file that is missing costs only its own numbers") {
  const Processes processes;
  processes.remove("host", "snmp");
  SockstatSource source(processes.proc(), kInterval);
  FileCounts counts;
  CHECK_FALSE(source.read_node(kSecond, counts));
  const Sample sample = take(counts);
  CHECK_FALSE(sample.unknown.test(COUNTER_listen_overflows));
  CHECK(sample.unknown.test(COUNTER_udp_errors));
}

TEST_CASE("An entity with a network of its own has that network's numbers, IPv6 among them") {
  const Processes processes;
  processes.live_in(20, "pod");
  processes.count("pod", {.overflows = 1, .drops = 2, .zero_windows = 3, .udp_errors = 4, .udp6_errors = 5});
  SockstatSource source(processes.proc(), kInterval);
  FileCounts counts;
  source.read(kEntity, {19, 20}, kSecond, counts);  // 19 is gone already
  CHECK(take(counts).counters[COUNTER_listen_overflows] == 0);
  processes.count("pod", {.overflows = 2, .drops = 4, .zero_windows = 6, .udp_errors = 8, .udp6_errors = 10});
  source.read(kEntity, {20}, 5 * kSecond, counts);  // not yet
  CHECK(take(counts).counters[COUNTER_syn_drops] == 0);
  source.read(kEntity, {20}, 11 * kSecond, counts);
  const Sample sample = take(counts);
  CHECK(sample.counters[COUNTER_listen_overflows] == 1);
  CHECK(sample.counters[COUNTER_syn_drops] == 2);
  CHECK(sample.counters[COUNTER_zero_windows] == 3);
  CHECK(sample.counters[COUNTER_udp_errors] == 4 + 5);
  CHECK_FALSE(sample.unknown.test(COUNTER_udp_errors));
}

TEST_CASE("Who lives in the host's network, or in none that can be told, has no numbers") {
  const Processes processes;
  processes.live_in(20, "host");
  SockstatSource source(processes.proc(), kInterval);
  FileCounts counts;
  source.read(kEntity, {20}, kSecond, counts);
  CHECK(take(counts).unknown.test(COUNTER_listen_overflows));
  // It moves to a network of its own: that network's past is not its doing.
  processes.live_in(20, "pod");
  source.read(kEntity, {20}, 11 * kSecond, counts);
  Sample sample = take(counts);
  CHECK_FALSE(sample.unknown.test(COUNTER_listen_overflows));
  CHECK(sample.counters[COUNTER_listen_overflows] == 0);
  // To another one, with larger numbers.
  processes.live_in(20, "other");
  processes.count("other", {.overflows = 5000, .drops = 5000});
  source.read(kEntity, {20}, 21 * kSecond, counts);
  CHECK(take(counts).counters[COUNTER_listen_overflows] == 0);
  processes.end(20);
  source.read(kEntity, {20}, 31 * kSecond, counts);
  CHECK(take(counts).unknown.test(COUNTER_listen_overflows));
  source.read(kEntity, {}, 41 * kSecond, counts);
  CHECK(take(counts).unknown.test(COUNTER_listen_overflows));
}

TEST_CASE("Entities in one network share its numbers, and it is read once for all of them") {
  const Processes processes;
  processes.live_in(20, "pod");
  processes.count("pod", {.overflows = 1});
  processes.live_in(21, "pod");
  SockstatSource source(processes.proc(), kInterval);
  FileCounts first;
  FileCounts second;
  source.read(kEntity, {20}, kSecond, first);
  source.read(2 * kEntity, {21}, 2 * kSecond, second);
  CHECK_FALSE(take(second).unknown.test(COUNTER_listen_overflows));
  processes.count("pod", {.overflows = 4});
  source.read(kEntity, {20}, 11 * kSecond, first);
  processes.count("pod", {.overflows = 100});
  source.read(2 * kEntity, {21}, 12 * kSecond, second);
  CHECK(take(first).counters[COUNTER_listen_overflows] == 3);
  CHECK(take(second).counters[COUNTER_listen_overflows] == 3);
}

TEST_CASE("Networks that are met together are not read together ever after") {
  const Processes processes;
  SockstatSource source(processes.proc(), kInterval);
  constexpr int kPods = 10;
  std::array<FileCounts, kPods> counts;
  for (int i = 0; i < kPods; ++i) {
    const auto network = "pod" + std::to_string(i);
    processes.live_in(20 + i, network);
    source.read(static_cast<EntityId>(i + 1), {static_cast<std::uint32_t>(20 + i)}, kSecond, counts[i]);
    take(counts[i]);
    processes.count(network, {.overflows = 1});
  }
  std::vector<int> read_in_round;
  for (MonotonicNs now = 11 * kSecond; now < 21 * kSecond; now += 2 * kSecond) {
    int read = 0;
    for (int i = 0; i < kPods; ++i) {
      source.read(static_cast<EntityId>(i + 1), {static_cast<std::uint32_t>(20 + i)}, now, counts[i]);
      read += take(counts[i]).counters[COUNTER_listen_overflows] == 1 ? 1 : 0;
    }
    read_in_round.push_back(read);
  }
  CHECK(read_in_round == std::vector<int>(5, kPods / 5));
}

}  // namespace
}  // namespace vedette
