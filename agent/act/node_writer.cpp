#include "agent/act/node_writer.h"

#include <algorithm>
#include <cstdio>
#include <utility>

#include <pthread.h>
#include <spdlog/spdlog.h>

#include "agent/act/policy.h"

namespace vedette {
namespace {

using std::chrono::milliseconds;

constexpr std::size_t kMaxMeasured = 1024;  // as ActState promises
// A node has a handful of writers; each round lets at least one of them through.
constexpr unsigned kMaxConflicts = 64;
constexpr milliseconds kConflictPause{4};  // about one GET + PATCH of a competitor
constexpr double kHeartbeatSpread = 1.2;
constexpr milliseconds kStuckPause{1'000};
constexpr milliseconds kOwingPause{1'000};  // a slot that is to be given back: someone may need it

bool taint_is_as_wanted(const NodeState& seen, const Decision& wanted) {
  if (!wanted.taint) return seen.our_taints.empty();
  return seen.our_taints.size() == 1 && seen.our_taints[0].value == taint_value(wanted.reason) &&
         seen.our_taints[0].effect == wanted.effect;
}

// To evict pods, say, where the taint only kept new ones away.
bool is_harsher(const NodeState& seen, const Decision& wanted) {
  if (!wanted.taint || seen.our_taints.empty()) return false;
  const auto strength = [](const std::string& effect) {
    return parse_effect(effect).value_or(Effect::kNone);
  };
  return std::ranges::all_of(seen.our_taints, [&](const Taint& present) {
    return strength(present.effect) < strength(wanted.effect);
  });
}

// A number in `held_back` is no change.
bool asks_the_same(const Decision& a, const Decision& b) {
  return a.generation == b.generation && a.said == b.said && a.hold == b.hold &&
         substance_of(a.held_back) == substance_of(b.held_back) && a.advice.effect == b.advice.effect &&
         a.trusted_wall_ns == b.trusted_wall_ns;
}

bool may_taint(const Decision& wanted) {
  return wanted.mode == Mode::kEnforce && !wanted.paused;
}

// An advising agent sets none, but takes away what an enforcing one before it has left.
bool may_change_taint(const Decision& wanted) {
  return wanted.taint ? may_taint(wanted) : !wanted.paused;
}

std::optional<Taint> wanted_taint(const NodeState& seen, const Decision& wanted, const std::string& key) {
  if (!wanted.taint) return std::nullopt;
  Taint taint{.key = key, .value = taint_value(wanted.reason), .effect = wanted.effect, .time_added = {}};
  // A new reason is no new taint. A new effect is: NoExecute counts tolerationSeconds from timeAdded.
  for (const Taint& present : seen.our_taints) {
    if (present.effect != taint.effect || present.time_added.empty()) continue;
    if (taint.time_added.empty() || present.time_added < taint.time_added)
      taint.time_added = present.time_added;
  }
  if (taint.time_added.empty()) taint.time_added = format_time(wall_now());
  return taint;
}

}  // namespace

Result<std::unique_ptr<NodeWriter>> NodeWriter::make(NodeWriterOptions options) {
  if (options.node.name.empty()) return fail("kube.node_name: empty, expected the name of this node");
  std::stop_source stop;
  auto client = KubeClient::make(options.client, stop.get_token());
  if (!client) return tl::unexpected(client.error());
  return std::unique_ptr<NodeWriter>(new NodeWriter(std::move(options), std::move(stop), std::move(*client)));
}

NodeWriter::NodeWriter(NodeWriterOptions options, std::stop_source stop, KubeClient client)
    : options_(std::move(options)),
      stop_(std::move(stop)),
      client_(std::move(client)),
      node_(client_, options_.node),
      budget_(client_, options_.node, options_.budget),
      events_(client_, node_, Backoff(options_.first_backoff, options_.max_backoff)),
      heartbeat_(options_.heartbeat),
      until_heartbeat_(options_.heartbeat),
      held_back_(options_.held_back),
      taint_brake_(options_.first_correction, options_.max_correction),
      status_brake_(options_.first_correction, options_.max_correction),
      backoff_(options_.first_backoff, options_.max_backoff),
      hurried_backoff_(std::min(options_.first_backoff, options_.max_pending_backoff),
                       options_.max_pending_backoff) {
  publish_state();
  thread_ = std::jthread([this] { run(); });
}

NodeWriter::~NodeWriter() {
  stop_.request_stop();
}

void NodeWriter::publish(const std::shared_ptr<const Snapshot>& snapshot) {
  // Several snapshots a second say the same; only a change is worth waking the thread.
  if (snapshot->decision.generation == 0) {
    const bool waits =
        snapshot->decision.mode == Mode::kEnforce &&
        std::ranges::any_of(snapshot->conditions, [](const Condition& condition) {
          return condition.entity->kind == EntityKind::kNode && condition.severity == Severity::kUnhealthy;
        });
    if (!trouble_waits_.exchange(waits) && waits) wake_.set(0);
    return;
  }
  decided_ns_ = monotonic_now();
  const auto before = wanted_.get();
  const bool same = before && asks_the_same(*before, snapshot->decision);
  if (same && before->verdict == snapshot->decision.verdict) return;
  const bool decided = !before || before->generation != snapshot->decision.generation;
  wanted_.set(std::shared_ptr<const Decision>(snapshot, &snapshot->decision));
  // The numbers of a verdict go with the heartbeat, and what is only told does not end a backoff.
  if (decided || (!same && published_.get()->connected)) wake_.set(0);
}

void NodeWriter::run() {
  ::pthread_setname_np(::pthread_self(), "node_writer");
  const std::stop_token stop = stop_.get_token();
  sleep_for(backoff_.jittered(options_.start_spread, 0), stop);
  while (!stop.stop_requested()) {
    milliseconds pause;
    bool asked_to_wait = false;
    if (const double silent_s = stuck_s(); silent_s > 0) {
      char text[64];
      std::snprintf(text, sizeof text, "nothing was judged for %.0f s: nothing is renewed", silent_s);
      if (!std::exchange(stuck_, true)) spdlog::error("node {}: {}", options_.node.name, text);
      state_.last_error = text;
      publish_state();
      wake_.wait(wake_version_, stop, kStuckPause);
      continue;
    }
    stuck_ = false;
    taint_brake_.begin();
    status_brake_.begin();
    const bool was_away = refusal_.away;
    const Status done = match(wanted_.get());
    taint_brake_.end();
    status_brake_.end();
    if (done) {
      if (!state_.last_error.empty() && events_.error().empty())
        spdlog::info("node {}: the API server answers again", options_.node.name);
      state_.connected = true;
      state_.last_error = events_.error();
      backoff_.reset();
      hurried_backoff_.reset();
      refusal_ = {};
      failing_since_ns_ = 0;
      pause = pause_after_success();
    } else if (stop.stop_requested()) {
      break;
    } else {
      if (state_.last_error != done.error().text) spdlog::warn("{}", done.error().text);
      state_.connected = false;
      state_.last_error = done.error().text;
      ++failures_;
      if (failing_since_ns_ == 0) failing_since_ns_ = monotonic_now();
      // Refused by a server that is only just back, and does not know all of its rules yet: soon again.
      if (was_away && !refusal_.away) backoff_.reset();
      asked_to_wait = refusal_.asked.count() > 0;
      pause = pause_after_failure();
    }
    publish_state();
    const MonotonicNs until = monotonic_now() + to_ns(pause);
    if (asked_to_wait) sleep_for(std::min(pause, taint_wait()), stop);
    // No other news is worth more than what the server said.
    do {
      const MonotonicNs now = std::min(monotonic_now(), until);
      wake_.wait(wake_version_, stop, std::chrono::ceil<milliseconds>(std::chrono::nanoseconds(until - now)));
    } while (asked_to_wait && !stop.stop_requested() && monotonic_now() < until &&
             !taint_waits(wanted_.get().get()));
  }
}

void NodeWriter::publish_state() {
  state_.failures = failures_ + events_.failures();
  state_.events_written = events_.written();
  published_.set(state_);
}

// Seconds since the newest decision, if the tick thread must be stuck; else 0.
double NodeWriter::stuck_s() const {
  const MonotonicNs decided = decided_ns_;
  const MonotonicNs now = monotonic_now();
  return decided != 0 && now > decided + to_ns(options_.stuck) ? seconds_between(decided, now) : 0;
}

milliseconds NodeWriter::pause_after_success() {
  if (!watch_) {
    auto made =
        NodeWatch::make(options_.client, options_.node, options_.watch, last_, [this] { wake_.set(0); });
    if (made) watch_ = std::move(*made);
  }
  // Without a watch it asks; spread, so that a rack that was powered on together does not stay together.
  milliseconds pause = watch_ && watch_->node() ? until_heartbeat_ : backoff_.jittered(options_.resync, 0.75);
  const MonotonicNs now = monotonic_now();
  for (const MonotonicNs until :
       {held_until_ns_, settle_until_ns_, routine_from_ns_, events_.next_try_ns()}) {
    if (until > now)
      pause = std::min(pause, std::chrono::ceil<milliseconds>(std::chrono::nanoseconds(until - now)));
  }
  pause = std::min({pause, taint_brake_.left(), status_brake_.left()});
  return budget_.owes() || budget_.doubtful() ? std::min(pause, kOwingPause) : pause;
}

milliseconds NodeWriter::pause_after_failure() {
  const auto wanted = wanted_.get();
  const auto asked = refusal_.asked;
  // Of a taint that is held back all that can be shown is what is told of it.
  const std::uint64_t shown = is_held_back(wanted.get()) ? told_generation_ : state_.acked_generation;
  const bool pending = asks(wanted.get()) && wanted->generation != shown;
  if (refusal_.of_taint && taint_waits(wanted.get())) {
    // The taint alone hurries: not even for it is a server in trouble asked for all the rest as often.
    const MonotonicNs now = monotonic_now();
    if (!refusal_.away && now >= routine_from_ns_) routine_from_ns_ = now + to_ns(backoff_.next(asked));
    return asked.count() > 0 ? taint_wait() : hurried_backoff_.next(asked);
  }
  if (refusal_.away && pending && asked.count() == 0) return hurried_backoff_.next(asked);
  const milliseconds pause = backoff_.next(asked);
  if (asked.count() > 0) routine_from_ns_ = monotonic_now() + to_ns(pause);
  return pause;
}

// The node, as it was seen last, has not the taint that is wanted, and could have it now; or nobody could
// decide yet.
bool NodeWriter::taint_waits(const Decision* wanted) const {
  if (!state_.known) return trouble_waits_;
  return asks(wanted) && may_change_taint(*wanted) && !taint_is_as_wanted(last_, *wanted) &&
         !is_held_back(wanted);
}

// A taint is wanted that may not be set before held_until_ns_.
bool NodeWriter::is_held_back(const Decision* wanted) const {
  return wanted != nullptr && wanted->taint && last_.our_taints.empty() && monotonic_now() < held_until_ns_;
}

// Routinely what the watch saw last, unless an answer since then was newer (versions are numbers that grow).
Result<NodeState> NodeWriter::look(bool newest) {
  if (const auto watched = watch_ && !newest ? watch_->node() : nullptr) {
    const std::string& a = watched->resource_version;
    const std::string& b = last_.resource_version;
    return a.size() < b.size() || (a.size() == b.size() && a < b) ? last_ : *watched;
  }
  return node_.read(newest ? KubeNode::Freshness::kNewest : KubeNode::Freshness::kCached);
}

bool NodeWriter::asks(const Decision* wanted) const {
  return wanted != nullptr && wanted->mode != Mode::kObserve && wanted->generation != 0;
}

Status NodeWriter::match(std::shared_ptr<const Decision> wanted) {
  refusal_ = {};
  const auto note_refusal = [this](bool of_taint) {
    refusal_.away = client_.away();
    refusal_.asked = client_.retry_after();
    refusal_.of_taint |= of_taint && (refusal_.away || client_.refused_for_now());
  };
  if (!asks(wanted.get()) || !state_.known) {
    // A first read may not be a cached one: it decides what is adopted.
    auto seen = look(!state_.known);
    if (!seen) note_refusal(true);
    if (!seen) return tl::unexpected(seen.error());
    note_node(*seen, nullptr);
    publish_state();
    if (!asks(wanted.get())) return {};
  }
  // What is refused does not hold back what comes after it (a slot or a taint the conditions, these the
  // events), unless nobody answers, or the server asks for a pause.
  const auto gives_up = [&](bool of_taint) {
    note_refusal(of_taint);
    return refusal_.away || refusal_.asked.count() > 0;
  };
  auto seen = match_taint(wanted);
  if (!asks(wanted.get())) return {};
  if (!seen && gives_up(true)) return tl::unexpected(seen.error());
  Status kept;
  if (!seen) {
    kept = tl::unexpected(seen.error());
    seen = last_;
  }
  const std::string effect = wanted->taint ? wanted->effect : "";
  const bool done = state_.taint_effect == effect || (wanted->mode == Mode::kAdvise && !wanted->paused);
  if (done) events_.tell_taint(*wanted, last_);
  events_.tell_advice(*wanted);
  events_.tell_trust(*wanted);
  publish_state();
  if (monotonic_now() < routine_from_ns_) return kept;

  if (Status slot = keep_slot(*seen, *wanted); kept) kept = std::move(slot);
  events_.tell_hold(*wanted, state_.tainted, hold_, state_.held_back);
  if (!kept && gives_up(false)) return kept;
  auto after = match_status(std::move(*seen), *wanted);
  if (!after && gives_up(false)) return tl::unexpected(after.error());
  if (after) {
    told_generation_ = wanted->generation;
    if (after->our_annotations[kVerdictAnnotation] == wanted->verdict) told_verdict_ = wanted->verdict;
  }
  if (after && (state_.tainted == wanted->taint || !may_taint(*wanted)))
    state_.acked_generation = wanted->generation;
  events_.write(last_.uid);
  if (!after) return tl::unexpected(after.error());
  return kept;
}

// `wanted` becomes the newest decision whenever a conflict gave time for one.
Result<NodeState> NodeWriter::match_taint(std::shared_ptr<const Decision>& wanted) {
  // What the watch shows is enough to begin with: a patch under a version that is no longer the newest fails.
  // But what it remembers in an outage is no sign of the outage's end: then only an answer is.
  bool newest = failing_since_ns_ != 0 ||
                (wanted->generation != state_.acked_generation && !(watch_ && watch_->node()));
  auto seen = look(newest);
  for (unsigned tries = 0; tries <= kMaxConflicts; ++tries) {
    if (!seen) return seen;
    note_node(*seen, wanted.get());
    if (!asks(wanted.get()) || !may_change_taint(*wanted) || taint_is_as_wanted(*seen, *wanted)) return seen;
    if (wanted->generation == state_.acked_generation && !taint_brake_.frees()) return seen;
    // The node says what was not yet known when this was decided: perhaps to leave it alone.
    if (wanted->said != state_.annotated) return seen;
    if (is_harsher(*seen, *wanted) && monotonic_now() < settle_until_ns_) return seen;
    if (wanted->taint && seen->our_taints.empty()) {
      if (const MonotonicNs now = monotonic_now(); now < held_until_ns_) {
        // By a mass event that came with an earlier trouble: of this one it was not said yet.
        if (state_.held_back.empty()) {
          hold_back(Hold::kMassEvent, "not tainted: " + budget_.reason(),
                    std::chrono::nanoseconds(held_until_ns_ - now));
        }
        return seen;
      }
      if (is_paused(*seen)) return seen;
      const auto answer = ask_for_slot(*seen, newest, "not tainted");
      if (!answer) return tl::unexpected(answer.error());
      if (*answer == TaintBudget::Answer::kReadAgain) {
        newest = true;
        seen = node_.read();
        continue;
      }
      if (*answer != TaintBudget::Answer::kGranted) return seen;
    }
    auto written = node_.write_taint(*seen, wanted_taint(*seen, *wanted, options_.node.taint_key));
    if (!written) return tl::unexpected(written.error());
    if (*written) {
      ++state_.patches;
      if (wanted->generation == state_.acked_generation) taint_brake_.note();
      events_.note_patch(*seen, *wanted);
      note_node(**written, wanted.get());
      return std::move(**written);
    }
    ++state_.conflicts;
    // The first retry goes at once: most conflicts are a single write of the kubelet.
    if (tries > 0) {
      wake_.wait(wake_version_, stop_.get_token(), backoff_.jittered(kConflictPause, 0));
    }
    wanted = wanted_.get();
    newest = true;
    seen = node_.read();
  }
  return fail("node " + options_.node.name + ": " + std::to_string(kMaxConflicts) +
              " conflicts in a row with other writers of the node object");
}

// The breakers: this node was tainted often enough, or the API server is only just back.
bool NodeWriter::is_paused(const NodeState& seen) {
  constexpr WallNs kWindowNs = 3600ULL * 1'000'000'000ULL;
  const WallNs now = wall_now();
  std::vector<WallNs> recent = seen.taint_times;
  std::erase_if(recent, [&](WallNs time) { return time + kWindowNs <= now || time > now; });
  if (recent.size() >= options_.max_taints_per_hour) {
    const WallNs oldest = recent[recent.size() - options_.max_taints_per_hour];
    hold_back(Hold::kRateLimit,
              "not tainted: already tainted " + std::to_string(recent.size()) + " times within the hour",
              std::chrono::nanoseconds(oldest + kWindowNs - now));
    return true;
  }
  const MonotonicNs monotonic = monotonic_now();
  if (monotonic >= settle_until_ns_) return false;
  hold_back(Hold::kOutage,
            "not tainted: the API server was away; the verdict must hold until the cluster has settled",
            std::chrono::nanoseconds(settle_until_ns_ - monotonic));
  return true;
}

void NodeWriter::hold_back(Hold hold, const std::string& reason, std::chrono::nanoseconds pause) {
  hold_ = hold;
  held_until_ns_ = monotonic_now() + to_ns(pause);
  if (state_.held_back.empty()) spdlog::warn("node {}: {}", options_.node.name, reason);
  state_.held_back = reason;
}

Result<TaintBudget::Answer> NodeWriter::ask_for_slot(const NodeState& seen, bool newest,
                                                     const std::string& what) {
  using Answer = TaintBudget::Answer;
  auto answer = budget_.take(seen, newest);
  if (!answer || *answer == Answer::kGranted || *answer == Answer::kReadAgain) return answer;
  const bool mass = *answer == Answer::kMassEvent;
  hold_back(mass ? Hold::kMassEvent : Hold::kBudget, what + ": " + budget_.reason(),
            backoff_.jittered(mass ? options_.mass_pause : held_back_, 0.5));
  held_back_ = std::min(held_back_ * 2, options_.max_held_back);
  return answer;
}

// The slot follows the taint. A taint that was found without one (set before there was a budget, or its lease
// was deleted) stays, for the node is no healthier by it; it takes a slot as soon as there is one.
Status NodeWriter::keep_slot(const NodeState& seen, const Decision& wanted) {
  if (state_.tainted) {
    auto held = budget_.renew(seen);
    if (!held) return tl::unexpected(held.error());
    if (!*held) {
      if (monotonic_now() < held_until_ns_) return {};
      const auto answer = ask_for_slot(seen, false, "keeps its taint beyond the budget");
      if (!answer) return tl::unexpected(answer.error());
      if (*answer != TaintBudget::Answer::kGranted) return {};
    }
  } else if (wanted.taint && may_taint(wanted)) {
    return {};  // held back
  }
  state_.held_back.clear();
  held_back_ = options_.held_back;
  // A mass event is not over because this node is well.
  if (state_.tainted || hold_ != Hold::kMassEvent) {
    hold_ = Hold::kNone;
    held_until_ns_ = 0;
  }
  Status done = state_.tainted ? budget_.release_spare() : budget_.release();
  state_.slot = budget_.slot();
  return done;
}

// All of them in one patch when one differs: an object of the node's size is written either way.
Result<NodeState> NodeWriter::match_status(NodeState seen, const Decision& wanted) {
  const WallNs now = wall_now();
  const bool decided = wanted.generation != told_generation_;
  // What keeps a slot from being given back is that the node has not changed: this changes it.
  bool due = budget_.owes();
  bool changed = false;
  milliseconds oldest{0};
  std::vector<NodeCondition> conditions;
  for (const WantedCondition& condition : wanted.conditions) {
    NodeCondition made{.type = condition.type,
                       .status = condition.healthy ? "True" : "False",
                       .reason = condition.reason,
                       .message = condition.message,
                       .heartbeat_ns = now,
                       .transition_ns = now};
    const NodeCondition& present = seen.our_conditions[made.type];
    const bool same = present.status == made.status && present.reason == made.reason;
    const bool news = decided && present.message != made.message;
    // One that others took away, or its time, is as changed as one with another status.
    const bool dated = present.heartbeat_ns != 0;
    const auto age = std::chrono::floor<milliseconds>(
        std::chrono::nanoseconds(dated ? static_cast<std::int64_t>(now - present.heartbeat_ns) : 0));
    oldest = std::max(oldest, age);
    changed |= !same || !dated;
    due |= news || age.count() < 0 || age >= heartbeat_;
    if (present.status == made.status && present.transition_ns != 0) {
      made.transition_ns = present.transition_ns;
    }
    conditions.push_back(std::move(made));
  }
  std::map<std::string, std::string> annotations;
  if (!wanted.verdict.empty() && seen.our_annotations[kVerdictAnnotation] != wanted.verdict) {
    annotations[kVerdictAnnotation] = wanted.verdict;
  }
  until_heartbeat_ = heartbeat_ - oldest;
  // The same verdict in newer numbers waits for the heartbeat; one that others have changed does not.
  changed |= !annotations.empty() && (decided || wanted.verdict == told_verdict_);
  if (!due && (!changed || (!decided && !status_brake_.frees()))) return seen;
  auto after = node_.write_status(conditions, annotations);
  if (!after) return after;
  ++state_.patches;
  if (changed && !decided) status_brake_.note();
  last_ = *after;
  heartbeat_ = backoff_.jittered(std::chrono::floor<milliseconds>(options_.heartbeat * kHeartbeatSpread),
                                 1 / kHeartbeatSpread);
  until_heartbeat_ = heartbeat_;
  return after;
}

void NodeWriter::note_node(const NodeState& seen, const Decision* wanted) {
  const bool was_tainted = state_.tainted;
  state_.connected = true;
  last_ = seen;
  if (const MonotonicNs now = monotonic_now(); failing_since_ns_ != 0 &&
                                               settle_until_ns_ < failing_since_ns_ &&
                                               now - failing_since_ns_ >= to_ns(options_.outage)) {
    settle_until_ns_ = now + to_ns(options_.settle);
  }
  OperatorSay said = say_of(seen.our_annotations);
  if (said.error != state_.annotated.error && !said.error.empty())
    spdlog::warn("node {}: {}", options_.node.name, said.error);
  state_.annotated = std::move(said);
  state_.tainted = !seen.our_taints.empty();
  state_.tainted_since_wall_ns = state_.tainted ? parse_time(seen.our_taints[0].time_added) : 0;
  state_.taint_reason = state_.tainted ? seen.our_taints[0].value : std::string();
  state_.taint_effect = state_.tainted ? seen.our_taints[0].effect : std::string();
  if (!state_.known) {
    state_.known = true;
    state_.adopted = state_.tainted;
    const auto verdict = seen.our_annotations.find(kVerdictAnnotation);
    if (verdict != seen.our_annotations.end()) state_.found_verdict = verdict->second;
    for (const auto& [type, condition] : seen.our_conditions) {
      if (condition.status == "False")
        state_.found_conditions.push_back({type, false, condition.reason, condition.message});
    }
    if (state_.adopted) {
      spdlog::info("node {}: finds its taint {}={} of {}", options_.node.name, options_.node.taint_key,
                   state_.taint_reason, seen.our_taints[0].time_added);
    }
    events_.note_found(seen);
    return;
  }
  if (!state_.tainted) state_.adopted = false;
  const bool newly_tainted = state_.tainted && !was_tainted && wanted != nullptr && wanted->taint;
  if (newly_tainted && wanted->evidence_ns != 0 && wanted->evidence_ns != measured_evidence_ns_) {
    measured_evidence_ns_ = wanted->evidence_ns;
    state_.last_evidence_to_ack_s = seconds_between(wanted->evidence_ns, monotonic_now());
    if (state_.evidence_to_ack_s.size() == kMaxMeasured) {
      state_.evidence_to_ack_s.erase(state_.evidence_to_ack_s.begin());
    }
    state_.evidence_to_ack_s.push_back(state_.last_evidence_to_ack_s);
  }
}

}  // namespace vedette
