// All that one tick concluded, immutable: what the exporter, the CLI and the writer read. Shared between
// threads through Latest<Snapshot>.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "agent/act/decision.h"
#include "agent/assess/condition.h"
#include "agent/assess/incidents.h"
#include "agent/collect/budget.h"
#include "agent/collect/observation.h"
#include "agent/features/feature_table.h"
#include "agent/score/scorer.h"

namespace vedette {

struct JournalUse {
  bool on = false;            // there is one
  std::uint64_t written = 0;  // entries on disk
  std::uint64_t dropped = 0;  // not written: too many waited already
  std::uint64_t bytes = 0;
  std::string error{};      // why the newest entry is not on disk
  std::string set_aside{};  // a file that was damaged or newer, and where it is now
};

// The last minutes on disk.
struct FlightUse {
  bool on = false;
  std::string folder{};
  std::uint64_t dropped = 0;  // ticks that are not on disk
  std::uint64_t bytes = 0;    // of the last minutes
  std::size_t slices = 0;     // incidents that have one
  std::uint64_t slice_bytes = 0;
  std::string error{};        // why the newest tick is not on disk
  std::string slice_error{};  // why the slice of an incident ends early
};

// What is usual for each workload, on disk.
struct BaselineUse {
  bool on = false;
  std::size_t workloads = 0;  // of the file
  std::uint64_t bytes = 0;
  WallNs saved_wall_ns = 0;  // 0: not yet
  std::size_t left_out = 0;  // workloads beyond the bound of a file
  std::string error{};       // why the newest are not on disk
  std::string set_aside{};   // a file that could not be used, and where it is now
};

struct SelfUse {
  double tick_ms = 0;     // features, scores and assessment of this tick
  double collect_ms = 0;  // reading the kernel
  double cpu_share = 0;   // of one core, whole process, since the first tick
  std::uint64_t rss_bytes = 0;
  std::uint64_t bpf_map_bytes = 0;
  std::uint64_t ticks = 0;
  BudgetUse budget{};
  JournalUse journal{};
  FlightUse flight{};
  BaselineUse baselines{};
  std::string policy_error{};  // why the newest configuration file's policy is not in force
  std::string restart_for{};   // keys of that file whose change needs a restart
};

struct Snapshot {
  Observation observation;
  std::shared_ptr<const Baselines> taught;  // before this tick; mostly null
  std::vector<Lesson> lessons;              // said since the tick before; mostly none
  FeatureTable features;
  Scores scores;
  std::vector<Condition> conditions;  // worst first
  std::vector<Incident> incidents;    // the open ones, and those that this tick closed
  Decision decision;
  ActState act;
  SelfUse self;
};

// Where snapshots go. publish() is called by the tick thread once per tick and must not block.
class Sink {
public:
  Sink() = default;
  Sink(const Sink&) = delete;
  Sink& operator=(const Sink&) = delete;
  virtual ~Sink() = default;
  virtual void publish(const std::shared_ptr<const Snapshot>& snapshot) = 0;
};

}  // namespace vedette
