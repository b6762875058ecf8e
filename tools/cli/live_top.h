// The live view: owns the terminal until q, Ctrl-C, SIGTERM or SIGHUP, and gives it back as it was.
// Called once, by main's thread.
#pragma once

#include <string>

#include "agent/base/result.h"
#include "tools/cli/views.h"

namespace vedette {

// Draws to standard output and reads keys from standard input: both must be terminals. When the agent goes
// away or hangs it keeps the last picture and says so, and tries again each second where it is gone; the
// error is for a terminal that cannot be used or an agent that was never there.
Status run_live_top(const std::string& socket_path, TopOrder order, bool colour);

// The size of the terminal behind `fd`; 80 x 24 where it has none ($COLUMNS and $LINES come first where it
// is no terminal at all).
Screen terminal_screen(int fd);

}  // namespace vedette
