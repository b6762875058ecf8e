// Between snapshots and the messages of recording.proto: the encoder tells only what differs from the tick
// before, the decoder adds it up again, and maps signals by name. Each is used by one thread: the encoder by
// the recorder's, the decoder by the tick thread of a replay.
#pragma once

#include <array>
#include <bitset>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <unordered_map>
#include <vector>

#include "agent/act/policy.h"
#include "agent/assess/assessor.h"
#include "agent/base/result.h"
#include "agent/record/verdict.h"
#include "agent/score/anomaly.h"
#include "agent/snapshot.h"

namespace vedette {

namespace recording {
class Header;
class Tick;
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

class TickEncoder {
public:
  // `tick` is overwritten. `dropped_before`: ticks since the one encoded before that are not recorded.
  void encode(const Snapshot& snapshot, std::uint64_t dropped_before, recording::Tick& tick);

  static void encode_header(const RecordingHeader& header, recording::Header& message);

private:
  struct Known {
    EntityPtr entity;
    std::array<double, GAUGE_COUNT> gauges;
    std::bitset<COUNTER_COUNT> unknown;
    std::uint64_t tick = 0;  // when it was last seen: those of an older one are forgotten
  };

  void encode_observation(const Observation& observation, recording::Tick& tick);
  void encode_act(const ActState& act, recording::Tick& tick);
  void encode_verdict(RecordedVerdict verdict, recording::Tick& tick);
  void encode_policy(const std::shared_ptr<const Policy>& policy, recording::Tick& tick);

  std::uint64_t number_ = 0;
  std::unordered_map<EntityId, Known> known_;
  std::vector<EntityId> rows_, next_rows_;
  std::vector<ProbeHealth> probes_;
  Losses losses_;
  ActState act_;
  RecordedVerdict verdict_;
  std::shared_ptr<const Policy> policy_;
};

class TickDecoder {
public:
  // Refuses other files and newer formats; notes() then names the signals that only one side knows.
  static Result<TickDecoder> make(const recording::Header& message);

  const RecordingHeader& header() const { return header_; }
  const std::vector<std::string>& notes() const { return notes_; }

  // Overwrites `observation`. An error says which field of the tick is impossible; the decoder is then of no
  // further use.
  Status decode(const recording::Tick& tick, Observation& observation);

  // Of the tick decoded last.
  const ActState& act() const { return act_; }
  const RecordedVerdict& verdict() const { return verdict_; }
  std::uint64_t dropped_before() const { return dropped_before_; }
  // In force in that tick. Null: format 1.
  const std::shared_ptr<const Policy>& policy() const { return policy_; }
  // Given to the agent before that tick; mostly null.
  const std::shared_ptr<const Baselines>& taught() const { return taught_; }
  const std::vector<Lesson>& lessons() const { return lessons_; }

private:
  struct Known {
    EntityPtr entity;
    std::array<double, GAUGE_COUNT> gauges;
    std::bitset<COUNTER_COUNT> unknown;
    std::uint64_t tick = 0;
  };
  static constexpr std::size_t kDropped = SIZE_MAX;

  TickDecoder() = default;
  Status decode_entities(const recording::Tick& tick, Observation& observation);
  Status decode_samples(const recording::Tick& tick, Observation& observation);
  Status decode_health(const recording::Tick& tick, Observation& observation);
  Status decode_verdict(const recording::Tick& tick);
  Status decode_policy(const recording::Tick& tick);
  Status decode_taught(const recording::Tick& tick);

  RecordingHeader header_;
  std::vector<std::string> notes_;
  // Recorded number -> ours, or kDropped.
  std::vector<std::size_t> counters_, histograms_, gauges_, events_, columns_;
  std::size_t buckets_ = 0;
  std::bitset<COUNTER_COUNT> absent_counters_;
  std::bitset<HISTOGRAM_COUNT> absent_histograms_;
  std::uint64_t ticks_ = 0;
  std::uint64_t dropped_before_ = 0;
  std::unordered_map<EntityId, Known> known_;
  std::vector<EntityId> rows_;
  std::vector<ProbeHealth> probes_;
  Losses losses_;
  ActState act_;
  RecordedVerdict verdict_;
  std::shared_ptr<const Policy> policy_;
  std::shared_ptr<const Baselines> taught_;
  std::vector<Lesson> lessons_;
};

}  // namespace vedette
