// The plan of an evacuation and its steps: what the evacuator's thread found out, for who asks again and
// again.
#include <optional>
#include <utility>

#include "agent/act/evacuator.h"
#include "agent/base/clean_text.h"
#include "exporter/answer_parts.h"

namespace vedette {
namespace {

void fill(const Plan& plan, api::Plan& out) {
  out.set_id(plan.id);
  for (const PlannedPod& pod : plan.pods) {
    api::PlannedPod& line = *out.add_pods();
    line.set_namespace_(clean_text(pod.namespace_name));
    line.set_name(clean_text(pod.name));
    line.set_workload(clean_text(pod.workload));
    line.set_priority(pod.priority);
    line.set_critical(pod.critical);
    line.set_grace_s(static_cast<double>(pod.grace.count()));
    if (pod.danger.troubled) line.set_severity(std::string(to_string(pod.danger.severity)));
    line.set_reason(pod.danger.reason);
    line.set_risk(pod.danger.risk);
    line.set_budget(clean_text(pod.budget));
    line.set_wave(static_cast<std::uint32_t>(pod.wave));
    line.set_fits(clean_text(pod.fits));
    for (const std::string& text : pod.blocks) line.add_blocks(clean_text(text));
    for (const std::string& text : pod.notes) line.add_notes(clean_text(text));
  }
  for (const LeftOutPod& pod : plan.left_out) {
    api::PodNote& line = *out.add_left_out();
    line.set_pod(clean_text(pod.namespace_name + "/" + pod.name));
    line.set_text(pod.why);
  }
  out.set_waves(static_cast<std::uint32_t>(plan.waves));
  out.set_longest_s(static_cast<double>(plan.longest.count()));
}

void fill(const EvacuationStep& step, api::Evacuation& out) {
  const auto fill_list = [](const std::vector<EvacuationStep::Pod>& pods, auto& list) {
    for (const EvacuationStep::Pod& pod : pods) {
      api::PodNote& line = *list.Add();
      line.set_pod(clean_text(pod.name));
      line.set_text(clean_text(pod.text));
    }
  };
  out.set_plan(step.plan_id);
  out.set_wave(static_cast<std::uint32_t>(step.wave));
  out.set_waves(static_cast<std::uint32_t>(step.waves));
  fill_list(step.evicted, *out.mutable_evicted());
  fill_list(step.ending, *out.mutable_ending());
  fill_list(step.waiting, *out.mutable_waiting());
  fill_list(step.refused, *out.mutable_refused());
  fill_list(step.staying, *out.mutable_staying());
  out.set_left(static_cast<std::uint32_t>(step.left));
  out.set_retry_after_s(static_cast<double>(step.retry_after.count()));
}

}  // namespace

void answer_evacuator(const api::Request& request, const AnswerContext& context, api::Response& response) {
  const bool evacuates = request.has_evacuate();
  if (context.services.evacuator == nullptr) {
    set_error(response, api::Error::FAILED,
              "the agent runs without Kubernetes: there is nothing to evacuate");
    return;
  }
  if (evacuates && !context.trusted) {
    set_error(response, api::Error::FORBIDDEN, "only root may have pods evicted: try sudo");
    return;
  }
  std::uint64_t ticket = evacuates ? request.evacuate().ticket() : request.plan().ticket();
  if (ticket == 0) {
    if (evacuates && request.evacuate().plan().empty()) {
      set_error(response, api::Error::BAD_REQUEST,
                "the request names no plan: expected an id of `vedette plan`");
      return;
    }
    EvacuatorTask task;
    task.options = {request.plan().local_data(), request.plan().force()};
    task.plan_id = clean_text(request.evacuate().plan());
    task.dangers = pod_dangers(*context.snapshot);
    if (context.snapshot->decision.policy) task.policy = context.snapshot->decision.policy;
    ticket = context.services.evacuator->ask(std::move(task));
  }
  if (ticket == 0) {
    set_error(response, api::Error::TOO_MANY, "others wait for plans already: try again in a moment");
    return;
  }
  const std::optional<EvacuatorAnswer> answer = context.services.evacuator->take(ticket);
  if (!answer) {
    response.mutable_pending()->set_ticket(ticket);
  } else if (answer->plan) {
    fill(*answer->plan, *response.mutable_plan());
  } else if (answer->step) {
    fill(*answer->step, *response.mutable_evacuation());
  } else {
    set_error(response, api::Error::FAILED, clean_text(answer->error));
  }
}

}  // namespace vedette
