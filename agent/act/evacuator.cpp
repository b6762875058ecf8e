#include "agent/act/evacuator.h"

#include <algorithm>
#include <set>
#include <utility>

#include <signal.h>
#include <spdlog/spdlog.h>

namespace vedette {
namespace {

// As many as the socket has clients: each asks for one thing at a time.
constexpr std::size_t kMaxTasks = 16;
// A client that went away leaves its answer behind.
constexpr std::size_t kMaxAnswers = 16;

std::string full_name(const PlannedPod& pod) {
  return pod.namespace_name + "/" + pod.name;
}

bool keeps_pods_away(const ClusterNode& node, const std::string& taint_key) {
  return std::any_of(node.taints.begin(), node.taints.end(), [&](const Taint& taint) {
    return taint.key == taint_key && (taint.effect == "NoSchedule" || taint.effect == "NoExecute");
  });
}

}  // namespace

std::map<std::string, PodDanger> pod_dangers(const Snapshot& snapshot) {
  std::map<std::string, PodDanger> dangers;
  const std::vector<EntityPtr>& entities = snapshot.features.entities;
  for (std::size_t i = 0; i < entities.size() && i < snapshot.scores.entities.size(); ++i) {
    const double risk = snapshot.scores.entities[i].risk;
    if (entities[i]->kind == EntityKind::kPod && risk > 0) dangers[entities[i]->uid].risk = risk;  // not NaN
  }
  for (const Condition& condition : snapshot.conditions) {  // worst first
    if (condition.entity->kind != EntityKind::kPod) continue;
    PodDanger& danger = dangers[condition.entity->uid];
    if (danger.troubled) continue;
    danger.troubled = true;
    danger.severity = condition.severity;
    danger.reason = condition.reason;
  }
  return dangers;
}

Result<std::unique_ptr<Evacuator>> Evacuator::make(EvacuatorOptions options) {
  if (options.node_name.empty()) return fail("kube.node_name: empty, expected the name of this node");
  std::stop_source stop;
  Result<KubeClient> client = KubeClient::make(options.client, stop.get_token());
  if (!client) return tl::unexpected(client.error());
  return std::unique_ptr<Evacuator>(new Evacuator(std::move(options), std::move(stop), std::move(*client)));
}

Evacuator::Evacuator(EvacuatorOptions options, std::stop_source stop, KubeClient client)
    : options_(std::move(options)),
      stop_(std::move(stop)),
      client_(std::move(client)),
      evictions_(client_, options_.node_name),
      plans_(options_.plans_file, options_.node_name),
      thread_([this] { run(); }) {}

Evacuator::~Evacuator() {
  stop_.request_stop();  // ends a call under way, and the wait for the next task
  thread_.join();
}

std::uint64_t Evacuator::ask(EvacuatorTask task) {
  const std::lock_guard lock(mutex_);
  if (tasks_.size() >= kMaxTasks) return 0;
  tasks_.emplace_back(++last_ticket_, std::move(task));
  asked_.notify_one();
  return last_ticket_;
}

std::optional<EvacuatorAnswer> Evacuator::take(std::uint64_t ticket) {
  const std::lock_guard lock(mutex_);
  if (const auto found = answers_.find(ticket); found != answers_.end()) {
    EvacuatorAnswer answer = std::move(found->second);
    answers_.erase(found);
    return answer;
  }
  const bool waits =
      std::any_of(tasks_.begin(), tasks_.end(), [&](const auto& task) { return task.first == ticket; });
  if (waits) return std::nullopt;
  return EvacuatorAnswer{
      .error = "the agent knows nothing of this question: ask again", .plan = {}, .step = {}};
}

void Evacuator::run() {
  // Signals are for the main thread.
  sigset_t all;
  ::sigfillset(&all);
  ::pthread_sigmask(SIG_BLOCK, &all, nullptr);
  std::unique_lock lock(mutex_);
  while (asked_.wait(lock, stop_.get_token(), [this] { return !tasks_.empty(); })) {
    const auto [ticket, task] = tasks_.front();
    lock.unlock();
    EvacuatorAnswer answer = work(task);
    lock.lock();
    tasks_.pop_front();
    answers_[ticket] = std::move(answer);
    if (answers_.size() > kMaxAnswers) answers_.erase(answers_.begin());
  }
}

EvacuatorAnswer Evacuator::work(const EvacuatorTask& task) {
  if (!task.plan_id.empty()) return step(task);
  EvacuatorAnswer answer;
  if (Result<Plan> made = plan(task)) {
    answer.plan = std::move(*made);
  } else {
    answer.error = made.error().text;
  }
  return answer;
}

Result<Plan> Evacuator::plan(const EvacuatorTask& task) {
  const Result<Cluster> cluster = evictions_.read_cluster();
  if (!cluster) return tl::unexpected(cluster.error());
  Plan made = make_plan(options_.node_name, *cluster, task.dangers, *task.policy, task.options);
  if (const Status kept = plans_.add(made); !kept)
    spdlog::warn("plan {} will not outlive the agent: {}", made.id, kept.error().text);
  return made;
}

// A plan that cannot be carried out, and the one that could.
EvacuatorAnswer Evacuator::refuse(const std::string& why, const EvacuatorTask& task) {
  const Result<Plan> now = plan(task);
  EvacuatorAnswer answer;
  answer.error = "plan " + task.plan_id + " is not carried out: " + why + "; " +
                 (now ? "the plan is now " + now->id : now.error().text);
  return answer;
}

EvacuatorAnswer Evacuator::step(const EvacuatorTask& task) {
  const auto failed = [](const Error& error) {
    return EvacuatorAnswer{.error = error.text, .plan = {}, .step = {}};
  };
  const Plan* known = plans_.find(task.plan_id);
  if (known == nullptr) return refuse("the agent knows no such plan, of the last that it made", task);
  const Plan plan = *known;
  EvacuatorTask same = task;
  same.options = plan.options;

  const Result<ClusterNode> node = evictions_.read_node();
  if (!node) return failed(node.error());
  if (!keeps_pods_away(*node, options_.taint_key)) {
    EvacuatorAnswer answer;
    answer.error =
        "the taint " + options_.taint_key + " with NoSchedule is not on node " + options_.node_name +
        ", evicted pods could come back to it: in act.mode enforce the agent sets it on an unhealthy "
        "node; by hand `kubectl taint node " +
        options_.node_name + " " + options_.taint_key +
        "=Evacuation:NoSchedule` does, after `vedette pause` where act.mode is advise or enforce, for "
        "there the agent takes away a taint that it does not want";
    return answer;
  }
  const Result<std::vector<ClusterPod>> pods = evictions_.read_pods();
  if (!pods) return failed(pods.error());
  if (const ClusterPod* pod = unplanned(plan, *pods)) {
    return refuse("pod " + pod->namespace_name + "/" + pod->name + " has come since", same);
  }

  std::map<std::string, const ClusterPod*> here;
  for (const ClusterPod& pod : *pods) {
    if (!pod.finished) here[pod.uid] = &pod;
  }
  for (const PlannedPod& pod : plan.pods) {
    const bool stays = pod.wave == 0 || !here.contains(pod.uid);
    if (stays || !task.policy->is_critical(full_name(pod))) continue;
    return refuse("the policy calls pod " + full_name(pod) + " critical by now", same);
  }
  EvacuationStep done;
  done.plan_id = plan.id;
  done.waves = plan.waves;
  for (const PlannedPod& pod : plan.pods) {  // by waves
    const auto found = here.find(pod.uid);
    if (found == here.end()) continue;
    if (pod.wave == 0) {
      done.staying.push_back({full_name(pod), pod.blocks.front()});
      continue;
    }
    ++done.left;
    if (done.wave == 0) done.wave = pod.wave;
    if (pod.wave != done.wave) continue;
    if (found->second->terminating) {
      done.ending.push_back({full_name(pod), ""});
      continue;
    }
    const Result<EvictionAnswer> answer = evictions_.evict(pod.namespace_name, pod.name, pod.uid);
    if (!answer) return failed(answer.error());
    switch (answer->kind) {
      case EvictionAnswer::Kind::kEvicted:
        done.evicted.push_back({full_name(pod), ""});
        break;
      case EvictionAnswer::Kind::kGone:
        break;  // the next step sees it
      case EvictionAnswer::Kind::kWait:
        done.waiting.push_back({full_name(pod), answer->text});
        done.retry_after = std::max(done.retry_after, answer->retry_after);
        break;
      case EvictionAnswer::Kind::kRefused:
        done.refused.push_back({full_name(pod), answer->text});
        break;
    }
  }
  EvacuatorAnswer answer;
  answer.step = std::move(done);
  return answer;
}

}  // namespace vedette
