// The values for a picture of a replay: which entity, which signals told the most, what began and was done
// when. Used by `vedette replay --plot`.
#pragma once

#include <string>

#include "agent/base/result.h"
#include "agent/replay.h"
#include "tools/cli/plot.h"

namespace vedette {

// `entity`: a name, or a part that only it has; empty: whoever was worst. Reads the recording twice.
Result<Plot> plot_of_replay(const ReplayOptions& options, const std::string& entity);

}  // namespace vedette
