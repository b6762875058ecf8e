// `vedette record`: what a recording or a flight recorder's folder holds, and a part of it as one file. Asks
// no agent. Called once per process, and by the tests.
#pragma once

#include <string>

#include "agent/base/result.h"
#include "tools/cli/commands.h"

namespace vedette {

// What the commands answer that read recordings.
inline constexpr int kExitUnreadable = 2;

// `path`: a file or a folder. Reads all of it: what is truncated is told, what is damaged is an error.
int run_record_inspect(const std::string& path, bool json, const CliStreams& streams);

struct RecordExportOptions {
  std::string folder;    // of the flight recorder
  std::string incident;  // empty: the last minutes
  double last_s = 0;     // 0: all of them
  std::string out;       // a file that is not there yet
};
// Segments as they are, one after the other in one file: at least what was asked for.
int run_record_export(const RecordExportOptions& options, bool json, const CliStreams& streams);

}  // namespace vedette
