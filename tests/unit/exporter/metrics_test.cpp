#include "exporter/metrics.h"

#include <cmath>
#include <map>
#include <regex>
#include <set>
#include <sstream>
#include <string>

#include <doctest/doctest.h>
#include <prometheus/metric_family.h>
#include <prometheus/text_serializer.h>

#include "tests/unit/exporter/example_snapshot.h"

namespace {

using vedette::Snapshot;
using vedette::Totals;

std::string exposition(const Snapshot& snapshot, const Totals& totals) {
  std::ostringstream text;
  const prometheus::TextSerializer serializer;
  const vedette::TotalsCopy copied = totals.copy();
  vedette::for_each_family({snapshot, copied, 0.1, 1.5, 1.7e9}, [&](const prometheus::MetricFamily& family) {
    serializer.Serialize(text, {family});
  });
  return text.str();
}

// Series -> value, having checked that each line is well-formed, no series comes twice, each family has one
// HELP and TYPE before its lines.
std::map<std::string, double> parse(const std::string& text) {
  static const std::regex line_form(
      R"re(([a-z_:][a-zA-Z0-9_:]*)(\{[a-z_]+="([^"\\]|\\.)*"(,[a-z_]+="([^"\\]|\\.)*")*\})? ([-+]?[0-9.]+(e[-+]?[0-9]+)?|\+Inf))re");
  std::map<std::string, double> series;
  std::set<std::string> families;
  std::istringstream lines(text);
  for (std::string line; std::getline(lines, line);) {
    if (line.starts_with("# TYPE ")) {
      const std::string name = line.substr(7, line.find(' ', 7) - 7);
      CHECK_MESSAGE(families.insert(name).second, name);
      continue;
    }
    if (line.starts_with("# HELP ")) continue;
    std::smatch match;
    CHECK_MESSAGE(std::regex_match(line, match, line_form), line);
    CHECK_MESSAGE(series.emplace(match[1].str() + match[2].str(), std::stod(match[6].str())).second, line);
  }
  return series;
}

bool any_starts(const std::map<std::string, double>& series, const std::string& prefix) {
  const auto found = series.lower_bound(prefix);
  return found != series.end() && found->first.starts_with(prefix);
}

constexpr const char* kCart = R"({entity="pod/shop/cart-7d9f",kind="pod",namespace="shop",pod="cart-7d9f"})";

TEST_CASE("every line of the exposition is valid, no series comes twice and nothing is NaN") {
  Totals totals(100);
  const auto snapshot = vedette::example::snapshot();
  totals.add(*snapshot);
  const auto series = parse(exposition(*snapshot, totals));
  CHECK(series.size() > 200);
  for (const auto& one : series) CHECK_MESSAGE(!std::isnan(one.second), one.first);
}

TEST_CASE("counters add up over the ticks, in base units") {
  Totals totals(100);
  auto snapshot = vedette::example::snapshot({.tick = 1});
  totals.add(*snapshot);
  snapshot = vedette::example::snapshot({.tick = 2});
  totals.add(*snapshot);
  auto series = parse(exposition(*snapshot, totals));
  CHECK(series[std::string("vedette_syscalls_total") + kCart] == 2000);
  CHECK(series[std::string("vedette_runqueue_wait_seconds_total") + kCart] == doctest::Approx(0.004));
  CHECK(series[std::string("vedette_memory_use_ratio") + kCart] == doctest::Approx(0.97));
}

TEST_CASE("a histogram is cumulative and its open bucket holds the count") {
  Totals totals(100);
  const auto snapshot = vedette::example::snapshot();
  totals.add(*snapshot);
  auto series = parse(exposition(*snapshot, totals));
  const std::string labels = R"({entity="pod/shop/cart-7d9f",kind="pod",namespace="shop",pod="cart-7d9f")";
  CHECK(series["vedette_syscall_latency_seconds_bucket" + labels + R"(,le="+Inf"})"] == 61);
  CHECK(series["vedette_syscall_latency_seconds_count" + labels + "}"] == 61);
  double before = 0;
  for (const auto& [name, value] : series) {
    if (name.starts_with("vedette_syscall_latency_seconds_bucket" + labels)) before = std::max(before, value);
  }
  CHECK(before == 61);
  CHECK(series["vedette_syscall_latency_seconds_sum" + labels + "}"] > 2.1);
}

TEST_CASE("what is missing is absent: signals of a degraded probe, NaN gauges, scores that warm up") {
  Totals totals(100);
  const auto snapshot = vedette::example::snapshot();
  totals.add(*snapshot);
  const auto series = parse(exposition(*snapshot, totals));
  CHECK_FALSE(any_starts(series, "vedette_tcp_connects_total"));
  CHECK_FALSE(series.contains(R"(vedette_memory_use_ratio{entity="unit/ssh.service",kind="unit"})"));
  CHECK_FALSE(any_starts(series, R"(vedette_anomaly_score{entity="pod/default/web-2")"));
  CHECK_FALSE(any_starts(series, R"(vedette_failure_risk_ratio{entity="node")"));
  CHECK(series.at(R"(vedette_probe_up{probe="tcp"})") == 0);

  const auto healthy = vedette::example::snapshot({.troubles = false});
  CHECK(any_starts(parse(exposition(*healthy, totals)), "vedette_tcp_connects_total"));
}

TEST_CASE(
    "totals of a probe that is shed stand, with the time they were counted in, and the budget says why") {
  Totals totals(100);
  Snapshot snapshot = *vedette::example::snapshot();
  for (vedette::ProbeHealth& probe : snapshot.observation.probes) {
    if (probe.name != "sched") continue;
    probe.state = vedette::ProbeState::kShed;
    probe.watched_ns = 12'500'000'000;
  }
  snapshot.self.budget = {
      .known = true, .step = 6, .cpu_share = 0.02, .kernel_share = 0.015, .agent_share = 0.003};
  totals.add(snapshot);
  const auto series = parse(exposition(snapshot, totals));
  CHECK(series.at(std::string("vedette_context_switches_total") + kCart) == 100);
  CHECK(series.at(R"(vedette_probe_watched_seconds_total{probe="sched"})") == 12.5);
  CHECK(series.at(R"(vedette_probe_up{probe="sched"})") == 0);
  CHECK(series.at("vedette_budget_step") == 6);
  CHECK(series.at("vedette_budget_cpu_share") == 0.02);
  CHECK(series.at(R"(vedette_cost_share{part="kernel"})") == 0.015);
  CHECK(series.at(R"(vedette_cost_share{part="agent"})") == 0.003);
  CHECK(series.at("vedette_budget_maps_reduced") == 0);
}

TEST_CASE("conditions, health and losses are exported") {
  Totals totals(100);
  const auto snapshot = vedette::example::snapshot();
  totals.add(*snapshot);
  const auto series = parse(exposition(*snapshot, totals));
  CHECK(series.at(R"(vedette_node_health{state="degraded"})") == 1);
  CHECK(series.at(R"(vedette_node_health{state="healthy"})") == 0);
  CHECK(series.at(
            R"(vedette_condition{entity="pod/shop/cart-7d9f",kind="pod",namespace="shop",pod="cart-7d9f",)"
            R"(reason="MemoryExhaustion",severity="unhealthy"})") == 1);
  CHECK(series.at(R"(vedette_events_lost_total{type="exec"})") == 12);
  CHECK(series.at(R"(vedette_probe_missed_runs_total{probe="syscalls"})") == 0);
  CHECK(series.at(R"(vedette_probe_missed_runs_total{probe="sched"})") == 7);
  CHECK(!series.contains(R"(vedette_probe_missed_runs_total{probe="psi"})"));
  CHECK(series.at("vedette_samples_without_storage_total") == 4);
  CHECK(series.at(R"(vedette_counts_without_start_total{signal="lock_contentions"})") == 3);
  CHECK(!series.contains(R"(vedette_counts_without_start_total{signal="lock_wait_ns"})"));
  CHECK(series.at("vedette_decision_held_back") == 1);
}

TEST_CASE("beyond the bound entities are folded into one series, and none of their counts is lost") {
  Totals totals(5);
  const auto snapshot = vedette::example::snapshot({.quiet_pods = 40, .tick = 1});
  totals.add(*snapshot);
  totals.add(*vedette::example::snapshot({.quiet_pods = 40, .tick = 2}));
  const auto series = parse(exposition(*snapshot, totals));
  CHECK(series.at("vedette_entities_folded") == 37);
  double pods = 0;
  std::size_t own = 0;
  for (const auto& [name, value] : series) {
    if (!name.starts_with("vedette_syscalls_total") || name.find(R"(entity="node")") != std::string::npos)
      continue;
    pods += value;
    ++own;
  }
  CHECK(own == 6);
  CHECK(pods == 2 * 1000 * (42 * 43 / 2));
  CHECK(series.at(R"(vedette_memory_bytes{entity="_other",kind="_other"})") > 0);
}

using DetailList = std::vector<vedette::DetailCount>;

TEST_CASE("details have a bounded number of labels, and what is folded is counted and never goes backwards") {
  Totals totals(100);
  std::map<std::string, double> series;
  double other = 0;
  for (std::uint64_t tick = 1; tick <= 60; ++tick) {
    Snapshot snapshot = *vedette::example::snapshot({.tick = tick});
    DetailList list;
    for (std::uint64_t code = 1; code <= 100; ++code) {
      // Those that begin late outrun the first.
      const std::uint64_t count = code > 90 ? (tick > 20 ? 1000 * tick : 1) : tick;
      list.push_back({vedette_detail::DETAIL_exits_by_code, snapshot.observation.entities[1],
                      std::to_string(code), count});
    }
    snapshot.observation.details = std::make_shared<const DetailList>(std::move(list));
    totals.add(snapshot);
    series = parse(exposition(snapshot, totals));
    std::size_t labels = 0;
    for (const auto& [name, value] : series)
      labels += name.starts_with("vedette_exits_by_code_total{") ? 1 : 0;
    CHECK(labels == 17);
    CHECK(series.at(R"(vedette_detail_labels_folded{detail="exits_by_code"})") == 84);
    const double now = series.at(
        R"(vedette_exits_by_code_total{entity="pod/shop/cart-7d9f",kind="pod",namespace="shop",pod="cart-7d9f",code="_other"})");
    CHECK(now >= other);
    other = now;
  }
  CHECK(series.contains(
      R"(vedette_exits_by_code_total{entity="pod/shop/cart-7d9f",kind="pod",namespace="shop",pod="cart-7d9f",code="95"})"));
}

TEST_CASE("labels of folded entities are folded with them, and stay counted when an entity is gone") {
  Totals totals(1);
  double before = 0;
  for (std::uint64_t tick = 1; tick <= 10; ++tick) {
    Snapshot snapshot = *vedette::example::snapshot({.quiet_pods = 10, .tick = tick});
    DetailList list;
    for (std::size_t row = 1; row < snapshot.observation.entities.size(); ++row) {
      if (row == 5 && tick > 5) continue;
      list.push_back({vedette_detail::DETAIL_disk_bytes_by_device, snapshot.observation.entities[row], "sda",
                      100 * tick});
    }
    snapshot.observation.details = std::make_shared<const DetailList>(std::move(list));
    totals.add(snapshot);
    const auto series = parse(exposition(snapshot, totals));
    const double rest =
        series.at(R"(vedette_disk_bytes_by_device_total{entity="_other",kind="_other",device="sda"})");
    CHECK(rest > before);
    before = rest;
    std::size_t all = 0;
    for (const auto& [name, value] : series)
      all += name.starts_with("vedette_disk_bytes_by_device_total{") ? 1 : 0;
    CHECK(all == 2);
  }
  CHECK(before == 11 * 500 + 10 * 500);
}

TEST_CASE("a file counter that no folded entity has is absent for them too") {
  Totals totals(1);
  Snapshot snapshot = *vedette::example::snapshot({.quiet_pods = 4});
  for (vedette::Sample& sample : snapshot.observation.samples) sample.unknown.set(COUNTER_memory_high_events);
  totals.add(snapshot);
  const std::string rest = R"(vedette_memory_high_events_total{entity="_other",kind="_other"})";
  CHECK_FALSE(parse(exposition(snapshot, totals)).contains(rest));
  snapshot.observation.samples.back().unknown.reset();
  CHECK(parse(exposition(snapshot, totals)).contains(rest));
}

TEST_CASE("the busiest and the troubled get the series, and folded counters never go backwards") {
  Totals totals(2);
  double before = 0;
  for (std::uint64_t tick = 1; tick <= 130; ++tick) {
    const auto snapshot = vedette::example::snapshot({.quiet_pods = 10, .tick = tick});
    totals.add(*snapshot);
    const double rest = static_cast<double>(totals.copy().rest.counters[COUNTER_syscalls]);
    CHECK(rest >= before);
    before = rest;
  }
  std::set<std::string> names;
  for (const auto& series : totals.copy().own) names.insert(series.entity->name);
  CHECK(names == std::set<std::string>{"node", "pod/shop/cart-7d9f", "pod/default/web-9"});
}

TEST_CASE("an entity that left disappears after a minute") {
  Totals totals(100);
  totals.add(*vedette::example::snapshot({.quiet_pods = 3, .tick = 1}));
  const auto has_web = [&] {
    for (const auto& series : totals.copy().own) {
      if (series.entity->name == "pod/default/web-2") return true;
    }
    return false;
  };
  totals.add(*vedette::example::snapshot({.quiet_pods = 2, .tick = 30}));
  CHECK(has_web());
  totals.add(*vedette::example::snapshot({.quiet_pods = 2, .tick = 63}));
  CHECK_FALSE(has_web());
}

TEST_CASE("the evidence-to-ack histogram counts each acknowledgement once, though the list slides") {
  Totals totals(100);
  Snapshot snapshot = *vedette::example::snapshot();
  std::vector<double>& acks = snapshot.act.evidence_to_ack_s;
  for (int i = 0; i < 3000; ++i) {
    acks.push_back(0.01 + i * 1e-6);
    if (acks.size() > 1024) acks.erase(acks.begin());
    if (i % 3 == 0) totals.add(snapshot);
    totals.add(snapshot);
  }
  const vedette::DurationHistogram histogram = totals.copy().evidence_to_ack;
  std::uint64_t counted = 0;
  for (const std::uint64_t count : histogram.counts) counted += count;
  CHECK(counted == 3000);
}

TEST_CASE("metric names follow Prometheus' conventions") {
  std::set<std::string> names;
  const auto check = [&](const auto& signals) {
    for (const auto& signal : signals) {
      const std::string name = vedette::metric_name(signal);
      CHECK(names.insert(name).second);
      CHECK(name.find("_ns") == std::string::npos);
      CHECK_FALSE(name.ends_with("_s"));
      if constexpr (requires { signal.kind; }) {
        CHECK(name.ends_with("_total") == (signal.kind == vedette::SignalKind::kCounter));
      } else {
        CHECK(name.ends_with("_total"));
      }
    }
  };
  check(vedette::kCounters);
  check(vedette::kHistograms);
  check(vedette::kGauges);
  check(vedette::kDetails);
  CHECK(names.contains("vedette_disk_read_wait_by_device_seconds_total"));
  CHECK(names.contains("vedette_disk_bytes_by_device_total"));
  CHECK(names.contains("vedette_direct_reclaim_seconds_total"));
  CHECK(names.contains("vedette_memory_bytes"));
  CHECK(names.contains("vedette_clock_error_seconds"));
  CHECK(names.contains("vedette_dns_answer_seconds"));
  CHECK(names.contains("vedette_pressure_io_ratio"));
}

}  // namespace
