#include "agent/assess/cause_finder.h"

#include <algorithm>
#include <functional>
#include <set>

#include <doctest/doctest.h>

#include "tests/unit/second.h"

using namespace vedette;

namespace {

constexpr EntityId kA = 1, kB = 2, kC = 3, kD = 4;

// A node and three units whose seconds are made by hand; every probe is attached.
struct NodeScene {
  Observation observation;
  CauseFinder causes;

  explicit NodeScene(double tick_s = 0.5) {
    observation.time.monotonic_ns = 1000 * kSecond;
    observation.interval_s = tick_s;
    for (const char* name : {"node", "unit/a", "unit/b", "unit/c"}) add(name);
    std::set<std::string_view> origins;
    for (const SignalInfo& signal : kCounters) origins.insert(signal.origin);
    for (const SignalInfo& signal : kGauges) origins.insert(signal.origin);
    for (const std::string_view origin : origins)
      observation.probes.push_back({std::string(origin), ProbeState::kAttached, "", 0, 0});
  }
  void add(const std::string& name) {
    Entity entity;
    entity.id = static_cast<EntityId>(observation.entities.size());
    entity.name = name;
    observation.entities.push_back(std::make_shared<const Entity>(entity));
    observation.samples.emplace_back().entity = entity.id;
    cpu(entity.id, 0);
  }
  void probe(std::string_view name, ProbeState state) {
    std::ranges::find(observation.probes, name, &ProbeHealth::name)->state = state;
  }
  void cpu(EntityId of, double cores) { observation.samples[of].gauges[GAUGE_cpu_cores] = cores; }
  // By the hypervisor, from the two CPUs that the node has.
  void steal(double cores) { observation.samples.front().gauges[GAUGE_steal_time] = cores / 2; }
  void rate(EntityId of, vedette_counter counter, double per_s) {
    observation.samples[of].counters[counter] = static_cast<std::uint64_t>(per_s * observation.interval_s);
  }
  void waits(EntityId of, vedette_counter counter, double tasks) { rate(of, counter, tasks * 1e9); }
  // What a pod has, the node has too.
  void run(int seconds) {
    Sample& node = observation.samples.front();
    const Sample own = node;
    for (std::size_t i = 1; i < observation.samples.size(); ++i) {
      for (std::size_t c = 0; c < COUNTER_COUNT; ++c) node.counters[c] += observation.samples[i].counters[c];
      node.gauges[GAUGE_cpu_cores] += observation.samples[i].gauges[GAUGE_cpu_cores];
    }
    node.gauges[GAUGE_cpu_limit_use] = node.gauges[GAUGE_cpu_cores] / 2;
    for (int tick = 0; tick * observation.interval_s < seconds; ++tick) {
      observation.time.monotonic_ns += static_cast<MonotonicNs>(observation.interval_s * kSecond);
      causes.update(observation);
      observation.events.clear();
    }
    node = own;
  }
  std::vector<Suspect> suspects() const { return causes.rank(observation.time.monotonic_ns); }
};

bool tells(const std::string& text, const std::string& part) {
  return text.find(part) != std::string::npos;
}

}  // namespace

TEST_CASE("the cause is who used more of what the others waited for, with the numbers") {
  NodeScene scene;
  scene.cpu(kA, 0.2);
  scene.cpu(kB, 0.5);
  scene.waits(kB, COUNTER_runqueue_wait_ns, 0.1);
  scene.run(40);
  CHECK(scene.suspects().empty());
  scene.cpu(kA, 1.5);
  scene.run(2);
  scene.waits(kB, COUNTER_runqueue_wait_ns, 1.1);
  scene.rate(kC, COUNTER_disk_written_bytes, 5e8);  // more than usual too, but nobody waits for a disk
  scene.run(6);
  const auto suspects = scene.suspects();
  REQUIRE(suspects.size() == 1);
  CHECK(suspects[0].entity == "unit/a");
  CHECK(suspects[0].score == doctest::Approx(1));
  CAPTURE(suspects[0].why);
  CHECK(tells(suspects[0].why, "used 1.5 cores, usually 0.2 (100 % of the growth)"));
  CHECK(tells(suspects[0].why, "waited 1.1 s a second for a CPU, 1 more than usual"));
  CHECK(tells(suspects[0].why, "began 2 s before"));
}

TEST_CASE("a suspect is called what it is called now") {
  NodeScene scene;
  scene.run(30);
  Entity named = *scene.observation.entities[kA];
  named.name = "pod/shop/cart";
  scene.observation.entities[kA] = std::make_shared<const Entity>(named);
  scene.run(10);
  scene.cpu(kA, 1.5);
  scene.waits(kB, COUNTER_runqueue_wait_ns, 1);
  scene.run(6);
  REQUIRE(scene.suspects().size() == 1);
  CHECK(scene.suspects()[0].entity == "pod/shop/cart");
}

TEST_CASE("of several who used more, each explains its share") {
  NodeScene scene;
  scene.run(40);
  scene.waits(kC, COUNTER_blocked_disk_ns, 2);
  scene.rate(kA, COUNTER_disk_written_bytes, 3e8);
  scene.rate(kB, COUNTER_disk_written_bytes, 1e8);
  scene.run(6);
  const auto suspects = scene.suspects();
  REQUIRE(suspects.size() == 2);
  CHECK(suspects[0].entity == "unit/a");
  CHECK(suspects[0].score == doctest::Approx(0.75));
  CHECK(suspects[1].entity == "unit/b");
  CHECK(suspects[1].score == doctest::Approx(0.25));
}

TEST_CASE("who began after the waiting did is less of a suspect") {
  NodeScene scene;
  scene.run(40);
  scene.waits(kC, COUNTER_runqueue_wait_ns, 2);
  scene.cpu(kA, 1);
  scene.run(5);
  scene.cpu(kB, 1);
  scene.run(5);
  const auto suspects = scene.suspects();
  REQUIRE(!suspects.empty());
  CHECK(suspects[0].entity == "unit/a");
}

TEST_CASE("what nobody answers is outside, and the peer is named") {
  NodeScene scene;
  scene.run(40);
  for (int i = 0; i < 3; ++i) {
    KernelEvent refused;
    refused.type = EVENT_connect_failed;
    refused.entity = kB;
    refused.text = "192.0.2.7";
    refused.extra = 5432;
    scene.observation.events.push_back(refused);
  }
  scene.rate(kB, COUNTER_tcp_connect_failures, 10);
  scene.run(6);
  auto suspects = scene.suspects();
  REQUIRE(suspects.size() == 1);
  CHECK(suspects[0].entity == kOutside);
  CHECK(tells(suspects[0].why, "most of them of 192.0.2.7:5432"));

  // Not one that failed all the time: what counts is how often since the trouble began.
  NodeScene usual;
  const auto fail = [&](const char* peer, int times) {
    for (int i = 0; i < times; ++i) {
      KernelEvent refused;
      refused.type = EVENT_connect_failed;
      refused.entity = kB;
      refused.text = peer;
      refused.extra = 80;
      usual.observation.events.push_back(refused);
    }
  };
  usual.rate(kB, COUNTER_tcp_connect_failures, 2);
  for (int second = 0; second < 50; ++second) {
    fail("192.0.2.1", 2);
    usual.run(1);
  }
  usual.rate(kB, COUNTER_tcp_connect_failures, 12);
  for (int second = 0; second < 6; ++second) {
    fail("192.0.2.1", 2);
    fail("192.0.2.7", 10);
    usual.run(1);
  }
  suspects = usual.suspects();
  REQUIRE(suspects.size() == 1);
  CHECK(tells(suspects[0].why, "most of them of 192.0.2.7:80"));

  NodeScene names;
  names.rate(kB, COUNTER_dns_queries, 20);
  names.observation.samples[kB].histograms[HISTOGRAM_dns_latency][3] = 10;
  names.run(40);
  CHECK(names.suspects().empty());
  names.observation.samples[kB].histograms[HISTOGRAM_dns_latency][3] = 0;
  names.run(6);
  suspects = names.suspects();
  REQUIRE(suspects.size() == 1);
  CHECK(suspects[0].entity == kOutside);
}

TEST_CASE("lost segments are outside, unless somebody here floods") {
  NodeScene scene;
  scene.rate(kB, COUNTER_packets_sent, 1000);
  scene.run(40);
  scene.rate(kB, COUNTER_tcp_retransmits, 20);
  scene.run(6);
  auto suspects = scene.suspects();
  REQUIRE(!suspects.empty());
  CHECK(suspects[0].entity == kOutside);

  NodeScene flood;
  flood.rate(kB, COUNTER_packets_sent, 1000);
  flood.run(40);
  flood.rate(kB, COUNTER_tcp_retransmits, 20);
  flood.rate(kA, COUNTER_packets_sent, 100'000);
  flood.run(6);
  suspects = flood.suspects();
  REQUIRE(!suspects.empty());
  CHECK(suspects[0].entity == "unit/a");
}

TEST_CASE("silence without anything that grew here is outside") {
  NodeScene scene;
  scene.rate(kA, COUNTER_packets_sent, 100);
  scene.rate(kB, COUNTER_packets_sent, 100);
  scene.run(40);
  scene.rate(kA, COUNTER_packets_sent, 2);
  scene.rate(kB, COUNTER_packets_sent, 2);
  scene.run(6);
  const auto suspects = scene.suspects();
  REQUIRE(suspects.size() == 1);
  CHECK(suspects[0].entity == kOutside);
  CHECK(tells(suspects[0].why, "2 entities"));
}

TEST_CASE("of silent ones that connect to each other the one they lead to is named, unless there are two") {
  NodeScene scene;
  for (const EntityId each : {kA, kB, kC}) scene.rate(each, COUNTER_packets_sent, 100);
  std::string named;
  SUBCASE("nobody connects to another") {}
  SUBCASE("a chain") {
    scene.observation.connections = {{kA, kB, 20}, {kB, kC, 20}, {kC, kC, 20}, {kC, 77, 20}};
    named = "unit/c";
  }
  SUBCASE("two servers of one") {
    scene.observation.connections = {{kA, kB, 20}, {kA, kC, 20}};
  }
  SUBCASE("a circle") {
    scene.observation.connections = {{kA, kB, 1}, {kB, kC, 1}, {kC, kA, 1}};
  }
  scene.run(1);
  scene.observation.connections.clear();
  scene.run(40);
  for (const EntityId each : {kA, kB, kC}) scene.rate(each, COUNTER_packets_sent, 2);
  scene.run(6);
  const auto suspects = scene.suspects();
  REQUIRE(suspects.size() == 1);
  CHECK(suspects[0].entity == kOutside);
  CAPTURE(suspects[0].why);
  CHECK(tells(suspects[0].why, "3 entities"));
  CHECK(tells(suspects[0].why, "lead to") == !named.empty());
  CHECK(tells(suspects[0].why, "lead to " + named) == !named.empty());
}

TEST_CASE("whose tasks wait for each other is its own cause") {
  NodeScene scene;
  scene.waits(kB, COUNTER_blocked_lock_ns, 1);
  scene.run(40);
  scene.waits(kB, COUNTER_blocked_lock_ns, 8);
  scene.run(6);
  const auto suspects = scene.suspects();
  REQUIRE(suspects.size() == 1);
  CHECK(suspects[0].entity == "unit/b");
}

TEST_CASE("who waits at its own limit is its own cause") {
  NodeScene scene;
  scene.run(40);
  scene.observation.samples[kB].gauges[GAUGE_cpu_throttled] = 0.6;
  scene.waits(kB, COUNTER_runqueue_wait_ns, 1);
  scene.cpu(kA, 0.3);
  scene.run(6);
  auto suspects = scene.suspects();
  REQUIRE(suspects.size() == 1);
  CHECK(suspects[0].entity == "unit/b");
  CHECK(tells(suspects[0].why, "its own CPU quota held it back 60 % of the time, usually 0 %"));

  NodeScene full;
  full.run(40);
  full.observation.samples[kB].gauges[GAUGE_memory_use] = 0.99;
  full.waits(kB, COUNTER_direct_reclaim_ns, 1);
  full.rate(kA, COUNTER_page_faults, 1e5);
  full.run(6);
  suspects = full.suspects();
  REQUIRE(suspects.size() == 1);
  CHECK(suspects[0].entity == "unit/b");
}

TEST_CASE("an incident that just opened is ranked by its first second and a half, whatever the ticks are") {
  for (const int ticks_a_second : {2, 1}) {
    CAPTURE(ticks_a_second);
    NodeScene scene;
    scene.observation.interval_s = 1.0 / ticks_a_second;
    const auto run = [&](int seconds, double cores, std::uint64_t waited_ns) {
      for (int tick = 0; tick < seconds * ticks_a_second; ++tick) {
        scene.observation.time.monotonic_ns += kSecond / ticks_a_second;
        for (const EntityId of : {kNodeEntity, kA}) scene.cpu(of, cores);
        for (const EntityId of : {kNodeEntity, kB})
          scene.observation.samples[of].counters[COUNTER_runqueue_wait_ns] =
              waited_ns / static_cast<std::uint64_t>(ticks_a_second);
        scene.causes.update(scene.observation);
      }
    };
    run(40, 0, 0);
    CHECK(scene.suspects().empty());
    run(2, 1.5, 1'000'000'000);
    const std::vector<Suspect> suspects = scene.suspects();
    REQUIRE(!suspects.empty());
    CHECK(suspects[0].entity == "unit/a");
    CHECK(tells(suspects[0].why, "waited 1 s a second"));
  }
}

TEST_CASE("what is felt: all wait longer than at any time of the minute before") {
  NodeScene scene;
  scene.run(20);
  CHECK_FALSE(scene.causes.waits_longer());  // nobody knows what is usual
  scene.run(20);
  CHECK(scene.causes.waits_longer().value().s == 0);
  scene.waits(kB, COUNTER_runqueue_wait_ns, 0.4);
  scene.run(2);
  CHECK(scene.causes.waits_longer().value().s == 0);  // too little to be felt
  scene.waits(kC, COUNTER_blocked_disk_ns, 0.6);
  scene.run(1);
  CHECK(scene.causes.waits_longer().value().s == doctest::Approx(1).epsilon(1e-3));
  CHECK(scene.causes.waits_longer().value().lost_s == doctest::Approx(0.5).epsilon(1e-3));
  scene.run(2);
  CHECK(scene.causes.waits_longer().value().lost_s == doctest::Approx(2.5).epsilon(1e-3));
  // What lasts becomes usual, and what was as much lately is no news.
  scene.run(64);
  CHECK(scene.causes.waits_longer().value().s == 0);
  scene.waits(kC, COUNTER_blocked_disk_ns, 0);
  scene.run(20);
  scene.waits(kC, COUNTER_blocked_disk_ns, 0.6);
  scene.run(2);
  CHECK(scene.causes.waits_longer().value().s == 0);
  CHECK(scene.causes.waits_longer().value().lost_s == 0);
  scene.waits(kC, COUNTER_blocked_disk_ns, 4);
  scene.run(1);
  CHECK(scene.causes.waits_longer().value().lost_s == doctest::Approx(1.7).epsilon(1e-3));
  // What is usual is reckoned anew for each in its turn, also where a tick is two turns.
  NodeScene slow(1);
  slow.run(40);
  slow.add("unit/d");
  slow.add("unit/e");
  for (const EntityId id : {kD, kD + 1}) slow.waits(id, COUNTER_runqueue_wait_ns, 2);
  slow.run(120);
  slow.waits(kA, COUNTER_runqueue_wait_ns, 0.6);
  slow.run(3);
  CHECK(slow.causes.waits_longer().value().s == doctest::Approx(0.6));
  // Of a pool of idle threads each waits for hours.
  NodeScene pool;
  pool.run(40);
  pool.waits(kA, COUNTER_blocked_lock_ns, 100);
  pool.run(2);
  CHECK(pool.causes.waits_longer().value().s == doctest::Approx(1));
  // A shell waits for its children from its first moment on; for a CPU it waits as anybody does.
  NodeScene newcomer;
  newcomer.run(40);
  newcomer.add("unit/d");
  newcomer.waits(kD, COUNTER_blocked_lock_ns, 1);
  newcomer.run(5);
  CHECK(newcomer.causes.waits_longer().value().s == 0);
  newcomer.waits(kD, COUNTER_runqueue_wait_ns, 1);
  newcomer.run(2);
  CHECK(newcomer.causes.waits_longer().value().s == doctest::Approx(1));
  // Silence is a wait; half of the packets are none, as when a load is halved.
  NodeScene silent;
  silent.rate(kA, COUNTER_packets_sent, 100);
  silent.run(40);
  silent.rate(kA, COUNTER_packets_sent, 50);
  silent.run(2);
  CHECK(silent.causes.waits_longer().value().s == 0);
  silent.rate(kA, COUNTER_packets_sent, 0);
  silent.run(2);
  CHECK(silent.causes.waits_longer().value().s == doctest::Approx(1));
  for (ProbeHealth& probe : silent.observation.probes) {
    if (probe.name == "sched") probe.state = ProbeState::kDegraded;
  }
  silent.run(1);
  CHECK_FALSE(silent.causes.waits_longer());
}

TEST_CASE("what runs outside all pods is the node's, and who is gone is still found") {
  NodeScene scene;
  scene.run(40);
  scene.cpu(kNodeEntity, 1.5);
  scene.waits(kB, COUNTER_runqueue_wait_ns, 1);
  scene.run(6);
  REQUIRE(!scene.suspects().empty());
  CHECK(scene.suspects()[0].entity == "node");

  NodeScene gone;
  gone.run(40);
  gone.cpu(kC, 1.5);
  gone.waits(kB, COUNTER_runqueue_wait_ns, 1);
  gone.run(6);
  gone.observation.entities.pop_back();
  gone.observation.samples.pop_back();
  gone.waits(kB, COUNTER_runqueue_wait_ns, 0);
  gone.run(4);
  REQUIRE(!gone.suspects().empty());
  CHECK(gone.suspects()[0].entity == "unit/c");
}

TEST_CASE("what the hypervisor takes is outside, beside those here who use more") {
  const auto blamed = [](double stolen, double used) {
    NodeScene scene;
    scene.cpu(kA, 0.5);
    scene.steal(0.02);
    scene.run(40);
    scene.steal(stolen);
    scene.cpu(kA, used);
    scene.waits(kB, COUNTER_runqueue_wait_ns, 1);
    scene.run(6);
    return scene.suspects();
  };
  std::vector<Suspect> suspects = blamed(0.42, 0.5);
  REQUIRE(suspects.size() == 1);
  CHECK(suspects[0].entity == kOutside);
  CAPTURE(suspects[0].why);
  CHECK(
      tells(suspects[0].why, "the hypervisor took 0.42 cores from this machine, usually 0.02 (100 % of the"));
  CHECK(tells(suspects[0].why, "while all waited 1 s a second for a CPU"));
  suspects = blamed(0.42, 1.3);
  REQUIRE(suspects.size() == 2);
  CHECK(suspects[0].entity == "unit/a");
  CHECK(suspects[0].score == doctest::Approx(2. / 3).epsilon(1e-3));
  CHECK(suspects[1].entity == kOutside);
  CHECK(blamed(0.1, 0.5).empty());  // a hundredth here and there is no news
}

TEST_CASE("what the hypervisor makes all wait is not felt, what somebody here does is") {
  const auto felt = [](double stolen, double used, EntityId by, ProbeState state) {
    NodeScene scene;
    scene.cpu(kA, 0.5);
    scene.steal(0);
    scene.run(40);
    scene.probe("kernel", state);
    scene.steal(stolen);
    scene.cpu(by, used);
    scene.waits(kB, COUNTER_runqueue_wait_ns, 2);
    scene.run(2);
    return scene.causes.waits_longer().value().s;
  };
  CHECK(felt(0.4, 0.5, kA, ProbeState::kAttached) == 0);
  CHECK(felt(0.4, 0.9, kA, ProbeState::kAttached) == doctest::Approx(1).epsilon(1e-3));
  CHECK(felt(0.4, 0.4, kNodeEntity, ProbeState::kAttached) == doctest::Approx(1).epsilon(1e-3));
  CHECK(felt(0.05, 0.5, kA, ProbeState::kAttached) == doctest::Approx(2).epsilon(1e-3));
  CHECK(felt(0.4, 0.5, kA, ProbeState::kDegraded) == doctest::Approx(2).epsilon(1e-3));
}

TEST_CASE("what kernel threads write for nobody they name is for who writes much himself, else the node's") {
  const auto blamed = [](double own) {
    NodeScene scene;
    scene.run(40);
    scene.rate(kNodeEntity, COUNTER_disk_written_bytes, 9e8);
    scene.rate(kNodeEntity, COUNTER_disk_unowned_bytes, 9e8);
    scene.rate(kA, COUNTER_disk_written_bytes, own);
    scene.waits(kC, COUNTER_blocked_disk_ns, 2);
    scene.run(6);
    return scene.suspects();
  };
  std::vector<Suspect> suspects = blamed(3e8);
  REQUIRE(suspects.size() == 1);
  CHECK(suspects[0].entity == "unit/a");
  CHECK(suspects[0].score == doctest::Approx(1));
  suspects = blamed(0.5e8);
  REQUIRE(!suspects.empty());
  CHECK(suspects[0].entity == "node");
  CHECK(suspects[0].score > 0.9);
}

TEST_CASE("what is not watched is no evidence, and too little seen blames nobody") {
  NodeScene scene;
  scene.waits(kB, COUNTER_blocked_disk_ns, 0.1);
  scene.run(40);
  scene.probe("disk", ProbeState::kShed);
  scene.rate(kA, COUNTER_disk_written_bytes, 3e8);
  scene.waits(kB, COUNTER_blocked_disk_ns, 3);
  scene.run(6);
  CHECK(scene.suspects().empty());

  // Memory is watched by two: while one of them is shed, what the other goes on to count is of no step.
  NodeScene turns;
  turns.rate(kA, COUNTER_page_faults, 1000);
  turns.run(40);
  turns.probe("disk", ProbeState::kShed);
  turns.run(10);
  turns.probe("disk", ProbeState::kAttached);
  turns.rate(kC, COUNTER_page_faults, 5000);
  turns.waits(kB, COUNTER_direct_reclaim_ns, 1);
  turns.run(1);
  const auto suspects = turns.suspects();
  REQUIRE(suspects.size() == 1);
  CHECK(suspects[0].entity == "unit/c");

  NodeScene fresh;
  fresh.cpu(kA, 1.5);
  fresh.waits(kB, COUNTER_runqueue_wait_ns, 1);
  fresh.run(5);
  CHECK(fresh.suspects().empty());
}

TEST_CASE("what is kept of those that are gone is given back") {
  NodeScene scene;
  scene.run(2);
  const std::size_t before = scene.causes.bytes();
  for (int i = 0; i < 100; ++i) scene.add("unit/" + std::to_string(i));
  scene.run(2);
  CHECK(scene.causes.bytes() > before);
  scene.observation.entities.resize(4);
  scene.observation.samples.resize(4);
  scene.run(20);
  CHECK(scene.causes.bytes() == before);
}
