#include "agent/pods/pod_table.h"

#include <string>

#include <doctest/doctest.h>

#include "tests/unit/pods/example_ids.h"
#include "tests/unit/second.h"

namespace vedette {
namespace {

const std::string kPod = "/kubepods/burstable/pod" + kUid;

PodList one_pod(const std::string& name = "api-7d4b9-x2x4z") {
  return {{PodInfo{kUid, "shop", name, "Deployment/api", {{kC1, "api"}, {kC2, "sidecar/proxy"}}}}};
}

TEST_CASE("All containers of a pod are one entity, which is renamed in place when the API names it") {
  PodTable table;
  const auto first = table.add(10, kPod, 0);
  const auto second = table.add(11, kPod + "/" + kC1, 0);
  const auto third = table.add(12, kPod + "/" + kC2, 0);
  REQUIRE(first != nullptr);
  CHECK(first->name == "pod/uid/" + kUid);
  CHECK(first->kind == EntityKind::kPod);
  CHECK(first->id == second->id);
  CHECK(first->id == third->id);
  CHECK(first->id != kNodeEntity);

  const auto before = table.version();
  table.set_pods(one_pod());
  CHECK(table.version() > before);
  const auto named = table.find(11);
  CHECK(named != first);
  CHECK(named->id == first->id);
  CHECK(named->name == "pod/shop/api-7d4b9-x2x4z");
  CHECK(named->namespace_name == "shop");
  CHECK(named->pod_name == "api-7d4b9-x2x4z");
  CHECK(named->workload == "Deployment/api");
  CHECK(named->uid == kUid);
  CHECK(first->name == "pod/uid/" + kUid);

  table.set_pods(one_pod());
  CHECK(table.find(11) == named);
  table.set_pods({});
  CHECK(table.find(11)->name == "pod/shop/api-7d4b9-x2x4z");
}

TEST_CASE("A pod known to the API before its first cgroup is named at once") {
  PodTable table;
  table.set_pods(one_pod());
  CHECK(table.add(10, kPod + "/" + kC1, 0)->name == "pod/shop/api-7d4b9-x2x4z");
}

TEST_CASE("Containers without the pod's uid in their path join the pod that the API says") {
  PodTable table;
  const auto early = table.add(10, "/default/" + kC1, 0);
  CHECK(early->name == "container/3f4e1c0a9b8d");
  CHECK(early->uid == kC1);
  table.set_pods(one_pod());
  const auto late = table.add(11, "/default/" + kC2, 0);
  CHECK(late->name == "pod/shop/api-7d4b9-x2x4z");
  CHECK(table.find(10) == late);
  REQUIRE(table.living().size() == 1);
  CHECK(table.living()[0].roots.size() == 2);
  CHECK(table.entity(early->id) == nullptr);
}

TEST_CASE(
    "A container is named when the API tells, keeps its name when it is dead, and passes it to no other") {
  PodTable table;
  table.add(10, kPod + "/" + kC1, 0);
  CHECK(table.container_name(10).empty());
  table.set_pods(one_pod());
  CHECK(table.container_name(10) == "api");
  table.add(11, kPod + "/" + kC2, 0);
  CHECK(table.container_name(11) == "sidecar/proxy");
  table.remove(10, kSecond);
  table.set_pods({});  // the pod is gone from the API too
  CHECK(table.container_name(10) == "api");
  CHECK(table.find(10)->name == "pod/shop/api-7d4b9-x2x4z");

  // The id comes back for another cgroup: nothing of the old one holds.
  CHECK(table.add(10, "/system.slice/cron.service", 2 * kSecond)->name == "unit/cron.service");
  CHECK(table.container_name(10).empty());
}

TEST_CASE("A directory's name finds who is in it, unless it is several's or nobody's") {
  PodTable table;
  table.set_pods(one_pod());
  table.add(10, kPod + "/" + kC1, 0);
  const auto unit = table.add(20, "/system.slice/cron.service", 0);
  CHECK(table.find_directory(kC1)->name == "pod/shop/api-7d4b9-x2x4z");
  CHECK(table.find_directory("cron.service") == unit);
  CHECK(table.find_directory("system.slice") == nullptr);
  CHECK(table.find_directory("/") == nullptr);
  CHECK(table.find_directory("") == nullptr);
  table.add(21, "/user.slice/cron.service", 0);
  CHECK(table.find_directory("cron.service") == nullptr);
  table.remove(20, kSecond);
  CHECK(table.find_directory("cron.service") == table.find(21));
  table.remove(10, kSecond);
  CHECK(table.find_directory(kC1)->name == "pod/shop/api-7d4b9-x2x4z");
}

TEST_CASE("A pod's restarts are those since the first list, and all of a pod that came later") {
  PodTable table;
  const auto pod = table.add(10, kPod + "/" + kC1, 0);
  const auto unit = table.add(20, "/system.slice/cron.service", 0);
  CHECK_FALSE(table.restarts(pod->id));
  auto list = one_pod();
  list.pods[0].restarts = 4;
  table.set_pods(list);
  CHECK(table.restarts(pod->id) == 0);
  CHECK_FALSE(table.restarts(unit->id));
  CHECK_FALSE(table.restarts(kNodeEntity));
  list.pods[0].restarts = 6;
  table.set_pods(list);
  CHECK(table.restarts(pod->id) == 2);
  table.set_pods({});
  CHECK_FALSE(table.restarts(pod->id));
  table.set_pods(list);
  CHECK(table.restarts(pod->id) == 2);  // the mirror of a static pod, made again
  const auto later = table.add(11, "/kubepods/pod" + kOtherUid, 0);
  list.pods[0].uid = kOtherUid;
  table.set_pods(list);
  CHECK(table.restarts(later->id) == 6);
}

TEST_CASE("The root and grouping directories belong to the node") {
  PodTable table;
  CHECK(table.add(1, "/", 0)->id == kNodeEntity);
  CHECK(table.add(2, "/kubepods", 0)->id == kNodeEntity);
  CHECK(table.living().empty());
  CHECK(table.find(3) == nullptr);
}

TEST_CASE("A dead cgroup keeps its name for 60 s, and no longer") {
  PodTable table;
  const auto unit = table.add(20, "/system.slice/cron.service", 0);
  CHECK(unit->name == "unit/cron.service");
  table.remove(20, 5 * kSecond);
  table.expire(65 * kSecond);
  REQUIRE(table.find(20) != nullptr);
  CHECK(table.find(20)->name == "unit/cron.service");
  CHECK(table.living().empty());
  table.expire(65 * kSecond + 1);
  CHECK(table.find(20) == nullptr);
  CHECK(table.entity(unit->id) == nullptr);
  CHECK(table.add(21, "/system.slice/cron.service", 66 * kSecond)->id != unit->id);
}

TEST_CASE("A reused path with a new id does not take the old id's place") {
  PodTable table;
  const auto first = table.add(30, "/job", 0);
  const auto second = table.add(31, "/job", kSecond);
  CHECK(first->name == "cgroup/job");
  CHECK(second->id == first->id);
  REQUIRE(table.living().size() == 1);
  CHECK(table.living()[0].members.size() == 1);

  // An id whose path changed is not what it was.
  const auto moved = table.add(31, "/kubepods/pod" + kUid, 2 * kSecond);
  CHECK(moved->name == "pod/uid/" + kUid);
  CHECK(table.find(31) == moved);
  CHECK(table.find(30)->name == "cgroup/job");
}

TEST_CASE("A unit restarted within the minute stays the same entity") {
  PodTable table;
  const auto before = table.add(40, "/system.slice/api.service", 0);
  table.remove(40, kSecond);
  const auto after = table.add(41, "/system.slice/api.service", 2 * kSecond);
  CHECK(after->id == before->id);
  table.expire(70 * kSecond);
  CHECK(table.find(40) == nullptr);
  CHECK(table.find(41) == after);
}

TEST_CASE(
    "Who was started again is told by the directory of a unit or a container that comes after one went") {
  PodTable table;
  CHECK(table.add(10, "/system.slice/nginx.service", 0)->restarts == 0);
  CHECK(table.add(11, "/system.slice/nginx.service/worker", 0)->restarts == 0);
  table.remove(11, 1);
  CHECK(table.add(12, "/system.slice/nginx.service/worker", 2)->restarts == 0);  // a part of it
  table.remove(12, 3);
  table.remove(10, 3);
  CHECK(table.add(13, "/system.slice/nginx.service", 3)->restarts == 1);
  CHECK(table.add(14, "/system.slice/nginx.service", 4)->restarts == 2);  // its end was not seen
  CHECK(table.find(13)->restarts == 2);

  const auto first = table.add(20, kPod, 0);
  table.add(21, kPod + "/" + kC1, 0);
  CHECK(table.add(22, kPod + "/" + kC2, 0)->restarts == 0);
  CHECK(table.add(23, kPod + "/" + kC2 + "/inner", 0)->restarts == 0);
  table.remove(23, 1);
  CHECK(table.add(24, kPod + "/" + kC2 + "/inner", 2)->restarts == 0);
  table.remove(21, 5 * kSecond);
  table.expire(100 * kSecond);
  table.set_pods(one_pod());
  const std::string again(64, '7');
  CHECK(table.add(25, kPod + "/" + again, 200 * kSecond)->restarts ==
        1);  // a kubelet waits longer and longer
  CHECK(table.find(22)->id == first->id);
  table.set_pods(one_pod("renamed"));
  CHECK(table.find(22)->restarts == 1);
}

TEST_CASE("The number of remembered dead is bounded, oldest first") {
  PodTable table({.max_dead = 2});
  for (CgroupId id = 1; id <= 3; ++id) {
    table.add(id, "/job" + std::to_string(id), 0);
    table.remove(id, 0);
  }
  CHECK(table.find(1) == nullptr);
  CHECK(table.find(2) != nullptr);
  CHECK(table.find(3) != nullptr);
}

TEST_CASE("Units of one name in two places have two names") {
  PodTable table;
  CHECK(table.add(1, "/system.slice/ssh.service", 0)->name == "unit/ssh.service");
  CHECK(table.add(2, "/lxc/box/system.slice/ssh.service", 0)->name ==
        "unit/lxc/box/system.slice/ssh.service");
}

}  // namespace
}  // namespace vedette
