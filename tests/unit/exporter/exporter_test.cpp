#include "exporter/exporter.h"

#include <atomic>
#include <cerrno>
#include <cstdlib>
#include <fstream>
#include <string>
#include <thread>
#include <vector>

#include <doctest/doctest.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "agent/base/handle.h"
#include "exporter/api.pb.h"
#include "exporter/http_server.h"
#include "exporter/wire.h"
#include "tests/unit/exporter/example_snapshot.h"
#include "tests/unit/temporary_folder.h"

namespace {

using vedette::Exporter;
using vedette::FileHandle;
namespace api = vedette::api;

vedette::Result<std::unique_ptr<Exporter>> make(const std::string& listen, const std::string& socket_path) {
  vedette::ExporterOptions options;
  options.listen = listen;
  options.socket_path = socket_path;
  options.node_name = "worker-3";
  return Exporter::make(options);
}

std::unique_ptr<Exporter> start(const std::string& socket_path, const std::string& listen = "") {
  auto made = make(listen, socket_path);
  REQUIRE_MESSAGE(made.has_value(), (made ? "" : made.error().text));
  return std::move(*made);
}

FileHandle connect_to(const std::string& path) {
  FileHandle socket(::socket(AF_UNIX, SOCK_STREAM, 0));
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  path.copy(address.sun_path, sizeof address.sun_path - 1);
  REQUIRE(::connect(socket.get(), reinterpret_cast<sockaddr*>(&address), sizeof address) == 0);
  return socket;
}

void send_all(const FileHandle& socket, const std::string& bytes) {
  REQUIRE(::send(socket.get(), bytes.data(), bytes.size(), MSG_NOSIGNAL) ==
          static_cast<ssize_t>(bytes.size()));
}

bool receive_exactly(const FileHandle& socket, std::string& bytes, std::size_t count) {
  bytes.resize(count);
  return count == 0 || ::recv(socket.get(), bytes.data(), count, MSG_WAITALL) == static_cast<ssize_t>(count);
}

// Empty optional: the server closed the connection.
bool receive(const FileHandle& socket, api::Response& response) {
  std::string bytes;
  if (!receive_exactly(socket, bytes, vedette::kFrameHeaderBytes)) return false;
  const std::size_t length = vedette::announced_bytes(bytes);
  return receive_exactly(socket, bytes, length) && response.ParseFromString(bytes);
}

std::string framed(const api::Request& request) {
  const std::string body = request.SerializeAsString();
  return vedette::frame_header(body.size()) + body;
}

api::Request status_request() {
  api::Request request;
  request.set_version(vedette::kApiVersion);
  request.mutable_status();
  return request;
}

std::string http_get(int port, const std::string& target) {
  FileHandle socket(::socket(AF_INET, SOCK_STREAM, 0));
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_port = htons(static_cast<std::uint16_t>(port));
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  REQUIRE(::connect(socket.get(), reinterpret_cast<sockaddr*>(&address), sizeof address) == 0);
  send_all(socket, "GET " + target + " HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
  std::string answer;
  char buffer[4096];
  for (ssize_t count = 0; (count = ::recv(socket.get(), buffer, sizeof buffer, 0)) > 0;) {
    answer.append(buffer, static_cast<std::size_t>(count));
  }
  return answer;
}

TEST_CASE("the socket answers before and after the first tick, and is private to root's group") {
  const vedette::TemporaryFolder folder;
  const std::string path = folder.file("agent.sock");
  {
    const auto exporter = start(path);
    struct stat status {};
    REQUIRE(::stat(path.c_str(), &status) == 0);
    CHECK((status.st_mode & 0777) == 0660);

    const FileHandle client = connect_to(path);
    api::Response response;
    send_all(client, framed(status_request()));
    REQUIRE(receive(client, response));
    CHECK(response.error().code() == api::Error::NOT_READY);

    exporter->publish(vedette::example::snapshot());
    send_all(client, framed(status_request()));
    REQUIRE(receive(client, response));
    CHECK(response.agent().node() == "worker-3");
    CHECK(response.status().overall() == "degraded");
    CHECK(response.status().conditions_size() == 2);
    CHECK(response.status().troubled_probes(0).name() == "tcp");
  }
  CHECK(::access(path.c_str(), F_OK) != 0);
}

TEST_CASE("rubbish, an oversized length and a wrong version get an error answer and a closed connection") {
  const vedette::TemporaryFolder folder;
  const std::string path = folder.file("agent.sock");
  const auto exporter = start(path);
  exporter->publish(vedette::example::snapshot());
  api::Request future = status_request();
  future.set_version(99);
  const std::vector<std::string> inputs{
      vedette::frame_header(5) + "\xff\xff\xff\xff\xff",
      "\xff\xff\xff\xff and a lot of it",
      "GET / HTTP/1.1\r\n\r\n",
      vedette::frame_header(0),
      framed(future),
  };
  for (const std::string& input : inputs) {
    const FileHandle client = connect_to(path);
    send_all(client, input);
    api::Response response;
    REQUIRE(receive(client, response));
    CHECK(response.error().code() == api::Error::BAD_REQUEST);
    CHECK_FALSE(response.error().text().empty());
    CHECK_FALSE(receive(client, response));
  }
  const FileHandle client = connect_to(path);
  send_all(client, framed(status_request()));
  api::Response response;
  REQUIRE(receive(client, response));
  CHECK(response.has_status());
}

TEST_CASE("a request may come in pieces, and many at once are answered in order") {
  const vedette::TemporaryFolder folder;
  const std::string path = folder.file("agent.sock");
  const auto exporter = start(path);
  exporter->publish(vedette::example::snapshot());
  const FileHandle client = connect_to(path);
  std::string bytes;
  for (int i = 0; i < 300; ++i) bytes += framed(status_request());
  send_all(client, bytes.substr(0, 3));
  send_all(client, bytes.substr(3));
  api::Response response;
  for (int i = 0; i < 300; ++i) {
    REQUIRE(receive(client, response));
    CHECK(response.has_status());
  }
}

TEST_CASE("the seventeenth client is turned away with a reason, the others stay served") {
  const vedette::TemporaryFolder folder;
  const std::string path = folder.file("agent.sock");
  const auto exporter = start(path);
  exporter->publish(vedette::example::snapshot());
  std::vector<FileHandle> clients;
  api::Response response;
  for (int i = 0; i < 16; ++i) {
    clients.push_back(connect_to(path));
    send_all(clients.back(), framed(status_request()));
    REQUIRE(receive(clients.back(), response));
  }
  const FileHandle late = connect_to(path);
  REQUIRE(receive(late, response));
  CHECK(response.error().code() == api::Error::TOO_MANY);
  CHECK_FALSE(receive(late, response));
  send_all(clients.front(), framed(status_request()));
  REQUIRE(receive(clients.front(), response));
  CHECK(response.has_status());
}

TEST_CASE("a stream brings each new snapshot, and one that is never read holds nobody up") {
  const vedette::TemporaryFolder folder;
  const std::string path = folder.file("agent.sock");
  const auto exporter = start(path);
  exporter->publish(vedette::example::snapshot({.quiet_pods = 500, .tick = 1}));
  api::Request request;
  request.set_version(vedette::kApiVersion);
  request.mutable_top()->set_stream(true);
  const FileHandle reader = connect_to(path);
  const FileHandle deaf = connect_to(path);
  send_all(deaf, framed(request));
  send_all(reader, framed(request));
  api::Response response;
  REQUIRE(receive(reader, response));
  CHECK(response.top().rows_size() == 503);
  for (std::uint64_t tick = 2; tick < 20; ++tick) {
    exporter->publish(vedette::example::snapshot({.quiet_pods = 500, .tick = tick}));
    REQUIRE(receive(reader, response));
    CHECK(response.agent().ticks() == tick);
  }
}

TEST_CASE("explain finds one entity, names the candidates of two, and says what exists for none") {
  const vedette::TemporaryFolder folder;
  const std::string path = folder.file("agent.sock");
  const auto exporter = start(path);
  for (std::uint64_t tick = 1; tick <= 5; ++tick)
    exporter->publish(vedette::example::snapshot({.tick = tick}));
  const FileHandle client = connect_to(path);
  const auto explain = [&](const std::string& name) {
    api::Request request;
    request.set_version(vedette::kApiVersion);
    request.mutable_explain()->set_entity(name);
    send_all(client, framed(request));
    api::Response response;
    REQUIRE(receive(client, response));
    return response;
  };
  const api::Response cart = explain("cart");
  CHECK(cart.explain().row().entity().name() == "pod/shop/cart-7d9f");
  CHECK(cart.explain().row().trails(0).points_size() == 6);
  CHECK(cart.explain().conditions_size() == 1);
  CHECK(cart.explain().forecasts(0).eta_s() == 24);
  REQUIRE(cart.explain().events_size() == 1);
  CHECK(cart.explain().events(0).count() == 5);
  CHECK(cart.explain().events(0).text() ==
        "was killed by the OOM killer at its cgroup's memory limit, 512 MiB resident");
  CHECK(explain("node").explain().row().entity().kind() == "node");
  CHECK(explain("web-").error().code() == api::Error::AMBIGUOUS);
  CHECK(explain("web-").error().candidates_size() == 3);
  CHECK(explain("nothing").error().code() == api::Error::UNKNOWN_ENTITY);
  CHECK(explain("nothing").error().candidates_size() == 6);
  CHECK(explain("\xff\xfe").error().code() == api::Error::BAD_REQUEST);
}

TEST_CASE("a path that somebody listens on is refused, a stale one is taken over, a file is left alone") {
  const vedette::TemporaryFolder folder;
  const std::string path = folder.file("agent.sock");
  {
    const auto exporter = start(path);
    const auto second = make("", path);
    REQUIRE_FALSE(second.has_value());
    CHECK(second.error().text.find("another agent listens on " + path) != std::string::npos);
  }
  {
    FileHandle dead(::socket(AF_UNIX, SOCK_STREAM, 0));
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    path.copy(address.sun_path, sizeof address.sun_path - 1);
    REQUIRE(::bind(dead.get(), reinterpret_cast<sockaddr*>(&address), sizeof address) == 0);
  }
  REQUIRE(::access(path.c_str(), F_OK) == 0);
  start(path).reset();
  std::ofstream(path) << "mine";
  const auto refused = make("", path);
  REQUIRE_FALSE(refused.has_value());
  CHECK(refused.error().text.find("not a socket") != std::string::npos);
  ::unlink(path.c_str());
  const auto long_path = make("", "/tmp/" + std::string(200, 'x'));
  CHECK_FALSE(long_path.has_value());
}

TEST_CASE("metrics and health are served over HTTP, and a taken or malformed address is one clear error") {
  const auto exporter = start("", "127.0.0.1:0");
  REQUIRE(exporter->port() > 0);
  CHECK(http_get(exporter->port(), "/healthz").starts_with("HTTP/1.1 200"));
  CHECK(http_get(exporter->port(), "/metrics").starts_with("HTTP/1.1 200"));
  auto scene = vedette::example::Scene{.start_ns = vedette::monotonic_now()};
  exporter->publish(vedette::example::snapshot(scene));
  const std::string metrics = http_get(exporter->port(), "/metrics");
  CHECK(metrics.find("vedette_node_health{state=\"degraded\"} 1") != std::string::npos);
  CHECK(metrics.ends_with("0\r\n\r\n"));
  CHECK(http_get(exporter->port(), "/other").starts_with("HTTP/1.1 404"));
  // A tick of long ago (the test's clock starts near the machine's boot): the agent is stuck.
  if (vedette::monotonic_now() > 100'000'000'000ULL) {
    exporter->publish(vedette::example::snapshot());
    CHECK(http_get(exporter->port(), "/healthz").starts_with("HTTP/1.1 503"));
  }

  const std::string taken = "127.0.0.1:" + std::to_string(exporter->port());
  const auto second = make(taken, "");
  REQUIRE_FALSE(second.has_value());
  CHECK(second.error().text == "cannot serve metrics on " + taken + ": Address already in use");
  // Whether IPv6 can be had is up to who built civetweb.
  if (const auto six = make("[::1]:0", ""); !six)
    CHECK(six.error().text.find("civetweb) was built without IPv6") != std::string::npos);
  for (const char* wrong :
       {"9464", ":9464", "127.0.0.1:", "127.0.0.1:99999", "127.0.0.1:80s", "localhost:1"}) {
    const auto refused = make(wrong, "");
    REQUIRE_FALSE(refused.has_value());
    CHECK(refused.error().text.find("expected ADDRESS:PORT") != std::string::npos);
  }
}

TEST_CASE("a scrape that takes too long is broken off, and its thread serves the next one") {
  vedette::HttpHandlers handlers;
  handlers.metrics = [](const std::function<void(std::string_view)>& write) {
    for (int piece = 0; piece < 10; ++piece) write(std::string(20'000, '#'));
  };
  handlers.trouble = [] { return std::string(); };
  const auto patient = vedette::HttpServer::make("127.0.0.1:0", handlers);
  REQUIRE(patient.has_value());
  CHECK(http_get((*patient)->port(), "/metrics").ends_with("0\r\n\r\n"));
  handlers.scrape_limit_s = 0;
  const auto hasty = vedette::HttpServer::make("127.0.0.1:0", handlers);
  REQUIRE(hasty.has_value());
  for (int scrape = 0; scrape < 3; ++scrape) {
    const std::string broken = http_get((*hasty)->port(), "/metrics");
    CHECK(broken.starts_with("HTTP/1.1 200"));
    CHECK_FALSE(broken.ends_with("0\r\n\r\n"));
  }
  CHECK(http_get((*hasty)->port(), "/healthz").starts_with("HTTP/1.1 200"));
}

TEST_CASE("scrapes, questions and ticks at the same time disturb each other in nothing") {
  const vedette::TemporaryFolder folder;
  const std::string path = folder.file("agent.sock");
  const auto exporter = start(path, "127.0.0.1:0");
  exporter->publish(vedette::example::snapshot());
  std::atomic<bool> done = false;
  std::jthread ticks([&] {
    for (std::uint64_t tick = 2; !done; ++tick) {
      exporter->publish(vedette::example::snapshot({.quiet_pods = tick % 20, .tick = tick}));
    }
  });
  const FileHandle client = connect_to(path);
  for (int i = 0; i < 20; ++i) {
    CHECK(http_get(exporter->port(), "/metrics").find("vedette_build_info") != std::string::npos);
    send_all(client, framed(status_request()));
    api::Response response;
    REQUIRE(receive(client, response));
    CHECK(response.has_status());
  }
  done = true;
}

}  // namespace
