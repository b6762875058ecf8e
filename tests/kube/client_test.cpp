#include "agent/kube/client.h"

#include <filesystem>
#include <fstream>

#include "tests/kube/api_server.h"
#include "tests/kube/scripted_server.h"
#include "tests/skip.h"

using namespace vedette;

namespace {

void write_file(const std::string& path, const std::string& text) {
  std::ofstream(path) << text;
}

std::string read_file(const std::string& path) {
  std::ifstream in(path);
  return {std::istreambuf_iterator<char>(in), {}};
}

KubeClientOptions plain(const ScriptedServer& server) {
  KubeClientOptions options;
  options.url = server.url();
  return options;
}

}  // namespace

TEST_CASE("a token rotated on disk is used from the next request on, and a wrong one answers 401") {
  auto* server = ApiServer::shared();
  if (server == nullptr) VEDETTE_SKIP(ApiServer::why());
  KubeClientOptions options = server->admin();
  const std::string token = read_file(options.token_file);
  options.token_file = server->dir() + "/rotating.token";
  write_file(options.token_file, token);
  auto client = KubeClient::make(options);
  REQUIRE(client);
  CHECK(client->get("/api/v1/nodes")->status == 200);
  write_file(options.token_file, "outdated");
  const auto refused = client->get("/api/v1/nodes");
  REQUIRE(refused);
  CHECK(refused->status == 401);
  CHECK(explain(*refused) == "HTTP 401: Unauthorized");
  write_file(options.token_file, token + "\n");
  CHECK(client->get("/api/v1/nodes")->status == 200);
  std::filesystem::remove(options.token_file);
  const auto gone = client->get("/api/v1/nodes");
  REQUIRE_FALSE(gone);
  CHECK(gone.error().text.find("rotating.token: cannot be read") != std::string::npos);
  write_file(options.token_file, "two words");
  const auto rubbish = client->get("/api/v1/nodes");
  REQUIRE_FALSE(rubbish);
  CHECK(rubbish.error().text.find("not a bearer token") != std::string::npos);
}

TEST_CASE("a server whose certificate another authority signed is not spoken to") {
  auto* server = ApiServer::shared();
  if (server == nullptr) VEDETTE_SKIP(ApiServer::why());
  KubeClientOptions options = server->admin();
  options.ca_file = "/etc/ssl/certs/ca-certificates.crt";
  if (!std::filesystem::exists(options.ca_file)) VEDETTE_SKIP("no " + options.ca_file);
  auto client = KubeClient::make(options);
  REQUIRE(client);
  const auto reply = client->get("/version");
  REQUIRE_FALSE(reply);
  CHECK(reply.error().text.find("certificate") != std::string::npos);
}

TEST_CASE("a server that hangs ends the request with a timeout, and the client recovers when it goes on") {
  auto* server = ApiServer::shared();
  if (server == nullptr) VEDETTE_SKIP(ApiServer::why());
  KubeClientOptions options = server->admin();
  options.request_timeout = std::chrono::milliseconds(300);
  auto client = KubeClient::make(options);
  REQUIRE(client);
  server->signal(SIGSTOP);
  const auto hung = client->get("/version");
  server->signal(SIGCONT);
  REQUIRE_FALSE(hung);
  CHECK(hung.error().text.find("timed out") != std::string::npos);
  CHECK(eventually([&] {
    const auto reply = client->get("/version");
    return reply && reply->status == 200;
  }));
}

TEST_CASE("a connection that the server closed while it was idle is opened anew without an error") {
  auto* server = ApiServer::shared();
  if (server == nullptr) VEDETTE_SKIP(ApiServer::why());
  auto client = KubeClient::make(server->admin());
  REQUIRE(client);
  REQUIRE(client->get("/version"));
  REQUIRE(server->run("stop"));
  const auto down = client->get("/version");
  REQUIRE_FALSE(down);
  CHECK(down.error().text.find("Failed to connect") != std::string::npos);
  REQUIRE(server->run("start"));
  const auto up = client->get("/version");
  REQUIRE(up);
  CHECK(up->status == 200);
}

TEST_CASE("a stop request ends a silent watch") {
  auto* server = ApiServer::shared();
  if (server == nullptr) VEDETTE_SKIP(ApiServer::why());
  std::stop_source stop;
  auto client = KubeClient::make(server->admin(), stop.get_token());
  REQUIRE(client);
  const std::jthread stopper([&] {
    std::this_thread::sleep_for(std::chrono::milliseconds(200));
    stop.request_stop();
  });
  const auto ended = client->watch("/api/v1/configmaps?watch=1", [](std::string_view) { return true; });
  REQUIRE_FALSE(ended);
  CHECK(ended.error().text.find("stopped") != std::string::npos);
}

TEST_CASE("a silent watch ends after its limit") {
  auto* server = ApiServer::shared();
  if (server == nullptr) VEDETTE_SKIP(ApiServer::why());
  KubeClientOptions options = server->admin();
  options.watch_silence = std::chrono::milliseconds(500);
  auto client = KubeClient::make(options);
  REQUIRE(client);
  const auto ended = client->watch("/apis/storage.k8s.io/v1/volumeattachments?watch=1",
                                   [](std::string_view) { return true; });
  REQUIRE_FALSE(ended);
  CHECK(ended.error().text.find("nothing came for 500 ms") != std::string::npos);
}

TEST_CASE("a token does not travel unencrypted to another machine") {
  KubeClientOptions options;
  options.url = "http://192.0.2.1:8080";
  options.token_file = "/dev/null";
  const auto client = KubeClient::make(options);
  REQUIRE_FALSE(client);
  CHECK(client.error().text.find("unencrypted") != std::string::npos);
}

TEST_CASE("an address that is none is refused with the name of the field") {
  KubeClientOptions options;
  for (const char* url : {"ftp://x", "127.0.0.1:6443", "https://"}) {
    options.url = url;
    const auto client = KubeClient::make(options);
    REQUIRE_FALSE(client);
    CHECK(client.error().text.find("kube.url") != std::string::npos);
  }
}

TEST_CASE("an answer larger than the limit is an error") {
  const ScriptedServer server({ScriptedServer::answer(200, std::string(5000, 'x'))});
  KubeClientOptions options = plain(server);
  options.max_body_bytes = 4096;
  auto client = KubeClient::make(options);
  REQUIRE(client);
  const auto reply = client->get("/");
  REQUIRE_FALSE(reply);
  CHECK(reply.error().text.find("larger than 4096 bytes") != std::string::npos);
}

TEST_CASE("a watch gives whole lines, drops the one that was cut, and refuses one without end") {
  const ScriptedServer server(
      {ScriptedServer::stream("one\n\ntwo\nthr"), ScriptedServer::stream("one\n" + std::string(5000, 'x'))});
  KubeClientOptions options = plain(server);
  options.max_line_bytes = 4096;
  auto client = KubeClient::make(options);
  REQUIRE(client);
  std::vector<std::string> lines;
  const auto take = [&](std::string_view line) {
    lines.emplace_back(line);
    return true;
  };
  REQUIRE(client->watch("/", take));
  CHECK(lines == std::vector<std::string>{"one", "two"});
  const auto endless = client->watch("/", take);
  REQUIRE_FALSE(endless);
  CHECK(endless.error().text.find("larger than 4096 bytes") != std::string::npos);
}

TEST_CASE("429 hands over the time that the server asks for") {
  const ScriptedServer server(
      {"HTTP/1.1 429 Too Many Requests\r\nRetry-After: 7\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"});
  auto client = KubeClient::make(plain(server));
  REQUIRE(client);
  const auto reply = client->get("/");
  REQUIRE(reply);
  CHECK(reply->status == 429);
  CHECK(reply->retry_after == std::chrono::seconds(7));
}
