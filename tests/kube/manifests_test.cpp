// The manifests as they ship, against the real API server: they apply, the agent can work with the rights
// they give, and a stolen token of an agent can do no more than that.
#include <cstdio>
#include <filesystem>
#include <fstream>

#include "agent/act/evacuator.h"
#include "agent/act/node_writer.h"
#include "agent/kube/pod_watch.h"
#include "tests/kube/writer.h"
#include "tests/skip.h"
#include "tools/cli/commands.h"

using namespace vedette;
using nlohmann::json;

namespace {

constexpr const char* kNamespace = "vedette-system";

// Documents of one YAML file, as JSON.
std::vector<json> load(const std::string& file) {
  const std::string path = std::string(VEDETTE_SOURCE_DIR) + "/manifests/" + file;
  const std::string command =
      "python3 -c 'import json,sys,yaml; print(json.dumps([d for d in yaml.safe_load_all(open(sys.argv[1])) "
      "if d]))' " +
      path;
  std::FILE* pipe = ::popen(command.c_str(), "r");
  REQUIRE(pipe != nullptr);
  std::string text;
  char buffer[4096];
  for (std::size_t count; (count = std::fread(buffer, 1, sizeof buffer, pipe)) > 0;)
    text.append(buffer, count);
  REQUIRE(::pclose(pipe) == 0);
  return json::parse(text).get<std::vector<json>>();
}

// Where objects of this kind are created.
std::string collection_of(const json& object) {
  const std::string version = object["apiVersion"];
  const std::string kind = object["kind"];
  std::string plural = kind;
  for (char& c : plural) c = static_cast<char>(std::tolower(static_cast<unsigned char>(c)));
  plural = plural.ends_with("policy") ? plural.substr(0, plural.size() - 1) + "ies" : plural + "s";
  std::string path = version.find('/') == std::string::npos ? "/api/" + version : "/apis/" + version;
  if (object["metadata"].contains("namespace")) {
    path += "/namespaces/" + object["metadata"]["namespace"].get<std::string>();
  }
  return path + "/" + plural;
}

// Creates what the kustomization of `folder` lists, and gives the paths of the objects.
std::vector<std::string> create_all(ApiServer& server, const std::string& folder) {
  std::vector<std::string> created;
  const json listed = load(folder + "/kustomization.yaml").at(0);
  for (const std::string file : listed["resources"]) {
    if (file.starts_with("../")) continue;
    std::string from = folder;
    from.append("/").append(file);
    for (const json& object : load(from)) {
      INFO(file << ": " << object["kind"] << " " << object["metadata"]["name"]);
      const std::string path = collection_of(object);
      // Strict: a field that the server does not know is a mistake of ours.
      server.request("POST", path + "?dryRun=All&fieldValidation=Strict", object);
      server.request("POST", path, object);
      created.push_back(path + "/" + object["metadata"]["name"].get<std::string>());
    }
  }
  return created;
}

// The base, created once for all tests here.
void apply_base(ApiServer& server) {
  static bool applied = false;
  if (applied) return;
  applied = true;
  create_all(server, "base");
}

// A token of the account `name` in `space`, bound to `object` (empty: to nothing).
KubeClientOptions token_of(ApiServer& server, const std::string& space, const std::string& name,
                           const json& object = json::object()) {
  json spec = {{"audiences", json::array()}, {"expirationSeconds", 3600}};
  if (!object.empty()) spec["boundObjectRef"] = object;
  const json answer =
      server.request("POST", "/api/v1/namespaces/" + space + "/serviceaccounts/" + name + "/token",
                     {{"apiVersion", "authentication.k8s.io/v1"}, {"kind", "TokenRequest"}, {"spec", spec}});
  KubeClientOptions options = server.admin();
  options.token_file = server.dir() + "/" + name + "-" + object.value("name", "") + ".token";
  std::ofstream(options.token_file) << answer["status"]["token"].get<std::string>();
  return options;
}

// A token as an agent's pod on `node` has it; `node` empty: bound to nothing.
KubeClientOptions agent_token(ApiServer& server, const std::string& node) {
  if (node.empty()) return token_of(server, kNamespace, "vedette-agent");
  const json pod = server.request("POST", std::string("/api/v1/namespaces/") + kNamespace + "/pods",
                                  {{"apiVersion", "v1"},
                                   {"kind", "Pod"},
                                   {"metadata", {{"name", "agent-" + node}}},
                                   {"spec",
                                    {{"nodeName", node},
                                     {"serviceAccountName", "vedette-agent"},
                                     {"containers", {{{"name", "c"}, {"image", "i"}}}}}}});
  return token_of(server, kNamespace, "vedette-agent",
                  {{"apiVersion", "v1"},
                   {"kind", "Pod"},
                   {"name", pod["metadata"]["name"]},
                   {"uid", pod["metadata"]["uid"]}});
}

json status_condition(const std::string& type) {
  return {{"status",
           {{"conditions", {{{"type", type}, {"status", "False"}, {"reason", "Test"}, {"message", "m"}}}}}}};
}

json lease_of(const std::string& node, const std::string& name, const std::string& renewed) {
  return {{"apiVersion", "coordination.k8s.io/v1"},
          {"kind", "Lease"},
          {"metadata", {{"name", name}, {"namespace", kNamespace}}},
          {"spec", {{"holderIdentity", node}, {"leaseDurationSeconds", 900}, {"renewTime", renewed}}}};
}

json event_about(const std::string& node, const std::string& name) {
  return {{"apiVersion", "events.k8s.io/v1"},
          {"kind", "Event"},
          {"metadata", {{"name", name}, {"namespace", "default"}}},
          {"eventTime", "2026-01-02T03:04:05.000001Z"},
          {"type", "Normal"},
          {"reason", "Test"},
          {"action", "Test"},
          {"reportingController", "vedette.dev/agent"},
          {"reportingInstance", "i"},
          {"regarding", {{"apiVersion", "v1"}, {"kind", "Node"}, {"name", node}}}};
}

}  // namespace

TEST_CASE("the manifests apply, and each overlay changes the mode and nothing else") {
  auto* server = ApiServer::shared();
  if (server == nullptr) VEDETTE_SKIP(ApiServer::why());
  apply_base(*server);
  const std::string config = std::string("/api/v1/namespaces/") + kNamespace + "/configmaps/vedette-agent";
  CHECK(server->request("GET", config)["data"]["agent.yaml"].get<std::string>().find("mode: observe") !=
        std::string::npos);
  for (const std::string mode : {"advise", "enforce"}) {
    const std::string folder = "overlays/" + mode + "/";
    const json overlay = load(folder + "kustomization.yaml").at(0);
    REQUIRE(overlay["resources"] == json::array({"../../base"}));
    for (const json& patch : overlay["patches"]) {
      for (const json& object : load(folder + patch["path"].get<std::string>())) {
        const std::string path = collection_of(object) + "/" + object["metadata"]["name"].get<std::string>();
        const json after = server->request("PATCH", path + "?dryRun=All&fieldValidation=Strict", object);
        if (object["kind"] == "ConfigMap") {
          CHECK(after["data"]["agent.yaml"].get<std::string>().find("mode: " + mode) != std::string::npos);
        }
      }
    }
  }
}

TEST_CASE("with the rights of the manifests the agent can do all it has to") {
  auto* server = ApiServer::shared();
  if (server == nullptr) VEDETTE_SKIP(ApiServer::why());
  apply_base(*server);
  const std::string node = server->make_node("rights");
  const json before = server->node(node);
  const KubeClientOptions token = agent_token(*server, node);

  NodeWriterOptions options;
  options.client = token;
  options.node.name = node;
  options.budget.namespace_name = kNamespace;
  const auto writer = NodeWriter::make(options);
  REQUIRE(writer);
  const auto publish = [&](bool taint, std::uint64_t generation) {
    auto snapshot = std::make_shared<Snapshot>();
    snapshot->decision.mode = Mode::kEnforce;
    snapshot->decision.taint = taint;
    snapshot->decision.reason = "FilesystemError";
    snapshot->decision.generation = generation;
    snapshot->decision.conditions = {
        {"VedetteStorageHealthy", !taint, "FilesystemError", "because of a test"}};
    snapshot->decision.verdict = taint ? "{\"tainted\":true}" : "{}";
    (*writer)->publish(snapshot);
  };
  publish(true, 1);
  CHECK(eventually([&] { return (*writer)->state()->events_written == 1; }));
  INFO((*writer)->state()->last_error);
  CHECK((*writer)->state()->acked_generation == 1);
  CHECK((*writer)->state()->slot.starts_with("vedette-all-"));
  CHECK(taints_of(server->node(node)).count("vedette.dev/unhealthy") == 1);
  CHECK(condition_of(server->node(node), "VedetteStorageHealthy")->at("status") == "False");
  CHECK(server->node(node)["metadata"]["annotations"]["vedette.dev/verdict"] == "{\"tainted\":true}");
  publish(false, 2);
  CHECK(eventually([&] { return (*writer)->state()->events_written == 2; }));
  CHECK(taints_of(server->node(node)) == taints_of(before));
  publish(true, 3);  // the same again: patches the event
  CHECK(eventually([&] { return (*writer)->state()->events_written == 3; }));
  INFO((*writer)->state()->last_error);
  CHECK((*writer)->state()->failures == 0);

  PodWatchOptions watching;
  watching.client = token;
  watching.node_name = node;
  const auto watch = PodWatch::make(watching);
  REQUIRE(watch);
  CHECK(eventually(
      [&] { return (*watch)->pods().get() != nullptr && (*watch)->pods().get()->pods.size() == 1; }));
  CHECK((*watch)->pods().get()->pods.at(0).name == "agent-" + node);
}

TEST_CASE(
    "a token whose pod or account is gone is refused by the API server, and the writer catches up with the "
    "next "
    "one") {
  auto* server = ApiServer::shared();
  if (server == nullptr) VEDETTE_SKIP(ApiServer::why());
  apply_base(*server);
  const std::string node = server->make_node("stale");
  const std::string path = "/api/v1/nodes/" + node;
  KubeClientOptions token = agent_token(*server, node);
  const std::string good = token.token_file;
  token.token_file = server->dir() + "/stale.token";
  const auto give = [&](const std::string& file) {
    std::filesystem::copy_file(file, token.token_file, std::filesystem::copy_options::overwrite_existing);
  };
  give(good);

  // Never used before, for that a token was good is remembered for 10 s.
  const std::string gone = server->make_node("gone");
  const std::string stale = agent_token(*server, gone).token_file;
  server->request("DELETE", std::string("/api/v1/namespaces/") + kNamespace + "/pods/agent-" + gone +
                                "?gracePeriodSeconds=0");
  const std::string accounts = "/api/v1/namespaces/default/serviceaccounts";
  server->request("POST", accounts,
                  {{"apiVersion", "v1"}, {"kind", "ServiceAccount"}, {"metadata", {{"name", "doomed"}}}});
  const KubeClientOptions doomed = token_of(*server, "default", "doomed");
  server->request("DELETE", accounts + "/doomed");
  CHECK(eventually([&] { return ApiServer::try_request(doomed, "GET", path).first == 401; }));

  NodeWriterOptions options = writer_options(token, node);
  options.budget.namespace_name = kNamespace;
  const auto writer = make_writer(options);
  Tick tick(*writer);
  tick.lift();
  REQUIRE(tick.acked());
  give(stale);
  tick.taint("FilesystemError");
  CHECK(eventually([&] { return writer->state()->failures > 2; }));
  CHECK(writer->state()->last_error.find("HTTP 401") != std::string::npos);
  CHECK(taints_of(server->node(node)).count(kKey) == 0);
  give(good);
  CHECK(tick.acked());
  CHECK(taints_of(server->node(node)).count(kKey) == 1);
  tick.lift();
  CHECK(tick.acked());
  CHECK(eventually([&] { return writer->state()->slot.empty(); }));
}

TEST_CASE("a stolen token of an agent can do nothing else") {
  auto* server = ApiServer::shared();
  if (server == nullptr) VEDETTE_SKIP(ApiServer::why());
  apply_base(*server);
  const std::string mine = server->make_node("mine");
  const std::string other = server->make_node("other");
  const json foreign = {{"key", "example.com/dedicated"}, {"value", "db"}, {"effect", "NoSchedule"}};
  const json ours = {{"key", "vedette.dev/unhealthy"}, {"value", "Test"}, {"effect", "NoSchedule"}};
  server->set_taints(mine, {foreign});
  server->set_taints(other, {foreign});
  const KubeClientOptions bound = agent_token(*server, mine);
  const KubeClientOptions unbound = agent_token(*server, "");
  const std::string nodes = "/api/v1/nodes/";
  const json our_taint = {{"spec", {{"taints", {foreign, ours}}}}};

  // The policy takes a moment to reach the admission chain.
  REQUIRE(eventually([&] {
    return ApiServer::try_request(bound, "PATCH", nodes + other + "?dryRun=All", our_taint).first == 422;
  }));
  REQUIRE(eventually([&] {
    return ApiServer::try_request(bound, "POST",
                                  "/apis/events.k8s.io/v1/namespaces/default/events?dryRun=All",
                                  event_about(other, "early"))
               .first == 422;
  }));
  server->request("PATCH", nodes + mine, {{"metadata", {{"annotations", {{"example.com/keep", "x"}}}}}});
  const std::string leases = std::string("/apis/coordination.k8s.io/v1/namespaces/") + kNamespace + "/leases";
  REQUIRE(eventually([&] {
    return ApiServer::try_request(bound, "POST", leases + "?dryRun=All",
                                  lease_of(other, "vedette-all-900", "2026-01-02T03:00:00.000000Z"))
               .first == 422;
  }));
  json held =
      server->request("POST", leases, lease_of(other, "vedette-all-901", "2026-01-02T03:00:00.000000Z"));
  const json held_before = held;
  const auto stolen_at = [&](const std::string& renewed) {
    json lease = held_before;
    lease["spec"]["holderIdentity"] = mine;
    lease["spec"]["renewTime"] = renewed;
    return lease;
  };
  const json mine_before = server->node(mine);
  const json other_before = server->node(other);

  struct Abuse {
    const char* what;
    const KubeClientOptions& who;
    const char* method;
    std::string path;
    json body;
    long status;
    const char* reason;
  };
  const std::string events = "/apis/events.k8s.io/v1/namespaces/default/events";
  const std::vector<Abuse> abuses = {
      {"another node's taint", bound, "PATCH", nodes + other, our_taint, 422, "own node only"},
      {"another node's condition", bound, "PATCH", nodes + other + "/status",
       status_condition("VedetteStorageHealthy"), 422, "own node only"},
      {"a token of no pod", unbound, "PATCH", nodes + mine, our_taint, 422, "own node only"},
      {"a foreign taint added",
       bound,
       "PATCH",
       nodes + mine,
       {{"spec", {{"taints", {foreign, {{"key", "evil.example/x"}, {"effect", "NoExecute"}}}}}}},
       422,
       "vedette.dev/unhealthy only"},
      {"a foreign taint removed",
       bound,
       "PATCH",
       nodes + mine,
       {{"spec", {{"taints", json::array({ours})}}}},
       422,
       "unhealthy only"},
      {"all taints removed",
       bound,
       "PATCH",
       nodes + mine,
       {{"spec", {{"taints", nullptr}}}},
       422,
       "vedette.dev/unhealthy only"},
      {"a foreign taint changed",
       bound,
       "PATCH",
       nodes + mine,
       {{"spec",
         {{"taints", {{{"key", "example.com/dedicated"}, {"value", "web"}, {"effect", "NoSchedule"}}}}}}},
       422,
       "vedette.dev/unhealthy only"},
      {"two taints of ours",
       bound,
       "PATCH",
       nodes + mine,
       {{"spec", {{"taints", {foreign, ours, {{"key", "vedette.dev/unhealthy"}, {"effect", "NoExecute"}}}}}}},
       422,
       "one taint only"},
      {"cordon", bound, "PATCH", nodes + mine, {{"spec", {{"unschedulable", true}}}}, 422, "spec"},
      {"a label", bound, "PATCH", nodes + mine, {{"metadata", {{"labels", {{"a", "b"}}}}}}, 422, "metadata"},
      {"a label through status",
       bound,
       "PATCH",
       nodes + mine + "/status",
       {{"metadata", {{"labels", {{"a", "b"}}}}}},
       422,
       "metadata"},
      {"an annotation",
       bound,
       "PATCH",
       nodes + mine,
       {{"metadata", {{"annotations", {{"a", "b"}}}}}},
       422,
       "its own annotations only"},
      {"the operator's annotation through status",
       bound,
       "PATCH",
       nodes + mine + "/status",
       {{"metadata", {{"annotations", {{"vedette.dev/pause", "true"}}}}}},
       422,
       "its own annotations only"},
      {"an annotation removed",
       bound,
       "PATCH",
       nodes + mine,
       {{"metadata", {{"annotations", {{"example.com/keep", nullptr}}}}}},
       422,
       "its own annotations only"},
      {"a finalizer",
       bound,
       "PATCH",
       nodes + mine,
       {{"metadata", {{"finalizers", json::array({"a.example/b"})}}}},
       422,
       "metadata"},
      {"the kubelet's condition", bound, "PATCH", nodes + mine + "/status", status_condition("Ready"), 422,
       "own conditions only"},
      {"a condition of another name", bound, "PATCH", nodes + mine + "/status",
       status_condition("VedetteHealthy"), 422, "own conditions only"},
      {"capacity",
       bound,
       "PATCH",
       nodes + mine + "/status",
       {{"status", {{"capacity", {{"cpu", "64"}}}}}},
       422,
       "status"},
      {"addresses",
       bound,
       "PATCH",
       nodes + mine + "/status",
       {{"status", {{"addresses", {{{"type", "InternalIP"}, {"address", "192.0.2.1"}}}}}}},
       422,
       "status"},
      {"deleting a node", bound, "DELETE", nodes + other, {}, 403, "cannot delete"},
      {"reading secrets", bound, "GET", "/api/v1/secrets", {}, 403, "cannot list"},
      {"an event about another node", bound, "POST", events, event_about(other, "abuse"), 422,
       "own node only"},
      {"an event without a node's token", unbound, "POST", events, event_about(mine, "abuse"), 422,
       "own node only"},
      {"another node's slot", bound, "POST", leases,
       lease_of(other, "vedette-all-900", "2026-01-02T03:00:00.000000Z"), 422, "own node only"},
      {"a slot without a node's token", unbound, "POST", leases,
       lease_of("", "vedette-all-900", "2026-01-02T03:00:00.000000Z"), 422, "token of its node"},
      {"a slot for a day", bound, "POST", leases,
       [&] {
         json lease = lease_of(mine, "vedette-all-900", "2026-01-02T03:00:00.000000Z");
         lease["spec"]["leaseDurationSeconds"] = 86'400;
         return lease;
       }(),
       422, "900 seconds"},
      {"another Lease of this namespace", bound, "POST", leases,
       lease_of(mine, "somebody-elses-leader", "2026-01-02T03:00:00.000000Z"), 422, "900 seconds"},
      {"a slot that has not expired", bound, "PUT", leases + "/vedette-all-901",
       stolen_at("2026-01-02T03:15:00.000000Z"), 422, "after its lease has expired"},
      {"a slot taken away from its holder", bound, "PUT", leases + "/vedette-all-901",
       [&] {
         json lease = held_before;
         lease["spec"]["holderIdentity"] = "nobody";
         return lease;
       }(),
       422, "own node only"},
      {"another node's slot given back",
       bound,
       "DELETE",
       leases + "/vedette-all-901",
       {},
       422,
       "its own slot only"},
      {"a Lease by its name", bound, "GET", leases + "/vedette-all-901", {}, 403, "cannot get"},
      {"a Lease of another namespace",
       bound,
       "POST",
       "/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases",
       {{"metadata", {{"name", "vedette-all-900"}}}},
       403,
       "cannot create"},
      {"an event in another namespace",
       bound,
       "POST",
       "/apis/events.k8s.io/v1/namespaces/kube-system/events",
       {{"metadata", {{"name", "x"}}}},
       403,
       "cannot create"},
  };
  for (const Abuse& abuse : abuses) {
    const auto answer = ApiServer::try_request(abuse.who, abuse.method, abuse.path, abuse.body);
    INFO(abuse.what << ": " << answer.first << " " << answer.second.dump());
    CHECK(answer.first == abuse.status);
    CHECK(answer.second.value("message", "").find(abuse.reason) != std::string::npos);
  }
  CHECK(server->node(mine) == mine_before);
  CHECK(server->node(other) == other_before);
  // And what it may do still works.
  CHECK(ApiServer::try_request(bound, "PATCH", nodes + mine, our_taint).first == 200);
  CHECK(ApiServer::try_request(bound, "PATCH", nodes + mine + "/status",
                               status_condition("VedetteStorageHealthy"))
            .first == 200);
  CHECK(ApiServer::try_request(bound, "POST", events, event_about(mine, "mine")).first == 201);
  CHECK(server->request("GET", leases + "/vedette-all-901") == held_before);
  CHECK(ApiServer::try_request(bound, "PUT", leases + "/vedette-all-901",
                               stolen_at("2026-01-02T03:15:00.000001Z"))
            .first == 200);
  CHECK(ApiServer::try_request(bound, "DELETE", leases + "/vedette-all-901").first == 200);
}

TEST_CASE(
    "the overlay evacuate gives the right to evict by uid, from the own node only, and without it is a "
    "sentence") {
  auto* server = ApiServer::shared();
  if (server == nullptr) VEDETTE_SKIP(ApiServer::why());
  apply_base(*server);
  const std::string mine = server->make_node("evicting");
  const std::string other = server->make_node("spared");
  server->set_taints(mine, {{{"key", "vedette.dev/unhealthy"}, {"effect", "NoSchedule"}}});
  const KubeClientOptions token = agent_token(*server, mine);
  const KubeClientOptions unbound = agent_token(*server, "");
  const std::string pods = "/api/v1/namespaces/default/pods";
  for (const std::string& node : {mine, other}) {
    server->request("POST", pods,
                    {{"apiVersion", "v1"},
                     {"kind", "Pod"},
                     {"metadata", {{"name", "pod-" + node}}},
                     {"spec", {{"nodeName", node}, {"containers", {{{"name", "c"}, {"image", "i"}}}}}}});
  }
  EvacuatorOptions options;
  options.client = token;
  options.node_name = mine;
  const auto evacuator = Evacuator::make(options);
  REQUIRE(evacuator);
  const auto ask = [&](const EvacuatorTask& task) {
    const std::uint64_t ticket = (*evacuator)->ask(task);
    std::optional<EvacuatorAnswer> answer;
    REQUIRE(eventually([&] { return (answer = (*evacuator)->take(ticket)).has_value(); }));
    return *answer;
  };
  CHECK(ask({}).error.find("has not the right to plan or evict") != std::string::npos);
  CHECK(ask({}).error.find("apply manifests/overlays/evacuate") != std::string::npos);

  const std::vector<std::string> created = create_all(*server, "overlays/evacuate");
  const auto uid = [&](const std::string& pod) {
    return server->request("GET", pods + "/" + pod)["metadata"]["uid"];
  };
  const auto evict = [&](const KubeClientOptions& who, const std::string& node,
                         const json& more = json::object()) {
    const std::string pod = "pod-" + node;
    json options_of_delete = {{"preconditions", {{"uid", uid(pod)}}}};
    options_of_delete.update(more);
    return ApiServer::try_request(who, "POST", pods + "/" + pod + "/eviction?dryRun=All",
                                  {{"apiVersion", "policy/v1"},
                                   {"kind", "Eviction"},
                                   {"metadata", {{"name", pod}}},
                                   {"deleteOptions", options_of_delete}});
  };
  // The policy takes a moment to reach the admission chain.
  REQUIRE(eventually([&] { return evict(token, other).first == 422; }));
  const auto refused = [&](const std::pair<long, json>& answer, const std::string& why) {
    INFO(answer.first << " " << answer.second.dump());
    CHECK(answer.first == 422);
    CHECK(answer.second.value("message", "").find(why) != std::string::npos);
  };
  refused(evict(token, other), "own node only");
  refused(evict(unbound, mine), "own node only");
  refused(evict(token, mine, {{"gracePeriodSeconds", 0}}), "own grace period");
  refused(evict(token, mine, {{"preconditions", nullptr}}), "by uid only");
  const auto allowed = evict(token, mine);
  INFO(allowed.second.dump());
  CHECK(allowed.first == 201);

  // And the agent can do all it has to.
  const EvacuatorAnswer planned = ask({{.local_data = false, .force = true}, "", {}});
  INFO(planned.error);
  REQUIRE(planned.plan);
  const EvacuatorAnswer done = ask({{}, planned.plan->id, {}});
  INFO(done.error);
  REQUIRE(done.step);
  CHECK(done.step->evicted.size() == 2);  // its own token's pod is one of them
  for (const std::string& path : created) server->request("DELETE", path);
}

TEST_CASE("the job of manifests/cleanup removes all that agents left, and its token can do nothing else") {
  auto* server = ApiServer::shared();
  if (server == nullptr) VEDETTE_SKIP(ApiServer::why());
  apply_base(*server);
  const std::string name = server->make_node("uninstalled");
  const std::string node = "/api/v1/nodes/" + name;
  const json foreign =
      json::parse(R"({"key": "example.com/dedicated", "value": "db", "effect": "NoSchedule"})");
  const json ours =
      json::parse(R"({"key": "vedette.dev/unhealthy", "value": "TaskHung", "effect": "NoExecute"})");
  server->set_taints(name, {foreign, ours});
  server->request("PATCH", node + "/status", status_condition("VedetteStorageHealthy"));
  server->request("PATCH", node, json::parse(R"({"metadata": {"annotations": {"vedette.dev/verdict": "{}",
    "vedette.dev/taint-times": "2026-01-02T03:04:05Z", "vedette.dev/pause": "true", "example.com/keep": "1"}}})"));
  const std::string leases = "/apis/coordination.k8s.io/v1/namespaces/";
  json lease = lease_of(name, "vedette-all-907", "2026-01-02T03:00:00.000000Z");
  lease["metadata"]["labels"] = json::parse(R"({"vedette.dev/pool": "all", "vedette.dev/shard": "0"})");
  lease["metadata"]["labels"]["vedette.dev/node"] = name;
  server->request("POST", leases + kNamespace + "/leases", lease);
  server->request("POST", leases + kNamespace + "/leases",
                  lease_of(name, "somebody-elses-leader", "2026-01-02T03:00:00.000000Z"));
  json other = lease_of(name, "vedette-all-907", "2026-01-02T03:00:00.000000Z");
  other["metadata"]["namespace"] = "default";
  server->request("POST", leases + "default/leases", other);

  const std::vector<std::string> created = create_all(*server, "cleanup");
  const KubeClientOptions token = token_of(*server, "default", "vedette-cleanup");
  const auto patch = [&](const std::string& path, const std::string& body) {
    return ApiServer::try_request(token, "PATCH", path, json::parse(body));
  };
  const std::string cordon = R"({"spec": {"unschedulable": true}})";
  // The policies take a moment to reach the admission chain.
  REQUIRE(eventually([&] { return patch(node + "?dryRun=All", cordon).first == 422; }));
  REQUIRE(eventually([&] {
    return ApiServer::try_request(token, "DELETE",
                                  leases + kNamespace + "/leases/somebody-elses-leader?dryRun=All")
               .first == 422;
  }));
  const json before = server->node(name);
  const std::pair<std::string, std::string> abuses[] = {
      {node, cordon},
      {node, R"({"spec": {"taints": null}})"},
      {node, R"({"spec": {"taints": [{"key": "vedette.dev/unhealthy", "effect": "NoExecute"}]}})"},
      {node, R"({"spec": {"taints": [{"key": "a", "effect": "NoSchedule"}]}})"},
      {node, R"({"metadata": {"labels": {"a": "b"}}})"},
      {node, R"({"metadata": {"finalizers": ["a.example/b"]}})"},
      {node, R"({"metadata": {"annotations": {"a": "b"}}})"},
      {node, R"({"metadata": {"annotations": {"vedette.dev/verdict": "other"}}})"},
      {node, R"({"metadata": {"annotations": {"example.com/keep": null}}})"},
      {node, R"({"metadata": {"annotations": {"vedette.dev/pause": null}}})"},
      {node + "/status", R"({"status": {"conditions": [{"type": "Ready", "$patch": "delete"}]}})"},
      {node + "/status", R"({"status": {"conditions": [{"type": "Ready", "status": "False"}]}})"},
      {node + "/status",
       R"({"status": {"conditions": [{"type": "VedetteStorageHealthy", "status": "True"}]}})"},
      {node + "/status", R"({"status": {"conditions": [{"type": "VedetteCPUHealthy", "status": "True"}]}})"},
      {node + "/status", R"({"status": {"capacity": {"cpu": "64"}}})"},
  };
  for (const auto& abuse : abuses) {
    const auto answer = patch(abuse.first, abuse.second);
    INFO(abuse.first << " " << abuse.second << ": " << answer.first << " " << answer.second.dump());
    CHECK(answer.first == 422);
    CHECK(answer.second.value("message", "").find("the cleanup may") != std::string::npos);
  }
  CHECK(ApiServer::try_request(token, "DELETE", leases + "default/leases/vedette-all-907").first == 422);
  CHECK(ApiServer::try_request(token, "POST", leases + kNamespace + "/leases", lease).first == 403);
  CHECK(ApiServer::try_request(token, "DELETE", node).first == 403);
  CHECK(ApiServer::try_request(token, "GET", "/api/v1/pods").first == 403);
  CHECK(ApiServer::try_request(token, "GET", "/api/v1/secrets").first == 403);
  CHECK(server->node(name) == before);

  // The job's own command, with what a pod would have been given.
  const json job = load("cleanup/job.yaml").at(0);
  std::vector<std::string> command = job["spec"]["template"]["spec"]["containers"][0]["command"];
  REQUIRE(command.at(0) == "/usr/local/bin/vedette");
  command.erase(command.begin());
  command.insert(command.end(),
                 {"--server", token.url, "--ca", token.ca_file, "--token-file", token.token_file});
  std::ostringstream out;
  std::ostringstream err;
  CHECK(run_cli(command, {out, err, {}}) == kExitHealthy);
  INFO(out.str() << err.str());
  const json after = server->node(name);
  CHECK(after["spec"]["taints"] == json::array({foreign}));
  CHECK(after["status"]["conditions"].size() == 1);
  CHECK(after["metadata"]["annotations"] ==
        json::parse(R"({"vedette.dev/pause": "true", "example.com/keep": "1"})"));
  CHECK(
      ApiServer::try_request(server->admin(), "GET", leases + kNamespace + "/leases/vedette-all-907").first ==
      404);
  for (const std::string& path : created) server->request("DELETE", path);
}
