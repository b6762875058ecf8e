#include <algorithm>
#include <cmath>

#include "exporter/api.pb.h"
#include "tools/cli/format.h"
#include "tools/cli/views.h"

namespace vedette {
namespace {

std::string danger_of(const api::PlannedPod& pod) {
  if (!pod.reason().empty()) return pod.reason();
  return pod.risk() >= 0.1 ? "risk " + format_percent(pod.risk()) : "–";
}

}  // namespace

std::string plan_view(const api::Response& response, const Screen& screen) {
  const api::Plan& plan = response.plan();
  const auto moved = static_cast<std::size_t>(
      std::count_if(plan.pods().begin(), plan.pods().end(), [](const auto& pod) { return pod.wave() > 0; }));
  const std::size_t stay = static_cast<std::size_t>(plan.pods_size()) - moved;
  std::string text = screen.paint(Paint::kBold, "Plan " + plan.id()) + ": if " + response.agent().node() +
                     " had to be emptied now\n";
  std::string summary = "moves " + std::to_string(moved) + " of " + std::to_string(plan.pods_size()) +
                        " pods in " + std::to_string(plan.waves()) + (plan.waves() == 1 ? " wave" : " waves");
  if (moved > 0)
    summary += "; they end within " + format_duration(plan.longest_s()) +
               ", and a wave waits until the one before has ended and the budgets have room again";
  text += wrap(summary, screen.columns, 2) + "\n";

  std::size_t width = 3;
  for (const api::PlannedPod& pod : plan.pods()) {
    width = std::max(width, text_width(pod.namespace_() + "/" + pod.name()));
  }
  width = std::min(width, std::max<std::size_t>(screen.columns, 80) - 50) + 2;
  if (plan.pods_size() > 0)
    text +=
        screen.paint(Paint::kDim, pad_right("WAVE", 6) + pad_right("POD", width) + pad_left("PRIORITY", 10) +
                                      "  " + pad_right("DANGER", 20) + "FITS ON") +
        "\n";
  for (const api::PlannedPod& pod : plan.pods()) {
    const bool stays = pod.wave() == 0;
    text += pad_right(stays ? "stays" : std::to_string(pod.wave()), 6) +
            pad_right(pod.namespace_() + "/" + pod.name(), width) +
            pad_left(std::to_string(pod.priority()), 10) + "  " + pad_right(danger_of(pod), 20) +
            (pod.fits().empty() ? "–" : pod.fits()) + "\n";
    // One without an owner says so in `blocks` or `notes`.
    if (!pod.workload().starts_with("Pod/"))
      text += screen.paint(Paint::kDim, wrap("of " + pod.workload(), screen.columns, 6));
    for (const std::string& block : pod.blocks())
      text += screen.paint(Paint::kRed, wrap(block, screen.columns, 6));
    for (const std::string& note : pod.notes())
      text += screen.paint(Paint::kYellow, wrap(note, screen.columns, 6));
  }
  if (plan.left_out_size() > 0) text += "\nLeft out:\n";
  for (const api::PodNote& pod : plan.left_out()) {
    text += screen.paint(Paint::kDim, wrap(pod.pod() + ", " + pod.text(), screen.columns, 2));
  }
  text += "\n" +
          screen.paint(Paint::kDim,
                       wrap("Where they fit is a first fit by requests, taints and node selectors: affinity, "
                            "topology spread, volumes and ports are the scheduler's to judge.",
                            screen.columns, 0));
  if (stay > 0)
    text += wrap("Some that stay can be moved with --local-data or --force, critical ones with neither.",
                 screen.columns, 0);
  if (moved > 0) text += "Carry it out: vedette evacuate --plan " + plan.id() + "\n";
  return text;
}

std::string evacuation_view(const api::Response& response, const Screen& screen) {
  const api::Evacuation& step = response.evacuation();
  std::string text;
  const auto lines = [&](const auto& pods, const char* what, Paint paint) {
    for (const api::PodNote& pod : pods) {
      const std::string why = pod.text().empty() ? "" : ": " + pod.text();
      text += screen.paint(paint, wrap(std::string(what) + " " + pod.pod() + why, screen.columns, 2));
    }
  };
  if (step.wave() > 0)
    text += "wave " + std::to_string(step.wave()) + " of " + std::to_string(step.waves()) + ", " +
            std::to_string(step.left()) + (step.left() == 1 ? " pod" : " pods") + " left\n";
  lines(step.evicted(), "evicted", Paint::kPlain);
  lines(step.ending(), "ends", Paint::kDim);
  lines(step.waiting(), "waits", Paint::kYellow);
  lines(step.refused(), "refused", Paint::kRed);
  if (step.wave() > 0) return text;
  text += step.staying_size() == 0 ? "the plan is carried out: all its pods are gone\n"
                                   : "the plan is carried out; what it does not move is still here:\n";
  lines(step.staying(), "stays", Paint::kYellow);
  return text;
}

}  // namespace vedette
