#include "agent/kube/pod_watch.h"

#include <filesystem>
#include <fstream>

#include "agent/kube/evictions.h"
#include "tests/kube/api_server.h"
#include "tests/kube/scripted_server.h"
#include "tests/skip.h"

using namespace vedette;
using nlohmann::json;

namespace {

std::unique_ptr<PodWatch> make_watch(const KubeClientOptions& client, const std::string& node) {
  PodWatchOptions options;
  options.client = client;
  options.node_name = node;
  options.page = 3;  // so that a few pods need several pages
  options.max_backoff = std::chrono::milliseconds(500);
  auto watch = PodWatch::make(options);
  if (!watch) FAIL(watch.error().text);
  return std::move(*watch);
}

void make_pod(ApiServer& server, const std::string& node, const std::string& name,
              const json& metadata = json::object()) {
  json all = metadata;
  all["name"] = name;
  server.request("POST", "/api/v1/namespaces/default/pods",
                 {{"apiVersion", "v1"},
                  {"kind", "Pod"},
                  {"metadata", all},
                  {"spec", {{"nodeName", node}, {"containers", {{{"name", "c"}, {"image", "i"}}}}}}});
}

void delete_pod(ApiServer& server, const std::string& name) {
  server.request("DELETE", "/api/v1/namespaces/default/pods/" + name + "?gracePeriodSeconds=0");
}

std::vector<std::string> names(const PodWatch& watch) {
  std::vector<std::string> found;
  if (const auto list = watch.pods().get()) {
    for (const PodInfo& pod : list->pods) found.push_back(pod.name);
  }
  std::sort(found.begin(), found.end());
  return found;
}

bool shows(const PodWatch& watch, const std::vector<std::string>& expected) {
  const bool shown = eventually([&] { return names(watch) == expected; });
  CHECK(names(watch) == expected);
  return shown;
}

}  // namespace

TEST_CASE("the pods of this node are named with their workload, and no others") {
  auto* server = ApiServer::shared();
  if (server == nullptr) VEDETTE_SKIP(ApiServer::why());
  const std::string node = server->make_node("pods");
  for (int i = 0; i < 5; ++i) make_pod(*server, node, node + "-early-" + std::to_string(i));
  make_pod(*server, server->make_node("elsewhere"), node + "-not-here");
  const auto watch = make_watch(server->admin(), node);
  const std::string stem = node + "-early-";
  REQUIRE(shows(*watch, {stem + "0", stem + "1", stem + "2", stem + "3", stem + "4"}));

  make_pod(*server, node, node + "-api",
           {{"labels", {{"pod-template-hash", "6d4cf56db6"}}},
            {"ownerReferences",
             {{{"apiVersion", "apps/v1"},
               {"kind", "ReplicaSet"},
               {"name", "api-6d4cf56db6"},
               {"uid", "5c1c4d2c-0000-4000-8000-000000000000"},
               {"controller", true}}}}});
  server->request("PATCH", "/api/v1/namespaces/default/pods/" + node + "-api/status",
                  {{"status",
                    {{"containerStatuses",
                      {{{"name", "c"},
                        {"image", "i"},
                        {"imageID", ""},
                        {"ready", true},
                        {"restartCount", 0},
                        {"containerID", "containerd://0123456789abcdef"}}}}}}});
  const auto api = [&]() -> std::optional<PodInfo> {
    for (const PodInfo& pod : watch->pods().get()->pods) {
      if (pod.name == node + "-api") return pod;
    }
    return std::nullopt;
  };
  REQUIRE(eventually([&] { return api() && !api()->containers.empty(); }));
  CHECK(api()->workload == "Deployment/api");
  CHECK(api()->namespace_name == "default");
  CHECK(api()->uid.size() == 36);
  REQUIRE(api()->containers.size() == 1);
  CHECK(api()->containers.front().id == "0123456789abcdef");

  for (int i = 0; i < 5; ++i) delete_pod(*server, stem + std::to_string(i));
  CHECK(shows(*watch, {node + "-api"}));
  CHECK(watch->state()->lists == 1);
}

TEST_CASE("a watch goes on after the API server was killed and restarted") {
  auto* server = ApiServer::shared();
  if (server == nullptr) VEDETTE_SKIP(ApiServer::why());
  const std::string node = server->make_node("restart");
  make_pod(*server, node, node + "-a");
  const auto watch = make_watch(server->admin(), node);
  REQUIRE(shows(*watch, {node + "-a"}));
  REQUIRE(server->run("stop"));
  REQUIRE(eventually([&] { return !watch->state()->connected; }));
  CHECK(names(*watch) == std::vector<std::string>{node + "-a"});
  REQUIRE(server->run("start"));
  make_pod(*server, node, node + "-b");
  CHECK(shows(*watch, {node + "-a", node + "-b"}));
  CHECK(eventually([&] { return watch->state()->connected && watch->state()->last_error.empty(); }));
}

TEST_CASE("a resourceVersion that the server has forgotten leads to a new list") {
  auto* server = ApiServer::shared();
  if (server == nullptr) VEDETTE_SKIP(ApiServer::why());
  const std::string node = server->make_node("compacted");
  make_pod(*server, node, node + "-a");
  make_pod(*server, node, node + "-b");
  KubeClientOptions client = server->admin();
  client.token_file = server->dir() + "/compacted.token";
  std::filesystem::copy_file(server->admin().token_file, client.token_file);
  const auto watch = make_watch(client, node);
  REQUIRE(shows(*watch, {node + "-a", node + "-b"}));
  // A wrong token keeps the watch away while a pod goes that no event will ever tell of: the restart empties
  // the server's memory of old versions, the compaction etcd's. The filler makes the restarted server begin
  // at a version after the watch's own.
  std::ofstream(client.token_file) << "wrong";
  server->make_node("filler");
  REQUIRE(server->run("stop"));
  REQUIRE(server->run("start"));
  delete_pod(*server, node + "-a");
  REQUIRE(server->run("compact"));
  REQUIRE(eventually([&] { return watch->state()->last_error.find("HTTP 401") != std::string::npos; }));
  CHECK(names(*watch).size() == 2);
  CHECK(watch->state()->lists == 1);
  std::filesystem::copy_file(server->admin().token_file, client.token_file,
                             std::filesystem::copy_options::overwrite_existing);
  CHECK(shows(*watch, {node + "-b"}));
  CHECK(eventually([&] { return watch->state()->lists == 2; }));
}

TEST_CASE("410 as a status, 410 as an event, a line cut in its midst and rubbish all end in a new list") {
  const auto list = [](const std::string& version, const std::string& name) {
    return ScriptedServer::answer(200, R"({"kind":"PodList","metadata":{"resourceVersion":")" + version +
                                           R"("},"items":[{"metadata":{"uid":"u-)" + name + R"(","name":")" +
                                           name + R"("}}]})");
  };
  const std::string added =
      R"({"type":"ADDED","object":{"metadata":{"uid":"u-late","name":"late","resourceVersion":"12"}}})";
  const ScriptedServer server({
      list("10", "a"),
      ScriptedServer::stream(R"({"type":"ERROR","object":{"kind":"Status","code":410,"message":"too old"}})"
                             "\n"),
      list("11", "b"),
      ScriptedServer::answer(410, R"({"kind":"Status","code":410})"),
      list("11", "c"),
      ScriptedServer::stream("rubbish\n"),
      list("11", "d"),
      ScriptedServer::stream(added + "\n" + added.substr(0, 40)),
      ScriptedServer::answer(503, "busy"),
  });
  KubeClientOptions client;
  client.url = server.url();
  const auto watch = make_watch(client, "n1");
  REQUIRE(shows(*watch, {"d", "late"}));
  REQUIRE(eventually([&] { return server.requests().size() > 9; }));
  const auto requests = server.requests();
  // The cut line was dropped, and the watch goes on from the last whole one.
  CHECK(requests[8].find("resourceVersion=12&") != std::string::npos);
  CHECK(watch->state()->lists == 4);
  CHECK(watch->state()->bad_lines == 1);
  CHECK(watch->state()->last_error.find("HTTP 503") != std::string::npos);
  CHECK(names(*watch) == std::vector<std::string>{"d", "late"});
}

TEST_CASE("a pod that claims another's uid keeps its own, however the two come") {
  const auto pod = [](const std::string& uid, const std::string& hash) {
    return R"({"metadata":{"uid":")" + uid + R"(","name":")" + uid +
           R"(","resourceVersion":"11","annotations":{"kubernetes.io/config.mirror":")" + hash +
           R"(","kubernetes.io/config.hash":")" + hash + R"("}}})";
  };
  const ScriptedServer server(
      {ScriptedServer::answer(200, R"({"kind":"PodList","metadata":{"resourceVersion":"10"},"items":[)" +
                                       pod("liar", "victim") + "," + pod("mirror", "static") + "]}"),
       ScriptedServer::stream(
           R"({"type":"ADDED","object":{"metadata":{"uid":"victim","name":"victim","resourceVersion":"12"}}})"
           "\n"),
       ScriptedServer::answer(503, "busy")});
  KubeClientOptions client;
  client.url = server.url();
  const auto watch = make_watch(client, "n1");
  REQUIRE(shows(*watch, {"liar", "mirror", "victim"}));
  for (const PodInfo& info : watch->pods().get()->pods)
    CHECK(info.uid == (info.name == "mirror" ? "static" : info.name));
}

TEST_CASE(
    "pods as large as etcd holds, and six times that as JSON, are listed, watched and read to be evicted") {
  auto* server = ApiServer::shared();
  if (server == nullptr) VEDETTE_SKIP(ApiServer::why());
  const std::string node = server->make_node("fat");
  const json env = json::array({{{"name", "A"}, {"value", std::string(1'400'000, '<')}}});
  const auto make_fat = [&](const std::string& name) {
    server->request(
        "POST", "/api/v1/namespaces/default/pods",
        {{"apiVersion", "v1"},
         {"kind", "Pod"},
         {"metadata", {{"name", name}}},
         {"spec", {{"nodeName", node}, {"containers", {{{"name", "c"}, {"image", "i"}, {"env", env}}}}}}});
  };
  make_fat(node + "-a");
  make_fat(node + "-b");
  const auto watch = make_watch(server->admin(), node);
  REQUIRE(shows(*watch, {node + "-a", node + "-b"}));
  make_fat(node + "-c");
  CHECK(shows(*watch, {node + "-a", node + "-b", node + "-c"}));
  CHECK(watch->state()->failures == 1);
  CHECK(watch->state()->lists == 1);
  auto client = KubeClient::make(server->admin());
  REQUIRE(client);
  const auto pods = Evictions(*client, node).read_pods();
  REQUIRE(pods);
  CHECK(pods->size() == 3);
  for (const char* name : {"-a", "-b", "-c"}) delete_pod(*server, node + name);
}

TEST_CASE("an answer that is too large leads to a list in smaller pages, and one to a watch to a list") {
  const auto page = [](const std::string& name, const std::string& more) {
    return ScriptedServer::answer(
        200, R"({"kind":"PodList","metadata":{"resourceVersion":"10","continue":")" + more +
                 R"("},"items":[{"metadata":{"uid":"u-)" + name + R"(","name":")" + name + R"("}}]})");
  };
  const ScriptedServer server({
      ScriptedServer::answer(200, std::string(5000, 'x')),
      page("a", "more"),
      page("b", ""),
      ScriptedServer::stream(std::string(5000, 'x')),
      ScriptedServer::answer(500, "oops"),
      page("c", ""),
      ScriptedServer::answer(503, "busy"),
  });
  KubeClientOptions client;
  client.url = server.url();
  client.max_body_bytes = client.max_line_bytes = 4096;
  const auto watch = make_watch(client, "n1");
  REQUIRE(eventually([&] { return server.requests().size() > 7; }));
  CHECK(names(*watch) == std::vector<std::string>{"c"});
  const auto requests = server.requests();
  const auto asks = [&](std::size_t request, const std::string& what) {
    return requests[request].find(what) != std::string::npos;
  };
  CHECK(asks(0, "&limit=3&resourceVersion=0 "));
  CHECK(asks(1, "&limit=1 "));
  CHECK(asks(2, "&limit=1&continue=more "));
  CHECK(asks(3, "watch=1"));
  CHECK(asks(4, "&limit=1 "));
  CHECK(asks(5, "&limit=1 "));
  CHECK(asks(6, "watch=1"));
  CHECK(watch->error().empty());  // it is listed, and a watch that is refused goes on from there
}

TEST_CASE("why the pods cannot be listed is told until they are") {
  const ScriptedServer server({ScriptedServer::answer(403, R"({"kind":"Status","message":"no right"})")});
  KubeClientOptions client;
  client.url = server.url();
  const auto watch = make_watch(client, "n1");
  CHECK(eventually([&] { return watch->error() == "GET /api/v1/pods of node n1: HTTP 403: no right"; }));
}

TEST_CASE("an answer that is no list of pods leaves what is known and is said") {
  const ScriptedServer server({ScriptedServer::answer(200, "{\"kind\":\"NodeList\"}")});
  KubeClientOptions client;
  client.url = server.url();
  const auto watch = make_watch(client, "n1");
  REQUIRE(eventually([&] { return watch->state()->failures > 1; }));
  CHECK(watch->pods().get() == nullptr);
  CHECK(watch->state()->last_error.find("not a PodList") != std::string::npos);
}
