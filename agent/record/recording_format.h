// What both directions of a recording share: its header with what the agent was told, and the numbers in its
// messages. Pure functions: any thread.
#pragma once

#include <array>
#include <bitset>
#include <cstdint>
#include <optional>
#include <string>
#include <unordered_map>

#include "agent/assess/assessor.h"
#include "agent/base/result.h"
#include "agent/score/anomaly.h"
#include "agent/snapshot.h"

namespace vedette {

namespace recording {
class Header;
}  // namespace recording

// What the judging stages were told by the configuration. The policy is not among it: it may change while the
// agent runs, so ticks tell it.
struct RecordedSettings {
  AssessOptions assess;
  Mode mode = Mode::kObserve;
  unsigned max_taints_per_hour = 4;
  std::string model;  // "builtin", "off", or a file of that node
  double false_alarms_per_week = AnomalyOptions{}.false_alarms_per_week;
};

// What is written once, at the head of each file.
struct RecordingHeader {
  std::uint32_t format_version = 0;
  std::string agent_version;
  std::string kernel_release;
  std::string node;
  WallNs started_wall_ns = 0;                // of the run
  std::uint64_t ticks_before = 0;            // of the run, recorded elsewhere or not at all
  bool continues = false;                    // there were some
  std::optional<RecordedSettings> settings;  // none in format 1
};

// 2: settings, policy, reasons of anomalies, several parts in a file. 3: baselines, revisions, false alarms
// allowed. A reader refuses newer formats and reads all older ones.
constexpr std::uint32_t kRecordingFormat = 3;

// Flags of an entity's verdict; above them how far it has learnt (enum Learning), since format 3.
constexpr std::uint32_t kAnomalousFlag = 1;
constexpr std::uint32_t kWarmingUpFlag = 2;
constexpr unsigned kLearningShift = 2;

// What ticks told of an entity so far: one side tells what differs from it, the other adds that up.
struct KnownEntity {
  EntityPtr entity;
  std::array<double, GAUGE_COUNT> gauges;
  std::bitset<COUNTER_COUNT> unknown;
  std::uint64_t tick = 0;  // when it was last seen: those of an older one are forgotten

  KnownEntity() { gauges.fill(kMissing); }
};
using KnownEntities = std::unordered_map<EntityId, KnownEntity>;

// `message` is overwritten, with the names of this agent's signals.
void encode_header(const RecordingHeader& header, recording::Header& message);

// Refuses what is no header of a recording, newer formats, and settings that cannot be.
Result<RecordingHeader> decode_header(const recording::Header& message);

}  // namespace vedette
