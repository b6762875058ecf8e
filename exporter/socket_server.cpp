#include "exporter/socket_server.h"

#include <algorithm>
#include <cerrno>
#include <csignal>
#include <cstring>
#include <optional>
#include <string_view>

#include <google/protobuf/stubs/logging.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "agent/base/clock.h"
#include "exporter/answers.h"
#include "exporter/api.pb.h"
#include "exporter/wire.h"

namespace vedette {
namespace {

// People and a few scripts; each costs at most one request and one answer of memory.
constexpr std::size_t kMaxClients = 16;
// A client that neither asks nor reads for so long is gone, or means ill: its place is for others.
constexpr double kIdleSeconds = 30;
constexpr mode_t kSocketMode = 0660;
constexpr mode_t kDirectoryMode = 0755;
constexpr int kBacklog = 16;
constexpr int kIdleCheckMs = 5000;

Result<sockaddr_un> address_of(const std::string& path) {
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  if (path.empty() || path.size() >= sizeof address.sun_path) {
    return fail("the socket's path \"" + path + "\" has " + std::to_string(path.size()) +
                " bytes: expected 1 to " + std::to_string(sizeof address.sun_path - 1));
  }
  std::memcpy(address.sun_path, path.c_str(), path.size() + 1);
  return address;
}

// Leaves the path free, or says who has it.
Status claim_path(const std::string& path, const sockaddr_un& address) {
  struct stat status {};
  if (::lstat(path.c_str(), &status) != 0) {
    return errno == ENOENT ? Status{} : fail_errno("stat " + path);
  }
  if (!S_ISSOCK(status.st_mode))
    return fail(path + " exists and is not a socket: remove it or name another path");
  const FileHandle probe(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  if (!probe) return fail_errno("make a socket");
  if (::connect(probe.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) == 0 ||
      errno != ECONNREFUSED) {
    return fail("another agent listens on " + path + ": only one may run on a node");
  }
  if (::unlink(path.c_str()) != 0) return fail_errno("remove the stale socket " + path);
  return {};
}

Result<FileHandle> listen_on(const std::string& path) {
  const Result<sockaddr_un> address = address_of(path);
  if (!address) return tl::unexpected(address.error());
  const std::size_t slash = path.rfind('/');
  if (slash != std::string::npos && slash > 0) {
    const std::string directory = path.substr(0, slash);
    if (::mkdir(directory.c_str(), kDirectoryMode) != 0 && errno != EEXIST) {
      return fail_errno("make the socket's directory " + directory);
    }
  }
  if (const Status claimed = claim_path(path, *address); !claimed) return tl::unexpected(claimed.error());
  FileHandle listener(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  if (!listener) return fail_errno("make a socket");
  // Before bind: the path is born with these rights and never has wider ones. After it, because a umask may
  // have taken the group's.
  ::fchmod(listener.get(), kSocketMode);
  if (::bind(listener.get(), reinterpret_cast<const sockaddr*>(&*address), sizeof *address) != 0) {
    return fail_errno("bind the socket " + path);
  }
  if (::chmod(path.c_str(), kSocketMode) != 0) return fail_errno("set the mode of " + path);
  if (::listen(listener.get(), kBacklog) != 0) return fail_errno("listen on " + path);
  return listener;
}

std::string framed(const api::Response& response) {
  const std::string body = response.SerializeAsString();
  return frame_header(body.size()) + body;
}

std::string framed_error(api::Error::Code code, const std::string& text) {
  api::Response response;
  response.set_version(kApiVersion);
  response.mutable_error()->set_code(code);
  response.mutable_error()->set_text(text);
  return framed(response);
}

// The path's mode lets a group read; to say something or to have something done takes root, or whoever the
// agent runs as.
bool may_say(int socket) {
  ucred peer{};
  socklen_t size = sizeof peer;
  if (::getsockopt(socket, SOL_SOCKET, SO_PEERCRED, &peer, &size) != 0) return false;
  return peer.uid == 0 || peer.uid == ::geteuid();
}

}  // namespace

struct SocketServer::Client {
  FileHandle socket;
  std::string in;
  std::string out;       // what is not sent yet; no request is read before it is
  std::size_t sent = 0;  // of `out`
  bool trusted = false;  // may say something, and ask much at once
  bool closing = false;  // close once `out` is sent
  bool closed = false;
  MonotonicNs moved_ns = 0;  // when a byte last moved
  std::optional<api::Request> stream;
  std::uint64_t streamed_version = 0;
  MonotonicNs streamed_ns = 0;
};

Result<std::unique_ptr<SocketServer>> SocketServer::make(SocketServerOptions options,
                                                         const Latest<Snapshot>& latest,
                                                         const History& history) {
  // protobuf reports each malformed message to stderr: a client's rubbish must not fill the journal.
  google::protobuf::SetLogHandler(nullptr);
  Result<FileHandle> listener = listen_on(options.path);
  if (!listener) return tl::unexpected(listener.error());
  FileHandle wake(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
  if (!wake) return fail_errno("make an eventfd");
  return std::unique_ptr<SocketServer>(new SocketServer(
      std::move(options), latest, history, std::move(*listener), std::move(wake), monotonic_now()));
}

SocketServer::SocketServer(SocketServerOptions options, const Latest<Snapshot>& latest,
                           const History& history, FileHandle listener, FileHandle wake,
                           MonotonicNs started_ns)
    : options_(std::move(options)),
      latest_(latest),
      history_(history),
      listener_(std::move(listener)),
      wake_(std::move(wake)),
      started_ns_(started_ns),
      thread_([this](const std::stop_token& stop) { run(stop); }) {}

SocketServer::~SocketServer() {
  thread_.request_stop();
  wake();
  thread_.join();
  ::unlink(options_.path.c_str());
}

void SocketServer::wake() const {
  const std::uint64_t one = 1;
  // Full means that a wake-up is already under way.
  [[maybe_unused]] const ssize_t written = ::write(wake_.get(), &one, sizeof one);
}

void SocketServer::snapshot_published() {
  if (streaming_.load(std::memory_order_relaxed)) wake();
}

void SocketServer::run(const std::stop_token& stop) {
  // Signals are for the main thread.
  sigset_t all;
  ::sigfillset(&all);
  ::pthread_sigmask(SIG_BLOCK, &all, nullptr);
  while (!stop.stop_requested()) {
    std::vector<pollfd> polled{{listener_.get(), POLLIN, 0}, {wake_.get(), POLLIN, 0}};
    for (const auto& client : clients_) {
      const short wanted = client->out.empty() ? POLLIN : POLLOUT;
      polled.push_back({client->socket.get(), wanted, 0});
    }
    // Without clients there is nothing to time out and the thread sleeps.
    if (::poll(polled.data(), polled.size(), clients_.empty() ? -1 : kIdleCheckMs) < 0 && errno != EINTR)
      return;
    if (polled[1].revents != 0) {
      std::uint64_t wakes = 0;
      [[maybe_unused]] const ssize_t count = ::read(wake_.get(), &wakes, sizeof wakes);
    }
    const MonotonicNs now_ns = monotonic_now();
    for (std::size_t i = 0; i < clients_.size(); ++i) {
      Client& client = *clients_[i];
      const short ready = polled[i + 2].revents;
      if ((ready & POLLIN) != 0) read_from(client);
      if ((ready & POLLOUT) != 0) {
        write_to(client);
        answer_requests(client);
      }
      if ((ready & (POLLERR | POLLNVAL)) != 0 || ready == POLLHUP) client.closed = true;
      if (!client.closed && client.stream) stream_to(client);
      const bool waits_for_snapshot = client.stream.has_value() && client.out.empty();
      if (!waits_for_snapshot && seconds_between(client.moved_ns, now_ns) > kIdleSeconds)
        client.closed = true;
    }
    std::erase_if(clients_, [](const auto& client) { return client->closed; });
    streaming_.store(std::any_of(clients_.begin(), clients_.end(),
                                 [](const auto& client) { return client->stream.has_value(); }),
                     std::memory_order_relaxed);
    if (polled[0].revents != 0) accept_clients();
  }
}

void SocketServer::accept_clients() {
  for (;;) {
    FileHandle socket(::accept4(listener_.get(), nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK));
    if (!socket) return;
    if (clients_.size() >= kMaxClients) {
      const std::string refusal =
          framed_error(api::Error::TOO_MANY, "the agent already serves " + std::to_string(kMaxClients) +
                                                 " clients: close one of them");
      [[maybe_unused]] const ssize_t sent =
          ::send(socket.get(), refusal.data(), refusal.size(), MSG_NOSIGNAL | MSG_DONTWAIT);
      continue;
    }
    auto client = std::make_unique<Client>();
    client->trusted = may_say(socket.get());
    client->socket = std::move(socket);
    client->moved_ns = monotonic_now();
    clients_.push_back(std::move(client));
  }
}

void SocketServer::read_from(Client& client) {
  char buffer[16384];
  const ssize_t count = ::recv(client.socket.get(), buffer, sizeof buffer, MSG_DONTWAIT);
  if (count == 0 || (count < 0 && errno != EAGAIN && errno != EINTR)) {
    client.closed = true;
    return;
  }
  if (count < 0) return;
  client.moved_ns = monotonic_now();
  client.in.append(buffer, static_cast<std::size_t>(count));
  answer_requests(client);
}

AnswerContext SocketServer::context(const Client& client) const {
  return {latest_.get(),   history_,   options_.node,  started_ns_,
          monotonic_now(), wall_now(), client.trusted, options_.services};
}

void SocketServer::answer_requests(Client& client) {
  // One at a time: the next is looked at when its answer has gone out, so `in` never holds more than a
  // request and one read, and `out` never more than an answer.
  while (client.out.empty() && !client.closed && client.in.size() >= kFrameHeaderBytes) {
    const std::size_t length = announced_bytes(client.in);
    const std::size_t most = client.trusted ? kMaxTrustedBytes : kMaxRequestBytes;
    if (length > most) {
      client.out =
          framed_error(api::Error::BAD_REQUEST, "the request announces " + std::to_string(length) +
                                                    " bytes: expected at most " + std::to_string(most) +
                                                    (client.trusted ? "" : ", unless from root: use sudo"));
      client.closing = true;
      client.in.clear();
    } else if (client.in.size() < kFrameHeaderBytes + length) {
      return;
    } else {
      api::Request request;
      const bool parsed =
          request.ParseFromArray(client.in.data() + kFrameHeaderBytes, static_cast<int>(length));
      client.in.erase(0, kFrameHeaderBytes + length);
      client.stream.reset();
      if (!parsed) {
        client.out =
            framed_error(api::Error::BAD_REQUEST, "the request is not a message of exporter/api.proto");
        client.closing = true;
      } else {
        if (request.has_top() && request.top().stream() && request.version() == kApiVersion) {
          client.stream = request;
          client.streamed_version = latest_.version();
          client.streamed_ns = monotonic_now();
        }
        const api::Response response = answer(request, context(client));
        client.closing = response.has_error() && response.error().code() == api::Error::BAD_REQUEST;
        client.out = framed(response);
      }
    }
    write_to(client);
  }
}

void SocketServer::write_to(Client& client) {
  while (client.sent < client.out.size()) {
    const ssize_t count = ::send(client.socket.get(), client.out.data() + client.sent,
                                 client.out.size() - client.sent, MSG_NOSIGNAL | MSG_DONTWAIT);
    if (count < 0 && errno == EINTR) continue;
    if (count < 0 && errno == EAGAIN) return;
    if (count <= 0) {
      client.closed = true;
      return;
    }
    client.sent += static_cast<std::size_t>(count);
    client.moved_ns = monotonic_now();
  }
  std::string().swap(client.out);
  client.sent = 0;
  if (client.closing) {
    // With unread input the close would become a reset and the answer could be lost with it.
    char rest[4096];
    while (::recv(client.socket.get(), rest, sizeof rest, MSG_DONTWAIT) > 0) {
    }
    ::shutdown(client.socket.get(), SHUT_RDWR);
    client.closed = true;
  }
}

// A client that has not read its last snapshot skips the ones in between.
void SocketServer::stream_to(Client& client) {
  const MonotonicNs now_ns = monotonic_now();
  const double interval_s = client.stream->top().min_interval_ms() / 1e3;
  if (!client.out.empty() || latest_.version() == client.streamed_version ||
      seconds_between(client.streamed_ns, now_ns) < interval_s) {
    return;
  }
  client.streamed_version = latest_.version();
  client.streamed_ns = now_ns;
  client.out = framed(answer(*client.stream, context(client)));
  write_to(client);
}

}  // namespace vedette
