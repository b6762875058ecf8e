// `vedette replay`: a recording judged again, and what would have been otherwise. Asks no agent. Called once
// per process, and by the tests.
#pragma once

#include <string>
#include <vector>

#include "tools/cli/commands.h"

namespace vedette {

struct ReplayCommand {
  std::string path;
  std::string policy_file;  // empty: the policy of then
  std::string model;        // empty: the model of then
  std::string plot_out;     // a new picture
  std::string entity;       // in it; empty: whoever was worst
  std::string features_out;
  std::vector<std::string> features_of;
};

// 0: the same verdicts and actions, 1: others, 2: an error.
int run_replay(const ReplayCommand& command, bool json, const CliStreams& streams);

}  // namespace vedette
