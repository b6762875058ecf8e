// From the ticks of recording.proto to observations and what was made of them: adds up what each tick told,
// and maps signals by name. Used by the tick thread of a replay.
#pragma once

#include <bitset>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "agent/act/policy.h"
#include "agent/base/result.h"
#include "agent/record/recording_format.h"
#include "agent/record/verdict.h"
#include "agent/score/anomaly.h"
#include "agent/snapshot.h"

namespace vedette {

namespace recording {
class Header;
class Message;
class Tick;
}  // namespace recording

// `bytes` of a frame into `message`. Refuses what has more parts than any node makes before they are made.
Status parse_message(const std::string& bytes, recording::Message& message);

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
  TickDecoder() = default;
  Status decode_entities(const recording::Tick& tick, Observation& observation);
  Status decode_samples(const recording::Tick& tick, Observation& observation);
  Status decode_events(const recording::Tick& tick, Observation& observation);
  Status decode_health(const recording::Tick& tick, Observation& observation);
  Status decode_act(const recording::Tick& tick);
  Status decode_verdict(const recording::Tick& tick);
  Status decode_policy(const recording::Tick& tick);
  Status decode_taught(const recording::Tick& tick);

  RecordingHeader header_;
  std::vector<std::string> notes_;
  // Recorded number -> ours, or kDropped.
  std::vector<std::size_t> counters_, histograms_, gauges_, events_, columns_;
  std::bitset<COUNTER_COUNT> absent_counters_;
  std::bitset<HISTOGRAM_COUNT> absent_histograms_;
  std::uint64_t ticks_ = 0;
  std::uint64_t dropped_before_ = 0;
  KnownEntities known_;
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
