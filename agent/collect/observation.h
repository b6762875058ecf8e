// What one tick saw: the value that collect/ hands to features/ and record/, and that a recording gives back.
// A plain value owned by the tick thread.
#pragma once

#include <array>
#include <bitset>
#include <cmath>
#include <cstdint>
#include <limits>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "agent/base/clock.h"
#include "agent/collect/signals.h"
#include "agent/pods/entity.h"

namespace vedette {

constexpr double kMissing = std::numeric_limits<double>::quiet_NaN();

inline void raise_gauge(double& gauge, double value) {
  if (std::isnan(gauge) || value > gauge) gauge = value;
}

using Buckets = std::array<std::uint64_t, HISTOGRAM_BUCKETS>;

// One entity's part of a tick. Counters and buckets are what was added since the entity's last tick (so they
// never go backwards, whatever containers come and go); gauges are the newest value, kMissing if unknown.
struct Sample {
  EntityId entity = kNodeEntity;
  std::array<std::uint64_t, COUNTER_COUNT> counters{};
  // Counters read from files of which this entity has none, or not now, and those of locks and memory that
  // lost more than a few starts: they are missing, not zero.
  std::bitset<COUNTER_COUNT> unknown;
  std::array<Buckets, HISTOGRAM_COUNT> histograms{};
  std::array<double, GAUGE_COUNT> gauges;

  Sample() { gauges.fill(kMissing); }
};

// One rare fact: from the ring buffer (`type` < EVENT_COUNT) or from the kernel log (kLogEvent).
struct KernelEvent {
  static constexpr std::uint32_t kLogEvent = 1000;

  std::uint32_t type = 0;         // enum vedette_event, or kLogEvent
  EntityId entity = kNodeEntity;  // whom it is about
  MonotonicNs time_ns = 0;        // when the kernel saw it
  std::int64_t value = 0;         // meaning: see bpf/events.h
  std::int64_t extra = 0;
  std::uint32_t pid = 0;
  std::string container;  // of the pod, where the API has named it
  std::string comm;
  std::string text;  // kLogEvent: the message
};

// kShed: detached to stay within the CPU budget, for now. The numbers are in recordings.
enum class ProbeState : std::uint8_t { kAttached, kDegraded, kOff, kShed };

// A BPF probe or a file source. Unless it is attached its signals are missing: nobody may read its zeros as
// zero. Attached means: during all of the tick.
struct ProbeHealth {
  std::string name;
  ProbeState state = ProbeState::kOff;
  std::string reason;  // why it is not attached; empty otherwise
  // From the kernel's BPF statistics, which are on only now and then: runs and their time within
  // `sampled_ns`, so the probe costs run_ns / sampled_ns of one core.
  std::uint64_t runs = 0;
  std::uint64_t run_ns = 0;
  std::uint64_t sampled_ns = 0;
  // Runs the kernel skipped because the program was already active on that CPU: an interrupt came between,
  // or, at a system call of 7.x, another task while the one in the program waits for its CPU. What they would
  // have counted is missing. None of a file source, and before 5.12. (Programs on tracepoints are kept from
  // nesting since 6.1; before they run, and nothing is missed.) Renewed as files are read, every 2 s.
  std::optional<std::uint64_t> misses = {};
  // Time attached since the agent's start: what its totals were counted in. 0 for a file source.
  std::uint64_t watched_ns = 0;
  MonotonicNs since_ns = 0;  // when it came into this state; 0: at the start
};

// More lost starts a second than this, and what a counter lacks for them is no noise.
inline constexpr double kLostStartsPerS = 10;
// More missed runs than these, and than the share of what the probe counts in the 2 s in which they came, and
// its counts lack them. A busy node of 7.x misses some all the time.
inline constexpr std::uint64_t kMissedRuns = 20;
inline constexpr double kMissedShare = 0.01;
// For so long a count that lacked something is not known: rates look back that far (features/).
inline constexpr MonotonicNs kDoubtNs = 10'000'000'000;

// All counts are totals since the agent's start.
struct Losses {
  std::array<std::uint64_t, EVENT_COUNT> produced{};  // records the probes wanted to send
  std::array<std::uint64_t, EVENT_COUNT> lost{};      // of them, refused by the full ring
  std::uint64_t received = 0;                         // records read from the ring
  std::uint64_t no_slot = 0;                          // counts without a cgroup's slot
  std::uint64_t no_task_storage = 0;                  // starts that found no room
  // Of them, what each counter of the probes may lack for it: waits that are counted as they end.
  std::array<std::uint64_t, SLOT_COUNTER_COUNT> no_start{};
  std::uint64_t no_detail = 0;     // counts by label that found no room, or may lack
  std::uint64_t missed_ticks = 0;  // timer periods that passed unused
  std::uint64_t log_lost = 0;      // kernel log lines overwritten unread
};

// One count by label. A total since the agent's start, for whoever looks; no stage judges it.
struct DetailCount {
  vedette_detail detail{};
  EntityPtr entity;
  std::string label;  // "sda", "openat", "TCP_CSUM", "127"
  std::uint64_t count = 0;
};

// TCP connections that one entity made to another on this node.
struct Connections {
  EntityId client = kNodeEntity;
  EntityId server = kNodeEntity;
  std::uint64_t count = 0;  // since they were told last

  bool operator==(const Connections&) const = default;
};

struct Observation {
  Instant time;
  double interval_s = 0;                 // since the tick before; 0 in the first one
  std::vector<EntityPtr> entities;       // all alive, or with something left to say; [0] is the node
  std::vector<Sample> samples;           // parallel to `entities`
  std::vector<KernelEvent> events;       // in the order the kernel saw them
  std::vector<Connections> connections;  // told with the details
  std::vector<ProbeHealth> probes;
  Losses losses;
  std::shared_ptr<const std::vector<DetailCount>> details;  // the newest reading; not recorded
  // Signals that a recording made with an older schema could not have: their zeros are no zeros but missing.
  std::bitset<COUNTER_COUNT> absent_counters;
  std::bitset<HISTOGRAM_COUNT> absent_histograms;
};

}  // namespace vedette
