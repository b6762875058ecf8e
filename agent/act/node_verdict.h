// The node's conditions for people and the verdict for programs, as they should stand on the node object.
// Pure functions; called by act/decider.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "agent/act/decision.h"
#include "agent/assess/condition.h"

namespace vedette {

// One for each domain, and one for predicted failures (of the node or of anything on it). Information is no
// trouble.
std::vector<WantedCondition> node_conditions(const std::vector<Condition>& conditions);

enum class VerdictDetail : std::uint8_t {
  kFull,
  kSubstance,  // without all that changes while decision and conditions stay the same: is it worth a write?
};
// `decision`, the node's own conditions that are no mere information, and predicted failures of what runs on
// it: as many of them, worst first, as fit into 4 KiB. Sentences are cut to fit.
std::string verdict_json(const Decision& decision, const std::vector<Condition>& conditions,
                         VerdictDetail detail);

// More reasons to taint than this a day are not remembered.
inline constexpr std::size_t kMaxRemembered = 8;
// What such a verdict remembers; nothing of what is none.
std::vector<Remembered> remembered_of(const std::string& verdict);

}  // namespace vedette
