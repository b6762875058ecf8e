#include "agent/act/plan.h"

#include <doctest/doctest.h>

using namespace vedette;

namespace {

ClusterPod make_pod(const std::string& name, std::int64_t cpu = 100) {
  ClusterPod pod;
  pod.uid = "uid-" + name;
  pod.namespace_name = "shop";
  pod.name = name;
  pod.workload = "Deployment/" + name;
  pod.controller = "owner-" + name;
  pod.replicas = 2;
  pod.labels = {{"pod", name}};
  pod.requests = {{"cpu", cpu}, {"pods", 1000}};
  return pod;
}

ClusterNode make_node(const std::string& name, std::int64_t cpu = 100'000) {
  ClusterNode node;
  node.name = name;
  node.ready = true;
  node.allocatable = {{"cpu", cpu}, {"pods", 110'000}};
  return node;
}

DisruptionBudget make_budget(const std::string& name, std::int64_t allowed, std::int64_t desired,
                             std::int64_t expected) {
  return {"shop", name, std::vector<SelectorTerm>{}, allowed, desired, expected};
}

Cluster make_cluster(std::vector<ClusterPod> pods) {
  return {std::move(pods), {}, {make_node("here"), make_node("there")}};
}

std::vector<std::string> order(const Plan& plan) {
  std::vector<std::string> names;
  for (const PlannedPod& pod : plan.pods) names.push_back(pod.name + ":" + std::to_string(pod.wave));
  return names;
}

using Names = std::vector<std::string>;

const Policy kNoneCritical;

}  // namespace

TEST_CASE("pods in danger go first, then the important, then those without local data") {
  Cluster cluster = make_cluster(
      {make_pod("a"), make_pod("b"), make_pod("c"), make_pod("d"), make_pod("e"), make_pod("f")});
  cluster.pods[0].local_volumes = {{"emptyDir", "tmp"}};
  cluster.pods[2].priority = 1000;
  const std::map<std::string, PodDanger> dangers{{"uid-d", {.risk = 0.97}},
                                                 {"uid-e", {true, Severity::kUnhealthy, "OomKill", 0}},
                                                 {"uid-f", {true, Severity::kDegraded, "Anomaly", 0.5}}};
  const Plan plan = make_plan("here", cluster, dangers, kNoneCritical, {.local_data = true});
  CHECK(order(plan) == Names{"e:1", "f:1", "d:1", "c:1", "b:1", "a:1"});
  CHECK(plan.waves == 1);
  CHECK(plan.pods[0].danger.reason == "OomKill");
}

TEST_CASE(
    "of equal danger and priority those go first whose siblings can stand in; what nothing makes anew goes "
    "last") {
  Cluster cluster = make_cluster({make_pod("a"), make_pod("b"), make_pod("c"), make_pod("d"), make_pod("e"),
                                  make_pod("f"), make_pod("g")});
  const char* owners[] = {"CronJob/a", "Pod/b",        "Postgres/c",  "StatefulSet/d",
                          "Job/e",     "ReplicaSet/f", "Deployment/g"};
  for (std::size_t i = 0; i < cluster.pods.size(); ++i) cluster.pods[i].workload = owners[i];
  cluster.pods[1].controller.clear();
  cluster.pods[5].local_volumes = {{"emptyDir", "tmp"}};
  const PlanOptions all{.local_data = true, .force = true};
  Plan plan = make_plan("here", cluster, {}, kNoneCritical, all);
  CHECK(order(plan) == Names{"g:1", "f:1", "c:1", "d:1", "a:1", "e:1", "b:1"});
  CHECK(plan.pods[4].notes == Names{"CronJob/a begins this pod's work anew"});
  CHECK(plan.pods[6].notes == Names{"no controller: once evicted, nothing makes it anew"});

  // Danger and priority count for more, but save nothing of a pod without an owner.
  cluster.pods[3].priority = 1000;
  plan = make_plan("here", cluster, {{"uid-b", {.risk = 0.9}}, {"uid-e", {.risk = 0.9}}}, kNoneCritical, all);
  CHECK(order(plan) == Names{"e:1", "d:1", "g:1", "f:1", "c:1", "a:1", "b:1"});
}

TEST_CASE("what the policy calls critical stays, whatever the options, and the plan says so first") {
  Cluster cluster = make_cluster({make_pod("a"), make_pod("b")});
  cluster.pods[0].local_volumes = {{"emptyDir", "tmp"}};
  Policy policy;
  policy.critical = {"shop/a*"};
  const Plan plan = make_plan("here", cluster, {}, policy, {.local_data = true, .force = true});
  CHECK(order(plan) == Names{"b:1", "a:0"});
  CHECK_FALSE(plan.pods[0].critical);
  CHECK(plan.pods[1].critical);
  REQUIRE(plan.pods[1].blocks.size() == 1);
  CHECK(plan.pods[1].blocks[0] == "critical: the policy (policy.critical) says that it may not be moved");
  CHECK(make_plan("here", cluster, {}, kNoneCritical, {.local_data = true, .force = true}).id != plan.id);
}

TEST_CASE("a plan keeps its name while it does the same, and gets another when it does something else") {
  const Cluster cluster = make_cluster({make_pod("a"), make_pod("b")});
  const std::string id = make_plan("here", cluster, {{"uid-a", {.risk = 0.12}}}, kNoneCritical, {}).id;
  CHECK(id.size() == 16);
  CHECK(make_plan("here", cluster, {{"uid-a", {.risk = 0.18}}}, kNoneCritical, {}).id == id);
  CHECK(make_plan("here", cluster, {{"uid-b", {.risk = 0.9}}}, kNoneCritical, {}).id != id);
  CHECK(make_plan("here", cluster, {}, kNoneCritical, {.force = true}).id != id);
  Cluster other = cluster;
  other.pods.pop_back();
  CHECK(make_plan("here", other, {}, kNoneCritical, {}).id != id);
  other = cluster;
  other.pods[0].uid = "another";
  CHECK(make_plan("here", other, {}, kNoneCritical, {}).id != id);
  other = cluster;
  other.budgets = {make_budget("one", 1, 1, 2)};
  CHECK(make_plan("here", other, {}, kNoneCritical, {}).id != id);
}

TEST_CASE("budgets make waves: each takes what the budget has room for, the rest does not wait") {
  Cluster cluster = make_cluster({make_pod("a"), make_pod("b"), make_pod("c"), make_pod("free")});
  for (int i = 0; i < 3; ++i) cluster.pods[i].labels["app"] = "api";
  cluster.pods[1].grace = std::chrono::seconds(120);
  cluster.budgets = {make_budget("api", 1, 2, 3)};
  cluster.budgets[0].selector->push_back({"app", "In", {"api"}});
  Plan plan = make_plan("here", cluster, {}, kNoneCritical, {});
  CHECK(order(plan) == Names{"a:1", "free:1", "b:2", "c:3"});
  CHECK(plan.waves == 3);
  CHECK(plan.longest == std::chrono::seconds(30 + 120 + 30));

  cluster.budgets[0].allowed = 2;
  CHECK(order(make_plan("here", cluster, {}, kNoneCritical, {})) == Names{"a:1", "b:1", "free:1", "c:2"});

  // No room now, but a spare pod that will be healthy again: it waits. It is said.
  cluster.budgets[0].allowed = 0;
  plan = make_plan("here", cluster, {}, kNoneCritical, {});
  CHECK(order(plan) == Names{"a:1", "free:1", "b:2", "c:3"});
  REQUIRE(plan.pods[0].notes.size() == 1);
  CHECK(plan.pods[0].notes[0] == "budget api has no room now: 2 of 3 pods must stay");
}

TEST_CASE("what cannot be moved stays, and says why") {
  Cluster cluster = make_cluster({make_pod("bare"), make_pod("data"), make_pod("volume"), make_pod("held"),
                                  make_pod("twice"), make_pod("large", 500'000), make_pod("fine")});
  cluster.pods[0].controller.clear();
  cluster.pods[1].local_volumes = {{"emptyDir", "cache"}, {"hostPath", "/var/log"}};
  cluster.pods[2].local_volumes = {{"local volume", "disk-7"}};
  const auto one = [](const std::string& budget, const std::string& pod) {
    DisruptionBudget made = make_budget(budget, 0, 1, 1);
    made.selector->push_back({"pod", "In", {pod}});
    return made;
  };
  cluster.budgets = {one("all", "held"), one("first", "twice"), one("second", "twice")};
  const auto block_of = [](const Plan& plan, const std::string& name) {
    for (const PlannedPod& pod : plan.pods) {
      if (pod.name == name && pod.wave == 0) return pod.blocks.at(0);
    }
    return std::string("moved");
  };
  Plan plan = make_plan("here", cluster, {}, kNoneCritical, {});
  CHECK(block_of(plan, "bare") == "no controller: once evicted, nothing makes it anew");
  CHECK(block_of(plan, "data") == "local data: emptyDir cache is deleted");
  CHECK(block_of(plan, "volume") == "local data: local volume disk-7 is on this machine only");
  CHECK(block_of(plan, "held") == "budget all never has room: 1 of 1 pods must stay");
  CHECK(block_of(plan, "twice") ==
        "two budgets count it (shop/first, shop/second): the API server evicts no such pod");
  CHECK(block_of(plan, "large") == "fits on no other node: it would be pending");
  CHECK(order(plan).front() == "fine:1");

  plan = make_plan("here", cluster, {}, kNoneCritical, {.local_data = true, .force = true});
  for (const char* name : {"bare", "data", "volume", "large"}) CHECK(block_of(plan, name) == "moved");
  for (const char* name : {"held", "twice"}) CHECK(block_of(plan, name) != "moved");
}

TEST_CASE("a single replica and data on the host are said, and moved all the same") {
  Cluster cluster = make_cluster({make_pod("a")});
  cluster.pods[0].replicas = 1;
  cluster.pods[0].local_volumes = {{"hostPath", "/var/log"}};
  const Plan plan = make_plan("here", cluster, {}, kNoneCritical, {});
  REQUIRE(plan.pods.size() == 1);
  CHECK(plan.pods[0].wave == 1);
  CHECK(plan.pods[0].notes == Names{"single replica: Deployment/a is down until it runs elsewhere",
                                    "hostPath /var/log is another one on another node"});
}

TEST_CASE("pods of DaemonSets, static, finished and ending ones are left out and said to be") {
  Cluster cluster = make_cluster({make_pod("a"), make_pod("b"), make_pod("c"), make_pod("d"), make_pod("e")});
  cluster.pods[0].daemon = true;
  cluster.pods[1].mirror = true;
  cluster.pods[2].finished = true;
  cluster.pods[3].terminating = true;
  const Plan plan = make_plan("here", cluster, {}, kNoneCritical, {});
  CHECK(order(plan) == Names{"e:1"});
  REQUIRE(plan.left_out.size() == 4);
  CHECK(plan.left_out[0].why == "of a DaemonSet: it belongs to the node");
  CHECK(plan.left_out[1].why == "static: the kubelet runs it from a file of this node");
}

TEST_CASE("pods are fitted one after the other into what other nodes have free") {
  Cluster cluster = make_cluster({make_pod("a", 600), make_pod("b", 600), make_pod("c", 300)});
  cluster.nodes = {make_node("here"), make_node("y", 1000), make_node("x", 1000)};
  cluster.nodes[1].requested = {{"cpu", 100}};
  const auto fits = [&] {
    Names nodes;
    for (const PlannedPod& pod : make_plan("here", cluster, {}, kNoneCritical, {.force = true}).pods) {
      nodes.push_back(pod.fits);
    }
    return nodes;
  };
  CHECK(fits() == Names{"x", "y", "x"});
  cluster.nodes[2].allocatable["pods"] = 1000;  // no place for a second pod there
  CHECK(fits() == Names{"x", "y", "y"});
  cluster.nodes[2].unschedulable = true;
  CHECK(fits() == Names{"y", "", "y"});
  cluster.nodes[2].unschedulable = false;
  cluster.nodes[2].ready = false;
  CHECK(fits() == Names{"y", "", "y"});
  cluster.nodes[2].ready = true;
  cluster.nodes[2].taints = {{"k", "v", "NoSchedule", ""}};
  CHECK(fits() == Names{"y", "", "y"});
  cluster.pods[0].tolerations = {{"k", "Exists", "", ""}};
  CHECK(fits() == Names{"x", "y", "y"});
  cluster.nodes[2].taints[0].effect = "PreferNoSchedule";
  cluster.pods[0].tolerations.clear();
  cluster.pods[0].node_selector = {{"disk", "ssd"}};
  CHECK(fits() == Names{"", "x", "y"});
  cluster.nodes[1].labels = {{"disk", "ssd"}};
  CHECK(fits() == Names{"y", "x", "y"});
  cluster.pods[2].requests["example.com/gpu"] = 1000;
  CHECK(fits() == Names{"y", "x", ""});
}

TEST_CASE("a pod that came after the plan is found; one that is gone, ending or never planned is not") {
  Cluster cluster = make_cluster({make_pod("a"), make_pod("b")});
  const Plan plan = make_plan("here", cluster, {}, kNoneCritical, {});
  CHECK(unplanned(plan, cluster.pods) == nullptr);
  CHECK(unplanned(plan, {cluster.pods[1]}) == nullptr);
  std::vector<ClusterPod> now{cluster.pods[0], make_pod("late")};
  REQUIRE(unplanned(plan, now) == &now[1]);
  now[1].terminating = true;
  CHECK(unplanned(plan, now) == nullptr);
  now[1].terminating = false;
  now[1].daemon = true;
  CHECK(unplanned(plan, now) == nullptr);
}
