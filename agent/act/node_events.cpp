#include "agent/act/node_events.h"

#include <cstdio>
#include <utility>

#include <spdlog/spdlog.h>

#include "agent/base/clean_text.h"
#include "agent/base/fnv1a.h"

namespace vedette {
namespace {

// Two transitions (taint, lift) for each of the four taints an hour that the decider allows, and as many
// words on what was held back or advised.
constexpr std::size_t kMaxPending = 16;
// With the backoff this is about half a minute beyond the end of an outage; an event that is refused for
// another reason (rights, admission) must not be sent for ever.
constexpr unsigned kMaxAttempts = 8;
// As long as the API server keeps an event that nothing renews (--event-ttl): later there is none to
// continue.
constexpr WallNs kSeriesNs = 3600ULL * 1'000'000'000ULL;
constexpr std::size_t kMaxEventStem = 230;  // 253 for an object's name, less "." and 16 digits
// What holds a taint back may come and go with every tick (a confidence near its bound): told as rarely as
// the condition is renewed.
constexpr WallNs kSameHoldNs = 300ULL * 1'000'000'000ULL;

// One taint has one name, so that whoever tells of it, the agent that set it or the next one, tells the same
// event.
std::string name_of_event(const std::string& node, WallNs time, std::uint64_t salt) {
  char digits[20];
  const unsigned long long number = time + salt;
  std::snprintf(digits, sizeof digits, ".%016llx", number);
  return cut_name(node, kMaxEventStem) + digits;
}

std::string name_of_event(const std::string& node, const Taint& taint) {
  // Two taints of one second are two.
  const std::uint64_t salt = fnv1a(taint.value + ":" + taint.effect) % 1'000'000'000;
  return name_of_event(node, parse_time(taint.time_added), salt);
}

std::string shown(const Taint& taint) {
  return taint.key + "=" + taint.value + ":" + taint.effect;
}

// What calls for somebody is a warning.
NodeEvent make_event(bool calls, std::string action, std::string reason, std::string note) {
  NodeEvent event;
  event.type = calls ? "Warning" : "Normal";
  event.action = std::move(action);
  event.reason = std::move(reason);
  event.note = std::move(note);
  return event;
}

// That `taint` is set (its effect is empty: no longer), or would be.
NodeEvent change_event(const Taint& taint, bool advised, const std::string& message) {
  const bool sets = !taint.effect.empty();
  const std::string action = sets ? "Taint" : "Untaint";
  const std::string what = sets ? shown(taint) + (advised ? " advised: " : " set: ")
                                : taint.key + (advised ? " no longer advised: " : " lifted: ");
  return make_event(sets, action, (advised ? "NodeWouldBe" : "Node") + action + "ed", what + message);
}

}  // namespace

// An event that is there already stays as it is; where it has expired, nobody needs it.
void NodeEvents::note_found(const NodeState& seen) {
  if (seen.our_taints.empty()) return;
  const Taint& taint = seen.our_taints[0];
  announced_ = taint.effect;
  const WallNs set = parse_time(taint.time_added);
  const WallNs now = wall_now();
  if (set == 0 || set > now || set + kSeriesNs < now) return;
  std::string why = "by an agent that ended before it said why";
  for (const auto& [type, condition] : seen.our_conditions) {
    if (condition.status == "False" && taint_value(condition.reason) == taint.value) why = condition.message;
  }
  NodeEvent event = change_event(taint, false, why);
  event.name = name_of_event(node_.options().name, taint);
  queue(std::move(event), taint.value + taint.effect);
}

void NodeEvents::note_patch(const NodeState& before, const Decision& wanted) {
  lifted_ = !wanted.taint;
  // Nobody was told of it by this agent: somebody else set it.
  if (wanted.taint || !announced_.empty()) return;
  queue(
      make_event(false, "Untaint", "NodeUntainted",
                 shown(before.our_taints[0]) +
                     " taken away: this agent does not want it; after `vedette pause` a taint that is set by "
                     "hand stays"),
      " by another hand");
}

void NodeEvents::tell_taint(const Decision& wanted, const NodeState& seen) {
  const std::string effect = wanted.taint ? wanted.effect : "";
  if (announced_ == effect) return;
  announced_ = effect;
  const bool advised = wanted.mode == Mode::kAdvise && !std::exchange(lifted_, false);
  const Taint taint = taint_of(wanted.reason, effect);
  NodeEvent event = change_event(taint, advised, wanted.message);
  if (wanted.taint && !advised && !seen.our_taints.empty())
    event.name = name_of_event(node_.options().name, seen.our_taints[0]);
  queue(std::move(event), taint.value + effect);
}

void NodeEvents::tell_advice(const Decision& wanted) {
  const Advice& advice = wanted.advice;
  if (advised_ == advice.effect) return;
  advised_ = advice.effect;
  if (advice.effect.empty() && wanted.taint) return;
  queue(change_event(taint_of(advice.reason, advice.effect), true, advice.message),
        advice.reason + advice.effect);
}

void NodeEvents::tell_hold(const Decision& wanted, bool tainted, Hold hold, const std::string& why) {
  std::pair<std::string, Hold> now;
  std::string said = why;
  if (wanted.mode == Mode::kEnforce && !tainted) {
    if (!why.empty()) {
      now = {wanted.reason, hold};
    } else if (wanted.hold != Hold::kNone && !waits(wanted.hold)) {
      now = {substance_of(wanted.held_back), wanted.hold};
      said = wanted.held_back;
    }
  }
  if (told_hold_ == now) return;
  told_hold_ = now;
  const auto& [reason, by] = now;
  if (by == Hold::kNone) return;
  NodeEvent event = make_event(true, "HoldBack", "NodeTaintHeldBack",
                               node_.options().taint_key + "=" + taint_value(reason) + " held back" +
                                   said.substr(substance_of(said).size()));
  const std::string of = reason + std::to_string(static_cast<int>(by));
  const auto told = series_.find(event.reason + of);
  if (told != series_.end() && wall_now() < told->second.last_ns + kSameHoldNs) return;
  queue(std::move(event), of);
}

void NodeEvents::tell_trust(const Decision& wanted) {
  if (told_trusted_ns_ == wanted.trusted_wall_ns) return;
  told_trusted_ns_ = wanted.trusted_wall_ns;
  queue(make_event(false, "Trust", "NodeTrusted", "trusted again: " + wanted.trusted), "");
}

Taint NodeEvents::taint_of(const std::string& reason, const std::string& effect) const {
  return {.key = node_.options().taint_key, .value = taint_value(reason), .effect = effect, .time_added = {}};
}

void NodeEvents::queue(NodeEvent event, const std::string& of) {
  event.time_ns = wall_now();
  std::erase_if(series_, [&](const auto& old) { return old.second.last_ns + kSeriesNs < event.time_ns; });
  Series& series = series_[event.reason + of];
  if (series.count == 0)
    series.name = event.name.empty() ? name_of_event(node_.options().name, event.time_ns, 0) : event.name;
  event.name = series.name;
  event.count = ++series.count;
  series.last_ns = event.time_ns;
  spdlog::info("node {}: {}", node_.options().name, clean_text(event.note));
  if (pending_.size() == kMaxPending) {
    pending_.pop_front();
    ++failures_;
  }
  pending_.push_back({.event = std::move(event)});
}

void NodeEvents::write(const std::string& node_uid) {
  if (pending_.empty()) error_.clear();
  while (!pending_.empty() && monotonic_now() >= next_try_ns_) {
    Pending& next = pending_.front();
    if (Status done = node_.write_event(node_uid, next.event); !done) {
      if (++next.attempts >= kMaxAttempts) pending_.pop_front();
      if (error_ != done.error().text) spdlog::warn("{}", done.error().text);
      error_ = done.error().text;
      ++failures_;
      next_try_ns_ = monotonic_now() + to_ns(backoff_.next(client_.retry_after()));
      return;
    }
    ++written_;
    error_.clear();
    backoff_.reset();
    pending_.pop_front();
  }
}

}  // namespace vedette
