#include "agent/kube/cluster.h"

#include <limits>

#include <doctest/doctest.h>

using namespace vedette;

TEST_CASE("quantities are read in thousandths, rounded up, and what is none is refused") {
  const std::map<std::string, std::int64_t> known{{"2", 2000},
                                                  {"100m", 100},
                                                  {"0.1", 100},
                                                  {"1500u", 2},
                                                  {"1n", 1},
                                                  {"128Mi", 134'217'728'000},
                                                  {"1.5Gi", 1'610'612'736'000},
                                                  {"1k", 1'000'000},
                                                  {"2e3", 2'000'000},
                                                  {"12E-1", 1200},
                                                  {"8Ei", std::numeric_limits<std::int64_t>::max()}};
  for (const auto& quantity : known) {
    INFO(quantity.first);
    CHECK(parse_quantity(quantity.first) == quantity.second);
  }
  for (const char* text : {"", "Mi", "one", "1x", "1e", "1Mi5"}) {
    INFO(text);
    CHECK_FALSE(parse_quantity(text));
  }
}

TEST_CASE("a pod is read with all that decides whether it can move") {
  const auto page = parse_cluster_pods(R"({"kind":"PodList","metadata":{"continue":"next"},"items":[{
    "metadata":{"name":"db-0","namespace":"shop","uid":"u","labels":{"env":"prod","args":"x"},
      "ownerReferences":[{"kind":"StatefulSet","name":"db","uid":"s","controller":true}]},
    "spec":{"nodeName":"n1","priority":7,"terminationGracePeriodSeconds":90,"nodeSelector":{"env":"prod"},
      "tolerations":[{"key":"a","operator":"Exists"}],
      "volumes":[{"name":"tmp","emptyDir":{}},{"name":"h","hostPath":{"path":"/var/x"}},
        {"name":"d","persistentVolumeClaim":{"claimName":"d-db-0"}},{"name":"e","ephemeral":{}}],
      "overhead":{"cpu":"10m"},
      "initContainers":[
        {"name":"early","resources":{"requests":{"cpu":"2","memory":"1Gi"}}},
        {"name":"proxy","restartPolicy":"Always","resources":{"requests":{"cpu":"100m","memory":"10Mi"}}},
        {"name":"late","resources":{"requests":{"cpu":"50m"}}}],
      "containers":[{"name":"c","env":[{"name":"A"}],"resources":{"requests":{"cpu":"500m","memory":"2Gi"}}},
        {"name":"x"}]},
    "status":{"phase":"Running"}},
   {"metadata":{"name":"p","namespace":"kube-system","uid":"m","deletionTimestamp":"2026-01-02T03:04:05Z",
      "annotations":{"kubernetes.io/config.mirror":"x"},
      "ownerReferences":[{"kind":"Node","name":"n1","uid":"n","controller":true}]},
    "spec":{},"status":{"phase":"Failed"}}]})");
  REQUIRE(page);
  CHECK(page->continue_token == "next");
  REQUIRE(page->items.size() == 2);
  const ClusterPod& pod = page->items[0];
  CHECK(pod.node == "n1");
  CHECK(pod.workload == "StatefulSet/db");
  CHECK(pod.controller == "s");
  CHECK(pod.priority == 7);
  CHECK(pod.grace == std::chrono::seconds(90));
  CHECK(pod.labels == std::map<std::string, std::string>{{"env", "prod"}, {"args", "x"}});
  CHECK(pod.node_selector == std::map<std::string, std::string>{{"env", "prod"}});
  REQUIRE(pod.local_volumes.size() == 2);
  CHECK(pod.local_volumes[1].name == "/var/x");
  CHECK(pod.claims == std::vector<std::string>{"d-db-0", "db-0-e"});
  // The first init container needs the most CPU, the running ones the most memory.
  CHECK(pod.requests == Resources{{"cpu", 2010}, {"memory", 2'157'969'408'000}, {"pods", 1000}});
  CHECK_FALSE((pod.mirror || pod.finished || pod.terminating || pod.daemon));
  const ClusterPod& mirror = page->items[1];
  CHECK((mirror.mirror && mirror.finished && mirror.terminating));
  CHECK(mirror.controller.empty());
  CHECK_FALSE(parse_cluster_pods(R"({"kind":"NodeList","items":[]})"));
  CHECK_FALSE(parse_cluster_pods("no JSON"));
}

TEST_CASE("a budget selects as the API says: all, none, by labels and by expressions") {
  ClusterPod pod;
  pod.namespace_name = "shop";
  pod.labels = {{"app", "api"}, {"env", "prod"}};
  const auto selected = [&](const std::string& selector) {
    const auto page = parse_budgets(R"({"kind":"PodDisruptionBudgetList","items":[{"metadata":
      {"namespace":"shop","name":"b"},"spec":{)" +
                                    selector + R"(},
      "status":{"disruptionsAllowed":1,"desiredHealthy":2,"expectedPods":3}}]})");
    REQUIRE(page);
    CHECK(page->items.at(0).expected == 3);
    return selects(page->items.at(0), pod);
  };
  CHECK_FALSE(selected(""));
  CHECK(selected(R"("selector":{})"));
  CHECK(selected(R"("selector":{"matchLabels":{"app":"api","env":"prod"}})"));
  CHECK_FALSE(selected(R"("selector":{"matchLabels":{"app":"api","env":"test"}})"));
  const auto expression = [&](const std::string& text) {
    return selected(R"("selector":{"matchExpressions":[{)" + text + "}]}");
  };
  CHECK(expression(R"("key":"app","operator":"In","values":["web","api"])"));
  CHECK_FALSE(expression(R"("key":"app","operator":"NotIn","values":["web","api"])"));
  CHECK(expression(R"("key":"none","operator":"NotIn","values":["web"])"));
  CHECK(expression(R"("key":"app","operator":"Exists")"));
  CHECK_FALSE(expression(R"("key":"app","operator":"DoesNotExist")"));
  CHECK_FALSE(expression(R"("key":"app","operator":"Unheard")"));
  pod.namespace_name = "other";
  CHECK_FALSE(selected(R"("selector":{})"));
}

TEST_CASE("a taint is tolerated by key and value, by key alone, or by whoever tolerates all") {
  const Taint taint{"k", "v", "NoSchedule", ""};
  const auto tolerated = [&](const Toleration& toleration) {
    ClusterPod pod;
    pod.tolerations = {toleration};
    return tolerates(pod, taint);
  };
  CHECK(tolerated({"k", "", "v", ""}));
  CHECK(tolerated({"k", "Equal", "v", "NoSchedule"}));
  CHECK_FALSE(tolerated({"k", "Equal", "w", ""}));
  CHECK_FALSE(tolerated({"k", "Exists", "", "NoExecute"}));
  CHECK(tolerated({"k", "Exists", "", ""}));
  CHECK(tolerated({"", "Exists", "", ""}));
  CHECK_FALSE(tolerated({"j", "Exists", "", ""}));
  CHECK_FALSE(tolerated({"k", "Gt", "v", ""}));
  CHECK_FALSE(tolerates({}, taint));
}

TEST_CASE("volumes that live on one machine are found by their claims") {
  const auto page = parse_local_claims(R"({"kind":"PersistentVolumeList","items":[
    {"metadata":{"name":"a"},"spec":{"local":{"path":"/x"},"claimRef":{"namespace":"shop","name":"d"}}},
    {"metadata":{"name":"b"},"spec":{"csi":{},"claimRef":{"namespace":"shop","name":"e"}}}]})");
  REQUIRE(page);
  REQUIRE(page->items.size() == 1);
  CHECK(page->items[0].claim == "shop/d");
  CHECK(page->items[0].volume == "a");
}
