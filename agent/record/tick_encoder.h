// From snapshots to the ticks of recording.proto: only what differs from the tick before is told. Used by the
// recorder's thread.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "agent/act/policy.h"
#include "agent/record/recording_format.h"
#include "agent/record/verdict.h"
#include "agent/snapshot.h"

namespace vedette {

namespace recording {
class Tick;
}  // namespace recording

class TickEncoder {
public:
  // `tick` is overwritten. `dropped_before`: ticks since the one encoded before that are not recorded.
  void encode(const Snapshot& snapshot, std::uint64_t dropped_before, recording::Tick& tick);

private:
  void encode_rows(const Observation& observation, recording::Tick& tick);
  void encode_health(const Observation& observation, recording::Tick& tick);
  void encode_act(const ActState& act, recording::Tick& tick);
  void encode_verdict(RecordedVerdict verdict, recording::Tick& tick);
  void encode_policy(const std::shared_ptr<const Policy>& policy, recording::Tick& tick);

  std::uint64_t number_ = 0;
  KnownEntities known_;
  std::vector<EntityId> rows_, next_rows_;
  std::vector<ProbeHealth> probes_;
  Losses losses_;
  ActState act_;
  RecordedVerdict verdict_;
  std::shared_ptr<const Policy> policy_;
};

}  // namespace vedette
