#include <cstdlib>
#include <iostream>

#include <unistd.h>

#include "tools/cli/commands.h"
#include "tools/cli/live_top.h"

int main(int argc, char** argv) {
  const bool terminal = ::isatty(STDOUT_FILENO) != 0;
  vedette::Screen screen = vedette::terminal_screen(STDOUT_FILENO);
  // https://no-color.org: set and not empty means no colours.
  const char* no_colour = std::getenv("NO_COLOR");
  screen.colour = terminal && (no_colour == nullptr || *no_colour == '\0');
  return vedette::run_cli({argv + 1, argv + argc},
                          {std::cout, std::cerr, screen, terminal && ::isatty(STDIN_FILENO) != 0});
}
