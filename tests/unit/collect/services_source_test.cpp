#include "agent/collect/services_source.h"

#include <array>
#include <cmath>
#include <cstring>
#include <functional>
#include <string>
#include <thread>

#include <arpa/inet.h>
#include <doctest/doctest.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "agent/base/handle.h"
#include "tests/unit/collect/file_tree.h"

namespace vedette {
namespace {

// For those who will not answer; those who will may take the default, this machine may be busy.
constexpr std::chrono::milliseconds kShort{100};

// A real server on this machine's loopback or on a path: answers what `reply` says, nothing if that is empty.
class Server {
public:
  using Reply = std::function<std::string(const std::string&)>;

  Server(int type, Reply reply) : type_(type), reply_(std::move(reply)) {
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    socklen_t size = sizeof address;
    start(AF_INET, reinterpret_cast<sockaddr*>(&address), size);  // NOLINT: the sockets API
    REQUIRE(::getsockname(socket_.get(), reinterpret_cast<sockaddr*>(&address), &size) == 0);  // NOLINT
    address_ = "127.0.0.1:" + std::to_string(ntohs(address.sin_port));
    run();
  }
  Server(const std::string& path, Reply reply) : type_(SOCK_STREAM), reply_(std::move(reply)) {
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    REQUIRE(path.size() < sizeof address.sun_path);
    std::strcpy(address.sun_path, path.c_str());                            // NOLINT: the length is checked
    start(AF_UNIX, reinterpret_cast<sockaddr*>(&address), sizeof address);  // NOLINT: the sockets API
    run();
  }
  const std::string& address() const { return address_; }

private:
  void start(int family, const sockaddr* address, socklen_t size) {
    socket_ = FileHandle(::socket(family, type_ | SOCK_CLOEXEC, 0));
    REQUIRE(::bind(socket_.get(), address, size) == 0);
    if (type_ == SOCK_STREAM) REQUIRE(::listen(socket_.get(), 0) == 0);
  }
  void run() {
    if (!reply_) return;  // hangs: the kernel accepts for it
    thread_ = std::jthread([this](const std::stop_token& stop) {
      while (!stop.stop_requested()) {
        pollfd descriptor{socket_.get(), POLLIN, 0};
        if (::poll(&descriptor, 1, 10) <= 0) continue;
        std::array<char, 2048> buffer{};
        sockaddr_storage peer{};
        socklen_t size = sizeof peer;
        auto* from = reinterpret_cast<sockaddr*>(&peer);  // NOLINT: the sockets API
        if (type_ == SOCK_DGRAM) {
          const auto got = ::recvfrom(socket_.get(), buffer.data(), buffer.size(), 0, from, &size);
          const auto answer = reply_(std::string(buffer.data(), static_cast<std::size_t>(got)));
          if (!answer.empty()) ::sendto(socket_.get(), answer.data(), answer.size(), 0, from, size);
          continue;
        }
        const FileHandle client(::accept(socket_.get(), nullptr, nullptr));
        const auto got = ::recv(client.get(), buffer.data(), buffer.size(), 0);
        if (got <= 0) continue;
        const auto answer = reply_(std::string(buffer.data(), static_cast<std::size_t>(got)));
        (void)!::send(client.get(), answer.data(), answer.size(), MSG_NOSIGNAL);
      }
    });
  }

  int type_;
  Reply reply_;
  FileHandle socket_;
  std::string address_;
  std::jthread thread_;
};

ServicesOptions nothing() {
  ServicesOptions options;
  options.kubelet_url = "off";
  options.runtime_socket = "off";
  options.dns_server = "off";
  return options;
}

ServicesReading read(const ServicesOptions& options, const std::string& host = "/nonexistent") {
  ServicesReader reader(options, host);
  return reader.read({});
}

std::string dns_answer(std::string query) {
  query[2] = static_cast<char>(0x81);
  query[3] = static_cast<char>(0x80);
  return query;
}

TEST_CASE("Addresses are numbers with or without a port, of both families, and nothing else") {
  CHECK(parse_address("10.0.0.10", 53).has_value());
  CHECK(parse_address("127.0.0.1:5353", 53).has_value());
  CHECK(parse_address("fd00::1", 53).has_value());
  CHECK(parse_address("[fd00::1]:5353", 53).has_value());
  CHECK(parse_address("[fd00::1]", 53).has_value());
  for (const auto* bad :
       {"", "dns.example", "10.0.0.10:", ":53", "[fd00::1", "[fd00::1]53", "1.2.3.4:port"}) {
    CAPTURE(bad);
    CHECK_FALSE(parse_address(bad, 53).has_value());
  }
  const auto target = parse_http_url("http://127.0.0.1:10248/healthz");
  REQUIRE(target.has_value());
  CHECK(target->host == "127.0.0.1:10248");
  CHECK(target->path == "/healthz");
  CHECK(parse_http_url("http://[::1]")->path == "/");
  CHECK_FALSE(parse_http_url("https://127.0.0.1/").has_value());
  CHECK_FALSE(parse_http_url("127.0.0.1:10248").has_value());
  CHECK_FALSE(parse_http_url("http:///healthz").has_value());
}

TEST_CASE("The first name server of resolv.conf is the node's") {
  CHECK(first_nameserver("# nameserver 1.1.1.1\nsearch a b\nnameserver 10.0.0.2\nnameserver 10.0.0.3\n") ==
        "10.0.0.2");
  CHECK_FALSE(first_nameserver("nameserver\nsearch x\n").has_value());
  CHECK_FALSE(first_nameserver("").has_value());
}

TEST_CASE("What is switched off, or not there, is unknown") {
  const auto off = read(nothing());
  CHECK_FALSE(off.kubelet.there);
  CHECK_FALSE(off.runtime.there);
  CHECK_FALSE(off.dns.there);
  ServicesOptions found;
  found.kubelet_url = "off";  // there may be one on this machine
  const auto reading = read(found);
  CHECK_FALSE(reading.runtime.there);
  CHECK_FALSE(reading.dns.there);
}

TEST_CASE(
    "A kubelet is up with 200, down with another answer, with none, and with a closed port it was told of") {
  auto options = nothing();
  std::string asked;
  {
    const Server healthy(SOCK_STREAM, [&](const std::string& words) {
      asked = words;
      return "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
    });
    options.kubelet_url = "http://" + healthy.address() + "/healthz";
    const auto answer = read(options).kubelet;
    CHECK(answer.there);
    CHECK(answer.up);
    CHECK(answer.answer_s > 0);
    CHECK(answer.answer_s < 2);
    CHECK(asked.starts_with("GET /healthz HTTP/1.1\r\nHost: " + healthy.address() + "\r\n"));
  }
  auto answer = read(options).kubelet;
  CHECK(answer.there);
  CHECK_FALSE(answer.up);
  CHECK(std::isnan(answer.answer_s));
  options.timeout = kShort;
  const Server sick(SOCK_STREAM,
                    [](const std::string&) { return "HTTP/1.1 500 Internal Server Error\r\n\r\n"; });
  options.kubelet_url = "http://" + sick.address() + "/healthz";
  CHECK_FALSE(read(options).kubelet.up);
  const Server hung(SOCK_STREAM, nullptr);
  options.kubelet_url = "http://" + hung.address() + "/healthz";
  const auto began = monotonic_now();
  CHECK_FALSE(read(options).kubelet.up);
  CHECK(seconds_between(began, monotonic_now()) < 2);
}

TEST_CASE("containerd and CRI-O are up once they speak HTTP/2; a hung one accepts and says nothing") {
  const FileTree tree;
  tree.write("/run/containerd/x", "");
  auto options = nothing();
  options.runtime_socket.clear();
  const auto path = tree.path("/run/containerd/containerd.sock");
  {
    const Server server(path, [](const std::string& words) {
      return words.starts_with("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n") && words.size() == 33
                 ? std::string("\0\0\6\4\0\0\0\0\0\0\5\0\0\x40\0", 15)
                 : std::string();
    });
    const auto answer = read(options, tree.path()).runtime;
    CHECK(answer.there);
    CHECK(answer.up);
    CHECK(answer.answer_s < 2);
  }
  options.timeout = kShort;
  auto answer = read(options, tree.path()).runtime;  // its socket still stands there, nobody listens
  CHECK(answer.there);
  CHECK_FALSE(answer.up);
  tree.remove("/run/containerd/containerd.sock");

  const Server hung(path, nullptr);
  ServicesReader reader(options, tree.path());
  for (int i = 0; i < 4; ++i) {  // until its backlog is full, and then still
    answer = reader.read({}).runtime;
    CHECK(answer.there);
    CHECK_FALSE(answer.up);
  }
  tree.remove("/run/containerd/containerd.sock");
  CHECK(reader.read({}).runtime.there);  // it was there: it is missed
  CHECK_FALSE(reader.read({}).runtime.up);
}

TEST_CASE("Docker answers a ping") {
  const FileTree tree;
  tree.write("/run/x", "");
  auto options = nothing();
  options.runtime_socket = "/run/docker.sock";
  CHECK(read(options, tree.path()).runtime.there);  // told of, and not there
  CHECK_FALSE(read(options, tree.path()).runtime.up);
  const Server server(tree.path("/run/docker.sock"), [](const std::string& words) {
    return words.starts_with("GET /_ping ") ? "HTTP/1.1 200 OK\r\n\r\nOK" : "HTTP/1.1 404 Not Found\r\n\r\n";
  });
  CHECK(read(options, tree.path()).runtime.up);
}

TEST_CASE("A name server is up with any answer to our question; a lost packet is sent again") {
  const FileTree tree;
  auto options = nothing();
  options.dns_server.clear();
  std::string asked;
  int questions = 0;
  const Server server(SOCK_DGRAM, [&](const std::string& query) {
    asked = query;
    return ++questions == 1 ? std::string() : dns_answer(query);
  });
  options.dns_server = server.address();
  const auto answer = read(options).dns;
  CHECK(answer.there);
  CHECK(answer.up);
  CHECK(answer.answer_s > 0.9);  // half the timeout
  CHECK(questions == 2);
  CHECK(asked.size() == 17);
  CHECK(asked.substr(2) == std::string("\1\0\0\1\0\0\0\0\0\0\0\0\2\0\1", 15));
}

TEST_CASE("Somebody else's answer is none, and a dead name server of resolv.conf is down") {
  const FileTree tree;
  auto options = nothing();
  options.timeout = kShort;
  const Server liar(SOCK_DGRAM, [](std::string query) {
    query[0] = static_cast<char>(query[0] ^ 1);
    return dns_answer(query);
  });
  options.dns_server = liar.address();
  CHECK_FALSE(read(options).dns.up);

  // From resolv.conf there is no port: on loopback port 53 nobody listens here, which the kernel says at
  // once.
  options.dns_server.clear();
  tree.write("/etc/resolv.conf", "nameserver 127.99.98.97\n");
  CHECK_FALSE(read(options, tree.path()).dns.there);
  options.dns_server = "127.99.98.97";
  CHECK(read(options, tree.path()).dns.there);
  CHECK_FALSE(read(options, tree.path()).dns.up);
}

TEST_CASE("The thread's answers become gauges, and stopping it waits for no dead service") {
  const Server hung(SOCK_STREAM, nullptr);
  auto options = nothing();
  options.timeout = std::chrono::seconds(60);
  options.kubelet_url = "http://" + hung.address() + "/";
  const auto began = monotonic_now();
  { const ServicesSource source(options, ""); }
  CHECK(seconds_between(began, monotonic_now()) < 5);

  options.timeout = std::chrono::milliseconds(50);
  const ServicesSource source(options, "");
  Gauges gauges;
  gauges.fill(kMissing);
  for (int i = 0; i < 500 && std::isnan(gauges[GAUGE_kubelet_up]); ++i) {
    std::this_thread::sleep_for(std::chrono::milliseconds(10));
    source.take(monotonic_now(), gauges);
  }
  CHECK(gauges[GAUGE_kubelet_up] == 0);
  CHECK(std::isnan(gauges[GAUGE_kubelet_answer_s]));
  CHECK(std::isnan(gauges[GAUGE_runtime_up]));
  CHECK(std::isnan(gauges[GAUGE_dns_up]));
}

}  // namespace
}  // namespace vedette
