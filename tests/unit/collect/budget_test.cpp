#include "agent/collect/budget.h"

#include <algorithm>

#include <doctest/doctest.h>

#include "agent/collect/signals.h"
#include "bpf/signals.h"
#include "tests/unit/second.h"

using namespace vedette;

namespace {

// A budget of 2 % and a load; each sample comes when the budget would ask for it.
class Scene {
public:
  explicit Scene(BudgetOptions options = {}) : budget(options) {}

  // What the probes would cost if all were watched; what is shed costs nothing.
  CostSample load{.agent = 0.002, .probes = {}};

  void sample() {
    now += budget.hurries() ? 5 * kSecond : 60 * kSecond;
    CostSample cost{.agent = load.agent, .probes = {}};
    for (const auto& [probe, share] : load.probes) {
      double part = budget.gap_mask() == 63 ? share : 0.9 * share;
      if (budget.in_time() && std::ranges::find(kHotProbes, probe) != kHotProbes.end()) part /= 10;
      const bool off = std::ranges::any_of(kBudgetSteps, [&, probe = probe](const BudgetStep& step) {
        return step.probe == probe && budget.sheds(probe, now);
      });
      cost.probes[probe] = off ? 0 : part;
    }
    budget.update(now, cost);
  }
  void samples(int count) {
    for (int i = 0; i < count; ++i) sample();
  }

  Budget budget;
  MonotonicNs now = 0;
};

}  // namespace

TEST_CASE("within the budget nothing is given up") {
  Scene scene;
  scene.load.probes = {{"syscalls", 0.01}, {"locks", 0.005}};
  scene.samples(100);
  CHECK(scene.budget.step() == 0);
  CHECK(scene.budget.gap_mask() == 63);
  CHECK_FALSE(scene.budget.hurries());
  CHECK_FALSE(scene.budget.sheds("locks", scene.now));
}

TEST_CASE("one sample over the budget is no reason, two are, and then one step at a time") {
  Scene scene;
  scene.load.probes = {{"syscalls", 0.01}, {"locks", 0.02}};
  scene.sample();
  CHECK(scene.budget.step() == 0);
  CHECK(scene.budget.hurries());
  scene.sample();
  CHECK(scene.budget.step() == 1);
  CHECK(scene.budget.gap_mask() == 255);
  scene.samples(2);
  CHECK(scene.budget.step() == 2);
  CHECK(scene.budget.gap_mask() == 4095);
  scene.samples(2);
  CHECK(scene.budget.step() == 3);
  CHECK(scene.budget.sheds("locks", scene.now));
  CHECK_FALSE(scene.budget.sheds("syscalls", scene.now));
  // What is left fits.
  scene.samples(3);
  CHECK(scene.budget.step() == 3);
}

TEST_CASE("a step that could save next to nothing is skipped: the probe is not there, or idle") {
  Scene scene;
  scene.load.probes = {{"syscalls", 0.05}, {"packets", 0.02}, {"drops", 0.0001}};
  scene.samples(20);
  CHECK(scene.budget.step() == 6);
  CHECK(scene.budget.sheds("packets", scene.now));
  CHECK_FALSE(scene.budget.sheds("drops", scene.now));
  CHECK(scene.budget.in_time());
}

TEST_CASE("what the agent itself takes is not saved by going blind") {
  Scene scene;
  scene.load = {.agent = 0.05, .probes = {{"syscalls", 0.0005}}};
  scene.samples(10);
  CHECK(scene.budget.step() == 0);
  CHECK(scene.budget.exhausted());
  CHECK_FALSE(scene.budget.hurries());
}

TEST_CASE("hard evidence and the slots are never shed, and on the last step the hot probes watch in turns") {
  const Budget budget({.step = static_cast<unsigned>(kBudgetSteps.size() - 1)});
  int watched = 0;
  constexpr int kSeconds = 300;
  for (int second = 0; second < kSeconds; ++second) {
    const MonotonicNs now = static_cast<MonotonicNs>(second) * kSecond;
    for (const char* probe : {"faults", "ext4", "memory", "mce", "aer", "scsi", "nvme", "process", "cgroups"})
      CHECK_FALSE(budget.sheds(probe, now));
    CHECK(budget.sheds("locks", now));
    if (!budget.sheds("syscalls", now)) ++watched;
  }
  CHECK(watched == kSeconds * 3 / 60);
}

TEST_CASE("when the load is over, what was given up comes back, the last step first, a minute apart") {
  Scene scene;
  scene.load.probes = {{"syscalls", 0.10}, {"locks", 0.05}};
  scene.samples(20);
  REQUIRE(scene.budget.step() == 6);
  scene.load.probes = {{"syscalls", 0.001}, {"locks", 0.0005}};
  scene.sample();
  CHECK(scene.budget.step() == 3);
  CHECK(scene.budget.sheds("locks", scene.now));
  const MonotonicNs began = scene.now;
  while (scene.budget.step() != 0 && scene.now < began + 3600 * kSecond) scene.sample();
  CHECK(scene.budget.step() == 0);
  CHECK(scene.now - began >= 180 * kSecond);
  CHECK(scene.now - began <= 360 * kSecond);
}

TEST_CASE("what would not fit stays off, but is tried once in an hour") {
  Scene scene;
  scene.load.probes = {{"syscalls", 0.012}, {"locks", 0.03}};
  scene.samples(6);
  REQUIRE(scene.budget.step() == 3);
  const MonotonicNs began = scene.now;
  while (scene.budget.sheds("locks", scene.now) && scene.now < began + 10'000 * kSecond) scene.sample();
  CHECK(scene.now - began >= 3'000 * kSecond);
  CHECK(scene.now - began <= 4'000 * kSecond);
  scene.samples(3);
  CHECK(scene.budget.sheds("locks", scene.now));
}

TEST_CASE("a load that comes and goes does not make it flap: each return takes longer than the one before") {
  Scene scene;
  std::vector<MonotonicNs> returns;
  MonotonicNs changed = 0;
  while (scene.now < 21'600 * kSecond) {
    // Spiteful: loud while all is watched, and until the agent has seen what the step saves.
    const bool quiet = scene.budget.step() != 0 && scene.now > changed + 10 * kSecond;
    scene.load.probes = {{"syscalls", quiet ? 0.0005 : 0.0205}};
    const unsigned before = scene.budget.step();
    scene.sample();
    if (scene.budget.step() != before) changed = scene.now;
    if (scene.budget.step() < before) returns.push_back(scene.now);
  }
  REQUIRE(returns.size() >= 5);
  CHECK(returns.size() < 15);
  for (std::size_t i = 2; i < 5; ++i)
    CHECK(returns[i] - returns[i - 1] > 3 * (returns[i - 1] - returns[i - 2]) / 2);
}

TEST_CASE("a fixed step stays, whatever it costs") {
  for (const unsigned step : {0U, 2U}) {
    Scene scene({.step = step});
    scene.load.probes = {{"syscalls", 0.5}};
    scene.samples(10);
    CHECK(scene.budget.step() == step);
    CHECK(scene.budget.exhausted());
    scene.load.probes = {{"syscalls", 0.0}};
    scene.samples(100);
    CHECK(scene.budget.step() == step);
  }
}

TEST_CASE("every probe that a step names is one of the schema's") {
  const auto exists = [](std::string_view probe) {
    return std::ranges::find(kCounters, probe, &SignalInfo::origin) != kCounters.end();
  };
  for (const BudgetStep& step : kBudgetSteps)
    CHECK_MESSAGE((step.probe.empty() || exists(step.probe)), step.probe);
  for (const std::string_view probe : kHotProbes) CHECK_MESSAGE(exists(probe), probe);
}

TEST_CASE("maps that exceed their budget lose lanes first, then slots") {
  const MapSizes wanted{.slots = 512, .lanes = 32, .ring_bytes = 256 * 1024, .cpus = 256};
  const auto same = [](const MapSizes& a, const MapSizes& b) {
    return a.slots == b.slots && a.lanes == b.lanes;
  };
  CHECK(wanted.bytes() < (std::uint64_t{40} << 20));
  CHECK(same(fit_maps(wanted, BudgetOptions().map_mib), wanted));
  const MapSizes half = fit_maps(wanted, 24);
  CHECK(half.slots == 512);
  CHECK(half.lanes == 16);
  const MapSizes least = fit_maps(wanted, 7);
  CHECK(least.lanes == 1);
  CHECK(least.slots < 512);
  CHECK(least.bytes() <= std::uint64_t{7} << 20);
  CHECK(fit_maps(wanted, 1).slots == 16);
}
