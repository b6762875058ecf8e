// The `vedette` command without its main(): what to ask, and where the answer goes. Called once per process
// (and by the tests, with streams of their own).
#pragma once

#include <iosfwd>
#include <string>
#include <vector>

#include "tools/cli/screen.h"

namespace vedette {

namespace api {
class Response;
}  // namespace api

// What the process ends with. status: healthy, degraded, unhealthy. Other commands: kHealthy when answered,
// kDegraded when the agent had no such answer (an unknown entity); evacuate: kDegraded when pods stay.
enum ExitCode {
  kExitHealthy = 0,
  kExitDegraded = 1,
  kExitUnhealthy = 2,
  kExitUnreachable = 3,
  kExitUsage = 64
};

struct CliStreams {
  std::ostream& out;
  std::ostream& err;
  Screen screen;      // of `out`
  bool live = false;  // `out` and the keys belong to a terminal that `top` may take over
};

// Says `text` on `err`; answers `code`.
int fail_with(const CliStreams& streams, int code, const std::string& text);

// Tells an answer that is an Error, with `json` also as a document on `out`; answers the exit code.
int answered_error(const api::Response& response, bool json, const CliStreams& streams);

// `arguments` without the program's name.
int run_cli(std::vector<std::string> arguments, const CliStreams& streams);

}  // namespace vedette
