// The agent's log: one line when a condition begins or ends, a decision or a probe changes, and never one for
// what stays the same. What the API server answers is logged by act/node_writer. A Sink, called by the tick
// thread.
#pragma once

#include <map>
#include <string>
#include <utility>

#include "agent/snapshot.h"

namespace vedette {

class LogSink : public Sink {
public:
  void publish(const std::shared_ptr<const Snapshot>& snapshot) override;

private:
  std::map<std::pair<std::string, EntityId>, std::pair<std::string, Severity>> conditions_;
  std::map<std::string, ProbeState> probes_;
  BudgetUse budget_;
  std::uint64_t generation_ = 0;
  bool tainted_ = false;
  std::uint64_t lost_ = 0;
};

}  // namespace vedette
