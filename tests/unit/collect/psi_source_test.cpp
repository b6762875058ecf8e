#include "agent/collect/psi_source.h"

#include <cmath>
#include <memory>
#include <string>

#include <doctest/doctest.h>

#include "tests/unit/collect/file_tree.h"
#include "tests/unit/second.h"

namespace vedette {
namespace {

std::string pressure(double avg10, long some_us, long full_us) {
  return "some avg10=" + std::to_string(avg10) + " avg60=0.00 avg300=0.00 total=" + std::to_string(some_us) +
         "\nfull avg10=0.00 avg60=0.00 avg300=0.00 total=" + std::to_string(full_us) + "\n";
}

Gauges no_gauges() {
  Gauges gauges;
  gauges.fill(kMissing);
  return gauges;
}

LivingEntity living(EntityId id, const std::vector<std::string>& roots) {
  auto entity = std::make_shared<Entity>();
  entity->id = id;
  return {entity, roots, roots};
}

TEST_CASE("Pressure text becomes totals, and rubbish nothing") {
  const auto totals = parse_pressure(pressure(12.5, 1000, 400));
  REQUIRE(totals.has_value());
  CHECK(totals->some_us == 1000);
  CHECK(totals->full_us == 400);
  CHECK(totals->some_avg10 == doctest::Approx(12.5));
  REQUIRE(parse_pressure("some avg10=0.00 avg60=0.00 avg300=0.00 total=5\n").has_value());
  CHECK_FALSE(parse_pressure("").has_value());
  CHECK_FALSE(parse_pressure("some avg10=0.00\n").has_value());
}

TEST_CASE("The node's pressure is that of the last 10 s first, then the share of time since") {
  const FileTree tree;
  for (const auto* name : {"/pressure/cpu", "/pressure/memory", "/pressure/io"}) {
    tree.write(name, pressure(25, 1'000'000, 500'000));
  }
  FileBudget budget(8);
  PsiSource source(tree.path("/pressure"), "", budget);
  auto gauges = no_gauges();
  CHECK(source.read_node(10 * kSecond, gauges));
  CHECK(gauges[GAUGE_pressure_cpu] == doctest::Approx(0.25));

  tree.write("/pressure/io", pressure(99, 2'000'000, 700'000));
  gauges = no_gauges();
  CHECK(source.read_node(12 * kSecond, gauges));
  CHECK(gauges[GAUGE_pressure_cpu] == doctest::Approx(0));
  CHECK(gauges[GAUGE_pressure_io] == doctest::Approx(0.5));
  CHECK(gauges[GAUGE_pressure_io_full] == doctest::Approx(0.1));
}

TEST_CASE("Without PSI nothing is claimed") {
  const FileTree tree;
  FileBudget budget(8);
  PsiSource source(tree.path("/pressure"), tree.path(), budget);
  auto gauges = no_gauges();
  CHECK_FALSE(source.read_node(kSecond, gauges));
  source.read(living(1, {"/gone"}), kSecond, gauges);
  for (const double gauge : gauges) CHECK(std::isnan(gauge));
}

TEST_CASE("An entity's pressure is that of its worst directory, and a new cgroup starts afresh") {
  const FileTree tree;
  FileBudget budget(8);
  for (const auto* root : {"/a", "/b"}) {
    for (const auto* name : {"/cpu.pressure", "/memory.pressure", "/io.pressure"}) {
      tree.write(std::string(root) + name, pressure(0, 1'000'000, 0));
    }
  }
  PsiSource source(tree.path("/pressure"), tree.path(), budget);
  auto gauges = no_gauges();
  source.read(living(1, {"/a", "/b"}), 10 * kSecond, gauges);
  tree.write("/a/memory.pressure", pressure(0, 1'200'000, 0));
  tree.write("/b/memory.pressure", pressure(0, 1'600'000, 0));
  gauges = no_gauges();
  source.read(living(1, {"/a", "/b"}), 12 * kSecond, gauges);
  CHECK(gauges[GAUGE_pressure_memory] == doctest::Approx(0.3));

  tree.write("/a/memory.pressure", pressure(7, 10, 0));
  tree.write("/b/memory.pressure", pressure(0, 10, 0));
  gauges = no_gauges();
  source.read(living(1, {"/a", "/b"}), 14 * kSecond, gauges);
  CHECK(gauges[GAUGE_pressure_memory] == doctest::Approx(0.07));
}

}  // namespace
}  // namespace vedette
