#include "agent/kube/pod_json.h"

#include <doctest/doctest.h>

using namespace vedette;

TEST_CASE("a pod of a Deployment carries the Deployment's name, not the ReplicaSet's") {
  const auto change = parse_pod_change(
      R"({"type":"ADDED","object":{"kind":"Pod","metadata":{"name":"api-6d4cf56db6-x2x2x","namespace":"shop","uid":"u1",
      "resourceVersion":"7","labels":{"pod-template-hash":"6d4cf56db6"},
      "ownerReferences":[{"kind":"ReplicaSet","name":"api-6d4cf56db6","controller":true}]},
      "spec":{"nodeName":"n1","initContainers":[{"name":"migrate","env":[{"name":"A"}]},
      {"name":"proxy","restartPolicy":"Always"}]},
      "status":{"containerStatuses":[{"name":"api","restartCount":3,"containerID":"containerd://abc"},
      {"name":"waiting","restartCount":2},{"name":"odd","restartCount":-1}],
      "initContainerStatuses":[{"name":"migrate","restartCount":1,"containerID":"cri-o://def"},
      {"name":"proxy","containerID":"docker://ghi"}],
      "ephemeralContainerStatuses":[{"name":"debugger","containerID":"containerd://jkl"}]}}})");
  REQUIRE(change);
  CHECK(change->kind == PodChange::Kind::kSet);
  CHECK(change->resource_version == "7");
  CHECK(change->pod.info.workload == "Deployment/api");
  CHECK(change->pod.info.revision == "6d4cf56db6");
  CHECK(change->pod.info.uid == "u1");
  CHECK(change->pod.info.containers == std::vector<PodContainer>{{"abc", "api"},
                                                                 {"def", "init/migrate"},
                                                                 {"ghi", "sidecar/proxy"},
                                                                 {"jkl", "ephemeral/debugger"}});
  CHECK(change->pod.info.restarts == 6);
}

TEST_CASE("a ReplicaSet without the hash in its name, another controller, and none keep their own names") {
  const auto workload = [](const std::string& metadata) {
    const auto change =
        parse_pod_change(R"({"type":"ADDED","object":{"metadata":{"name":"p","uid":"u",)" + metadata + "}}}");
    REQUIRE(change);
    return change->pod.info.workload;
  };
  CHECK(workload(R"("ownerReferences":[{"kind":"ReplicaSet","name":"solo","controller":true}])") ==
        "ReplicaSet/solo");
  CHECK(workload(R"("ownerReferences":[{"kind":"DaemonSet","name":"net","controller":true}])") ==
        "DaemonSet/net");
  CHECK(workload(R"("ownerReferences":[{"kind":"Foo","name":"x"}])") == "Pod/p");
  CHECK(workload(R"("ownerReferences":[{"kind":"Node","name":"n1","controller":true}])") == "Pod/p");
  CHECK(workload(R"("labels":{})") == "Pod/p");
  CHECK(workload(R"("ownerReferences":[{"kind":"Job","name":"backup-29384717","controller":true}])") ==
        "CronJob/backup");
  CHECK(workload(R"("ownerReferences":[{"kind":"Job","name":"import-2024","controller":true}])") ==
        "Job/import-2024");
  CHECK(workload(R"("ownerReferences":[{"kind":"Job","name":"import-20251201","controller":true}])") ==
        "Job/import-20251201");
}

TEST_CASE("a pod whose controller counts no revisions has that of its images") {
  const auto revision = [](const std::string& containers, const std::string& labels = "{}") {
    const auto change =
        parse_pod_change(R"({"type":"ADDED","object":{"metadata":{"name":"p","uid":"u","labels":)" + labels +
                         R"(},"spec":{"containers":)" + containers + "}}}");
    REQUIRE(change);
    return change->pod.info.revision;
  };
  const std::string one = revision(R"([{"name":"a","image":"shop/import:1","args":["x"]}])");
  CHECK_FALSE(one.empty());
  CHECK(revision(R"([{"name":"a","image":"shop/import:1","args":["y"]}])") == one);
  CHECK(revision(R"([{"name":"a","image":"shop/import:2"}])") != one);
  CHECK(revision(R"([{"name":"a","image":"shop/import:1"},{"name":"b","image":"c"}])") != one);
  CHECK(revision(R"([{"name":"a","image":"shop/import:1"}])", R"({"controller-revision-hash":"5"})") == "5");
  CHECK(revision("[]").empty());
  CHECK(revision("7").empty());
}

TEST_CASE("a static pod goes by the hash that stands in its cgroup's path, and no other pod by such a hash") {
  const auto pod = [](const std::string& mirror) {
    const auto change = parse_pod_change(
        R"({"type":"MODIFIED","object":{"metadata":{"name":"etcd-n1","uid":"own","annotations":{)" + mirror +
        R"("kubernetes.io/config.source":"file","kubernetes.io/config.hash":"hash"}}}})");
    REQUIRE(change);
    CHECK(change->pod.uid == "own");
    return change->pod.info.uid;
  };
  CHECK(pod(R"("kubernetes.io/config.mirror":"hash",)") == "hash");
  CHECK(pod("") == "own");
}

TEST_CASE("bookmarks, deletions and errors of a watch are told apart") {
  auto change = parse_pod_change(R"({"type":"BOOKMARK","object":{"metadata":{"resourceVersion":"9"}}})");
  REQUIRE(change);
  CHECK(change->kind == PodChange::Kind::kBookmark);
  CHECK(change->resource_version == "9");
  change = parse_pod_change(R"({"type":"DELETED","object":{"metadata":{"name":"p","uid":"u"}}})");
  REQUIRE(change);
  CHECK(change->kind == PodChange::Kind::kDeleted);
  change = parse_pod_change(R"({"type":"ERROR","object":{"kind":"Status","code":410,"message":"too old"}})");
  REQUIRE(change);
  CHECK(change->code == 410);
  CHECK(change->message == "too old");
}

TEST_CASE("lines and pages that are no such thing are errors") {
  for (const char* line :
       {"", "{", "[]", "null", "7", R"({"type":"ADDED"})", R"({"type":"ADDED","object":[]})",
        R"({"type":"ADDED","object":{"metadata":{"uid":3}}})", R"({"type":"OTHER","object":{}})",
        "{\"type\":\"ADDED\",\"object\":{\"metadata\":{\"uid\":\"\xff\"}}}"}) {
    CHECK_FALSE(parse_pod_change(line));
  }
  for (const char* page : {"", "<html>", "[]", R"({"kind":"Status"})", R"({"kind":"PodList","items":{}})"}) {
    CHECK_FALSE(parse_pod_page(page));
  }
}

TEST_CASE("a page holds its pods, its version and where it goes on") {
  const auto page = parse_pod_page(
      R"({"kind":"PodList","metadata":{"resourceVersion":"5","continue":"more"},"items":[{"metadata":{"name":"p","uid":"u"}},{"metadata":{}},3]})");
  REQUIRE(page);
  CHECK(page->pods.size() == 1);
  CHECK(page->resource_version == "5");
  CHECK(page->continue_token == "more");
  CHECK(parse_pod_page(R"({"kind":"PodList","metadata":{},"items":null})"));
}
