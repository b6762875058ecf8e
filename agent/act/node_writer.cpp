#include "agent/act/node_writer.h"

#include <algorithm>
#include <cctype>
#include <cstdio>
#include <utility>

#include <pthread.h>
#include <spdlog/spdlog.h>

#include "agent/act/policy.h"
#include "agent/base/fnv1a.h"

namespace vedette {
namespace {

using std::chrono::milliseconds;

constexpr std::size_t kMaxMeasured = 1024;  // as ActState promises
// Two transitions (taint, lift) for each of the four taints an hour that act/decide allows, and as many words
// on what was held back or advised.
constexpr std::size_t kMaxPendingEvents = 16;
// With the backoff this is about half a minute beyond the end of an outage; an event that is refused for
// another reason (rights, admission) must not be sent for ever.
constexpr unsigned kMaxEventAttempts = 8;
// A node has a handful of writers; each round lets at least one of them through.
constexpr unsigned kMaxConflicts = 64;
constexpr milliseconds kConflictPause{4};  // about one GET + PATCH of a competitor
constexpr double kHeartbeatSpread = 1.2;
constexpr milliseconds kStuckPause{1'000};
constexpr milliseconds kOwingPause{1'000};  // a slot that is to be given back: someone may need it
constexpr std::size_t kMaxTaintValue = 63;  // of a label value
// As long as the API server keeps an event that nothing renews (--event-ttl): later there is none to
// continue.
constexpr WallNs kSeriesNs = 3600ULL * 1'000'000'000ULL;
constexpr std::size_t kMaxEventStem = 230;  // 253 for an object's name, less "." and 16 digits
// What holds a taint back may come and go with every tick (a confidence near its bound): told as rarely as
// the condition is renewed.
constexpr WallNs kSameHoldNs = 300ULL * 1'000'000'000ULL;

// A label value: letters, digits, '-', '_', '.', beginning and ending with a letter or digit.
std::string taint_value(const std::string& reason) {
  std::string value;
  for (const char c : reason.substr(0, kMaxTaintValue)) {
    const bool allowed = std::isalnum(static_cast<unsigned char>(c)) != 0 || c == '-' || c == '_' || c == '.';
    value += allowed ? c : '-';
  }
  const auto alnum = [](char c) { return std::isalnum(static_cast<unsigned char>(c)) != 0; };
  value.erase(value.begin(), std::find_if(value.begin(), value.end(), alnum));
  value.erase(std::find_if(value.rbegin(), value.rend(), alnum).base(), value.end());
  return value;
}

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
      heartbeat_(options_.heartbeat),
      until_heartbeat_(options_.heartbeat),
      held_back_(options_.held_back),
      taint_brake_(options_.first_correction, options_.max_correction),
      status_brake_(options_.first_correction, options_.max_correction),
      backoff_(options_.first_backoff, options_.max_backoff),
      hurried_backoff_(std::min(options_.first_backoff, options_.max_pending_backoff),
                       options_.max_pending_backoff),
      events_backoff_(options_.first_backoff, options_.max_backoff) {
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
      if (!state_.last_error.empty() && events_error_.empty())
        spdlog::info("node {}: the API server answers again", options_.node.name);
      state_.connected = true;
      state_.last_error = events_error_;
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
      ++state_.failures;
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
  for (const MonotonicNs until : {held_until_ns_, settle_until_ns_, routine_from_ns_, events_from_ns_}) {
    if (until > now)
      pause = std::min(pause, std::chrono::ceil<milliseconds>(std::chrono::nanoseconds(until - now)));
  }
  pause = std::min({pause, taint_brake_.left(), status_brake_.left()});
  return budget_.owes() || budget_.doubtful() ? std::min(pause, kOwingPause) : pause;
}

milliseconds NodeWriter::pause_after_failure() {
  const auto wanted = wanted_.get();
  const auto asked = refusal_.asked;
  const bool pending = asks(wanted.get()) && wanted->generation != state_.acked_generation;
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

// The node, as it was seen last, has not the taint that is wanted; or nobody could decide yet.
bool NodeWriter::taint_waits(const Decision* wanted) const {
  if (!state_.known) return trouble_waits_;
  return asks(wanted) && may_change_taint(*wanted) && !taint_is_as_wanted(last_, *wanted);
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
  if (done && announced_ != effect) tell_taint(*wanted);
  if (advised_ != wanted->advice.effect) tell_advice(*wanted);
  if (told_trusted_ns_ != wanted->trusted_wall_ns) tell_trust(*wanted);
  publish_state();
  if (monotonic_now() < routine_from_ns_) return kept;

  if (Status slot = keep_slot(*seen, *wanted); kept) kept = std::move(slot);
  tell_hold(*wanted);
  if (!kept && gives_up(false)) return kept;
  auto after = match_status(std::move(*seen), *wanted);
  if (!after && gives_up(false)) return tl::unexpected(after.error());
  if (after) {
    told_generation_ = wanted->generation;
    if (after->our_annotations[kVerdictAnnotation] == wanted->verdict) told_verdict_ = wanted->verdict;
  }
  if (after && (state_.tainted == wanted->taint || !may_taint(*wanted)))
    state_.acked_generation = wanted->generation;
  write_events();
  if (!after) return tl::unexpected(after.error());
  return kept;
}

// `wanted` becomes the newest decision whenever a conflict gave time for one.
Result<NodeState> NodeWriter::match_taint(std::shared_ptr<const Decision>& wanted) {
  // What the watch shows is enough to begin with: a patch under a version that is no longer the newest fails.
  bool newest = wanted->generation != state_.acked_generation && !(watch_ && watch_->node());
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
      if (monotonic_now() < held_until_ns_ || is_paused(*seen)) return seen;
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
      // Nobody was told of it by this agent: somebody else set it.
      if (!wanted->taint && announced_.empty()) tell_taken_away(seen->our_taints[0]);
      lifted_ = !wanted->taint;
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
  hold_ = Hold::kNone;
  Status done;
  if (state_.tainted) {
    held_until_ns_ = 0;
    held_back_ = options_.held_back;
    done = budget_.release_spare();
  } else {
    done = budget_.release();
  }
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
    const auto age = std::chrono::floor<milliseconds>(
        std::chrono::nanoseconds(static_cast<std::int64_t>(now - present.heartbeat_ns)));
    oldest = std::max(oldest, age);
    changed |= !same;
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
  uid_ = seen.uid;
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
    announced_ = state_.taint_effect;
    if (state_.adopted) {
      spdlog::info("node {}: finds its taint {}={} of {}", options_.node.name, options_.node.taint_key,
                   state_.taint_reason, seen.our_taints[0].time_added);
      tell_found_taint(seen);
    }
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

void NodeWriter::tell_taint(const Decision& wanted) {
  announced_ = wanted.taint ? wanted.effect : "";
  const std::string& key = options_.node.taint_key;
  NodeEvent event;
  event.type = wanted.taint ? "Warning" : "Normal";
  const bool advises = wanted.mode == Mode::kAdvise && !std::exchange(lifted_, false);
  event.action = wanted.taint ? "Taint" : "Untaint";
  event.reason = (advises ? "NodeWouldBe" : "Node") + event.action + "ed";
  const std::string taint = key + "=" + taint_value(wanted.reason) + ":" + wanted.effect;
  event.note = (wanted.taint ? taint + (advises ? " advised: " : " set: ")
                             : key + (advises ? " no longer advised: " : " lifted: ")) +
               wanted.message;
  if (event.reason == "NodeTainted" && !last_.our_taints.empty())
    event.name = name_of_event(options_.node.name, last_.our_taints[0]);
  const std::string series = event.reason + taint_value(wanted.reason) + announced_;
  queue_event(std::move(event), series);
}

// Whoever set it may have been killed before it told. An event that is there already stays as it is; where it
// has expired, the taint is no news.
void NodeWriter::tell_found_taint(const NodeState& seen) {
  const Taint& taint = seen.our_taints[0];
  const WallNs set = parse_time(taint.time_added);
  const WallNs now = wall_now();
  if (set == 0 || set > now || set + kSeriesNs < now) return;
  NodeEvent event;
  event.name = name_of_event(options_.node.name, taint);
  event.type = "Warning";
  event.action = "Taint";
  event.reason = "NodeTainted";
  event.note = taint.key + "=" + taint.value + ":" + taint.effect + " set: ";
  std::string why = "by an agent that ended before it said why";
  for (const auto& [type, condition] : seen.our_conditions) {
    if (condition.status == "False" && taint_value(condition.reason) == taint.value) why = condition.message;
  }
  event.note += why;
  const std::string series = event.reason + taint.value + taint.effect;
  queue_event(std::move(event), series);
}

void NodeWriter::tell_taken_away(const Taint& taint) {
  NodeEvent event;
  event.type = "Normal";
  event.action = "Untaint";
  event.reason = "NodeUntainted";
  event.note =
      taint.key + "=" + taint.value + ":" + taint.effect +
      " taken away: this agent does not want it; after `vedette pause` a taint that is set by hand stays";
  queue_event(std::move(event), "NodeUntainted by another hand");
}

// As in advise mode, for a rule alone. What is tainted now is advised no longer, and needs no word.
void NodeWriter::tell_advice(const Decision& wanted) {
  const Advice& advice = wanted.advice;
  const bool begins = !advice.effect.empty();
  advised_ = advice.effect;
  if (!begins && wanted.taint) return;
  const std::string& key = options_.node.taint_key;
  NodeEvent event;
  event.type = begins ? "Warning" : "Normal";
  event.action = begins ? "Taint" : "Untaint";
  event.reason = "NodeWouldBe" + event.action + "ed";
  event.note =
      begins ? key + "=" + taint_value(advice.reason) + ":" + advice.effect + " advised: " + advice.message
             : key + " no longer advised: " + advice.message;
  const std::string series = event.reason + advice.reason + advice.effect;
  queue_event(std::move(event), series);
}

// A taint that the evidence asks for, and why it is not there. Only where one would be set: elsewhere nothing
// is held back.
void NodeWriter::tell_hold(const Decision& wanted) {
  std::string reason;
  Hold hold = Hold::kNone;
  std::string why;
  if (wanted.mode == Mode::kEnforce && !state_.tainted) {
    const bool waits = wanted.hold == Hold::kPersistence || wanted.hold == Hold::kRecord;
    if (!state_.held_back.empty()) {
      reason = wanted.reason;
      hold = hold_;
      why = state_.held_back;
    } else if (wanted.hold != Hold::kNone && !waits) {
      reason = substance_of(wanted.held_back);
      hold = wanted.hold;
      why = wanted.held_back;
    }
  }
  if (told_hold_ == std::pair(reason, hold)) return;
  told_hold_ = {reason, hold};
  if (hold == Hold::kNone) return;
  NodeEvent event;
  event.type = "Warning";
  event.action = "HoldBack";
  event.reason = "NodeTaintHeldBack";
  event.note = options_.node.taint_key + "=" + taint_value(reason) + " held back" +
               why.substr(substance_of(why).size());
  const std::string series = event.reason + reason + std::to_string(static_cast<int>(hold));
  const auto told = series_.find(series);
  if (told != series_.end() && wall_now() < told->second.last_ns + kSameHoldNs) return;
  queue_event(std::move(event), series);
}

void NodeWriter::tell_trust(const Decision& wanted) {
  told_trusted_ns_ = wanted.trusted_wall_ns;
  NodeEvent event;
  event.type = "Normal";
  event.action = "Trust";
  event.reason = "NodeTrusted";
  event.note = "trusted again: " + wanted.trusted;
  queue_event(std::move(event), "NodeTrusted");
}

void NodeWriter::queue_event(NodeEvent event, const std::string& key) {
  event.time_ns = wall_now();
  std::erase_if(series_, [&](const auto& old) { return old.second.last_ns + kSeriesNs < event.time_ns; });
  Series& series = series_[key];
  if (series.count == 0)
    series.name = event.name.empty() ? name_of_event(options_.node.name, event.time_ns, 0) : event.name;
  event.name = series.name;
  event.count = ++series.count;
  series.last_ns = event.time_ns;
  spdlog::info("node {}: {}", options_.node.name, event.note);
  if (events_.size() == kMaxPendingEvents) {
    events_.pop_front();
    ++state_.failures;
  }
  events_.push_back({.event = std::move(event)});
}

void NodeWriter::write_events() {
  if (events_.empty()) events_error_.clear();
  while (!events_.empty() && monotonic_now() >= events_from_ns_) {
    PendingEvent& next = events_.front();
    if (Status written = node_.write_event(uid_, next.event); !written) {
      if (++next.attempts >= kMaxEventAttempts) events_.pop_front();
      if (events_error_ != written.error().text) spdlog::warn("{}", written.error().text);
      events_error_ = written.error().text;
      ++state_.failures;
      events_from_ns_ = monotonic_now() + to_ns(events_backoff_.next(client_.retry_after()));
      return;
    }
    ++state_.events_written;
    events_error_.clear();
    events_backoff_.reset();
    events_.pop_front();
  }
}

}  // namespace vedette
