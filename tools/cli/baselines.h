// `vedette baselines`: what is usual for each workload, listed, exported and imported. Called once per
// process, and by the tests.
#pragma once

#include <string>

#include "tools/cli/commands.h"

namespace vedette {

struct BaselinesCommand {
  std::string socket_path;
  std::string file;  // to list, empty: the agent's; to write, where it exports; to read, where it imports
  bool exports = false, imports = false;
};

int run_baselines(const BaselinesCommand& command, bool json, const CliStreams& streams);

}  // namespace vedette
