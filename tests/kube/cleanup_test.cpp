// `vedette cleanup` on the real API server.
#include "tools/cli/cleanup.h"

#include <algorithm>
#include <sstream>

#include "agent/act/node_writer.h"
#include "tests/kube/api_server.h"
#include "tests/skip.h"
#include "tools/cli/commands.h"

using namespace vedette;
using nlohmann::json;

namespace {

const json kDedicated = {{"key", "example.com/dedicated"}, {"value", "db"}, {"effect", "NoExecute"}};

// A node whose agent tainted it and is gone; its Lease and condition are as fresh as they can be.
std::string left_behind(ApiServer& server, const std::string& stem) {
  std::string node = server.make_node(stem);
  server.set_taints(node, {kDedicated});
  NodeWriterOptions options;
  options.client = server.admin();
  options.node.name = node;
  options.budget = {.namespace_name = "cleanup", .share = 1};
  const auto writer = NodeWriter::make(options);
  REQUIRE(writer);
  auto snapshot = std::make_shared<Snapshot>();
  snapshot->decision.mode = Mode::kEnforce;
  snapshot->decision.taint = true;
  snapshot->decision.reason = "FilesystemError";
  snapshot->decision.generation = 1;
  snapshot->decision.conditions = {{"VedetteStorageHealthy", false, "FilesystemError", ""}};
  (*writer)->publish(snapshot);
  REQUIRE(eventually(
      [&] { return (*writer)->state()->acked_generation == 1 && !(*writer)->state()->slot.empty(); }));
  return node;
}

std::string cleanup(ApiServer& server, bool all, bool as_json = false) {
  CleanupOptions options;
  options.client = server.admin();
  options.namespace_name = "cleanup";
  options.all = all;
  std::ostringstream out;
  std::ostringstream err;
  const auto clean = run_cleanup(options, as_json, out, err);
  if (!clean) FAIL(clean.error().text);
  CHECK(*clean);
  CHECK(err.str().empty());
  return out.str();
}

std::size_t traces(ApiServer& server, const std::string& name) {
  const json node = server.node(name);
  CHECK(taints_of(node).count("example.com/dedicated") == 1);
  CHECK(condition_of(node, "Ready").has_value());
  const json annotations = node["metadata"].value("annotations", json::object());
  return taints_of(node).count(kKey) + (condition_of(node, "VedetteStorageHealthy") ? 1 : 0) +
         annotations.count("vedette.dev/taint-times");
}

}  // namespace

TEST_CASE("cleanup removes what nobody vouches for, and with --all everything of ours and nothing else") {
  auto* server = ApiServer::shared();
  if (server == nullptr) VEDETTE_SKIP(ApiServer::why());
  server->request("POST", "/api/v1/namespaces",
                  {{"apiVersion", "v1"}, {"kind", "Namespace"}, {"metadata", {{"name", "cleanup"}}}});
  const std::string leases = "/apis/coordination.k8s.io/v1/namespaces/cleanup/leases";
  const std::string gone = left_behind(*server, "gone");
  const std::string fresh = left_behind(*server, "fresh");
  const json slots = server->request("GET", leases + "?labelSelector=vedette.dev/node%3D" + gone)["items"];
  REQUIRE(slots.size() == 1);
  const std::string slot = slots[0]["metadata"]["name"];

  CHECK(cleanup(*server, false).find(gone) == std::string::npos);
  CHECK(traces(*server, gone) == 3);
  // As if its agent had been silent for a day.
  server->request("PATCH", leases + "/" + slot, {{"spec", {{"renewTime", "2026-01-02T03:04:05.000000Z"}}}});
  CHECK(cleanup(*server, false).find(gone) == std::string::npos);  // the condition is fresh
  server->request("PATCH", "/api/v1/nodes/" + gone + "/status",
                  {{"status",
                    {{"conditions",
                      {{{"type", "VedetteStorageHealthy"},
                        {"status", "False"},
                        {"lastHeartbeatTime", "2026-01-02T03:04:05Z"}}}}}}});
  const std::string said = cleanup(*server, false);
  CHECK(said.find(gone + ": taint vedette.dev/unhealthy=FilesystemError removed") != std::string::npos);
  CHECK(said.find("lease " + slot + " of " + gone + " removed") != std::string::npos);
  CHECK(said.find(fresh) == std::string::npos);
  CHECK(traces(*server, gone) == 0);
  CHECK(traces(*server, fresh) == 3);

  const json report = json::parse(cleanup(*server, true, true));
  CHECK(std::ranges::count(report["cleaned"],
                           json{{"node", fresh}, {"taint", "vedette.dev/unhealthy=FilesystemError"}}) == 1);
  CHECK(report["leases"].size() == 1);
  CHECK(report["failures"].empty());
  CHECK(traces(*server, fresh) == 0);
  CHECK(server->request("GET", leases)["items"].empty());
  CHECK(cleanup(*server, true).find("0 of ") == 0);
}

TEST_CASE("cleanup without rights says so for each node, and says what it is missing without an API server") {
  auto* server = ApiServer::shared();
  if (server == nullptr) VEDETTE_SKIP(ApiServer::why());
  CleanupOptions options;
  options.client = server->admin();
  options.client.token_file = server->dir() + "/nobody.token";
  std::ofstream(options.client.token_file) << "nobody";
  std::ostringstream out;
  std::ostringstream err;
  const auto refused = run_cleanup(options, false, out, err);
  REQUIRE_FALSE(refused);
  CHECK(refused.error().text.find("HTTP 401") != std::string::npos);
  options.client = {};
  const auto nowhere = run_cleanup(options, false, out, err);
  REQUIRE_FALSE(nowhere);
  CHECK(nowhere.error().text.find("kube.url: empty") != std::string::npos);
}

TEST_CASE("cleanup takes a kubeconfig with a client certificate") {
  auto* server = ApiServer::shared();
  if (server == nullptr) VEDETTE_SKIP(ApiServer::why());
  const std::string file = server->dir() + "/kubeconfig";
  const auto with = [&](const std::string& user_and_group) {
    REQUIRE(server->run("kubeconfig", user_and_group + " " + server->admin().url + " " + file));
    std::ostringstream out;
    std::ostringstream err;
    const int code = run_cli({"cleanup", "--kubeconfig", file}, {out, err, {}});
    INFO(out.str() << err.str());
    return std::pair(code, out.str() + err.str());
  };
  CHECK(with("operator system:masters").first == kExitHealthy);
  const auto [code, said] = with("visitor guests");
  CHECK(code == kExitUnreachable);
  CHECK(said.find("HTTP 403") != std::string::npos);
  CHECK(said.find("\"visitor\" cannot list") != std::string::npos);
}
