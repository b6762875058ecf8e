// What changed in a course of verdicts, and two courses side by side. Pure: `vedette replay` feeds it ticks.
#pragma once

#include <map>
#include <optional>
#include <string>
#include <vector>

#include "agent/record/verdict.h"

namespace vedette {

struct Transition {
  enum class Kind : std::uint8_t { kBegins, kWorsens, kEnds, kTaints, kLifts, kHoldsBack };
  WallNs wall_ns = 0;
  Kind kind = Kind::kBegins;
  std::string what;    // "FilesystemError of node", "FilesystemError:NoSchedule"; the same in both courses
  std::string detail;  // "unhealthy"; why a taint is held back: its numbers may differ

  std::string text() const;
};

class Transitions {
public:
  // `entities`: of this tick, for names.
  void tick(WallNs now, const RecordedVerdict& verdict, const std::vector<EntityPtr>& entities);
  const std::vector<Transition>& list() const { return list_; }

private:
  struct Known {
    std::string what;
    Severity severity = Severity::kInfo;
    bool seen = false;  // in this tick
  };

  std::map<std::pair<std::string, EntityId>, Known> conditions_;
  std::string taint_;      // "REASON:EFFECT"; empty: none
  std::string held_back_;  // the reason
  std::vector<Transition> list_;
};

// One line of the difference: what happened then, what happens now, or both.
struct TransitionPair {
  std::optional<Transition> then, now;
  bool is_same() const { return then && now && then->wall_ns == now->wall_ns; }
};

// In the order of time. The n-th of a kind then belongs to the n-th of it now.
std::vector<TransitionPair> side_by_side(const std::vector<Transition>& then,
                                         const std::vector<Transition>& now);

}  // namespace vedette
