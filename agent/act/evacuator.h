// Makes recovery plans and carries them out, a step at a time and only when asked: who asks no more has
// stopped it, who asks again resumes it, be it after a restart of the agent. ask() and take() are called by
// the exporter's socket thread and never wait; a thread of its own talks to the API server.
#pragma once

#include <condition_variable>
#include <cstdint>
#include <deque>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <stop_token>
#include <string>
#include <thread>
#include <vector>

#include "agent/act/plan.h"
#include "agent/act/plan_store.h"
#include "agent/kube/client.h"
#include "agent/kube/evictions.h"
#include "agent/snapshot.h"

namespace vedette {

struct EvacuatorOptions {
  KubeClientOptions client;
  std::string node_name;
  std::string taint_key = KubeNodeOptions{}.taint_key;
  std::string plans_file;  // empty: plans end with the agent
};

struct EvacuatorTask {
  PlanOptions options;
  std::string plan_id;                                       // empty: make a plan; else: take its next step
  std::map<std::string, PodDanger> dangers;                  // as make_plan() takes them
  std::shared_ptr<const Policy> policy = Policy::builtin();  // in force; never null
};

// What one step found and did.
struct EvacuationStep {
  struct Pod {
    std::string name;  // "NAMESPACE/NAME"
    std::string text;  // why it waits or was refused
  };
  std::string plan_id;
  std::size_t wave = 0;  // the one at work; 0: none is left
  std::size_t waves = 0;
  std::vector<Pod> evicted;             // by this step
  std::vector<Pod> ending;              // evicted before, and not gone yet
  std::vector<Pod> waiting;             // for room in their budget
  std::vector<Pod> refused;             // by the API server
  std::vector<Pod> staying;             // the plan does not move them
  std::size_t left = 0;                 // pods of this and later waves that are still here
  std::chrono::seconds retry_after{0};  // what the server asked for; 0: it did not say
};

struct EvacuatorAnswer {
  std::string error;  // empty: one of the two
  std::optional<Plan> plan;
  std::optional<EvacuationStep> step;
};

class Evacuator {
public:
  // Errors are those of KubeClient::make and an empty node name.
  static Result<std::unique_ptr<Evacuator>> make(EvacuatorOptions options);
  ~Evacuator();

  // A ticket for take(); 0: too many tasks wait already.
  std::uint64_t ask(EvacuatorTask task);
  // The answer, once; nullopt: not yet. A ticket that nobody holds gets an error.
  std::optional<EvacuatorAnswer> take(std::uint64_t ticket);

private:
  Evacuator(EvacuatorOptions options, std::stop_source stop, KubeClient client);
  void run();
  EvacuatorAnswer work(const EvacuatorTask& task);
  Result<Plan> plan(const EvacuatorTask& task);
  EvacuatorAnswer refuse(const std::string& why, const EvacuatorTask& task);
  EvacuatorAnswer step(const EvacuatorTask& task);

  const EvacuatorOptions options_;
  std::stop_source stop_;
  KubeClient client_;
  Evictions evictions_;

  std::mutex mutex_;  // of the four below
  std::condition_variable_any asked_;
  std::uint64_t last_ticket_ = 0;
  std::deque<std::pair<std::uint64_t, EvacuatorTask>> tasks_;  // the first is at work
  std::map<std::uint64_t, EvacuatorAnswer> answers_;

  PlanStore plans_;      // of the thread
  std::jthread thread_;  // last: it uses all of the above
};

// How the agent sees its pods, by uid.
std::map<std::string, PodDanger> pod_dangers(const Snapshot& snapshot);

}  // namespace vedette
