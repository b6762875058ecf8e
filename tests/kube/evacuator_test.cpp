// Plans and evictions against the real API server. No kubelet runs: the test ends evicted pods itself, and
// stands in for the controller that counts budgets.
#include "agent/act/evacuator.h"

#include <atomic>
#include <mutex>
#include <ostream>
#include <streambuf>
#include <thread>

#include "exporter/exporter.h"
#include "tests/kube/api_server.h"
#include "tests/kube/scripted_server.h"
#include "tests/skip.h"
#include "tools/cli/commands.h"

using namespace vedette;
using nlohmann::json;
using namespace nlohmann::literals;

namespace {

const std::string kPods = "/api/v1/namespaces/default/pods";
const std::string kBudgets = "/apis/policy/v1/namespaces/default/poddisruptionbudgets";
const json kTaint = {{"key", "vedette.dev/unhealthy"}, {"value", "Test"}, {"effect", "NoSchedule"}};

// A tainted node with pods of one workload, and room for all of them elsewhere.
class Scene {
public:
  Scene(ApiServer& server, const std::string& stem) : server_(server), node_(server.make_node(stem)) {
    const std::string room = server.make_node(stem + "-room");
    server.request("PATCH", "/api/v1/nodes/" + room + "/status",
                   {{"status", {{"allocatable", {{"cpu", "64"}, {"memory", "64Gi"}, {"pods", "110"}}}}}});
    server.set_taints(node_, {kTaint});
    server.set_taints(room, {});  // the API server marks new nodes as not ready, and no controller lifts it
    room_ = room;
  }
  ~Scene() {
    const json pods = server_.request("GET", kPods + "?fieldSelector=spec.nodeName%3D" + node_);
    for (const json& pod : pods["items"]) end(pod["metadata"]["name"]);
    server_.request("DELETE", "/api/v1/nodes/" + room_);
  }
  Scene(const Scene&) = delete;
  Scene& operator=(const Scene&) = delete;

  // Running and ready, of a ReplicaSet named after the node unless `owned` says no.
  void pod(const std::string& name, const json& more = json::object(), bool owned = true) {
    json metadata = {{"name", node_ + "-" + name}, {"labels", {{"app", node_}}}};
    if (owned) {
      metadata["ownerReferences"] = json::array({{{"apiVersion", "apps/v1"},
                                                  {"kind", "ReplicaSet"},
                                                  {"name", node_},
                                                  {"uid", "owner-of-" + node_},
                                                  {"controller", true}}});
    }
    json spec = {{"nodeName", node_}, {"containers", {{{"name", "c"}, {"image", "i"}}}}};
    spec.update(more);
    server_.request("POST", kPods,
                    {{"apiVersion", "v1"}, {"kind", "Pod"}, {"metadata", metadata}, {"spec", spec}});
    server_.request(
        "PATCH", kPods + "/" + node_ + "-" + name + "/status",
        {{"status",
          {{"phase", "Running"}, {"conditions", json::array({{{"type", "Ready"}, {"status", "True"}}})}}}});
  }
  // What the kubelet does once the grace period is over.
  void end(const std::string& pod) { server_.request("DELETE", kPods + "/" + pod + "?gracePeriodSeconds=0"); }
  bool is_ending(const std::string& name) {
    return server_.request("GET", kPods + "/" + node_ + "-" + name)["metadata"].contains("deletionTimestamp");
  }
  void budget(int least, int expected) {
    server_.request("POST", kBudgets,
                    {{"apiVersion", "policy/v1"},
                     {"kind", "PodDisruptionBudget"},
                     {"metadata", {{"name", node_}}},
                     {"spec", {{"minAvailable", least}, {"selector", {{"matchLabels", {{"app", node_}}}}}}}});
    allow(expected - least, least, expected);
  }
  // What the controller writes when the pods are healthy elsewhere.
  void allow(int allowed, int least, int expected) {
    server_.request("PATCH", kBudgets + "/" + node_ + "/status",
                    {{"status",
                      {{"disruptionsAllowed", allowed},
                       {"currentHealthy", least + allowed},
                       {"desiredHealthy", least},
                       {"expectedPods", expected},
                       {"observedGeneration", 1}}}});
  }
  std::string full(const std::string& name) const { return "default/" + node_ + "-" + name; }
  const std::string& node() const { return node_; }
  const std::string& room() const { return room_; }

private:
  ApiServer& server_;
  std::string node_;
  std::string room_;
};

std::unique_ptr<Evacuator> make_evacuator(const KubeClientOptions& client, const std::string& node,
                                          const std::string& plans_file = {}) {
  EvacuatorOptions options;
  options.plans_file = plans_file;
  options.client = client;
  options.node_name = node;
  auto evacuator = Evacuator::make(options);
  if (!evacuator) FAIL(evacuator.error().text);
  return std::move(*evacuator);
}

EvacuatorAnswer answer_to(Evacuator& evacuator, EvacuatorTask task) {
  const std::uint64_t ticket = evacuator.ask(std::move(task));
  REQUIRE(ticket != 0);
  std::optional<EvacuatorAnswer> answer;
  REQUIRE(eventually([&] { return (answer = evacuator.take(ticket)).has_value(); }));
  return *answer;
}

Plan plan_of(Evacuator& evacuator, PlanOptions options = {}) {
  EvacuatorAnswer answer = answer_to(evacuator, {options, "", {}});
  if (!answer.plan) FAIL(answer.error);
  return *answer.plan;
}

EvacuationStep step_of(Evacuator& evacuator, const std::string& plan) {
  EvacuatorAnswer answer = answer_to(evacuator, {{}, plan, {}});
  if (!answer.step) FAIL(answer.error);
  return *answer.step;
}

std::vector<std::string> names(const std::vector<EvacuationStep::Pod>& pods) {
  std::vector<std::string> found;
  found.reserve(pods.size());
  for (const EvacuationStep::Pod& pod : pods) found.push_back(pod.name);
  return found;
}

using Names = std::vector<std::string>;

// What one thread writes and another reads.
class SharedText : private std::streambuf, public std::ostream {
public:
  SharedText() : std::ostream(static_cast<std::streambuf*>(this)) {}
  bool has(const std::string& part) {
    const std::lock_guard lock(mutex_);
    return text_.find(part) != std::string::npos;
  }

private:
  int overflow(int c) override {
    const std::lock_guard lock(mutex_);
    text_ += static_cast<char>(c);
    return c;
  }
  std::mutex mutex_;
  std::string text_;
};

}  // namespace

TEST_CASE("a plan is made of what the API server has") {
  auto* server = ApiServer::shared();
  if (server == nullptr) VEDETTE_SKIP(ApiServer::why());
  Scene scene(*server, "planned");
  scene.pod("a", {{"terminationGracePeriodSeconds", 45}});
  scene.pod("b");
  scene.pod("bare", json::object(), false);
  scene.pod("data", {{"volumes", json::array({{{"name", "tmp"}, {"emptyDir", json::object()}}})}});
  scene.pod("disk",
            {{"volumes",
              json::array({{{"name", "d"}, {"persistentVolumeClaim", {{"claimName", scene.node()}}}}})}});
  json volume = json::parse(R"({
    "apiVersion": "v1", "kind": "PersistentVolume", "metadata": {},
    "spec": {"capacity": {"storage": "1Gi"}, "accessModes": ["ReadWriteOnce"], "claimRef": {"namespace": "default"},
             "local": {"path": "/mnt/x"}, "nodeAffinity": {"required": {"nodeSelectorTerms": [
               {"matchExpressions": [{"key": "kubernetes.io/hostname", "operator": "In"}]}]}}}})");
  volume["metadata"]["name"] = "pv-" + scene.node();
  volume["spec"]["claimRef"]["name"] = scene.node();
  volume["/spec/nodeAffinity/required/nodeSelectorTerms/0/matchExpressions/0/values"_json_pointer] = {
      scene.node()};
  server->request("POST", "/api/v1/persistentvolumes", volume);
  scene.budget(4, 5);
  const auto evacuator = make_evacuator(server->admin(), scene.node());
  const Plan plan = plan_of(*evacuator);
  REQUIRE(plan.pods.size() == 5);
  CHECK(plan.node == scene.node());
  CHECK(plan.pods[0].name == scene.node() + "-a");
  CHECK(plan.pods[0].wave == 1);
  CHECK(plan.pods[0].budget == scene.node());
  CHECK(plan.pods[0].fits == scene.room());
  CHECK(plan.pods[0].notes.empty());  // four replicas
  CHECK(plan.pods[1].wave == 2);
  CHECK(plan.longest == std::chrono::seconds(45 + 30));
  CHECK(plan.pods[2].blocks == Names{"local data: emptyDir tmp is deleted"});
  CHECK(plan.pods[3].blocks ==
        Names{"local data: local volume pv-" + scene.node() + " is on this machine only"});
  CHECK(plan.pods[4].blocks == Names{"no controller: once evicted, nothing makes it anew"});
  CHECK(plan_of(*evacuator).id == plan.id);
  CHECK(plan_of(*evacuator, {true, true}).waves == 5);
}

TEST_CASE(
    "a plan is carried out wave by wave, waits where a budget has no room, and can be left and resumed") {
  auto* server = ApiServer::shared();
  if (server == nullptr) VEDETTE_SKIP(ApiServer::why());
  Scene scene(*server, "emptied");
  scene.pod("a");
  scene.pod("b");
  scene.pod("bare", json::object(), false);
  scene.budget(2, 3);
  const std::string kept = server->dir() + "/plans.json";
  auto evacuator = make_evacuator(server->admin(), scene.node(), kept);
  const std::string plan = plan_of(*evacuator).id;

  EvacuationStep step = step_of(*evacuator, plan);
  CHECK(step.wave == 1);
  CHECK(step.waves == 2);
  CHECK(names(step.evicted) == Names{scene.full("a")});
  CHECK(names(step.staying) == Names{scene.full("bare")});
  CHECK(scene.is_ending("a"));
  CHECK_FALSE(scene.is_ending("b"));

  // The first has to end before the second wave begins.
  step = step_of(*evacuator, plan);
  CHECK(names(step.ending) == Names{scene.full("a")});
  CHECK(step.evicted.empty());
  CHECK_FALSE(scene.is_ending("b"));
  scene.end(scene.node() + "-a");

  // The API server took the eviction off the budget and nobody has given it back yet.
  step = step_of(*evacuator, plan);
  CHECK(step.wave == 2);
  REQUIRE(names(step.waiting) == Names{scene.full("b")});
  CHECK(step.waiting[0].text.find("budget") != std::string::npos);
  CHECK_FALSE(scene.is_ending("b"));

  SUBCASE("and resumed") {
    scene.allow(1, 2, 3);
    step = step_of(*evacuator, plan);
    CHECK(names(step.evicted) == Names{scene.full("b")});
    scene.end(scene.node() + "-b");
    step = step_of(*evacuator, plan);
    CHECK(step.wave == 0);
    CHECK(step.left == 0);
    CHECK(names(step.staying) == Names{scene.full("bare")});
  }
  SUBCASE("and resumed where it was by an agent that started anew") {
    scene.allow(1, 2, 3);
    evacuator.reset();
    evacuator = make_evacuator(server->admin(), scene.node(), kept);
    step = step_of(*evacuator, plan);
    CHECK(step.wave == 2);
    CHECK(step.waves == 2);
    CHECK(names(step.evicted) == Names{scene.full("b")});
    REQUIRE(names(step.staying) == Names{scene.full("bare")});
    CHECK(step.staying[0].text == "no controller: once evicted, nothing makes it anew");
  }
  SUBCASE("and resumed under its new name by an agent that knows nothing of it") {
    scene.allow(1, 2, 3);
    evacuator = make_evacuator(server->admin(), scene.node());
    const std::string error = answer_to(*evacuator, {{}, plan, {}}).error;
    CHECK(error.find("the agent knows no such plan") != std::string::npos);
    const std::string now = plan_of(*evacuator).id;
    CHECK(error.find("the plan is now " + now) != std::string::npos);
    CHECK(names(step_of(*evacuator, now).evicted) == Names{scene.full("b")});
  }
}

TEST_CASE("a plan that does not know a pod of the node is refused, with the name of the one that does") {
  auto* server = ApiServer::shared();
  if (server == nullptr) VEDETTE_SKIP(ApiServer::why());
  Scene scene(*server, "late");
  scene.pod("a");
  const auto evacuator = make_evacuator(server->admin(), scene.node());
  const PlanOptions options{true, false};
  const std::string plan = plan_of(*evacuator, options).id;
  scene.pod("b");
  const EvacuatorAnswer refused = answer_to(*evacuator, {{}, plan, {}});
  CHECK_FALSE(refused.step);
  CHECK(refused.error.find("pod " + scene.full("b") + " has come since") != std::string::npos);
  CHECK_FALSE(scene.is_ending("a"));
  // Made with the same options as the one before.
  const std::string now = plan_of(*evacuator, options).id;
  CHECK(refused.error.find("the plan is now " + now) != std::string::npos);
  CHECK(step_of(*evacuator, now).evicted.size() == 2);
}

TEST_CASE("a critical pod is never evicted, also where the policy calls it so after the plan was made") {
  auto* server = ApiServer::shared();
  if (server == nullptr) VEDETTE_SKIP(ApiServer::why());
  Scene scene(*server, "critical");
  scene.pod("a");
  scene.pod("db");
  const auto policy_of = [&](const std::string& pod) {
    auto policy = std::make_shared<Policy>(*Policy::builtin());
    policy->critical = {scene.full(pod)};
    return policy;
  };
  const auto evacuator = make_evacuator(server->admin(), scene.node());
  const PlanOptions all{true, true};
  const EvacuatorAnswer made = answer_to(*evacuator, {all, "", {}, policy_of("db")});
  REQUIRE(made.plan);
  REQUIRE(made.plan->pods.size() == 2);
  CHECK(made.plan->pods[1].critical);

  const EvacuatorAnswer refused = answer_to(*evacuator, {{}, made.plan->id, {}, policy_of("a")});
  CHECK_FALSE(refused.step);
  CHECK(refused.error.find("the policy calls pod " + scene.full("a") + " critical by now") !=
        std::string::npos);
  CHECK_FALSE(scene.is_ending("a"));

  const EvacuatorAnswer done = answer_to(*evacuator, {{}, made.plan->id, {}, policy_of("db")});
  REQUIRE(done.step);
  CHECK(names(done.step->evicted) == Names{scene.full("a")});
  REQUIRE(names(done.step->staying) == Names{scene.full("db")});
  CHECK(done.step->staying[0].text.find("critical: the policy") == 0);
  CHECK_FALSE(scene.is_ending("db"));
}

TEST_CASE("nothing is evicted from a node without the agent's taint, or with one that lets pods come back") {
  auto* server = ApiServer::shared();
  if (server == nullptr) VEDETTE_SKIP(ApiServer::why());
  Scene scene(*server, "untainted");
  scene.pod("a");
  const auto evacuator = make_evacuator(server->admin(), scene.node());
  const std::string plan = plan_of(*evacuator).id;
  json weak = kTaint;
  weak["effect"] = "PreferNoSchedule";
  json foreign = kTaint;
  foreign["key"] = "example.com/unhealthy";
  for (const std::vector<json>& taints : {std::vector<json>{}, {weak}, {foreign}}) {
    server->set_taints(scene.node(), taints);
    const EvacuatorAnswer refused = answer_to(*evacuator, {{}, plan, {}});
    CHECK_FALSE(refused.step);
    CHECK(refused.error.find("kubectl taint node " + scene.node()) != std::string::npos);
    CHECK(refused.error.find("after `vedette pause`") != std::string::npos);
    CHECK_FALSE(scene.is_ending("a"));
  }
  const json node = server->node(scene.node());
  CHECK_FALSE(node["spec"].contains("unschedulable"));
  server->set_taints(scene.node(), {kTaint});
  CHECK(step_of(*evacuator, plan).evicted.size() == 1);
}

TEST_CASE(
    "the command plans and evacuates through the agent's socket, and waits for a budget until it has room") {
  auto* server = ApiServer::shared();
  if (server == nullptr) VEDETTE_SKIP(ApiServer::why());
  Scene scene(*server, "commanded");
  scene.pod("a");
  scene.pod("b");
  scene.budget(2, 3);
  const auto evacuator = make_evacuator(server->admin(), scene.node());
  ExporterOptions options;
  options.listen = "";
  options.socket_path = server->dir() + "/agent.sock";
  SharedText told;
  std::atomic<int> code = -1;
  std::jthread command;  // ends at the latest with the exporter, which is gone before it
  const auto exporter = Exporter::make(options, {.evacuator = evacuator.get()});
  REQUIRE(exporter);
  // The agent sees danger for b.
  auto snapshot = std::make_shared<Snapshot>();
  const json b = server->request("GET", kPods + "/" + scene.node() + "-b");
  Condition condition;
  condition.reason = "MemoryExhaustion";
  condition.entity = std::make_shared<const Entity>(
      Entity{1, EntityKind::kPod, "pod/default/b", "default", "b", b["metadata"]["uid"], ""});
  snapshot->conditions.push_back(condition);
  (*exporter)->publish(snapshot);

  const auto run = [&](SharedText& out, std::vector<std::string> arguments) {
    arguments.insert(arguments.end(), {"--socket", options.socket_path});
    return run_cli(arguments, {out, out, {}});
  };
  SharedText shown;
  CHECK(run(shown, {"plan"}) == kExitHealthy);
  const std::string plan =
      answer_to(*evacuator,
                {{}, "", {{b["metadata"]["uid"], {true, Severity::kInfo, "MemoryExhaustion", 0}}}})
          .plan.value()
          .id;
  CHECK(shown.has("vedette evacuate --plan " + plan));
  CHECK(shown.has("MemoryExhaustion"));
  SharedText unknown;
  CHECK(run(unknown, {"evacuate", "--plan", "0123456789abcdef"}) == kExitDegraded);
  CHECK(unknown.has("plan 0123456789abcdef is not carried out"));

  command = std::jthread([&] { code = run(told, {"evacuate", "--plan", plan}); });
  CHECK(eventually([&] { return scene.is_ending("b"); }));
  CHECK_FALSE(scene.is_ending("a"));
  scene.end(scene.node() + "-b");
  CHECK(eventually([&] { return told.has("waits " + scene.full("a")); }));
  CHECK_FALSE(scene.is_ending("a"));
  scene.allow(1, 2, 3);
  CHECK(eventually([&] { return scene.is_ending("a"); }));
  scene.end(scene.node() + "-a");
  CHECK(eventually([&] { return code == kExitHealthy; }));
  CHECK(told.has("the plan is carried out: all its pods are gone"));
}

TEST_CASE(
    "a page of a list that is too large is asked for again in halves, and one object that is, is said") {
  const auto page = [](const std::string& name, const std::string& more) {
    return ScriptedServer::answer(200, R"({"kind":"PodList","metadata":{"continue":")" + more +
                                           R"("},"items":[{"metadata":{"uid":"u","name":")" + name +
                                           R"("},"spec":{"nodeName":"n1"}}]})");
  };
  const std::string large = ScriptedServer::answer(200, std::string(5000, 'x'));
  KubeClientOptions options;
  options.max_body_bytes = 4096;
  {
    const ScriptedServer server({page("a", "more"), large, page("b", "")});
    options.url = server.url();
    auto client = KubeClient::make(options);
    REQUIRE(client);
    const auto pods = Evictions(*client, "n1").read_pods();
    REQUIRE(pods);
    REQUIRE(pods->size() == 2);
    CHECK(pods->at(1).name == "b");
    const auto requests = server.requests();
    REQUIRE(requests.size() == 3);
    CHECK(requests[1].find("&limit=100&continue=more ") != std::string::npos);
    CHECK(requests[2].find("&limit=50&continue=more ") != std::string::npos);
  }
  const ScriptedServer server({large});
  options.url = server.url();
  auto client = KubeClient::make(options);
  REQUIRE(client);
  const auto pods = Evictions(*client, "n1").read_pods();
  REQUIRE_FALSE(pods);
  CHECK(pods.error().text.find("larger than 4096 bytes") != std::string::npos);
  CHECK(server.requests().size() == 7);
}
