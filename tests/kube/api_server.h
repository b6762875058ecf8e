// The real API server that all tests of this tier share, and small things to do to it. Started at first use,
// ended with the process. Test thread only.
#pragma once

#include <chrono>
#include <csignal>
#include <cstdlib>
#include <fstream>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include <doctest/doctest.h>
#include <nlohmann/json.hpp>
#include <unistd.h>

#include "agent/kube/client.h"

namespace vedette {

// The agent's taint.
constexpr const char* kKey = "vedette.dev/unhealthy";

class ApiServer {
public:
  // Null when it cannot run here; then why() says what is missing. A server that should start and does not
  // fails the test.
  static ApiServer* shared() {
    static const std::unique_ptr<ApiServer> server = start();
    return server.get();
  }
  static std::string& why() {
    static std::string reason;
    return reason;
  }

  ApiServer(const ApiServer&) = delete;
  ApiServer& operator=(const ApiServer&) = delete;
  ~ApiServer() { run("down"); }

  // cluster-admin
  KubeClientOptions admin() const {
    KubeClientOptions options;
    options.url = env_.at("KUBE_URL");
    options.ca_file = env_.at("KUBE_CA");
    options.token_file = env_.at("KUBE_TOKEN_FILE");
    return options;
  }

  // "stop", "start", "compact", …: the commands of tests/kube/apiserver.
  bool run(const std::string& command, const std::string& arguments = {}) const {
    return std::system((script() + " " + command + " " + dir_ + " " + arguments + " >&2").c_str()) == 0;
  }
  void signal(int number) const {
    int pid = 0;
    std::ifstream(dir_ + "/apiserver.pid") >> pid;
    REQUIRE(pid > 1);
    REQUIRE(::kill(pid, number) == 0);
  }
  const std::string& dir() const { return dir_; }

  // A new Node, named after the test, with a condition Ready as a kubelet would keep it.
  std::string make_node(const std::string& stem) {
    std::string name = stem + "-" + std::to_string(++nodes_);
    request("POST", "/api/v1/nodes",
            {{"apiVersion", "v1"}, {"kind", "Node"}, {"metadata", {{"name", name}}}});
    const nlohmann::json ready = {{"type", "Ready"},
                                  {"status", "True"},
                                  {"reason", "KubeletReady"},
                                  {"message", "kubelet is posting ready status"},
                                  {"lastHeartbeatTime", "2026-01-02T03:04:05Z"},
                                  {"lastTransitionTime", "2026-01-02T03:04:05Z"}};
    request("PATCH", "/api/v1/nodes/" + name + "/status",
            {{"status", {{"conditions", nlohmann::json::array({ready})}}}});
    return name;
  }

  nlohmann::json node(const std::string& name) { return request("GET", "/api/v1/nodes/" + name); }

  // spec.taints replaced outright (as a careless foreign writer would).
  void set_taints(const std::string& name, const std::vector<nlohmann::json>& taints) {
    request("PATCH", "/api/v1/nodes/" + name, {{"spec", {{"taints", taints}}}});
  }

  // A call by the admin that must succeed.
  nlohmann::json request(const std::string& method, const std::string& path,
                         const nlohmann::json& body = {}) {
    auto answer = try_request(admin(), method, path, body);
    INFO(method << " " << path << ": " << answer.second.dump());
    REQUIRE(answer.first >= 200);
    REQUIRE(answer.first < 300);
    return std::move(answer.second);
  }

  static std::pair<long, nlohmann::json> try_request(const KubeClientOptions& who, const std::string& method,
                                                     const std::string& path,
                                                     const nlohmann::json& body = {}) {
    auto client = KubeClient::make(who);
    REQUIRE(client);
    const std::string text = body.dump();
    auto reply = method == "GET"      ? client->get(path)
                 : method == "POST"   ? client->post(path, text)
                 : method == "PUT"    ? client->put(path, text)
                 : method == "DELETE" ? client->del(path)
                                      : client->patch(path, PatchType::kStrategic, text);
    if (!reply) FAIL(reply.error().text);
    return {reply->status, nlohmann::json::parse(reply->body, nullptr, false)};
  }

private:
  explicit ApiServer(std::string dir) : dir_(std::move(dir)) {}

  static std::string script() { return std::string(VEDETTE_SOURCE_DIR) + "/tests/kube/apiserver"; }

  static std::unique_ptr<ApiServer> start() {
    const char* cache = std::getenv("VEDETTE_KUBE_DIR");
    const std::string binary =
        (cache != nullptr ? std::string(cache) : "/var/cache/vedette/kubernetes-v1.36.3") +
        "/bin/kube-apiserver";
    if (std::system("command -v etcd openssl curl >/dev/null") != 0) {
      why() = "no etcd, openssl or curl on PATH";
      return nullptr;
    }
    if (::access(binary.c_str(), X_OK) != 0) {
      why() = binary + " is not built; run tests/kube/build_kubernetes";
      return nullptr;
    }
    char dir[] = "/tmp/vedette-kube-XXXXXX";
    REQUIRE(::mkdtemp(dir) != nullptr);
    std::unique_ptr<ApiServer> server(new ApiServer(dir));
    REQUIRE(server->run("up", std::to_string(::getpid())));
    std::ifstream env(server->dir_ + "/env");
    for (std::string line; std::getline(env, line);) {
      server->env_[line.substr(0, line.find('='))] = line.substr(line.find('=') + 1);
    }
    return server;
  }

  std::string dir_;
  std::map<std::string, std::string> env_;
  unsigned nodes_ = 0;
};

// Looks every 10 ms until `happened` or, far beyond what a busy machine needs, gives up.
inline bool eventually(const std::function<bool()>& happened,
                       std::chrono::seconds limit = std::chrono::seconds(30)) {
  const auto deadline = std::chrono::steady_clock::now() + limit;
  while (!happened()) {
    if (std::chrono::steady_clock::now() > deadline) return false;
    std::this_thread::sleep_for(std::chrono::milliseconds(10));
  }
  return true;
}

// Taints of `node` by key; keys that occur twice fail.
inline std::map<std::string, nlohmann::json> taints_of(const nlohmann::json& node) {
  std::map<std::string, nlohmann::json> taints;
  if (!node["spec"].contains("taints")) return taints;
  for (const auto& taint : node["spec"]["taints"]) {
    CHECK(taints.emplace(taint["key"].get<std::string>(), taint).second);
  }
  return taints;
}

inline std::optional<nlohmann::json> condition_of(const nlohmann::json& node, const std::string& type) {
  if (!node["status"].contains("conditions")) return std::nullopt;
  for (const auto& condition : node["status"]["conditions"]) {
    if (condition["type"] == type) return condition;
  }
  return std::nullopt;
}

}  // namespace vedette
