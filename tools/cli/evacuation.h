// The two commands that need the API server behind the agent: their answers take a while. Called by
// commands.cpp; one thread.
#pragma once

#include <string>

#include "agent/base/result.h"
#include "tools/cli/agent_client.h"
#include "tools/cli/commands.h"

namespace vedette {

// As AgentClient::ask(), for a plan or a step of an evacuation: asks again until the answer is there.
Result<api::Response> ask_patiently(AgentClient& client, api::Request request);

// Takes step after step until nothing of the plan is left, an error comes or no pod of a wave can go; tells
// what changes. The answer is the last one. Whoever interrupts the process has stopped the evacuation.
Result<api::Response> run_evacuation(AgentClient& client, const std::string& plan, const CliStreams& streams,
                                     bool quiet);

}  // namespace vedette
