// Whose fault is it that others wait? Ranks who explains the growth of the waiting, by what each used and
// waited for in the last minute and whom it connects to. A pure function of the observations it was shown: no
// clock, no I/O. Called by the tick thread only.
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "agent/assess/wait_history.h"
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
  std::uint64_t steps() const { return past_.steps(); }

  // The best explanations of what is waited for since about `began_ns`, when an incident opened: at most
  // three, the best first; none where nobody waits longer than usual or too little was seen before.
  std::vector<Suspect> rank(MonotonicNs began_ns) const;

  // That of a lock counts as one waiter's at most, silence as in assess/README.md. 0 where it is below .5 s
  // a second, or was as much at any time of the minute before; none where too little was seen, or not all
  // waits are watched.
  std::optional<LongerWait> waits_longer() const { return past_.waits_longer(); }

  // Memory kept for the entities.
  std::size_t bytes() const;

private:
  using enum WaitHistory::Measure;
  using Growth = WaitHistory::Growth;
  using Growths = WaitHistory::Growths;
  struct Peer {
    std::string name;
    std::map<std::uint64_t, std::uint64_t> failures;  // by step, of the last minute; never empty
  };
  struct Case;
  // One resource: how much longer all waited for it, and how much more was used of it.
  struct Contest {
    double waited = 0;  // seconds a second beyond the usual, of those whom no limit of their own held back
    double waited_now = 0;
    double used = 0;     // beyond the usual, by all of these:
    double by_rest = 0;  // what runs outside all pods
    double stolen = 0;   // the hypervisor
  };

  void note_peer(const KernelEvent& event);
  static std::string own_limit(const Growths& grown, std::size_t resource);
  // Tells of those whom a limit of their own held back.
  static Contest contest(Case& found, std::size_t resource);
  static void share_out(Case& found, std::size_t resource);
  static void blame_own_locks(Case& found);
  static void blame_unanswered(Case& found, const std::string& peer);
  void blame_silent(Case& found) const;
  std::string last_in_line(const Case& found, const std::vector<double>& quiet) const;
  std::string worst_peer(std::uint64_t since) const;

  WaitHistory past_;
  std::set<std::pair<EntityId, EntityId>> talks_;  // client and server, both on this node
  std::vector<Peer> peers_;
};

}  // namespace vedette
