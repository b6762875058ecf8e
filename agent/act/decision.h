// What the agent wants of its node object, and what became of it. Decided in the tick (act/decide.h), carried
// out by the thread of act/node_writer.h; both are plain values.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "agent/act/operator_say.h"
#include "agent/act/track_record.h"
#include "agent/base/clock.h"

namespace vedette {

struct Policy;

// What the agent does about its decisions: says them; writes conditions and events; taints as well.
enum class Mode : std::uint8_t { kObserve, kAdvise, kEnforce };
std::string_view to_string(Mode mode);

// What the policy makes of one present condition.
struct Judgement {
  std::string reason;
  std::string entity;
  std::string rule;  // "2: levels of storage"; empty: no rule is asked
  bool acts = false;
  std::string why;  // one sentence: what it does, or why it does nothing
};

// What holds back a taint that the evidence asks for: the decider's reasons, then the writer's.
enum class Hold : std::uint8_t {
  kNone,
  kPersistence,  // evidence has to come for longer: it may be nothing
  kRecord,       // the rule has not earned it yet: it advises
  kConfidence,
  kVeto,
  kPause,
  kRateLimit,
  kOutage,  // the API server was away
  kBudget,
  kMassEvent,
};

// It needs more evidence or a better record: nothing stands in its way.
constexpr bool waits(Hold hold) {
  return hold == Hold::kPersistence || hold == Hold::kRecord;
}

// What a rule would do that must earn it first.
struct Advice {
  std::string effect;   // of the taint; empty: nothing, or nothing stronger than what is wanted anyway
  std::string reason;   // as in Decision
  std::string message;  // likewise

  bool operator==(const Advice&) const = default;
};

// One of the node's conditions as it should be. Healthy is "True", whatever the type.
struct WantedCondition {
  std::string type;  // "VedetteStorageHealthy"
  bool healthy = true;
  std::string reason;   // CamelCase
  std::string message;  // one sentence

  bool operator==(const WantedCondition&) const = default;
};

// What the node keeps of one reason to taint for whoever decides after a restart.
struct Remembered {
  std::string reason;
  double recovery_s = 0;  // how long it outlives its evidence; 0: it is over
  WallNs ended_wall_ns = 0;
  unsigned relapses = 0;

  bool operator==(const Remembered&) const = default;
};

// The desired state of the node object, level-triggered: the writer makes it so, however often it must try.
struct Decision {
  Mode mode = Mode::kObserve;
  OperatorSay said;     // the node's annotations as they were taken into account
  bool paused = false;  // by an operator: the taint on the node stays as it is, whatever is wanted
  bool taint = false;   // vedette.dev/unhealthy wanted on the node
  std::string effect = "NoSchedule";        // of the taint; without one, the last it had
  std::string reason;                       // the worst condition's, CamelCase; the taint's value
  std::string message;                      // its explanation, at most 1024 bytes
  MonotonicNs evidence_ns = 0;              // kernel time of the evidence that set it
  WallNs since_wall_ns = 0;                 // when `taint` took its present value
  std::uint64_t generation = 0;             // grows with every change of what is wanted
  std::vector<WantedCondition> conditions;  // all types, always in the same order
  std::vector<Remembered> remembered;
  std::string verdict;      // the same for programs: JSON of at most 4 KiB
  std::string held_back;    // why a taint that the evidence asks for is not wanted; empty otherwise
  Hold hold = Hold::kNone;  // the same for the writer
  Advice advice;
  // When the node was trusted again, a day after its last recovery; 0: not since this process began.
  WallNs trusted_wall_ns = 0;
  std::string trusted, trusted_reason;   // one sentence on that; what it recovered from
  std::string next;                      // one sentence: what would happen next, and when
  std::shared_ptr<const Policy> policy;  // in force; null before the first tick
  std::vector<Judgement> judgements;     // parallel to the snapshot's conditions
};

// What a sentence of `held_back` says before its colon: the reason. What comes after has numbers that may be
// others in each tick.
inline std::string substance_of(const std::string& held_back) {
  return held_back.substr(0, held_back.find(':'));
}

// The value of the taint for a reason: a label value (letters, digits, '-', '_', '.', beginning and ending
// with a letter or digit, at most 63 bytes).
std::string taint_value(const std::string& reason);

// What the writer knows of the API server's side. `acked_generation` == a decision's generation: it is true
// there.
struct ActState {
  bool connected = false;
  bool known = false;                // the node object was read at least once
  bool tainted = false;              // our taint is on the node
  bool adopted = false;              // it was there before this process started
  WallNs tainted_since_wall_ns = 0;  // the taint's timeAdded
  std::string taint_reason, taint_effect;
  // What this process found when it read the node first: an earlier one's verdict, and its conditions that
  // were not healthy.
  std::string found_verdict;
  std::vector<WantedCondition> found_conditions;
  OperatorSay annotated;  // what the node's annotations say
  OperatorSay local;      // what was said on the socket
  TrackRecord record;     // how often each rule was right
  std::uint64_t acked_generation = 0;
  std::uint64_t patches = 0, conflicts = 0, failures = 0, events_written = 0;
  double last_evidence_to_ack_s = 0;      // kernel's evidence to HTTP 200; 0: none yet
  std::vector<double> evidence_to_ack_s;  // the newest 1024 of them
  std::string last_error;                 // empty after a success
  std::string slot;                       // of the cluster's budget, held for the taint; empty: none
  // Why the taint that is wanted is not there, or is there beyond the budget; empty otherwise.
  std::string held_back;
};

}  // namespace vedette
