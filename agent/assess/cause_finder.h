// Whose fault is it that others wait? Keeps for a minute what each entity used of what all share (CPU, disk,
// memory, network), what it waited for and whom it connects to, and ranks who explains the growth of the
// waiting. A pure function of the observations it was shown: no clock, no I/O. Called by the tick thread
// only.
#pragma once

#include <array>
#include <bitset>
#include <cstddef>
#include <cstdint>
#include <map>
#include <optional>
#include <set>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "agent/collect/observation.h"

namespace vedette {

// What a cause is called that is no entity of this node: a peer that does not answer, a name server that is
// gone.
inline constexpr const char* kOutside = "outside";

// One who may be the cause. A score is the part of the growth of all waiting that it explains, 0..1.
struct Suspect {
  std::string entity;  // its name, or kOutside
  double score = 0;
  std::string why;  // with numbers; the rest of a sentence about it

  bool operator==(const Suspect&) const = default;
};

class CauseFinder {
public:
  // Every tick.
  void update(const Observation& observation);
  // Steps of half a second seen: rank() answers otherwise only after another one.
  std::uint64_t steps() const { return step_; }

  // The best explanations of what is waited for since about `began_ns`, when an incident opened: at most
  // three, the best first; none where nobody waits longer than usual or too little was seen before.
  std::vector<Suspect> rank(MonotonicNs began_ns) const;

  // How much longer all entities together wait now than usual, in seconds a second: that of a lock counts as
  // one waiter's at most, silence as in assess/README.md. 0 where it is below .25, or was as much at any time
  // of the minute before; none where too little was seen, or not all waits are watched.
  std::optional<double> waits_longer() const { return waits_longer_; }

  // Memory kept for the entities.
  std::size_t bytes() const;

private:
  // What is used of each resource, what is waited for in seconds a second, and what has to do with both.
  enum Measure : std::uint8_t {
    kCpuUse,
    kDiskUse,
    kMemoryUse,
    kNetworkUse,
    kCpuWait,
    kDiskWait,
    kMemoryWait,
    kNetworkWait,
    kLockWait,
    kAnswerWait,
    kThrottled,   // share of time its own quota held it back
    kMemoryFull,  // share of its own limit
    kUnowned,     // of the node: disk use of kernel threads for whom the kernel does not name
    kMeasures
  };
  static constexpr std::size_t kResources = 4;       // the uses, and the waits for them, in one order
  static constexpr std::size_t kSteps = 128;         // 64 s
  static constexpr std::size_t kFelt = kNetworkUse;  // the first of what is felt: silence, then the waits

  using Values = std::array<float, kMeasures>;  // per second; NaN: not watched
  // What is usual: of the steps before an onset. Of waits it is the median, since a wait is known when it
  // ends: one thread of a pool that was idle for an hour is an hour in one second.
  struct Usual {
    double mean = 0;
    double strays = 0;  // standard deviation, or as much by the quartile
  };
  using Usuals = std::array<Usual, kMeasures>;
  struct History {
    EntityId id = kNodeEntity;
    std::string name;
    std::uint64_t first_step = 0;
    std::uint64_t last_step = 0;  // it was alive in
    std::array<double, kMeasures> sum{};
    std::array<Values, kSteps> steps{};
    // For waits_longer(): those of what is felt, reckoned anew every few seconds.
    std::optional<Usuals> usuals;
  };
  struct Span {
    std::uint64_t begin = 0;
    std::uint64_t end = 0;  // not in it
  };
  struct Peer {
    std::string name;
    std::uint64_t step = 0;
    std::uint32_t count = 0;
  };
  // What an entity does more of in a window than before.
  struct Growth {
    double usual = 0;
    double now = 0;
    double more = 0;  // beyond the usual and how far it strays
    bool watched = false;
    std::uint64_t began = 0;  // the first step at more than half of it
  };
  using Growths = std::array<Growth, kMeasures>;
  struct Case;

  std::uint64_t oldest_step() const { return step_ > kSteps ? step_ - kSteps : 0; }
  void close_step(MonotonicNs now);
  // The end of what is usual for an incident that is so many steps old; none where too little was seen
  // before.
  std::optional<std::uint64_t> onset_of(std::uint64_t age) const;
  void weigh_waiting(MonotonicNs now, std::uint64_t steps, bool watched);
  void note_peer(const KernelEvent& event);
  static constexpr bool is_wait(std::size_t measure) { return measure >= kCpuWait && measure <= kAnswerWait; }
  static constexpr bool is_felt(std::size_t measure) { return measure >= kFelt && measure <= kAnswerWait; }
  // The values of a span that were watched, in `values`.
  std::span<float> watched(const History& history, std::size_t measure, Span span,
                           std::array<float, kSteps>& values) const;
  float value(const History& history, std::size_t measure, std::uint64_t step) const;
  Usual usual(const History& history, std::size_t measure, std::uint64_t onset) const;
  Growth growth(const History& history, std::size_t measure, const Usual& usual, Span window) const;
  // Seconds a second that an entity waits longer than usual, for whatever.
  double longer_wait(const History& history, const Usuals& usuals, Span window) const;
  // The first step of the span in which it is at more than half of its growth.
  std::uint64_t began(const History& history, std::size_t measure, const Growth& grown, Span span) const;
  static std::string own_limit(const Growths& grown, std::size_t resource);
  static double silence(const Growth& sent);
  static void share_out(Case& found, std::size_t resource);
  static void blame_own_locks(Case& found);
  static void blame_unanswered(Case& found, const std::string& peer);
  void blame_silent(Case& found) const;
  std::string last_in_line(const Case& found, const std::vector<double>& quiet) const;
  std::string worst_peer(std::uint64_t since) const;

  std::uint64_t step_ = 0;  // that is being filled
  double step_s_ = 0;
  MonotonicNs step_end_ns_ = 0;  // of the newest complete one
  std::bitset<kMeasures> unwatched_;
  std::array<float, kSteps> waits_{};  // how much longer all waited; NaN: not known
  std::optional<double> waits_longer_;
  std::map<EntityId, History> histories_;
  std::set<std::pair<EntityId, EntityId>> talks_;  // client and server, both on this node
  std::vector<Peer> peers_;
};

}  // namespace vedette
