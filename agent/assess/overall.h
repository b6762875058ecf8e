// The one rule that turns conditions into a verdict on the node: what `vedette status` exits with and what
// vedette_node_health exports. A pure function: any thread.
#pragma once

#include <cstdint>
#include <string_view>
#include <vector>

#include "agent/assess/condition.h"

namespace vedette {

enum class Overall : std::uint8_t { kHealthy, kDegraded, kUnhealthy };

std::string_view to_string(Overall overall);

// Unhealthy: the node itself has an unhealthy condition. Degraded: anything degraded or worse is active,
// whoever's it is (a pod's own trouble never makes the node unhealthy). A condition that waits out its
// recovery time still counts: it has not been seen to be over.
Overall overall(const std::vector<Condition>& conditions);

}  // namespace vedette
