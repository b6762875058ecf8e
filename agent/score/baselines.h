// What is usual for a workload, apart from the pods that come and go: what outlives them, the agent and its
// upgrades, and can be given to another node. Made by the anomaly scorer (anomaly.h) and by who reads a file
// of them (record/baseline_file.h); plain values, immutable once shared.
#pragma once

#include <string>
#include <vector>

#include "agent/base/clock.h"
#include "agent/pods/entity.h"
#include "agent/score/detector.h"

namespace vedette {

struct Baseline {
  std::string workload;  // baseline_workload() of those who share it
  std::string revision;  // of the workload, when it was learnt; empty: not known
  Detector detector;
  // Learnt from other columns than this agent's: how rare a score is must be learnt anew.
  bool of_other_columns = false;
  float handicap = 0;          // decades, for false alarms (anomaly.h)
  bool of_other_node = false;  // imported, and no pod here has taken it over yet
};

struct Baselines {
  std::vector<Baseline> list;
  std::string node;  // where they were learnt
  std::string agent_version;
  WallNs saved_wall_ns = 0;
  // Then its own baseline is of no use: each machine is usual in its own way.
  bool of_other_node = false;
  std::vector<std::string> left_out;  // a sentence for each workload that could not be read
  std::string file;                   // all of this as a file's bytes: what a recording keeps
};

inline constexpr const char* kNodeWorkload = "node";

// Who shares what is usual: "pod/shop/Deployment/api", "unit/ssh.service", "node". Pods of a StatefulSet have
// names that stay and often parts of their own, so each is by itself. Empty: nothing of it outlives it (a pod
// that is not known yet, a container without Kubernetes).
std::string baseline_workload(const Entity& entity);

}  // namespace vedette
