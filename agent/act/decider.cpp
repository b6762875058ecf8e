#include "agent/act/decider.h"

#include <algorithm>
#include <cmath>

namespace vedette {
namespace {

constexpr MonotonicNs kHourNs = 3600ULL * 1'000'000'000ULL;
constexpr std::size_t kMaxMessage = 1024;  // the API server's bound of an event's note

std::string seconds(double value) {
  return std::to_string(static_cast<long>(std::ceil(value))) + " s";
}

std::string explain(const Condition& condition) {
  std::string text = condition.message;
  if (condition.count > 1 && condition.evidence == Evidence::kEvent) {
    text += " (" + std::to_string(condition.count) + " times)";
  }
  for (const std::string& detail : condition.details) text += "; " + detail;
  if (text.size() > kMaxMessage) text.resize(kMaxMessage);
  return text;
}

}  // namespace

Decider::Decider(DecideOptions options) : options_(std::move(options)) {
  decision_.mode = options_.mode;
  decision_.effect = options_.effect;
}

Decision Decider::update(const Instant& now, const std::vector<Condition>& conditions, const ActState& act) {
  if (!seen_state_ && act.known) {
    seen_state_ = true;
    if (act.adopted && act.tainted && !decision_.taint) {
      adopted_until_ns_ = now.monotonic_ns + static_cast<MonotonicNs>(options_.adopted_hold_s * kNsPerSecond);
      decision_.taint = true;
      decision_.reason = act.taint_reason;
      decision_.message = "set before this agent started";
      decision_.since_wall_ns = act.tainted_since_wall_ns;
      ++decision_.generation;
    }
  }

  // The worst one that may act; conditions come worst first.
  const Condition* cause = nullptr;
  std::string held_back;
  for (const Condition& condition : conditions) {
    if (condition.severity != Severity::kUnhealthy || condition.entity->kind != EntityKind::kNode) continue;
    if (condition.confidence < options_.min_confidence) {
      held_back = condition.reason + ": confidence " + std::to_string(condition.confidence).substr(0, 4) +
                  " is below " + std::to_string(options_.min_confidence).substr(0, 4);
      continue;
    }
    cause = &condition;
    break;
  }

  while (!taints_.empty() && taints_.front() + kHourNs <= now.monotonic_ns) taints_.pop_front();
  const bool holds_adopted = adopted_until_ns_ != 0 && now.monotonic_ns < adopted_until_ns_;
  decision_.held_back.clear();

  if (cause != nullptr) {
    if (!decision_.taint && taints_.size() >= options_.max_taints_per_hour) {
      decision_.held_back =
          cause->reason + ": already tainted " + std::to_string(taints_.size()) + " times within the hour";
    } else {
      if (!decision_.taint) {
        taints_.push_back(now.monotonic_ns);
        decision_.since_wall_ns = now.wall_ns;
      }
      if (!decision_.taint || decision_.reason != cause->reason) {
        decision_.reason = cause->reason;
        decision_.evidence_ns = cause->evidence_ns;
        ++decision_.generation;
      }
      decision_.taint = true;
      decision_.message = explain(*cause);
      adopted_until_ns_ = 0;
    }
  } else if (decision_.taint && !holds_adopted) {
    decision_.taint = false;
    decision_.reason.clear();
    decision_.message = "recovered";
    decision_.since_wall_ns = now.wall_ns;
    decision_.evidence_ns = 0;
    adopted_until_ns_ = 0;
    ++decision_.generation;
  } else if (decision_.generation == 0 && (act.known || options_.mode == Mode::kObserve)) {
    decision_.since_wall_ns = now.wall_ns;
    decision_.generation = 1;
  }
  if (cause == nullptr) decision_.held_back = held_back;

  const std::string verb = options_.mode == Mode::kEnforce ? "will" : "would";
  if (decision_.taint) {
    const double left =
        cause != nullptr ? cause->recovers_in_s : seconds_between(now.monotonic_ns, adopted_until_ns_);
    decision_.next = verb + " lift the taint in " + seconds(left) + " unless there is new evidence";
  } else if (!decision_.held_back.empty()) {
    decision_.next = "holds back: " + decision_.held_back;
  } else {
    decision_.next = verb + " taint (" + options_.effect + ") on evidence of an unhealthy node";
  }
  return decision_;
}

}  // namespace vedette
