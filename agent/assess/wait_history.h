// What each entity used of what all share (CPU, disk, memory, network) and what it waited for, over the last
// minute, and whether all together wait longer than usual. A pure function of the observations it was shown:
// no clock, no I/O. Kept by CauseFinder, called by the tick thread only.
#pragma once

#include <array>
#include <bitset>
#include <cstddef>
#include <cstdint>
#include <map>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "agent/collect/observation.h"

namespace vedette {

// How much longer all entities together wait now than usual, without what the hypervisor makes them wait.
struct LongerWait {
  double s = 0;       // seconds a second; 0: not to be felt
  double lost_s = 0;  // by that, for as long as it is felt
};

class WaitHistory {
public:
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
    kStolen,      // of the node: cores that the hypervisor gave to others
    kMeasures
  };
  static constexpr std::size_t kResources = 4;  // the uses, and the waits for them, in one order
  static constexpr double kStepS = 0.5;
  static constexpr std::uint64_t kSteps = 128;  // 64 s
  // An anomaly shows within a second and is told with the next tick: an incident that opens has begun so long
  // ago, and nobody waits for more steps to be sure.
  static constexpr std::uint64_t kBegunSteps = 3;

  // What is usual: of the steps before an onset. Of waits it is the median, since a wait is known when it
  // ends: one thread of a pool that was idle for an hour is an hour in one second.
  struct Usual {
    double mean = 0;
    double strays = 0;  // standard deviation, or as much by the quartile
  };
  using Usuals = std::array<Usual, kMeasures>;
  using Values = std::array<float, kMeasures>;  // per second; NaN: not watched
  // One entity.
  class Past {
  public:
    EntityId id() const { return id_; }
    const std::string& name() const { return name_; }

  private:
    friend class WaitHistory;
    EntityId id_ = kNodeEntity;
    std::string name_;
    std::uint64_t first_step_ = 0;
    std::uint64_t last_step_ = 0;  // it was alive in
    std::array<double, kMeasures> sum_{};
    std::array<Values, kSteps> steps_{};
    // For waits_longer(): those it asks for, reckoned anew every few seconds.
    std::optional<Usuals> usuals_;
  };
  struct Span {
    std::uint64_t begin = 0;
    std::uint64_t end = 0;  // not in it
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

  // Every tick. Answers whom it forgot, gone long ago.
  std::vector<EntityId> update(const Observation& observation);

  // Complete steps of half a second, and when the newest of them ended.
  std::uint64_t steps() const { return step_; }
  MonotonicNs step_end_ns() const { return step_end_ns_; }
  // By id: the node is the first.
  const std::map<EntityId, Past>& entities() const { return pasts_; }

  // As CauseFinder::waits_longer().
  std::optional<LongerWait> waits_longer() const { return waits_longer_; }

  // The end of what is usual for an incident that is so many steps old; none where too little was seen
  // before.
  std::optional<std::uint64_t> onset_of(std::uint64_t age) const;
  Usuals usuals(const Past& past, std::uint64_t onset) const;
  Growth growth(const Past& past, std::size_t measure, const Usual& usual, Span window) const;
  // Seconds a second that an entity waits longer than usual, for whatever.
  double longer_wait(const Past& past, const Usuals& usuals, Span window) const;
  // The first step of the span in which it is at more than half of its growth.
  std::uint64_t began(const Past& past, std::size_t measure, const Growth& grown, Span span) const;
  // Cores that the hypervisor took beyond what it usually does; 0 where that is too little to be felt.
  static double stolen(const Growth& by_hypervisor);
  // Seconds a second that an entity is silent which usually exchanges packets.
  static double silence(const Growth& sent);

  // Memory kept for the entities.
  std::size_t bytes() const { return pasts_.size() * sizeof(Past); }

private:
  static constexpr std::size_t kFelt = kNetworkUse;  // the first of what is felt: silence, then the waits
  static constexpr bool is_wait(std::size_t measure) { return measure >= kCpuWait && measure <= kAnswerWait; }
  static constexpr bool is_felt(std::size_t measure) { return measure >= kFelt && measure <= kAnswerWait; }

  std::uint64_t oldest_step() const { return step_ > kSteps ? step_ - kSteps : 0; }
  static void add(const Sample& sample, double interval_s, Past& past);
  std::vector<EntityId> close_step(MonotonicNs now);
  // `last_ended`: when the step before did.
  void renew_usuals(MonotonicNs last_ended, std::uint64_t onset);
  // Of what all wait longer for a CPU than usual, in seconds a second, the hypervisor's part: who uses more
  // makes others wait, and so does a hypervisor that gives less.
  double hypervisor_wait(Span now) const;
  void weigh_waiting(MonotonicNs last_ended, std::uint64_t steps, bool watched);
  float value(const Past& past, std::size_t measure, std::uint64_t step) const;
  // The values of a span that were watched, in `values`.
  std::span<float> watched(const Past& past, std::size_t measure, Span span,
                           std::array<float, kSteps>& values) const;
  Usual usual(const Past& past, std::size_t measure, std::uint64_t onset) const;

  std::uint64_t step_ = 0;  // that is being filled
  double step_s_ = 0;
  MonotonicNs step_end_ns_ = 0;  // of the newest complete one
  std::bitset<kMeasures> unwatched_;
  std::array<float, kSteps> waits_{};  // how much longer all waited; NaN: not known
  std::optional<LongerWait> waits_longer_;
  std::map<EntityId, Past> pasts_;
};

}  // namespace vedette
