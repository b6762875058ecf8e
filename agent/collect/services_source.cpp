#include "agent/collect/services_source.h"

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <functional>
#include <memory>
#include <random>
#include <utility>

#include <netdb.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/un.h>
#include <unistd.h>

#include "agent/base/handle.h"
#include "agent/collect/kept_file.h"

namespace vedette {
namespace {

using namespace std::string_view_literals;

constexpr std::uint16_t kHttpPort = 80;
constexpr std::uint16_t kDnsPort = 53;
constexpr const char* kOff = "off";
constexpr const char* kKubeletUrl = "http://127.0.0.1:10248/healthz";
// Where kubelet says which pod has which device: a service of the same process.
constexpr const char* kKubeletSocket = "/var/lib/kubelet/pod-resources/kubelet.sock";
// Docker's last: where systemd listens for it, a question would start it.
constexpr std::array<const char*, 3> kRuntimeSockets{"/run/containerd/containerd.sock", "/run/crio/crio.sock",
                                                     "/run/docker.sock"};

// A client of HTTP/2 begins with these words and its SETTINGS, here empty; the server's first frame are its
// own SETTINGS (RFC 9113, 3.4). A daemon that hangs has a kernel that accepts for it, but nobody to write a
// frame.
constexpr std::string_view kHttp2Preface = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\4\0\0\0\0\0"sv;
constexpr std::size_t kFrameHeader = 9;
constexpr std::size_t kFrameType = 3;
constexpr char kSettings = 4;

enum class Outcome : std::uint8_t { kAnswered, kWrong, kSilent, kRefused, kForbidden };
// What to make of the bytes so far: an answer, a wrong one, or kSilent to wait for more.
using Judge = std::function<Outcome(std::string_view)>;

struct Question {
  int type = SOCK_STREAM;
  std::string_view words;
  // Datagrams get lost: said again after this time.
  std::chrono::milliseconds again{0};
  Judge judge;
};

// Waits for `events` until `until`, in steps short enough for the agent to end in time.
bool wait_for(int socket, short events, std::chrono::steady_clock::time_point until,
              const std::stop_token& stop) {
  constexpr std::chrono::milliseconds kStep{100};
  while (!stop.stop_requested()) {
    const auto left =
        std::chrono::duration_cast<std::chrono::milliseconds>(until - std::chrono::steady_clock::now());
    if (left.count() <= 0) return false;
    pollfd descriptor{socket, events, 0};
    if (::poll(&descriptor, 1, static_cast<int>(std::min(left, kStep).count())) > 0) return true;
  }
  return false;
}

// Connects, asks, and waits for the answer.
Outcome ask(const SocketAddress& address, const Question& question, std::chrono::milliseconds timeout,
            const std::stop_token& stop) {
  const auto until = std::chrono::steady_clock::now() + timeout;
  const FileHandle socket(::socket(address.bytes.ss_family, question.type | SOCK_NONBLOCK | SOCK_CLOEXEC, 0));
  if (!socket) return Outcome::kSilent;
  const auto* peer = reinterpret_cast<const sockaddr*>(&address.bytes);  // NOLINT: the sockets API
  if (::connect(socket.get(), peer, address.size) != 0) {
    // EAGAIN: the backlog of a local socket is full, for nobody takes from it.
    if (errno == EAGAIN) return Outcome::kSilent;
    if (errno == EACCES || errno == EPERM) return Outcome::kForbidden;
    if (errno != EINPROGRESS) return Outcome::kRefused;
    if (!wait_for(socket.get(), POLLOUT, until, stop)) return Outcome::kSilent;
    int error = 0;
    socklen_t size = sizeof error;
    ::getsockopt(socket.get(), SOL_SOCKET, SO_ERROR, &error, &size);
    if (error != 0) return Outcome::kRefused;
  }
  std::string answer;
  bool repeat = question.again.count() > 0;
  for (;;) {
    if (::send(socket.get(), question.words.data(), question.words.size(), MSG_NOSIGNAL) < 0) {
      return errno == ECONNREFUSED ? Outcome::kRefused : Outcome::kSilent;
    }
    const auto patience = repeat ? std::min(until, std::chrono::steady_clock::now() + question.again) : until;
    while (wait_for(socket.get(), POLLIN, patience, stop)) {
      std::array<char, 2048> buffer;  // NOLINT: filled by recv()
      const auto got = ::recv(socket.get(), buffer.data(), buffer.size(), 0);
      if (got < 0 && (errno == EAGAIN || errno == EINTR)) continue;
      if (got < 0 && errno == ECONNREFUSED) return Outcome::kRefused;
      if (got <= 0) return Outcome::kWrong;  // hung up
      if (question.type == SOCK_DGRAM) answer.clear();
      answer.append(buffer.data(), static_cast<std::size_t>(got));
      const auto outcome = question.judge(answer);
      if (outcome != Outcome::kSilent) return outcome;
      constexpr std::size_t kTooMuch = 65'536;
      if (answer.size() > kTooMuch) return Outcome::kWrong;
    }
    if (!repeat) return Outcome::kSilent;
    repeat = false;
  }
}

Outcome judge_http(std::string_view bytes) {
  // "HTTP/1.1 200 OK"
  if (bytes.find('\n') == std::string_view::npos) return Outcome::kSilent;
  next_word(bytes);
  return next_word(bytes) == "200" ? Outcome::kAnswered : Outcome::kWrong;
}

Outcome judge_http2(std::string_view bytes) {
  if (bytes.size() < kFrameHeader) return Outcome::kSilent;
  return bytes[kFrameType] == kSettings ? Outcome::kAnswered : Outcome::kWrong;
}

std::string http_get(const std::string& path, const std::string& host) {
  return "GET " + path + " HTTP/1.1\r\nHost: " + host + "\r\nConnection: close\r\n\r\n";
}

// The name servers of the root: every resolver knows them (RFC 1035, 4.1).
std::string dns_query(std::uint16_t id) {
  std::string query{static_cast<char>(id >> 8), static_cast<char>(id & 0xff)};
  query += "\1\0\0\1\0\0\0\0\0\0"sv;  // recursion desired, one question
  query += "\0\0\2\0\1"sv;            // ".", NS, IN
  return query;
}

Outcome judge_dns(std::string_view query, std::string_view bytes) {
  constexpr std::size_t kHeader = 12;
  constexpr std::size_t kFlags = 2;
  const bool ours = bytes.size() >= kHeader && bytes.substr(0, 2) == query.substr(0, 2) &&
                    (static_cast<unsigned char>(bytes[kFlags]) & 0x80U) != 0;
  return ours ? Outcome::kAnswered : Outcome::kSilent;  // somebody else's: ours may still come
}

std::optional<SocketAddress> unix_address(const std::string& path) {
  SocketAddress address;
  sockaddr_un local{};
  local.sun_family = AF_UNIX;
  if (path.empty() || path.size() >= sizeof local.sun_path) return std::nullopt;
  std::memcpy(local.sun_path, path.c_str(), path.size() + 1);
  std::memcpy(&address.bytes, &local, sizeof local);
  address.size = sizeof local;
  return address;
}

// `expected`: somebody should be there even if nobody ever was; remembers whether one was.
ServiceAnswer judge(const SocketAddress& address, const Question& question, std::chrono::milliseconds timeout,
                    const std::stop_token& stop, bool& expected) {
  const auto began = monotonic_now();
  const auto outcome = ask(address, question, timeout, stop);
  ServiceAnswer answer;
  answer.up = outcome == Outcome::kAnswered;
  if (answer.up) answer.answer_s = seconds_between(began, monotonic_now());
  expected = expected || (outcome != Outcome::kRefused && outcome != Outcome::kForbidden);
  answer.there = expected && outcome != Outcome::kForbidden;
  return answer;
}

}  // namespace

std::optional<SocketAddress> parse_address(std::string_view text, std::uint16_t default_port) {
  std::string host(text);
  std::string port = std::to_string(default_port);
  if (host.starts_with('[')) {
    const auto end = host.find(']');
    if (end == std::string::npos) return std::nullopt;
    const auto rest = host.substr(end + 1);
    if (!rest.empty() && rest.front() != ':') return std::nullopt;
    if (!rest.empty()) port = rest.substr(1);
    host = host.substr(1, end - 1);
  } else if (std::ranges::count(host, ':') == 1) {
    const auto colon = host.find(':');
    port = host.substr(colon + 1);
    host.resize(colon);
  }
  addrinfo hints{};
  hints.ai_flags = AI_NUMERICHOST | AI_NUMERICSERV;
  hints.ai_socktype = SOCK_STREAM;
  addrinfo* found = nullptr;
  if (host.empty() || port.empty() || ::getaddrinfo(host.c_str(), port.c_str(), &hints, &found) != 0) {
    return std::nullopt;
  }
  SocketAddress address;
  std::memcpy(&address.bytes, found->ai_addr, found->ai_addrlen);
  address.size = found->ai_addrlen;
  ::freeaddrinfo(found);
  return address;
}

std::optional<HttpTarget> parse_http_url(std::string_view url) {
  constexpr std::string_view kScheme = "http://";
  if (!url.starts_with(kScheme)) return std::nullopt;
  url.remove_prefix(kScheme.size());
  const auto slash = std::min(url.find('/'), url.size());
  const auto address = parse_address(url.substr(0, slash), kHttpPort);
  if (!address) return std::nullopt;
  HttpTarget target;
  target.address = *address;
  target.host = url.substr(0, slash);
  target.path = slash == url.size() ? "/" : std::string(url.substr(slash));
  return target;
}

std::optional<std::string> first_nameserver(std::string_view resolv_conf) {
  std::string_view line;
  while (next_line(resolv_conf, line)) {
    if (next_word(line) != "nameserver") continue;
    const auto address = next_word(line);
    if (!address.empty()) return std::string(address);
  }
  return std::nullopt;
}

ServicesReader::ServicesReader(ServicesOptions options, std::string host)
    : options_(std::move(options)),
      host_(std::move(host)),
      kubelet_expected_(!options_.kubelet_url.empty()),
      dns_expected_(!options_.dns_server.empty()),
      runtime_socket_(options_.runtime_socket.empty() ? std::string() : host_ + options_.runtime_socket),
      query_id_(static_cast<std::uint16_t>(std::random_device()())) {}

ServicesReading ServicesReader::read(const std::stop_token& stop) {
  ServicesReading reading;
  reading.read_ns = monotonic_now();
  if (options_.kubelet_url != kOff) reading.kubelet = ask_kubelet(stop);
  if (options_.runtime_socket != kOff) reading.runtime = ask_runtime(stop);
  if (options_.dns_server != kOff) reading.dns = ask_dns(stop);
  return reading;
}

ServiceAnswer ServicesReader::ask_kubelet(const std::stop_token& stop) {
  Question question;
  if (!kubelet_by_socket_) {
    const auto target = parse_http_url(options_.kubelet_url.empty() ? kKubeletUrl : options_.kubelet_url);
    if (!target) return {};
    const auto words = http_get(target->path, target->host);
    question.words = words;
    question.judge = judge_http;
    const auto answer = judge(target->address, question, options_.timeout, stop, kubelet_expected_);
    if (kubelet_expected_) return answer;
  }
  // Nothing ever listened: in a pod's network, the loopback is not the node's. Its files are.
  const auto address = unix_address(host_ + kKubeletSocket);
  if (!address) return {};
  question.words = kHttp2Preface;
  question.judge = judge_http2;
  return judge(*address, question, options_.timeout, stop, kubelet_by_socket_);
}

ServiceAnswer ServicesReader::ask_runtime(const std::stop_token& stop) {
  for (const auto* socket : kRuntimeSockets) {
    if (runtime_socket_.empty() && ::access((host_ + socket).c_str(), F_OK) == 0)
      runtime_socket_ = host_ + socket;
  }
  const auto address = unix_address(runtime_socket_);
  if (!address) return {};
  const auto words = http_get("/_ping", "docker");
  const bool docker = runtime_socket_.ends_with("/docker.sock");
  Question question;
  question.words = docker ? std::string_view(words) : kHttp2Preface;
  question.judge = docker ? judge_http : judge_http2;
  bool expected = true;
  return judge(*address, question, options_.timeout, stop, expected);
}

ServiceAnswer ServicesReader::ask_dns(const std::stop_token& stop) {
  auto server = options_.dns_server;
  if (server.empty()) {
    ReadBuffer buffer;
    const auto text = buffer.read_path(host_ + "/etc/resolv.conf");
    server = (text ? first_nameserver(*text) : std::nullopt).value_or("");
  }
  const auto address = parse_address(server, kDnsPort);
  if (!address) return {};
  const auto query = dns_query(++query_id_);
  Question question;
  question.type = SOCK_DGRAM;
  question.words = query;
  question.again = options_.timeout / 2;
  question.judge = [&](std::string_view bytes) { return judge_dns(query, bytes); };
  return judge(*address, question, options_.timeout, stop, dns_expected_);
}

// The nodes of a cluster restart their agents together: each pauses once for a time of its own.
ServicesSource::ServicesSource(const ServicesOptions& options, std::string host)
    : polled_(
          options.interval,
          [reader = std::make_shared<ServicesReader>(options, std::move(host))](const std::stop_token& stop) {
            return reader->read(stop);
          },
          std::chrono::milliseconds(std::random_device()() %
                                    static_cast<unsigned>(std::max<long>(1, options.interval.count())))) {}

void ServicesSource::take(MonotonicNs now, Gauges& gauges) const {
  const auto reading = polled_.fresh(now);
  const auto set = [&](const ServiceAnswer& answer, vedette_gauge up, vedette_gauge seconds) {
    gauges[up] = answer.there ? (answer.up ? 1 : 0) : kMissing;
    gauges[seconds] = answer.there ? answer.answer_s : kMissing;
  };
  const auto answers = reading ? *reading : ServicesReading();
  set(answers.kubelet, GAUGE_kubelet_up, GAUGE_kubelet_answer_s);
  set(answers.runtime, GAUGE_runtime_up, GAUGE_runtime_answer_s);
  set(answers.dns, GAUGE_dns_up, GAUGE_dns_answer_s);
}

}  // namespace vedette
