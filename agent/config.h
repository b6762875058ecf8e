// All that an operator can set, as the options of the stages: read once at start from YAML and the command
// line. Plain values.
#pragma once

#include <optional>
#include <string>

#include "agent/act/decider.h"
#include "agent/act/taint_budget.h"
#include "agent/assess/assessor.h"
#include "agent/base/result.h"
#include "agent/collect/live_source.h"
#include "agent/kube/client.h"
#include "agent/record/baseline_store.h"
#include "agent/record/journal.h"
#include "agent/record/recorder.h"
#include "agent/score/anomaly.h"
#include "exporter/exporter.h"

namespace vedette {

struct Config {
  std::string text;  // of the file, as all of this was read from it; empty: there is none
  LiveOptions live;
  AnomalyOptions anomaly;
  std::string model = "builtin";  // "builtin", "off", or the path of a model file
  AssessOptions assess;
  DecideOptions decide;
  bool kubernetes = false;  // an API server is configured, or this is a pod with NODE_NAME set
  KubeClientOptions kube;
  std::string node_name;
  TaintBudgetOptions taint_budget;
  // 15,000 agents that start at once send their first 5 requests at 7,500 a second then.
  std::chrono::milliseconds start_spread{10'000};
  std::string pool_label;  // nodes with the same value of it share a budget; empty: all do
  ExporterOptions exporter;
  std::string record_file;         // empty: no recording
  std::uint64_t record_mib = 256;  // then it ends: at 20 kB/s that is a few hours
  FlightOptions flight;            // an empty folder: none
  JournalOptions journal;          // an empty path: none
  BaselineStoreOptions baselines;  // an empty path: nothing is kept
};

inline constexpr const char* kDefaultConfigFile = "/etc/vedette/agent.yaml";

// The defaults, changed by `file` (empty: /etc/vedette/agent.yaml if there is one). `standalone`: without an
// API server, whatever the file and the environment of a pod say. An error names file, line, field and what
// was expected.
Result<Config> load_config(const std::string& file, bool standalone);

}  // namespace vedette
