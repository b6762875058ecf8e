#include "agent/act/decider.h"

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <utility>

#include "agent/act/node_verdict.h"
#include "agent/base/duration.h"
#include "agent/kube/node.h"

namespace vedette {
namespace {

constexpr MonotonicNs kHourNs = 3600ULL * 1'000'000'000ULL;
constexpr MonotonicNs kDayNs = 24 * kHourNs;
constexpr std::size_t kMaxMessage = 1024;  // the API server's bound of an event's note
// Numbers and sentences of the verdict that are no change in substance: as often as the writer's heartbeat,
// whose patch takes them along.
constexpr MonotonicNs kVerdictRenewalNs = 300ULL * 1'000'000'000ULL;
// A clock that was set, as against one that is slewed: a time that is written down again is a patch.
constexpr std::int64_t kClockSetNs = 60'000'000'000;

std::string seconds(double value) {
  return std::to_string(static_cast<long>(std::ceil(value))) + " s";
}

std::string two_digits(double value) {
  return std::to_string(value).substr(0, 4);
}

std::string explain(const Condition& condition, const std::string& addition) {
  std::string text = condition.message;
  if (condition.count > 1 && condition.evidence == Evidence::kEvent) {
    text += " (" + std::to_string(condition.count) + " times)";
  }
  for (const std::string& detail : condition.details) text += "; " + detail;
  if (text.size() + addition.size() > kMaxMessage) text.resize(kMaxMessage - addition.size());
  return text + addition;
}

// By the monotonic clock, reckoned by the clocks of now; before boot it is negative.
std::int64_t monotonic_of(WallNs time_ns, const Instant& now) {
  return static_cast<std::int64_t>(now.monotonic_ns) - static_cast<std::int64_t>(now.wall_ns - time_ns);
}

MonotonicNs nanoseconds(double value_s) {
  return static_cast<MonotonicNs>(value_s * kNsPerSecond);
}

}  // namespace

Decider::Decider(DecideOptions options) : options_(std::move(options)) {
  decision_.mode = options_.mode;
}

void Decider::listen(const Instant& now, const ActState& act) {
  say_ = merged(act.annotated, act.local);
  if (say_.healthy_wall_ns != healthy_wall_ns_) {
    healthy_wall_ns_ = say_.healthy_wall_ns;
    healthy_ns_.reset();
  }
  // A mark in the future is no mark yet: it would hide what nobody has seen.
  if (!healthy_ns_ && healthy_wall_ns_ != 0 && healthy_wall_ns_ <= now.wall_ns)
    healthy_ns_ = monotonic_of(healthy_wall_ns_, now);
}

std::vector<std::string> Decider::drop_set_aside(std::vector<Condition>& conditions, const Instant& now,
                                                 const ActState& act) {
  listen(now, act);
  std::vector<std::string> dropped;
  std::erase_if(conditions, [&](const Condition& condition) {
    if (condition.entity->kind != EntityKind::kNode ||
        !is_set_aside(static_cast<std::int64_t>(condition.evidence_ns)))
      return false;
    dropped.push_back(condition.reason);
    return true;
  });
  return dropped;
}

Decision Decider::update(const Instant& now, const std::vector<Condition>& conditions,
                         const std::vector<EntityPtr>& entities, const ActState& act, bool doubtful_clock) {
  listen(now, act);
  decision_.said = act.annotated;
  record_ = act.record;
  decision_.paused = say_.paused_until_wall_ns > now.wall_ns;
  adopt(now, act, doubtful_clock);
  follow_clock(now);
  decision_.policy = options_.policy;
  decision_.held_back.clear();
  decision_.hold = Hold::kNone;
  decision_.judgements.clear();
  for (auto& [reason, claim] : claims_) claim.active = false;
  forget(now, conditions);
  const bool ready = seen_state_ || options_.mode == Mode::kObserve;
  for (const Condition& condition : conditions) {
    decision_.judgements.push_back(ready ? judge(condition, entities, now)
                                         : Judgement{condition.reason, condition.entity->name, "", false,
                                                     "waits: the node object was not read yet"});
  }
  expire(now, entities);
  const std::uint64_t generation = decision_.generation;
  decide(now, act);
  advise();
  if (describe_node(conditions, now) && generation != 0) decision_.generation = generation + 1;
  decision_.next = next(now, act.tainted);
  return decision_;
}

// What an earlier process knew of this node: its taint, how long that outlives its evidence, what came again
// within a day, and what it said of the node.
void Decider::adopt(const Instant& now, const ActState& act, bool doubtful_clock) {
  if (seen_state_ || !act.known) return;
  seen_state_ = true;
  found_ = act.found_conditions;
  found_until_ns_ = now.monotonic_ns + nanoseconds(options_.recovery_s);
  found_ns_ = static_cast<std::int64_t>(now.monotonic_ns);
  double recovery_s = options_.recovery_s;
  for (const Remembered& one : remembered_of(act.found_verdict)) {
    const bool over = one.recovery_s <= 0;
    if (!over && one.reason == act.taint_reason) recovery_s = one.recovery_s;
    if (over ? one.ended_wall_ns == 0 : one.relapses == 0) continue;
    // What ended longer ago, before nobody looked, is forgotten in this tick: nobody said so yet. By a clock
    // that may be days ahead (at boot, before it was ever set) nothing is: then, and where it lies in the
    // future, all of the day is to come.
    MonotonicNs left = kDayNs;
    if (over && !doubtful_clock && one.ended_wall_ns < now.wall_ns)
      left -= std::min(kDayNs, now.wall_ns - one.ended_wall_ns);
    past_.try_emplace(one.reason,
                      over ? Past{now.monotonic_ns + left, one.ended_wall_ns, one.relapses, 0}
                           : Past{now.monotonic_ns + left, now.wall_ns, one.relapses, now.monotonic_ns});
  }
  if (!act.adopted || !act.tainted || decision_.taint) return;
  adopted_reason_ = act.taint_reason;
  Claim& found = claims_[adopted_reason_];
  found.effect = parse_effect(act.taint_effect).value_or(Effect::kNoSchedule);
  found.seen_ns = monotonic_of(act.tainted_since_wall_ns, now);
  found.message = "set before this agent started";
  found.since_ns = now.monotonic_ns;
  found.recovery_s = recovery_s;
  found.until_ns = now.monotonic_ns + nanoseconds(recovery_s);
  found.adopted = true;
  decision_.taint = true;
  decision_.effect = to_string(found.effect);
  decision_.reason = act.taint_reason;
  decision_.message = found.message;
  decision_.since_wall_ns = act.tainted_since_wall_ns;
  ++decision_.generation;
}

// What ended in this process is told and remembered by the clock of now: one that was set since would have
// the next process forget it at once, or people look for it at another time.
void Decider::follow_clock(const Instant& now) {
  for (auto& [reason, past] : past_) {
    if (past.ended_ns == 0) continue;
    const auto reckoned = static_cast<std::int64_t>(now.wall_ns - (now.monotonic_ns - past.ended_ns));
    if (std::abs(reckoned - static_cast<std::int64_t>(past.ended_wall_ns)) > kClockSetNs)
      past.ended_wall_ns = static_cast<WallNs>(reckoned);
  }
}

// Recoveries of a day ago. Once none is left, and nothing wants a taint, the node is trusted again; unless
// the trouble is there, be it too doubtful to taint.
void Decider::forget(const Instant& now, const std::vector<Condition>& conditions) {
  std::string newest;
  WallNs ended_wall_ns = 0;
  std::erase_if(past_, [&](const auto& entry) {
    if (now.monotonic_ns < entry.second.until_ns || claims_.contains(entry.first)) return false;
    if (entry.second.ended_wall_ns >= ended_wall_ns) {
      newest = entry.first;
      ended_wall_ns = entry.second.ended_wall_ns;
    }
    return true;
  });
  const auto is_it = [&](const Condition& condition) {
    return condition.reason == newest && condition.entity->kind == EntityKind::kNode;
  };
  if (newest.empty() || !past_.empty() || strongest(true) != claims_.end() ||
      std::ranges::any_of(conditions, is_it)) {
    return;
  }
  decision_.trusted_wall_ns = now.wall_ns;
  decision_.trusted_reason = newest;
  decision_.trusted = "recovered from " + newest + " at " + format_time(ended_wall_ns) +
                      ", a day or more ago, and this agent has not seen it again";
}

Judgement Decider::judge(const Condition& condition, const std::vector<EntityPtr>& entities,
                         const Instant& now) {
  Judgement judgement{condition.reason, condition.entity->name, "", false, ""};
  if (condition.entity->kind != EntityKind::kNode) {
    judgement.why = "never taints: the trouble is not the node's own";
    return judgement;
  }
  const Policy& policy = *options_.policy;
  const std::size_t number = policy.find(condition);
  if (number == policy.rules.size()) {
    withdraw(condition.reason, "the policy was changed");
    judgement.why = "does nothing: no rule is about it";
    return judgement;
  }
  const PolicyRule& rule = policy.rules[number];
  judgement.rule = std::to_string(number + 1) + ": " + describe(rule).about;
  if (rule.effect == Effect::kNone && rule.escalate_to == Effect::kNone) {
    withdraw(condition.reason, "the policy was changed");
    judgement.why = "does nothing: so the rule says";
    return judgement;
  }

  const std::string lack = rule.lacks(record_);
  auto held = claims_.find(condition.reason);
  if (!lack.empty() && held != claims_.end() && held->second.earned) {
    withdraw(condition.reason, "its rule " + lack);
    held = claims_.end();
  }
  const double evidence_s = seconds_between(condition.first_evidence_ns, condition.evidence_ns);
  // An escalation before a restart is one still, as long as the taint is there.
  const bool escalated_before =
      held != claims_.end() && held->second.adopted && held->second.effect == rule.escalate_to;
  const bool escalated =
      rule.escalate_to != Effect::kNone && (escalated_before || evidence_s >= rule.escalate_after_s);
  // But for what is said against it.
  const bool acts = evidence_s >= rule.for_s && (rule.effect != Effect::kNone || escalated);

  const std::string objected =
      objection(condition.reason, static_cast<std::int64_t>(condition.evidence_ns), now);
  if (!objected.empty()) {
    judgement.why = "does nothing: " + objected;
    if (acts && lack.empty()) hold_back(Hold::kVeto, condition.reason + ": " + objected);
    return judgement;
  }
  const auto holds_back = [&](Hold hold, std::string why) {
    hold_back(hold, condition.reason + ": " + why);
    judgement.why = "holds back: " + std::move(why);
    return judgement;
  };
  if (evidence_s < rule.for_s) {
    return holds_back(Hold::kPersistence,
                      "evidence for " + seconds(evidence_s) + ", it takes " + duration_text(rule.for_s));
  }
  if (rule.effect == Effect::kNone && !escalated) {
    judgement.why = std::string(to_string(rule.escalate_to)) + " when evidence has come for " +
                    duration_text(rule.escalate_after_s) + ", " + seconds(evidence_s) + " so far";
    return judgement;
  }
  if (condition.confidence < rule.confidence) {
    return holds_back(
        lack.empty() ? Hold::kConfidence : Hold::kRecord,
        "confidence " + two_digits(condition.confidence) + " is below " + two_digits(rule.confidence));
  }
  std::string why;
  const Effect effect = spared(escalated ? rule.escalate_to : rule.effect, entities, why);
  Claim& made = claim(condition, rule, effect, lack.empty(), now);
  made.escalated = escalated;
  if (!made.earned) {
    const std::string unearned = "its rule " + rule.name + " " + lack;
    made.message = explain(condition, why + "; advised only, for " + unearned);
    return holds_back(Hold::kRecord, unearned);
  }
  made.message = explain(condition, why);
  judgement.acts = true;
  judgement.why = std::string(to_string(effect)) + why;
  if (escalated && evidence_s >= rule.escalate_after_s) {
    judgement.why += ", escalated: evidence has come for " + seconds(evidence_s);
  } else if (escalated) {
    judgement.why += ", escalated before this agent started";
  }
  return judgement;
}

// What may not be moved turns NoExecute into NoSchedule; `why` says so.
Effect Decider::spared(Effect effect, const std::vector<EntityPtr>& entities, std::string& why) const {
  if (effect != Effect::kNoExecute) return effect;
  for (const EntityPtr& entity : entities) {
    if (entity->kind != EntityKind::kPod) continue;
    const std::string pod = entity->namespace_name + "/" + entity->pod_name;
    // Of a pod that the API server has not named yet nobody knows.
    const bool unnamed = entity->pod_name.empty() && !options_.policy->critical.empty();
    if (!unnamed && !options_.policy->is_critical(pod)) continue;
    why =
        " instead of NoExecute, for " + (unnamed ? "nobody knows yet whether " + entity->name + " is critical"
                                                 : "the critical pod " + pod + " runs here");
    return Effect::kNoSchedule;
  }
  return effect;
}

Decider::Claim& Decider::claim(const Condition& condition, const PolicyRule& rule, Effect effect, bool earned,
                               const Instant& now) {
  const auto [position, fresh] = claims_.try_emplace(condition.reason);
  Claim& claim = position->second;
  const auto past = past_.find(condition.reason);
  if (fresh) claim.since_ns = condition.since.monotonic_ns;
  if (earned && (fresh || !claim.earned) && past != past_.end()) ++past->second.relapses;
  const unsigned relapses = past == past_.end() ? 0 : past->second.relapses;
  const double recovery_s = rule.recovery_s.value_or(options_.recovery_s) *
                            std::exp2(std::min(relapses, options_.policy->relapse_doublings));
  claim.earned = earned;
  claim.effect = effect;
  claim.recovery_s = recovery_s;
  claim.evidence_ns = condition.evidence_ns;
  claim.seen_ns = static_cast<std::int64_t>(condition.evidence_ns);
  claim.about.emplace();
  claim.about->reason = condition.reason;
  claim.about->domain = condition.domain;
  claim.about->evidence = condition.evidence;
  claim.about->severity = condition.severity;
  claim.until_ns = std::max(condition.evidence_ns + nanoseconds(recovery_s),
                            now.monotonic_ns + nanoseconds(condition.recovers_in_s));
  claim.active = true;
  return claim;
}

std::string Decider::objection(const std::string& reason, std::int64_t seen_ns, const Instant& now) const {
  if (is_set_aside(seen_ns)) {
    return "marked healthy at " + format_time(say_.healthy_wall_ns) + ", no evidence since";
  }
  const auto veto = say_.vetoes.find(reason);
  if (veto == say_.vetoes.end() || veto->second <= now.wall_ns) return "";
  return veto->second == kForever ? "vetoed" : "vetoed " + until_text(veto->second);
}

// A claim that an earlier policy, or an earlier record, gave.
void Decider::withdraw(const std::string& reason, std::string why) {
  if (claims_.erase(reason) == 0) return;
  ended_by_ = std::move(why);
  past_.erase(reason);
}

// What the policy, the record and the pods of now make of a claim whose condition is gone. Why it ends;
// empty: it stands, be it milder.
std::string Decider::review(Claim& claim, const std::vector<EntityPtr>& entities) const {
  if (!claim.about) return "";
  const Policy& policy = *options_.policy;
  const std::size_t number = policy.find(*claim.about);
  if (number == policy.rules.size()) return "the policy was changed";
  const PolicyRule& rule = policy.rules[number];
  const Effect effect = claim.escalated ? rule.escalate_to : rule.effect;
  if (effect == Effect::kNone) return "the policy was changed";
  const std::string lack = rule.lacks(record_);
  if (claim.earned && !lack.empty()) return "its rule " + lack;
  std::string why;
  claim.effect = spared(effect, entities, why);
  return "";
}

void Decider::expire(const Instant& now, const std::vector<EntityPtr>& entities) {
  for (auto position = claims_.begin(); position != claims_.end();) {
    auto& [reason, claim] = *position;
    // No relapse: an operator says that there was nothing, or the policy does.
    std::string why = objection(reason, claim.seen_ns, now);
    if (why.empty() && !claim.active) why = review(claim, entities);
    if (!why.empty()) {
      ended_by_ = std::move(why);
      past_.erase(reason);
      position = claims_.erase(position);
      continue;
    }
    if (claim.active || now.monotonic_ns < claim.until_ns) {
      ++position;
      continue;
    }
    ended_by_.clear();
    if (claim.earned || past_.contains(reason)) {
      Past& past = past_[reason];
      past.until_ns = now.monotonic_ns + kDayNs;
      past.ended_wall_ns = now.wall_ns;
      past.ended_ns = now.monotonic_ns;
    }
    position = claims_.erase(position);
  }
}

// The oldest of the strongest: what joins later does not change the reason.
Decider::Claims::const_iterator Decider::strongest(bool earned) const {
  auto best = claims_.end();
  for (auto each = claims_.begin(); each != claims_.end(); ++each) {
    const Claim& claim = each->second;
    if (claim.earned != earned) continue;
    const bool better = best == claims_.end() || claim.effect > best->second.effect ||
                        (claim.effect == best->second.effect && claim.since_ns < best->second.since_ns);
    if (better) best = each;
  }
  return best;
}

// The first that is said in a tick stands, but one that only waits.
void Decider::hold_back(Hold hold, std::string why) {
  if (decision_.hold != Hold::kNone && (waits(hold) || !waits(decision_.hold))) return;
  decision_.hold = hold;
  decision_.held_back = std::move(why);
}

void Decider::decide(const Instant& now, const ActState& act) {
  while (!taints_.empty() && taints_.front() + kHourNs <= now.monotonic_ns) taints_.pop_front();
  if (decision_.generation == 0) {
    if (!act.known && options_.mode != Mode::kObserve) return;
    decision_.since_wall_ns = now.wall_ns;
    decision_.generation = 1;
  }
  const auto cause = strongest(true);
  if (decision_.paused) {
    if (cause != claims_.end() && !decision_.taint) {
      decision_.hold = Hold::kPause;
      decision_.held_back = cause->first + ": paused " + until_text(say_.paused_until_wall_ns);
    }
    return;
  }
  if (cause == claims_.end()) {
    if (decision_.taint) {
      decision_.taint = false;
      decision_.reason.clear();
      decision_.message = ended_by_.empty() ? "recovered" : ended_by_;
      decision_.since_wall_ns = now.wall_ns;
      decision_.evidence_ns = 0;
      ++decision_.generation;
    }
    return;
  }
  const auto& [reason, claim] = *cause;
  if (!decision_.taint && taints_.size() >= options_.max_taints_per_hour) {
    decision_.hold = Hold::kRateLimit;
    decision_.held_back =
        reason + ": already tainted " + std::to_string(taints_.size()) + " times within the hour";
    return;
  }
  decision_.hold = Hold::kNone;
  decision_.held_back.clear();
  if (!decision_.taint) {
    taints_.push_back(now.monotonic_ns);
    decision_.since_wall_ns = now.wall_ns;
  }
  if (!decision_.taint || decision_.reason != reason || decision_.effect != to_string(claim.effect)) {
    decision_.taint = true;
    decision_.reason = reason;
    decision_.effect = to_string(claim.effect);
    decision_.evidence_ns = claim.evidence_ns;
    ++decision_.generation;
  }
  decision_.message = claim.message;
}

void Decider::advise() {
  const auto cause = strongest(false);
  const Effect wanted =
      decision_.taint ? parse_effect(decision_.effect).value_or(Effect::kNone) : Effect::kNone;
  if (cause != claims_.end() && cause->second.effect > wanted) {
    decision_.advice = {std::string(to_string(cause->second.effect)), cause->first, cause->second.message};
  } else if (!decision_.advice.effect.empty()) {
    const bool earned = claims_.contains(decision_.advice.reason);
    decision_.advice = {"", "",
                        earned              ? "its rule has earned it"
                        : ended_by_.empty() ? "recovered"
                                            : ended_by_};
  }
}

std::vector<Remembered> Decider::remembered() const {
  std::vector<Remembered> list;
  const auto relapses = [&](const std::string& reason) {
    const auto past = past_.find(reason);
    return past == past_.end() ? 0 : past->second.relapses;
  };
  for (const auto& [reason, claim] : claims_) {
    if (claim.earned) list.push_back({reason, claim.recovery_s, 0, relapses(reason)});
  }
  for (const auto& [reason, past] : past_) {
    const auto claim = claims_.find(reason);
    if (claim == claims_.end() || !claim->second.earned)
      list.push_back({reason, 0, past.ended_wall_ns, past.relapses});
  }
  if (list.size() > kMaxRemembered) list.resize(kMaxRemembered);
  return list;
}

// A restart is no recovery: what the earlier process said of the node stands until its claim ends, or until
// what it knew would have been forgotten.
std::vector<WantedCondition> Decider::wanted_conditions(const std::vector<Condition>& conditions,
                                                        const Instant& now) const {
  std::vector<WantedCondition> wanted = node_conditions(conditions);
  if (is_set_aside(found_ns_)) return wanted;
  for (const WantedCondition& found : found_) {
    const bool stands =
        found.reason == adopted_reason_ ? claims_.contains(found.reason) : now.monotonic_ns < found_until_ns_;
    if (!stands) continue;
    for (WantedCondition& condition : wanted) {
      if (condition.type == found.type && condition.healthy) condition = found;
    }
  }
  return wanted;
}

// True: in substance something else than before. A number in a message is none.
bool Decider::describe_node(const std::vector<Condition>& conditions, const Instant& now) {
  std::vector<WantedCondition> wanted = wanted_conditions(conditions, now);
  decision_.remembered = remembered();
  std::string substance = verdict_json(decision_, conditions, VerdictDetail::kSubstance);
  const bool same = substance == verdict_substance_ &&
                    std::ranges::equal(wanted, decision_.conditions, [](const auto& a, const auto& b) {
                      return a.healthy == b.healthy && a.reason == b.reason;
                    });
  decision_.conditions = std::move(wanted);
  if (!same || now.monotonic_ns >= verdict_ns_ + kVerdictRenewalNs) {
    decision_.verdict = verdict_json(decision_, conditions, VerdictDetail::kFull);
    verdict_substance_ = std::move(substance);
    verdict_ns_ = now.monotonic_ns;
  }
  return !same;
}

std::string Decider::next(const Instant& now, bool tainted) const {
  if (decision_.generation == 0) return "waits for the API server: the node object was not read yet";
  const std::string verb = options_.mode == Mode::kEnforce ? "will" : "would";
  if (decision_.paused) {
    return "paused " + until_text(say_.paused_until_wall_ns) + ": " +
           (decision_.taint ? "the taint stays as it is"
            : !tainted      ? "no taint"
            : options_.mode == Mode::kObserve
                ? "the taint is none of this agent's"
                : "the taint, which is none of this agent's, stays until then and is taken away");
  }
  if (decision_.taint) {
    MonotonicNs until_ns = now.monotonic_ns;
    for (const auto& [reason, claim] : claims_) {
      if (claim.earned) until_ns = std::max(until_ns, claim.until_ns);
    }
    return verb + " lift the taint in " + seconds(seconds_between(now.monotonic_ns, until_ns)) +
           " unless there is new evidence";
  }
  if (!decision_.held_back.empty()) return "holds back: " + decision_.held_back;
  if (!past_.empty()) {
    const auto& [reason, past] =
        *std::ranges::max_element(past_, {}, [](const auto& entry) { return entry.second.until_ns; });
    return "watches: recovered from " + reason + " at " + format_time(past.ended_wall_ns) +
           "; should it come back before " + format_time(past.ended_wall_ns + kDayNs) +
           ", the taint stays longer; after that the node is trusted again";
  }
  for (const PolicyRule& rule : options_.policy->rules) {
    if (rule.effect == Effect::kNone) continue;
    return verb + " taint (" + std::string(to_string(rule.effect)) + ") on " + describe(rule).about;
  }
  return "nothing: no rule of the policy taints";
}

}  // namespace vedette
