#include "exporter/metrics.h"

#include <algorithm>
#include <cmath>
#include <map>
#include <string>
#include <unordered_map>
#include <unordered_set>
#include <utility>
#include <vector>

#include <prometheus/metric_family.h>

#include "agent/assess/overall.h"
#include "agent/base/clean_text.h"
#include "agent/collect/signals.h"
#include "exporter/names.h"

namespace vedette {
namespace {

using prometheus::ClientMetric;
using prometheus::MetricFamily;
using prometheus::MetricType;
using Labels = std::vector<ClientMetric::Label>;

// How the folded entities' gauges become one: amounts add up, shares of a limit do not.
bool adds_up(std::string_view unit) {
  return unit != "share" && unit != "ratio";
}

bool is_nanoseconds(std::string_view unit) {
  return unit == "ns";
}

std::string with_seconds(std::string name) {
  for (const std::string_view unit : {"_ns", "_s"}) {
    if (name.ends_with(unit)) name.erase(name.size() - unit.size());
  }
  return name.ends_with("_seconds") ? name : name + "_seconds";
}

Labels entity_labels(const Entity& entity) {
  Labels labels{{"entity", clean_text(entity.name)}, {"kind", std::string(to_string(entity.kind))}};
  if (!entity.namespace_name.empty()) labels.push_back({"namespace", clean_text(entity.namespace_name)});
  if (!entity.pod_name.empty()) labels.push_back({"pod", clean_text(entity.pod_name)});
  return labels;
}

Labels rest_labels() {
  return {{"entity", kRestName}, {"kind", kRestName}};
}

class Exposition {
public:
  Exposition(const MetricsInput& input, const std::function<void(const MetricFamily&)>& emit)
      : input_(input), snapshot_(input.snapshot), emit_(emit) {
    for (const TotalsCopy::Series& series : input.totals.own) own_.insert(series.entity->name);
    // Of two rows with one name (a pod just replaced) the later is the living one.
    const std::vector<EntityPtr>& entities = snapshot_.features.entities;
    for (std::size_t row = 0; row < entities.size(); ++row) {
      if (own_.contains(entities[row]->name)) {
        rows_[entities[row]->name] = row;
      } else {
        folded_.push_back(row);
      }
    }
    for (std::size_t i = 0; i < snapshot_.observation.samples.size(); ++i) {
      samples_[snapshot_.observation.entities[i]->id] = &snapshot_.observation.samples[i];
    }
  }

  void write() {
    signals();
    details();
    scores();
    conditions();
    actions();
    agent();
  }

private:
  void begin(std::string name, std::string help, MetricType type) {
    family_ = MetricFamily{};
    family_.name = std::move(name);
    family_.help = std::move(help);
    family_.type = type;
  }
  void end() {
    if (!family_.metric.empty()) emit_(family_);
  }
  void value(Labels labels, double number) {
    if (std::isnan(number)) return;
    ClientMetric metric;
    metric.label = std::move(labels);
    (family_.type == MetricType::Counter ? metric.counter.value : metric.gauge.value) = number;
    family_.metric.push_back(std::move(metric));
  }
  void gauge(std::string name, std::string help, double number, Labels labels = {}) {
    begin(std::move(name), std::move(help), MetricType::Gauge);
    value(std::move(labels), number);
    end();
  }
  void counter(std::string name, std::string help, double number, Labels labels = {}) {
    begin(std::move(name), std::move(help), MetricType::Counter);
    value(std::move(labels), number);
    end();
  }
  // A value of each probe; none where `number` says that it is missing.
  template <typename Function>
  void per_probe(std::string name, std::string help, MetricType type, const Function& number) {
    begin(std::move(name), std::move(help), type);
    for (const ProbeHealth& probe : snapshot_.observation.probes)
      value({{"probe", probe.name}}, number(probe));
    end();
  }
  void durations(std::string name, std::string help, const DurationHistogram& histogram) {
    begin(std::move(name), std::move(help), MetricType::Histogram);
    ClientMetric metric;
    std::uint64_t cumulative = 0;
    for (std::size_t i = 0; i < histogram.counts.size(); ++i) {
      cumulative += histogram.counts[i];
      const double bound = i < histogram.bounds_s.size() ? histogram.bounds_s[i] : INFINITY;
      metric.histogram.bucket.push_back({cumulative, bound});
    }
    metric.histogram.sample_count = cumulative;
    metric.histogram.sample_sum = histogram.sum_s;
    family_.metric.push_back(std::move(metric));
    end();
  }

  // Totals of a probe that is detached now stand: they are exact for the time it watched.
  bool counted(std::string_view origin) const {
    return std::any_of(snapshot_.observation.probes.begin(), snapshot_.observation.probes.end(),
                       [&](const ProbeHealth& probe) {
                         return probe.name == origin &&
                                (probe.state == ProbeState::kAttached || probe.watched_ns > 0);
                       });
  }

  // One value per entity: `of_row` for those with their own series, joined for the rest.
  template <typename Function>
  void per_entity(bool sum, const Function& of_row) {
    for (const auto& [name, row] : rows_) {
      value(entity_labels(*snapshot_.features.entities[row]), of_row(row));
    }
    double joined = kMissing;
    for (const std::size_t row : folded_) {
      const double number = of_row(row);
      if (std::isnan(number)) continue;
      if (std::isnan(joined)) {
        joined = number;
      } else {
        joined = sum ? joined + number : std::max(joined, number);
      }
    }
    value(rest_labels(), joined);
  }

  // Does any of the folded entities have this counter? Where none has a file for it, 0 would be no answer.
  bool folded_know(std::size_t counter) const {
    return std::ranges::any_of(folded_, [&](std::size_t row) {
      const auto sample = samples_.find(snapshot_.features.entities[row]->id);
      return sample == samples_.end() || !sample->second->unknown.test(counter);
    });
  }

  void histogram_of(Labels labels, const Buckets& buckets) {
    std::uint64_t cumulative = 0;
    ClientMetric metric;
    metric.label = std::move(labels);
    for (std::size_t i = 0; i < buckets.size(); ++i) {
      cumulative += buckets[i];
      const double bound_s = histogram_bound_ns(i) / kNsPerSecond;
      const bool last = i + 1 == buckets.size();
      metric.histogram.bucket.push_back({cumulative, last ? INFINITY : bound_s});
      // The geometric middle of [bound / 2, bound); the open bucket counts as its lower bound.
      const double middle_s = last ? bound_s / 2 : bound_s * M_SQRT1_2;
      metric.histogram.sample_sum += static_cast<double>(buckets[i]) * middle_s;
    }
    // An entity that never had such a wait has no series: 25 lines of nothing per signal and pod add up.
    if (cumulative == 0) return;
    metric.histogram.sample_count = cumulative;
    family_.metric.push_back(std::move(metric));
  }

  void signals() {
    const TotalsCopy& totals = input_.totals;
    for (std::size_t i = 0; i < kCounters.size(); ++i) {
      const SignalInfo& signal = kCounters[i];
      if (!counted(signal.origin)) continue;
      const double scale = is_nanoseconds(signal.unit) ? 1 / kNsPerSecond : 1;
      begin(metric_name(signal), std::string(signal.help), MetricType::Counter);
      for (const TotalsCopy::Series& series : totals.own) {
        if (signal.scope == Scope::kNode && series.entity->id != kNodeEntity) continue;
        const auto sample = samples_.find(series.entity->id);
        if (sample != samples_.end() && sample->second->unknown.test(i)) continue;
        value(entity_labels(*series.entity), static_cast<double>(series.totals.counters[i]) * scale);
      }
      if (signal.scope == Scope::kPod && folded_know(i)) {
        value(rest_labels(), static_cast<double>(totals.rest.counters[i]) * scale);
      }
      end();
    }
    for (std::size_t i = 0; i < kHistograms.size(); ++i) {
      const SignalInfo& signal = kHistograms[i];
      if (!counted(signal.origin)) continue;
      begin(metric_name(signal), std::string(signal.help) + " (sum estimated from the buckets)",
            MetricType::Histogram);
      for (const TotalsCopy::Series& series : totals.own) {
        if (signal.scope == Scope::kNode && series.entity->id != kNodeEntity) continue;
        histogram_of(entity_labels(*series.entity), series.totals.histograms[i]);
      }
      if (!folded_.empty() && signal.scope == Scope::kPod) {
        histogram_of(rest_labels(), totals.rest.histograms[i]);
      }
      end();
    }
    for (std::size_t i = 0; i < kGauges.size(); ++i) {
      const SignalInfo& signal = kGauges[i];
      begin(metric_name(signal), std::string(signal.help), MetricType::Gauge);
      per_entity(adds_up(signal.unit), [&](std::size_t row) {
        const auto sample = samples_.find(snapshot_.features.entities[row]->id);
        return sample == samples_.end() ? kMissing : sample->second->gauges[i];
      });
      end();
    }
  }

  void details() {
    const TotalsCopy& totals = input_.totals;
    for (std::size_t i = 0; i < kDetails.size(); ++i) {
      const DetailInfo& detail = kDetails[i];
      begin(metric_name(detail), std::string(detail.help), MetricType::Counter);
      const double scale = is_nanoseconds(detail.unit) ? 1 / kNsPerSecond : 1;
      const auto add = [&](const Labels& owner, const std::vector<DetailTotals::Count>& counts) {
        for (const DetailTotals::Count& count : counts) {
          if (count.detail != static_cast<vedette_detail>(i)) continue;
          Labels labels = owner;
          labels.push_back({std::string(label_name(detail.label)), count.label});
          value(std::move(labels), static_cast<double>(count.count) * scale);
        }
      };
      for (const TotalsCopy::Series& series : totals.own) add(entity_labels(*series.entity), series.details);
      add(rest_labels(), totals.rest_details);
      end();
    }
    begin("vedette_detail_labels_folded",
          "Labels that share the series \"_other\" of their entity, all entities together",
          MetricType::Gauge);
    for (std::size_t i = 0; i < kDetails.size(); ++i) {
      value({{"detail", std::string(kDetails[i].name)}}, static_cast<double>(totals.folded_labels[i]));
    }
    end();
  }

  void scores() {
    const std::vector<EntityScore>& scores = snapshot_.scores.entities;
    const auto score_of = [&](std::size_t row) { return row < scores.size() ? &scores[row] : nullptr; };
    begin("vedette_anomaly_score", "How unusual the entity is, 0 to 1; absent while it warms up",
          MetricType::Gauge);
    per_entity(false, [&](std::size_t row) {
      const EntityScore* score = score_of(row);
      return score == nullptr || score->warming_up() ? kMissing : score->anomaly;
    });
    end();
    begin("vedette_anomalous",
          "1 while the anomaly score is above its rolling threshold; absent while it warms up",
          MetricType::Gauge);
    per_entity(true, [&](std::size_t row) {
      const EntityScore* score = score_of(row);
      return score == nullptr || score->warming_up() ? kMissing : static_cast<double>(score->anomalous);
    });
    end();
    begin("vedette_learning_entities", "Entities that are not judged for anomalies yet, by the reason",
          MetricType::Gauge);
    for (std::size_t why = 1; why < kLearningNames.size(); ++why) {
      value({{"why", std::string(kLearningNames[why])}},
            static_cast<double>(
                std::ranges::count(scores, static_cast<Learning>(why), &EntityScore::learning)));
    }
    end();
    begin("vedette_failure_risk_ratio",
          "Probability of an OOM kill, EMFILE or ENOSPC within 60 s; absent without a model",
          MetricType::Gauge);
    per_entity(false, [&](std::size_t row) {
      const EntityScore* score = score_of(row);
      return score == nullptr ? kMissing : score->risk;
    });
    end();
  }

  void conditions() {
    begin("vedette_node_health", "1 for the state the node is in, 0 for the others", MetricType::Gauge);
    const Overall now = overall(snapshot_.conditions);
    for (const Overall state : {Overall::kHealthy, Overall::kDegraded, Overall::kUnhealthy}) {
      value({{"state", std::string(to_string(state))}}, now == state ? 1 : 0);
    }
    end();

    // Summed by labels: the folded entities may have the same trouble.
    std::map<Labels, double> active;
    for (const Condition& condition : snapshot_.conditions) {
      Labels labels =
          own_.contains(condition.entity->name) ? entity_labels(*condition.entity) : rest_labels();
      labels.push_back({"reason", condition.reason});
      labels.push_back({"severity", std::string(to_string(condition.severity))});
      ++active[labels];
    }
    begin("vedette_condition", "Active conditions", MetricType::Gauge);
    for (const auto& [labels, count] : active) value(labels, count);
    end();
  }

  void actions() {
    const Decision& decision = snapshot_.decision;
    const ActState& act = snapshot_.act;
    gauge("vedette_decision_info", "What the agent wants of its node", 1,
          {{"mode", std::string(to_string(decision.mode))},
           {"taint", decision.taint ? "true" : "false"},
           {"effect", decision.effect},
           {"reason", decision.reason}});
    gauge("vedette_decision_taint",
          "1 while the agent wants the taint on its node (in observe mode: would want)", decision.taint);
    gauge("vedette_decision_held_back", "1 while a taint that the evidence asks for is held back",
          !decision.held_back.empty());
    gauge("vedette_policy_reload_failed",
          "1 while the newest configuration file was refused and an older policy is in force",
          !snapshot_.self.policy_error.empty());
    gauge("vedette_config_needs_restart",
          "1 while the configuration file has changes that only a restart brings into force",
          !snapshot_.self.restart_for.empty());
    gauge("vedette_api_connected", "1 while the API server answers", act.connected);
    gauge("vedette_node_tainted", "1 while our taint is on the node; absent until the node was read",
          act.known ? static_cast<double>(act.tainted) : kMissing);
    gauge("vedette_node_held_back",
          "1 while the node has no slot of the cluster's budget for the taint it wants or has",
          !act.held_back.empty());
    counter("vedette_api_patches_total", "Patches of the node the API server acknowledged",
            static_cast<double>(act.patches));
    counter("vedette_api_conflicts_total", "Patches that met a newer node object and were tried again",
            static_cast<double>(act.conflicts));
    counter("vedette_api_failures_total", "Requests to the API server that failed",
            static_cast<double>(act.failures));
    counter("vedette_api_events_written_total", "Kubernetes events written",
            static_cast<double>(act.events_written));
    durations("vedette_evidence_to_ack_seconds",
              "Time from the kernel's evidence to the API server's acknowledgement of the taint",
              input_.totals.evidence_to_ack);
  }

  void agent() {
    const Observation& observation = snapshot_.observation;
    per_probe("vedette_probe_up", "1 while the probe is attached", MetricType::Gauge,
              [](const ProbeHealth& probe) { return probe.state == ProbeState::kAttached ? 1.0 : 0.0; });
    begin("vedette_probe_info", "State of the probe and why it is not attached", MetricType::Gauge);
    for (const ProbeHealth& probe : observation.probes) {
      value({{"probe", probe.name},
             {"state", std::string(to_string(probe.state))},
             {"reason", clean_text(probe.reason)}},
            1);
    }
    end();
    const auto seconds = [](std::uint64_t ns, bool known) {
      return known ? static_cast<double>(ns) / kNsPerSecond : kMissing;
    };
    per_probe("vedette_probe_runs_total", "Runs of the probe's programs, while the kernel counts them",
              MetricType::Counter, [](const ProbeHealth& probe) {
                return probe.runs == 0 ? kMissing : static_cast<double>(probe.runs);
              });
    per_probe("vedette_probe_run_seconds_total", "Time in the probe's programs, while the kernel counts it",
              MetricType::Counter,
              [&](const ProbeHealth& probe) { return seconds(probe.run_ns, probe.runs != 0); });
    per_probe(
        "vedette_probe_sampled_seconds_total",
        "Time the kernel counted the probe's runs: its cost in cores is vedette_probe_run_seconds_total by "
        "this",
        MetricType::Counter,
        [&](const ProbeHealth& probe) { return seconds(probe.sampled_ns, probe.sampled_ns != 0); });
    per_probe(
        "vedette_probe_watched_seconds_total",
        "Time the probe was attached, which is what its totals were counted in: a rate of them divided by "
        "the rate of this is a true one",
        MetricType::Counter,
        [&](const ProbeHealth& probe) { return seconds(probe.watched_ns, probe.watched_ns != 0); });
    per_probe("vedette_probe_missed_runs_total",
              "Runs the kernel skipped because an interrupt or another task came while the same program ran: "
              "what they "
              "would have counted is missing",
              MetricType::Counter, [](const ProbeHealth& probe) {
                return probe.misses ? static_cast<double>(*probe.misses) : kMissing;
              });

    const Losses& losses = observation.losses;
    begin("vedette_events_produced_total", "Records the probes wanted to send", MetricType::Counter);
    for (std::size_t i = 0; i < kEvents.size(); ++i) {
      value({{"type", std::string(kEvents[i].name)}}, static_cast<double>(losses.produced[i]));
    }
    end();
    begin("vedette_events_lost_total", "Records refused by the full ring", MetricType::Counter);
    for (std::size_t i = 0; i < kEvents.size(); ++i) {
      value({{"type", std::string(kEvents[i].name)}}, static_cast<double>(losses.lost[i]));
    }
    end();
    counter("vedette_events_received_total", "Records read from the ring",
            static_cast<double>(losses.received));
    counter("vedette_counts_without_slot_total",
            "Counts whose cgroup had no slot: only the node's sum has them",
            static_cast<double>(losses.no_slot));
    counter("vedette_samples_without_storage_total",
            "Starts of calls, waits and requests that found no room to be kept: a latency sample fewer, or "
            "more (vedette_counts_without_start_total)",
            static_cast<double>(losses.no_task_storage));
    begin("vedette_counts_without_start_total",
          "Of those starts, what a signal may lack for it; absent where it lacks nothing",
          MetricType::Counter);
    for (std::size_t i = 0; i < SLOT_COUNTER_COUNT; ++i) {
      value({{"signal", std::string(kCounters[i].name)}},
            losses.no_start[i] > 0 ? static_cast<double>(losses.no_start[i]) : kMissing);
    }
    end();
    counter("vedette_details_without_room_total",
            "Counts by label that found no room, or that may lack whose they are",
            static_cast<double>(losses.no_detail));
    counter("vedette_missed_ticks_total", "Timer periods that passed unused",
            static_cast<double>(losses.missed_ticks));
    counter("vedette_log_lines_lost_total", "Kernel log lines overwritten unread",
            static_cast<double>(losses.log_lost));

    const JournalUse& journal = snapshot_.self.journal;
    counter("vedette_journal_entries_lost_total", "Entries of the journal that could not be kept",
            journal.on ? static_cast<double>(journal.dropped) : kMissing);
    begin("vedette_journal_bytes", "Size of the journal's file", MetricType::Gauge);
    value({}, journal.on ? static_cast<double>(journal.bytes) : kMissing);
    end();
    const BaselineUse& baselines = snapshot_.self.baselines;
    begin("vedette_baselines_saved_timestamp_seconds",
          "When what is usual for each workload was saved last; absent before", MetricType::Gauge);
    value({}, baselines.saved_wall_ns > 0 ? static_cast<double>(baselines.saved_wall_ns) / kNsPerSecond
                                          : kMissing);
    end();
    const FlightUse& flight = snapshot_.self.flight;
    counter("vedette_flight_ticks_lost_total", "Ticks that the flight recorder could not keep",
            flight.on ? static_cast<double>(flight.dropped) : kMissing);
    begin("vedette_flight_bytes", "Size of the flight recorder's last minutes, and of incidents' slices",
          MetricType::Gauge);
    value({{"part", "last"}}, flight.on ? static_cast<double>(flight.bytes) : kMissing);
    value({{"part", "incidents"}}, flight.on ? static_cast<double>(flight.slice_bytes) : kMissing);
    end();

    std::map<EntityKind, double> kinds;
    for (const EntityPtr& entity : snapshot_.features.entities) ++kinds[entity->kind];
    begin("vedette_entities", "Entities watched", MetricType::Gauge);
    for (const auto& [kind, count] : kinds) value({{"kind", std::string(to_string(kind))}}, count);
    end();
    gauge("vedette_entities_folded",
          "Entities that share the series entity=\"_other\" (sums; ratios and scores: the highest)",
          static_cast<double>(folded_.size()));

    const SelfUse& self = snapshot_.self;
    if (self.budget.known) budget(self.budget);
    counter("vedette_ticks_total", "Ticks since the agent's start", static_cast<double>(self.ticks));
    durations("vedette_tick_seconds", "Features, scores and assessment of each tick", input_.totals.tick);
    gauge("vedette_collect_seconds", "Reading the kernel, in the newest tick", self.collect_ms / 1e3);
    gauge("vedette_snapshot_age_seconds", "Time since the newest tick", input_.age_s);
    gauge("vedette_bpf_map_bytes", "Kernel memory of the BPF maps", static_cast<double>(self.bpf_map_bytes));
    gauge("process_resident_memory_bytes", "Resident memory of the agent",
          static_cast<double>(self.rss_bytes));
    counter("process_cpu_seconds_total", "CPU time of the agent", input_.cpu_s);
    gauge("process_start_time_seconds", "When the agent started, since 1970", input_.start_time_s);
    gauge("vedette_build_info", "Version of the agent", 1, {{"version", VEDETTE_VERSION}});
  }

  void budget(const BudgetUse& use) {
    gauge("vedette_budget_cpu_share", "Share of all CPUs' time that the probes and the agent may take",
          use.cpu_share);
    gauge("vedette_budget_step", "What is given up to stay within the budget, from 0 (nothing) on", use.step);
    gauge("vedette_budget_exhausted", "1 while the budget is exceeded and no step left would help",
          use.exhausted);
    gauge("vedette_budget_maps_reduced", "1 if maps are smaller than configured, to fit budget.map_mib",
          !use.maps.empty());
    if (!use.kernel_share) return;
    begin("vedette_cost_share", "Share of all CPUs' time taken, in the newest sample", MetricType::Gauge);
    value({{"part", "kernel"}}, *use.kernel_share);
    value({{"part", "agent"}}, use.agent_share);
    end();
  }

  const MetricsInput& input_;
  const Snapshot& snapshot_;
  const std::function<void(const MetricFamily&)>& emit_;
  MetricFamily family_;
  std::unordered_set<std::string> own_;      // names with their own series
  std::map<std::string, std::size_t> rows_;  // of them, their row
  std::vector<std::size_t> folded_;          // rows of the others
  std::unordered_map<EntityId, const Sample*> samples_;
};

}  // namespace

std::string metric_name(const SignalInfo& signal) {
  std::string name = "vedette_" + std::string(signal.name);
  const auto ends_with_suffix = [&](std::string_view suffix) {
    if (!name.ends_with(suffix)) name += suffix;
  };
  if (is_nanoseconds(signal.unit) || signal.unit == "s") name = with_seconds(std::move(name));
  if (signal.unit == "bytes") ends_with_suffix("_bytes");
  if (!adds_up(signal.unit)) ends_with_suffix("_ratio");
  if (signal.kind == SignalKind::kCounter) name += "_total";
  return name;
}

std::string metric_name(const DetailInfo& detail) {
  const std::string name = "vedette_" + std::string(detail.name);
  return (is_nanoseconds(detail.unit) ? with_seconds(name) : name) + "_total";
}

void for_each_family(const MetricsInput& input, const std::function<void(const MetricFamily&)>& emit) {
  Exposition(input, emit).write();
}

}  // namespace vedette
