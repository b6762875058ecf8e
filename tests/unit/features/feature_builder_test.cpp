#include "agent/features/feature_builder.h"

#include <cmath>
#include <cstring>
#include <set>
#include <string_view>
#include <vector>

#include <doctest/doctest.h>

#include "tests/unit/second.h"

namespace {

using namespace vedette;

// A node whose ticks are made by hand; all probes of the schema are attached.
struct Node {
  Observation observation;
  FeatureBuilder builder{FeatureOptions{}};
  FeatureTable table;

  explicit Node(std::size_t entities = 1) {
    for (std::size_t i = 0; i < entities; ++i) add_entity(static_cast<EntityId>(i));
    observation.time.monotonic_ns = 1000 * kSecond;
    std::set<std::string_view> origins;
    for (const SignalInfo& signal : kCounters) origins.insert(signal.origin);
    for (const SignalInfo& signal : kHistograms) origins.insert(signal.origin);
    for (const SignalInfo& signal : kGauges) origins.insert(signal.origin);
    for (const std::string_view origin : origins) {
      observation.probes.push_back({std::string(origin), ProbeState::kAttached, "", 0, 0});
    }
  }
  void add_entity(EntityId id) {
    Entity entity;
    entity.id = id;
    observation.entities.push_back(std::make_shared<const Entity>(entity));
    observation.samples.emplace_back();
    observation.samples.back().entity = id;
  }
  Sample& sample(std::size_t i = 0) { return observation.samples[i]; }
  void set_probe(std::string_view name, ProbeState state) {
    for (ProbeHealth& probe : observation.probes) {
      if (probe.name == name) probe.state = state;
    }
  }
  // One tick, `seconds` after the one before; the counters are consumed, the gauges stay.
  void tick(double seconds) {
    observation.interval_s = seconds;
    observation.time.monotonic_ns += static_cast<MonotonicNs>(seconds * 1e9);
    builder.update(observation, table);
    for (Sample& each : observation.samples) {
      each.counters.fill(0);
      for (Buckets& buckets : each.histograms) buckets.fill(0);
    }
  }
  float get(std::string_view name, std::size_t row = 0) const { return table.row(row)[*find_feature(name)]; }
};

}  // namespace

TEST_CASE("a counter becomes events per second over the last ten seconds, however long the ticks were") {
  Node node;
  node.tick(0);
  CHECK(std::isnan(node.get("syscalls.rate")));
  for (int i = 0; i < 100; ++i) {
    const double seconds = i % 3 == 0 ? 0.05 : 0.25;
    node.sample().counters[COUNTER_syscalls] = i % 3 == 0 ? 5 : 25;
    node.tick(seconds);
  }
  CHECK(node.get("syscalls.rate") == doctest::Approx(100));
  CHECK(node.get("forks.rate") == 0);
  for (int i = 0; i < 44; ++i) node.tick(0.25);
  CHECK(node.get("syscalls.rate") == 0);
}

TEST_CASE("a single event fades out of the rate within ten seconds") {
  Node node;
  node.tick(0);
  for (int i = 0; i < 48; ++i) node.tick(0.25);
  node.sample().counters[COUNTER_forks] = 1;
  node.tick(0.25);
  CHECK(node.get("forks.rate") == doctest::Approx(0.105).epsilon(0.06));
  for (int i = 0; i < 34; ++i) node.tick(0.25);
  CHECK(node.get("forks.rate") > 0);
  for (int i = 0; i < 6; ++i) node.tick(0.25);
  CHECK(node.get("forks.rate") == 0);
}

TEST_CASE("the brief rate and p99 are those of the last two seconds") {
  Node node;
  node.tick(0);
  for (int i = 0; i < 40; ++i) {
    node.sample().counters[COUNTER_forks] = 5;
    node.tick(0.25);
  }
  CHECK(node.get("forks.rate_2s") == doctest::Approx(20));
  for (int i = 0; i < 4; ++i) {
    node.sample().counters[COUNTER_forks] = 50;
    node.sample().histograms[HISTOGRAM_syscall_latency][2] = 100;
    node.tick(0.25);
  }
  CHECK(node.get("forks.rate") < 50);
  CHECK(node.get("forks.rate_2s") > 100);
  CHECK(node.get("syscall_latency.p99_2s") == node.get("syscall_latency.p99"));
  for (int i = 0; i < 8; ++i) node.tick(0.25);
  CHECK(node.get("forks.rate") > 0);
  CHECK(node.get("forks.rate_2s") == 0);
  CHECK(std::isnan(node.get("syscall_latency.p99_2s")));
  // A gap longer than the window: what it carries was counted over all of it.
  node.sample().counters[COUNTER_forks] = 100;
  node.tick(5);
  CHECK(node.get("forks.rate_2s") == doctest::Approx(20));
}

TEST_CASE("both windows are the sums of their half seconds, whatever the ticks and the gaps") {
  struct Counted {
    MonotonicNs half_second;
    double seconds;
    std::uint64_t forks;
  };
  Node node;
  node.tick(0);
  std::vector<Counted> all;
  std::uint64_t random = 1;
  for (int i = 0; i < 2000; ++i) {
    random = random * 6364136223846793005U + 1;
    const std::uint64_t dice = random >> 40;
    const double seconds = dice % 97 == 0 ? 12 : dice % 31 == 0 ? 1.7 : dice % 5 == 0 ? 0.0625 : 0.25;
    const std::uint64_t forks = dice % 3 == 0 ? 0 : dice % 50;
    node.sample().counters[COUNTER_forks] = forks;
    node.tick(seconds);
    const MonotonicNs newest = node.observation.time.monotonic_ns / (kSecond / 2);
    all.push_back({newest, seconds, forks});
    for (const std::size_t bins : {20U, 4U}) {
      const std::string_view name = bins == 4 ? "forks.rate_2s" : "forks.rate";
      double watched = 0;
      std::uint64_t sum = 0;
      for (auto each = all.rbegin(); each != all.rend() && each->half_second + bins > newest; ++each) {
        watched += each->seconds;
        sum += each->forks;
      }
      CAPTURE(name);
      CAPTURE(i);
      if (watched < 1)
        CHECK(std::isnan(node.get(name)));
      else
        CHECK(node.get(name) == doctest::Approx(static_cast<double>(sum) / watched));
    }
  }
}

TEST_CASE("what the first tick and the first second of an entity counted is no rate yet") {
  Node node;
  node.sample().counters[COUNTER_syscalls] = 1'000'000;
  node.tick(0);
  node.sample().counters[COUNTER_syscalls] = 10;
  node.tick(0.5);
  CHECK(std::isnan(node.get("syscalls.rate")));
  node.sample().counters[COUNTER_syscalls] = 10;
  node.tick(0.5);
  CHECK(node.get("syscalls.rate") == doctest::Approx(20));
}

TEST_CASE("p99 is interpolated inside its log2 bucket, and missing without samples") {
  Node node;
  node.tick(0);
  node.tick(1);
  CHECK(std::isnan(node.get("syscall_latency.p99")));
  // 100 samples in [2048, 4096) ns: rank 99 lies at 99 % of the bucket.
  node.sample().histograms[HISTOGRAM_syscall_latency][2] = 100;
  node.tick(1);
  CHECK(node.get("syscall_latency.p99") == doctest::Approx((2048 + 0.99 * 2048) * 1e-9));
  // 900 fast ones beside them: rank 990 is the 90th of the slow hundred.
  node.sample().histograms[HISTOGRAM_syscall_latency][0] = 900;
  node.tick(1);
  CHECK(node.get("syscall_latency.p99") == doctest::Approx((2048 + 0.90 * 2048) * 1e-9));
  for (int i = 0; i < 11; ++i) node.tick(1);
  CHECK(std::isnan(node.get("syscall_latency.p99")));
}

TEST_CASE("a count beyond any bucket's range saturates instead of wrapping") {
  Node node;
  node.tick(0);
  for (int i = 0; i < 12; ++i) {
    node.sample().histograms[HISTOGRAM_syscall_latency][23] = ~std::uint64_t{0};
    node.tick(1);
  }
  CHECK(node.get("syscall_latency.p99") == doctest::Approx(4.295 + 0.99 * 4.295).epsilon(0.001));
}

TEST_CASE("a rising gauge has the slope of its line and the time until it is full") {
  Node node;
  for (int i = 0; i <= 160; ++i) {
    node.sample().gauges[GAUGE_memory_use] = 0.1 + 0.005 * (i * 0.25);
    node.sample().gauges[GAUGE_memory_bytes] = 1e9 + 1e6 * (i * 0.25);
    node.tick(0.25);
  }
  CHECK(node.get("memory_use") == doctest::Approx(0.3));
  CHECK(node.get("memory_use.slope") == doctest::Approx(0.005).epsilon(1e-4));
  CHECK(node.get("memory_use.eta") == doctest::Approx(0.7 / 0.005).epsilon(1e-4));
  CHECK(node.get("memory_bytes.slope") == doctest::Approx(1e6).epsilon(1e-3));
}

TEST_CASE("an eta is at most an hour, zero when full and an hour when the gauge falls") {
  Node node;
  double use = 0.5;
  for (int i = 0; i < 10; ++i) {
    node.sample().gauges[GAUGE_memory_use] = use += 1e-7;
    node.sample().gauges[GAUGE_pids_use] = 0.9 - 0.01 * i;
    node.sample().gauges[GAUGE_open_files_use] = 1.0;
    node.tick(1);
  }
  CHECK(node.get("memory_use.eta") == 3600);
  CHECK(node.get("pids_use.eta") == 3600);
  CHECK(node.get("pids_use.slope") == doctest::Approx(-0.01).epsilon(1e-4));
  CHECK(node.get("open_files_use.eta") == 0);
}

TEST_CASE("a slope needs some seconds, and only looks at the last thirty") {
  Node node;
  node.sample().gauges[GAUGE_memory_use] = 0.5;
  node.tick(0);
  node.tick(1);
  node.tick(1);
  CHECK(std::isnan(node.get("memory_use.slope")));
  CHECK(std::isnan(node.get("memory_use.eta")));
  CHECK(node.get("memory_use") == 0.5f);
  node.tick(1);
  CHECK(node.get("memory_use.slope") == 0);
  node.sample().gauges[GAUGE_memory_use] = 0.9;
  node.tick(1);
  CHECK(node.get("memory_use.slope") > 0);
  for (int i = 0; i < 31; ++i) node.tick(1);
  CHECK(node.get("memory_use.slope") == 0);
}

TEST_CASE("a gauge that was unknown for a while gets the slope of the points it has") {
  Node node;
  for (int i = 0; i < 25; ++i) {
    node.sample().gauges[GAUGE_memory_use] = i >= 8 && i < 14 ? kMissing : 0.2 + 0.01 * i;
    node.tick(1);
    CHECK(std::isnan(node.get("memory_use")) == (i >= 8 && i < 14));
    CHECK(std::isnan(node.get("memory_use.slope")) == (i < 3 || (i >= 8 && i < 14)));
  }
  CHECK(node.get("memory_use.slope") == doctest::Approx(0.01).epsilon(1e-4));
}

TEST_CASE(
    "signals of a degraded, an off or an unlisted probe are missing for everybody, the others are not") {
  for (const ProbeState state : {ProbeState::kDegraded, ProbeState::kOff, ProbeState::kShed}) {
    Node node(3);
    node.tick(0);
    node.set_probe("syscalls", state);
    node.set_probe("psi", state);
    std::erase_if(node.observation.probes, [](const ProbeHealth& probe) { return probe.name == "tcp"; });
    for (Sample& sample : node.observation.samples) {
      sample.gauges[GAUGE_pressure_io] = 0.5;
      sample.gauges[GAUGE_memory_use] = 0.5;
      sample.histograms[HISTOGRAM_syscall_latency][3] = 7;
      sample.histograms[HISTOGRAM_runqueue_latency][3] = 7;
    }
    for (int i = 0; i < 5; ++i) node.tick(1);
    for (std::size_t row = 0; row < 3; ++row) {
      CHECK(std::isnan(node.get("syscalls.rate", row)));
      CHECK(std::isnan(node.get("tcp_connects.rate", row)));
      CHECK(std::isnan(node.get("syscall_latency.p99", row)));
      CHECK(std::isnan(node.get("pressure_io", row)));
      CHECK(std::isnan(node.get("pressure_io.slope", row)));
      CHECK(node.get("memory_use", row) == 0.5f);
      CHECK(node.get("forks.rate", row) == 0);
      CHECK(node.get("runqueue_latency.p99", row) > 0);
    }
  }
}

TEST_CASE("the time in which a probe was away counts neither as time nor as events") {
  Node node;
  node.tick(0);
  for (int i = 0; i < 4; ++i) {
    node.sample().counters[COUNTER_syscalls] = 10;
    node.tick(1);
  }
  node.set_probe("syscalls", ProbeState::kDegraded);
  for (int i = 0; i < 4; ++i) node.tick(1);
  node.set_probe("syscalls", ProbeState::kAttached);
  node.sample().counters[COUNTER_syscalls] = 10;
  node.tick(1);
  CHECK(node.get("syscalls.rate") == doctest::Approx(10));
}

TEST_CASE("rows follow the entities: a new one starts empty, one that left is forgotten") {
  Node node(2);
  node.tick(0);
  for (int i = 0; i < 5; ++i) {
    node.sample(1).counters[COUNTER_forks] = 3;
    node.tick(1);
  }
  CHECK(node.builder.entities() == 2);
  CHECK(node.get("forks.rate", 1) == doctest::Approx(3));

  node.observation.entities.erase(node.observation.entities.begin() + 1);
  node.observation.samples.erase(node.observation.samples.begin() + 1);
  node.add_entity(2);
  node.tick(1);
  CHECK(node.builder.entities() == 2);
  CHECK(node.table.entities[1]->id == 2);
  CHECK(node.table.entities.size() == 2);
  CHECK(node.get("forks.rate", 1) == 0);

  node.observation.entities.resize(1);
  node.observation.samples.resize(1);
  node.tick(1);
  CHECK(node.builder.entities() == 1);
  CHECK(node.table.values.size() == feature_columns().size());
}

TEST_CASE("the same observations give the same bits") {
  const auto run = [] {
    Node node(4);
    std::vector<float> all;
    std::uint64_t random = 1;
    for (int i = 0; i < 200; ++i) {
      for (Sample& sample : node.observation.samples) {
        for (std::uint64_t& counter : sample.counters)
          counter = (random = random * 6364136223846793005U + 1) >> 54;
        for (double& gauge : sample.gauges)
          gauge = static_cast<double>((random = random * 25214903917U + 11) >> 40);
      }
      node.tick(i % 7 == 0 ? 0.013 : 0.25);
      all.insert(all.end(), node.table.values.begin(), node.table.values.end());
    }
    return all;
  };
  const std::vector<float> first = run();
  const std::vector<float> second = run();
  REQUIRE(first.size() == second.size());
  CHECK(std::memcmp(first.data(), second.data(), first.size() * sizeof(float)) == 0);
}

TEST_CASE("the windows of 111 busy entities stay below 3 MiB") {
  Node node(111);
  for (int i = 0; i < 48; ++i) {
    for (Sample& sample : node.observation.samples) {
      for (std::size_t counter = 0; counter < COUNTER_COUNT; counter += 4) sample.counters[counter] = 1;
      for (std::size_t h = 0; h < HISTOGRAM_COUNT; h += 2) sample.histograms[h][8 + (i + h) % 4] = 1;
    }
    node.tick(0.25);
  }
  CHECK(node.builder.bytes() < 3 * 1024 * 1024);
}

TEST_CASE("nothing but a value, or NaN, leaves the builder whatever the gauges say") {
  Node node;
  node.tick(0);
  for (const double odd : {HUGE_VAL, -HUGE_VAL, 1e300, -5.0, 0.0, 3.0}) {
    for (int i = 0; i < 6; ++i) {
      node.sample().gauges.fill(odd);
      node.tick(1);
      for (const float value : node.table.values) CHECK_FALSE(std::isinf(value));
    }
  }
}

TEST_CASE("a signal that an older recording could not have is missing, not zero") {
  Node node;
  node.observation.absent_counters.set(COUNTER_forks);
  node.observation.absent_histograms.set(HISTOGRAM_runqueue_latency);
  for (int i = 0; i < 5; ++i) {
    node.sample().histograms[HISTOGRAM_runqueue_latency][3] = 1;
    node.sample().histograms[HISTOGRAM_syscall_latency][3] = 1;
    node.tick(1);
  }
  CHECK(std::isnan(node.get("forks.rate")));
  CHECK(node.get("execs.rate") == 0);
  CHECK(std::isnan(node.get("runqueue_latency.p99")));
  CHECK(node.get("syscall_latency.p99") > 0);
}
