#include "tools/cli/agent_client.h"

#include <cerrno>
#include <cstring>

#include <sys/socket.h>
#include <sys/time.h>
#include <sys/un.h>

#include "exporter/api.pb.h"
#include "exporter/wire.h"
#include "tools/cli/format.h"

namespace vedette {
namespace {

// The agent answers within milliseconds; one that does not in 5 s hangs, and people should learn that.
constexpr timeval kPatience{5, 0};

std::string reason_of(int error_number) {
  switch (error_number) {
    case ENOENT:
    case ECONNREFUSED:
      return std::string(std::strerror(error_number)) + " (is vedette-agent running?)";
    case EACCES:
    case EPERM:
      return std::string(std::strerror(error_number)) + " (its socket is for root: try sudo)";
    case EAGAIN:
      return "no answer within 5 s";
    default:
      return std::strerror(error_number);
  }
}

}  // namespace

std::string stuck_text(double age_s) {
  if (!(age_s > kStuckSeconds)) return "";
  return "the agent hangs: its newest verdict is " + format_duration(age_s) + " old";
}

Result<AgentClient> AgentClient::connect(const std::string& socket_path) {
  const auto cannot = [&](const std::string& why) {
    return fail("cannot reach the agent at " + socket_path + ": " + why);
  };
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  if (socket_path.empty() || socket_path.size() >= sizeof address.sun_path) {
    return cannot("expected a path of 1 to " + std::to_string(sizeof address.sun_path - 1) + " bytes");
  }
  std::memcpy(address.sun_path, socket_path.c_str(), socket_path.size() + 1);
  FileHandle socket(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
  if (!socket) return cannot(std::strerror(errno));
  ::setsockopt(socket.get(), SOL_SOCKET, SO_RCVTIMEO, &kPatience, sizeof kPatience);
  ::setsockopt(socket.get(), SOL_SOCKET, SO_SNDTIMEO, &kPatience, sizeof kPatience);
  if (::connect(socket.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0) {
    return cannot(reason_of(errno));
  }
  return AgentClient(std::move(socket), socket_path);
}

Result<api::Response> AgentClient::ask(api::Request request) {
  request.set_version(kApiVersion);
  const std::string body = request.SerializeAsString();
  const std::string frame = frame_header(body.size()) + body;
  std::size_t sent = 0;
  while (sent < frame.size()) {
    const ssize_t count = ::send(socket_.get(), frame.data() + sent, frame.size() - sent, MSG_NOSIGNAL);
    if (count < 0 && errno == EINTR) continue;
    // An agent that turns a client away answers before it closes: read that rather than report the pipe.
    if (count < 0 && errno == EPIPE) break;
    if (count < 0) return fail("cannot ask the agent at " + path_ + ": " + reason_of(errno));
    sent += static_cast<std::size_t>(count);
  }
  return receive();
}

Result<api::Response> AgentClient::receive() {
  const auto read_exactly = [&](std::string& bytes) -> Status {
    std::size_t got = 0;
    while (got < bytes.size()) {
      const ssize_t count = ::recv(socket_.get(), bytes.data() + got, bytes.size() - got, 0);
      if (count < 0 && errno == EINTR) continue;
      if (count < 0) return fail("no answer from the agent at " + path_ + ": " + reason_of(errno));
      if (count == 0) return fail("the agent at " + path_ + " closed the connection");
      got += static_cast<std::size_t>(count);
    }
    return {};
  };
  std::string header(kFrameHeaderBytes, '\0');
  if (const Status read = read_exactly(header); !read) return tl::unexpected(read.error());
  const std::size_t length = announced_bytes(header);
  if (length > kMaxResponseBytes) {
    return fail("what answers at " + path_ + " is not a vedette agent: it announces " +
                std::to_string(length) + " bytes");
  }
  std::string body(length, '\0');
  if (const Status read = read_exactly(body); !read) return tl::unexpected(read.error());
  api::Response response;
  if (!response.ParseFromString(body)) {
    return fail("what answers at " + path_ + " is not a vedette agent: its answer cannot be read");
  }
  if (response.version() != kApiVersion) {
    return fail("the agent at " + path_ + " speaks version " + std::to_string(response.version()) +
                " of the socket API, this client version " + std::to_string(kApiVersion) +
                ": use the client of the agent's release");
  }
  return response;
}

}  // namespace vedette
