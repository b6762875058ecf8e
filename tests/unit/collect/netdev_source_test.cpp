#include "agent/collect/netdev_source.h"

#include <cmath>
#include <string>
#include <utility>

#include <doctest/doctest.h>

#include "tests/unit/collect/file_tree.h"
#include "tests/unit/second.h"

namespace vedette {
namespace {

std::string device(const std::string& name, int errors, int drops) {
  const auto half = "10 5 " + std::to_string(errors) + " " + std::to_string(drops) + " 0 0 0 0 ";
  return "  " + name + ": " + half + half + "\n";
}

class Network {
public:
  Network() {
    softnet("00000001 00000002 00000003 0 0\n0000000a 00000010 00000000 0 0\n");
    hardware("eth0", 4);
    tree_.write("/sys/class/net/veth1/carrier_changes", "2\n");
  }
  void softnet(const std::string& text) const { tree_.write("/proc/1/net/softnet_stat", text); }
  void devices(const std::string& text) const {
    tree_.write("/proc/1/net/dev", "Inter-|   Receive      |  Transmit\n face |bytes ...|bytes ...\n" + text);
  }
  void hardware(const std::string& name, int carrier_changes) const {
    tree_.write("/sys/class/net/" + name + "/device/vendor", "0x1af4\n");
    tree_.write("/sys/class/net/" + name + "/carrier_changes", std::to_string(carrier_changes) + "\n");
  }
  const FileTree& tree() const { return tree_; }

private:
  FileTree tree_;
};

TEST_CASE("softnet_stat is hexadecimal, one line per CPU, with more columns in newer kernels") {
  const auto cpus = parse_softnet(
      "00000001 00000002 00000003 0\nrubbish\n0000000a 00000010 000000ff 0 0 0\n"
      "00000001 00000007 00000008 0 0 0 0 0 0 0 0 0 0000001f 0 0\n");
  REQUIRE(cpus.size() == 3);
  CHECK(cpus[0].drops + cpus[1].drops == 18);
  CHECK(cpus[0].squeezes + cpus[1].squeezes == 258);
  CHECK(cpus[0].cpu == 0);
  CHECK(cpus[1].cpu == 1);
  CHECK(cpus[2].cpu == 31);
  CHECK(cpus[2].drops == 7);
  CHECK(cpus[2].squeezes == 8);
  CHECK(parse_softnet("").empty());
  CHECK(parse_softnet("zz 1\n").empty());
}

TEST_CASE("A CPU that goes offline takes nothing along, and counts on when it comes back") {
  const Network network;
  network.devices(device("eth0", 0, 0));
  FileBudget budget(8);
  NetdevSource source(network.tree().path("/proc"), network.tree().path("/sys"), budget);
  Gauges gauges;
  gauges.fill(kMissing);
  FileCounts counts;
  MonotonicNs now = 0;
  const std::string before = "00000001 000a0000 000b0000 0 0 0 0 0 0 0 0 0 00000000 0 0\n";
  const std::string first = "00000001 000a0003 000b0004 0 0 0 0 0 0 0 0 0 00000000 0 0\n";
  const std::string second = "00000001 00001000 00002000 0 0 0 0 0 0 0 0 0 00000001 0 0\n";
  const std::string third = "00000001 00001005 00002006 0 0 0 0 0 0 0 0 0 00000002 0 0\n";
  const auto added = [&](const std::string& text) {
    network.softnet(text);
    CHECK(source.read(now += kSecond, gauges, counts));
    Sample sample;
    counts.take(sample);
    return std::pair(sample.counters[COUNTER_softnet_drops], sample.counters[COUNTER_softnet_squeezes]);
  };
  using Counts = std::pair<std::uint64_t, std::uint64_t>;
  CHECK(added(before + second + third) == Counts(0, 0));
  CHECK(added(second + third) == Counts(0, 0));
  CHECK(added(third) == Counts(0, 0));
  CHECK(added(first + second + third) == Counts(3, 4));
}

TEST_CASE("Only devices with hardware behind them count, in both directions, and a new one brings no past") {
  const Network network;
  network.devices(device("lo", 9, 9) + device("eth0", 100, 50) + device("veth1", 7, 7));
  const auto& tree = network.tree();
  FileBudget budget(8);
  NetdevSource source(tree.path("/proc"), tree.path("/sys"), budget);
  Gauges gauges;
  gauges.fill(kMissing);
  FileCounts counts;
  CHECK(source.read(kSecond, gauges, counts));
  network.devices(device("lo", 19, 19) + device("eth0", 103, 51) + device("veth1", 70, 70) +
                  device("eth1", 1000, 1000) + "half a line: 1 2\n");
  network.hardware("eth0", 6);
  network.hardware("eth1", 50);
  network.softnet("00000001 00000004 00000003 0 0\n0000000a 00000010 00000007 0 0\n");
  CHECK(source.read(2 * kSecond, gauges, counts));
  Sample sample;
  counts.take(sample);
  CHECK(sample.counters[COUNTER_nic_errors] == 6);
  CHECK(sample.counters[COUNTER_nic_drops] == 2);
  CHECK(sample.counters[COUNTER_carrier_changes] == 2);
  CHECK(sample.counters[COUNTER_softnet_drops] == 2);
  CHECK(sample.counters[COUNTER_softnet_squeezes] == 7);

  // One is taken out, the other counts on.
  network.devices(device("eth1", 1001, 1000));
  CHECK(source.read(3 * kSecond, gauges, counts));
  sample = {};
  counts.take(sample);
  CHECK(sample.counters[COUNTER_nic_errors] == 2);
  CHECK(sample.counters[COUNTER_nic_drops] == 0);
}

TEST_CASE("Connection tracking is a share of its limit, and missing where it is not loaded") {
  const Network network;
  network.devices(device("eth0", 0, 0));
  const auto& tree = network.tree();
  FileBudget budget(8);
  NetdevSource source(tree.path("/proc"), tree.path("/sys"), budget);
  Gauges gauges;
  gauges.fill(kMissing);
  FileCounts counts;
  CHECK(source.read(kSecond, gauges, counts));
  CHECK(std::isnan(gauges[GAUGE_conntrack_use]));
  tree.write("/proc/1/net/stat/nf_conntrack", "entries  searched found\n00000100  0 0\n00000100  0 0\n");
  tree.write("/proc/sys/net/netfilter/nf_conntrack_max", "1024\n");
  CHECK(source.read(2 * kSecond, gauges, counts));
  CHECK(gauges[GAUGE_conntrack_use] == doctest::Approx(0.25));
}

TEST_CASE("Without its files the source fails and its counters are unknown") {
  const FileTree tree;
  FileBudget budget(8);
  NetdevSource source(tree.path(), tree.path(), budget);
  Gauges gauges;
  gauges.fill(kMissing);
  FileCounts counts;
  CHECK_FALSE(source.read(kSecond, gauges, counts));
  Sample sample;
  counts.take(sample);
  for (const auto counter : {COUNTER_nic_errors, COUNTER_nic_drops, COUNTER_carrier_changes,
                             COUNTER_softnet_drops, COUNTER_softnet_squeezes}) {
    CHECK(sample.unknown.test(counter));
  }
}

}  // namespace
}  // namespace vedette
