#include <sched.h>

#include "agent/collect/psi_source.h"
#include "tests/bpf/bpf_fixture.h"

using namespace vedette;
using namespace vedette::bpf_test;

namespace {

// Time that some task waited, as the kernel says now.
double waited_us(const std::string& file) {
  const auto totals = parse_pressure(read_text(file));
  return totals ? totals->some_us : 0;
}

// Two that want one CPU.
int compete() {
  cpu_set_t first;
  CPU_ZERO(&first);
  CPU_SET(0, &first);
  ::sched_setaffinity(0, sizeof(first), &first);
  ::fork();
  for (;;) ::getppid();
}

}  // namespace

TEST_CASE(
    "the share of time that tasks waited for a CPU is what the kernel's totals say, of a pod and of the "
    "node") {
  const Cgroup cgroup(attach()->cgroup_mount());
  const std::string of_pod = cgroup.path() + "/cpu.pressure";
  const std::string of_node = "/proc/pressure/cpu";
  if (read_text(of_pod).empty() || read_text(of_node).empty())
    VEDETTE_SKIP("no pressure stall information here");

  FileBudget budget(16);
  const auto parts = cgroup.path().rfind('/');
  PsiSource source("/proc/pressure", cgroup.path().substr(0, parts), budget);
  LivingEntity entity;
  entity.entity = std::make_shared<Entity>();
  entity.roots = {cgroup.path().substr(parts)};
  // So much later, for the source, that no share reaches 1, where it ends.
  constexpr MonotonicNs kSecondReading = 1'000'000'000'000;
  constexpr double kBetweenUs = (kSecondReading - 1) / 1e3;

  const auto reading = [&](MonotonicNs now, Gauges& pod, Gauges& node) {
    pod.fill(kMissing);
    node.fill(kMissing);
    source.read(entity, now, pod);
    CHECK(source.read_node(now, node));
  };
  Gauges pod{}, node{};
  const double pod_before = waited_us(of_pod), node_before = waited_us(of_node);
  reading(1, pod, node);
  const double pod_began = waited_us(of_pod), node_began = waited_us(of_node);
  const Child child({&cgroup}, compete);
  constexpr double kEnoughUs = 500'000;
  REQUIRE(eventually([&] { return waited_us(of_pod) > pod_began + kEnoughUs; }));
  const double pod_until = waited_us(of_pod), node_until = waited_us(of_node);
  reading(kSecondReading, pod, node);
  const double pod_after = waited_us(of_pod), node_after = waited_us(of_node);

  const double pod_told = pod[GAUGE_pressure_cpu] * kBetweenUs;
  const double node_told = node[GAUGE_pressure_cpu] * kBetweenUs;
  constexpr double kRoundedUs = 1;
  CHECK(pod_told >= pod_until - pod_began - kRoundedUs);
  CHECK(pod_told <= pod_after - pod_before + kRoundedUs);
  CHECK(node_told >= node_until - node_began - kRoundedUs);
  CHECK(node_told <= node_after - node_before + kRoundedUs);
}
