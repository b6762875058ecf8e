#include "tools/cli/live_top.h"

#include <csignal>
#include <cstdlib>
#include <optional>
#include <string_view>

#include <poll.h>
#include <sys/ioctl.h>
#include <termios.h>
#include <unistd.h>

#include "agent/base/clock.h"
#include "exporter/api.pb.h"
#include "tools/cli/agent_client.h"

namespace vedette {
namespace {

// Numbers that change more often cannot be read.
constexpr std::uint32_t kFrameMs = 1000;
// An agent that is gone is tried again, one that sends nothing is told to hang.
constexpr int kLookMs = 1000;

// NOLINTNEXTLINE(cppcoreguidelines-avoid-non-const-global-variables): what a signal handler can reach
volatile std::sig_atomic_t stop_signal = 0;

// Raw keys, the alternate screen, no cursor; undone by the destructor.
class RawTerminal {
public:
  static std::optional<termios> saved_modes() {
    termios modes{};
    if (::isatty(STDOUT_FILENO) == 0 || ::tcgetattr(STDIN_FILENO, &modes) != 0) return std::nullopt;
    return modes;
  }

  explicit RawTerminal(const termios& saved) : saved_(saved) {
    termios raw = saved;
    raw.c_lflag &= ~static_cast<tcflag_t>(ICANON | ECHO | ISIG);  // Ctrl-C arrives as a key
    raw.c_cc[VMIN] = 0;
    raw.c_cc[VTIME] = 0;
    ::tcsetattr(STDIN_FILENO, TCSANOW, &raw);
    struct sigaction action {};
    action.sa_handler = [](int number) { stop_signal = number; };
    for (const int number : {SIGTERM, SIGHUP, SIGINT}) ::sigaction(number, &action, nullptr);
    action.sa_handler = [](int /*number*/) {};  // only to interrupt poll(): the size is read for each frame
    ::sigaction(SIGWINCH, &action, nullptr);
    draw("\x1b[?1049h\x1b[?25l");
  }
  RawTerminal(const RawTerminal&) = delete;
  RawTerminal& operator=(const RawTerminal&) = delete;
  ~RawTerminal() {
    draw("\x1b[?25h\x1b[?1049l");
    ::tcsetattr(STDIN_FILENO, TCSANOW, &saved_);
  }

  static void draw(std::string_view bytes) {
    while (!bytes.empty()) {
      const ssize_t count = ::write(STDOUT_FILENO, bytes.data(), bytes.size());
      if (count < 0 && errno != EINTR) return;
      if (count > 0) bytes.remove_prefix(static_cast<std::size_t>(count));
    }
  }

private:
  const termios saved_;
};

// Overwrites in place, which does not flicker as clearing would.
void draw_frame(const std::string& text) {
  std::string bytes = "\x1b[H";
  std::string_view rest = text;
  while (!rest.empty()) {
    const std::size_t end = rest.find('\n');
    bytes += rest.substr(0, end);
    bytes += "\x1b[K";
    rest.remove_prefix(end == std::string_view::npos ? rest.size() : end + 1);
    // No newline after the last line: it would scroll the first one away.
    if (!rest.empty()) bytes += "\r\n";
  }
  RawTerminal::draw(bytes + "\x1b[J");
}

enum class Key : unsigned char { kNone, kQuit };

Key obey(std::string_view keys, TopState& state, std::size_t page) {
  while (!keys.empty()) {
    const auto pressed = [&](std::string_view sequence) {
      if (!keys.starts_with(sequence)) return false;
      keys.remove_prefix(sequence.size());
      return true;
    };
    if (pressed("q") || pressed("Q") || pressed("\x03")) return Key::kQuit;
    if (pressed("\x1b[A") || pressed("k")) {
      state.scroll -= state.scroll > 0 ? 1 : 0;
    } else if (pressed("\x1b[B") || pressed("j")) {
      ++state.scroll;
    } else if (pressed("\x1b[5~")) {
      state.scroll -= std::min(state.scroll, page);
    } else if (pressed("\x1b[6~") || pressed(" ")) {
      state.scroll += page;
    } else if (pressed("s")) {
      state.order = TopOrder::kSeverity;
    } else if (pressed("r")) {
      state.order = TopOrder::kRisk;
    } else if (pressed("a")) {
      state.order = TopOrder::kAnomaly;
    } else if (pressed("c")) {
      state.order = TopOrder::kCpu;
    } else if (pressed("m")) {
      state.order = TopOrder::kMemory;
    } else {
      keys.remove_prefix(1);
    }
  }
  return Key::kNone;
}

api::Request stream_request() {
  api::Request request;
  request.mutable_top()->set_stream(true);
  request.mutable_top()->set_min_interval_ms(kFrameMs);
  return request;
}

}  // namespace

Screen terminal_screen(int fd) {
  Screen screen;
  winsize size{};
  if (::isatty(fd) != 0 && ::ioctl(fd, TIOCGWINSZ, &size) == 0 && size.ws_col > 0 && size.ws_row > 0) {
    screen.columns = size.ws_col;
    screen.rows = size.ws_row;
    return screen;
  }
  const auto from = [](const char* name, std::size_t otherwise) {
    const char* text = std::getenv(name);
    const long number = text == nullptr ? 0 : std::strtol(text, nullptr, 10);
    return number >= 20 && number <= 1000 ? static_cast<std::size_t>(number) : otherwise;
  };
  screen.columns = from("COLUMNS", screen.columns);
  screen.rows = from("LINES", screen.rows);
  return screen;
}

Status run_live_top(const std::string& socket_path, TopOrder order, bool colour) {
  const auto modes = RawTerminal::saved_modes();
  if (!modes) return fail("the live view needs a terminal: use --once or --json");
  std::optional<AgentClient> client;
  api::Response newest;
  MonotonicNs newest_ns = 0;  // when it came
  TopState state;
  state.order = order;
  state.live = true;

  const auto take = [&](Result<api::Response> response) {
    if (response && response->has_top()) {
      newest = std::move(*response);
      newest_ns = monotonic_now();
    } else if (response) {
      state.notice = response->has_error() ? response->error().text() : "the agent sent an unexpected answer";
      client.reset();
    } else {
      state.notice = response.error().text;
      client.reset();
    }
  };
  const auto reconnect = [&] {
    Result<AgentClient> connected = AgentClient::connect(socket_path);
    if (!connected) {
      state.notice =
          newest.has_top() ? "the agent is gone; trying again each second (q quits)" : connected.error().text;
      return;
    }
    client = std::move(*connected);
    take(client->ask(stream_request()));
  };
  reconnect();
  if (!client && newest.answer_case() == api::Response::ANSWER_NOT_SET) {
    // Not ready is a matter of a second; everything else is for the caller to say.
    if (!AgentClient::connect(socket_path)) return fail(state.notice);
  }

  const RawTerminal terminal(*modes);
  while (stop_signal == 0) {
    Screen screen = terminal_screen(STDOUT_FILENO);
    screen.colour = colour;
    if (client)
      state.notice = stuck_text(newest.agent().age_s() + seconds_between(newest_ns, monotonic_now()));
    draw_frame(top_view(newest, screen, state));
    pollfd polled[2] = {{STDIN_FILENO, POLLIN, 0}, {client ? client->fd() : -1, POLLIN, 0}};
    const int ready = ::poll(polled, 2, kLookMs);
    if (ready < 0) continue;  // a signal: a new size, or the end
    if (ready == 0 && !client) reconnect();
    if (polled[1].revents != 0 && client) take(client->receive());
    if (polled[0].revents == 0) continue;
    char keys[64];
    const ssize_t count = ::read(STDIN_FILENO, keys, sizeof keys);
    if (count <= 0 && errno != EINTR) break;  // the terminal is gone
    const std::size_t page = screen.rows > 8 ? screen.rows - 6 : 1;
    if (obey({keys, static_cast<std::size_t>(std::max(count, ssize_t{0}))}, state, page) == Key::kQuit) break;
    const auto rows = static_cast<std::size_t>(newest.top().rows_size());
    state.scroll = std::min(state.scroll, rows + 4 > screen.rows ? rows + 4 - screen.rows : 0);
  }
  return {};
}

}  // namespace vedette
