// Conditions become what the agent wants of its node object, as the policy says. A pure function of what it
// was shown so far: the safety rules live here, the API calls in node_writer.h. Called by the tick thread
// only.
#pragma once

#include <cstdint>
#include <deque>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "agent/act/decision.h"
#include "agent/act/policy.h"
#include "agent/assess/condition.h"

namespace vedette {

struct DecideOptions {
  Mode mode = Mode::kObserve;
  std::shared_ptr<const Policy> policy = Policy::builtin();  // never null
  // New taints an hour. A node that needs more is flapping: then a human should look.
  unsigned max_taints_per_hour = 4;
  // How long a taint lasts after its evidence where the rule does not say, and how long one found at start is
  // held without evidence where the node's verdict does not remember: the evidence may come again. Same as
  // AssessOptions::recovery_s.
  double recovery_s = 300;
};

class Decider {
public:
  explicit Decider(DecideOptions options);

  // From the next update() on.
  void set_policy(std::shared_ptr<const Policy> policy) { options_.policy = std::move(policy); }

  // Drops the node's conditions whose newest evidence an operator has seen and set aside: nobody is to be
  // told again. Answers their reasons. Goes before update(), with the same `act`: what the writer knew when
  // the tick began.
  std::vector<std::string> drop_set_aside(std::vector<Condition>& conditions, const Instant& now,
                                          const ActState& act);

  // `conditions` are those that count, `entities` what is on the node. Generation 0, and nothing is judged,
  // until the node's present state is known (or, in observe mode, until the first tick): it may say that
  // nothing counts. `doubtful_clock`: nothing synchronizes the wall clock (yet), so an age by it may be of
  // any size.
  Decision update(const Instant& now, const std::vector<Condition>& conditions,
                  const std::vector<EntityPtr>& entities, const ActState& act, bool doubtful_clock = false);

private:
  // One trouble's title to a taint. It outlives its condition by the recovery time.
  struct Claim {
    Effect effect = Effect::kNone;
    std::string message;
    MonotonicNs evidence_ns = 0;
    std::int64_t seen_ns = 0;  // the same moment; of one that was found it may be before boot
    // What a rule looks at; none: that of one that was found is not known.
    std::optional<Condition> about;
    bool escalated = false;
    MonotonicNs since_ns = 0;
    MonotonicNs until_ns = 0;
    double recovery_s = 0;
    bool earned = true;    // its rule may taint; else it advises
    bool active = false;   // in this tick
    bool adopted = false;  // from an earlier process
  };
  using Claims = std::map<std::string, Claim>;  // by reason
  struct Past {
    MonotonicNs until_ns = 0;  // remembered until then
    WallNs ended_wall_ns = 0;
    unsigned relapses = 0;
    MonotonicNs ended_ns = 0;  // the same moment; 0: before this process
  };

  void adopt(const Instant& now, const ActState& act, bool doubtful_clock);
  void follow_clock(const Instant& now);
  void forget(const Instant& now, const std::vector<Condition>& conditions);
  Judgement judge(const Condition& condition, const std::vector<EntityPtr>& entities, const Instant& now);
  Effect spared(Effect effect, const std::vector<EntityPtr>& entities, std::string& why) const;
  Claim& claim(const Condition& condition, const PolicyRule& rule, Effect effect, bool earned,
               const Instant& now);
  void listen(const Instant& now, const ActState& act);
  // `seen_ns` by the monotonic clock, which nobody sets.
  bool is_set_aside(std::int64_t seen_ns) const { return healthy_ns_ && seen_ns <= *healthy_ns_; }
  // Why an operator will not have it count; empty: nobody said so.
  std::string objection(const std::string& reason, std::int64_t seen_ns, const Instant& now) const;
  void withdraw(const std::string& reason, std::string why);
  std::string review(Claim& claim, const std::vector<EntityPtr>& entities) const;
  void expire(const Instant& now, const std::vector<EntityPtr>& entities);
  Claims::const_iterator strongest(bool earned) const;
  void hold_back(Hold hold, std::string why);
  void decide(const Instant& now, const ActState& act);
  void advise();
  bool describe_node(const std::vector<Condition>& conditions, const Instant& now);
  std::vector<WantedCondition> wanted_conditions(const std::vector<Condition>& conditions,
                                                 const Instant& now) const;
  std::vector<Remembered> remembered() const;
  std::string next(const Instant& now, bool tainted) const;

  DecideOptions options_;
  Decision decision_;
  OperatorSay say_;     // as of this tick
  TrackRecord record_;  // likewise
  // The mark "healthy", and when that was: reckoned once, so that a clock that is set later moves nothing.
  WallNs healthy_wall_ns_ = 0;
  std::optional<std::int64_t> healthy_ns_;
  Claims claims_;
  std::string ended_by_;              // why the last claim ended, if not by recovery
  std::map<std::string, Past> past_;  // claims to taint that ended within the last day
  std::deque<MonotonicNs> taints_;    // times of new taints within the last hour
  std::string verdict_substance_;     // what decision_.verdict says, without its numbers and sentences
  MonotonicNs verdict_ns_ = 0;        // when that was made
  bool seen_state_ = false;
  std::vector<WantedCondition>
      found_;                       // not healthy when this process began; they end with their claim, or ...
  MonotonicNs found_until_ns_ = 0;  // ... then
  std::int64_t found_ns_ = 0;
  std::string adopted_reason_;  // of the taint that was found; empty: none
};

}  // namespace vedette
