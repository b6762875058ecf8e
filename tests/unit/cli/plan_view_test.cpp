#include <sstream>

#include <doctest/doctest.h>
#include <nlohmann/json.hpp>

#include "exporter/api.pb.h"
#include "tools/cli/format.h"
#include "tools/cli/views.h"

using namespace vedette;

namespace {

api::Response example_plan() {
  api::Response response;
  response.mutable_agent()->set_node("worker-3");
  api::Plan& plan = *response.mutable_plan();
  plan.set_id("0123456789abcdef");
  plan.set_waves(1);
  plan.set_longest_s(90);
  api::PlannedPod& moved = *plan.add_pods();
  moved.set_namespace_("shop");
  moved.set_name("cart-7d9f");
  moved.set_wave(1);
  moved.set_workload("Deployment/cart");
  moved.set_priority(1000);
  moved.set_reason("MemoryExhaustion");
  moved.set_fits("worker-1");
  moved.add_notes("single replica: Deployment/cart is down until it runs elsewhere");
  api::PlannedPod& stays = *plan.add_pods();
  stays.set_namespace_("shop");
  stays.set_name("bare");
  stays.set_workload("Pod/bare");
  stays.set_risk(0.42);
  stays.add_blocks("no controller: once evicted, nothing makes it anew");
  api::PlannedPod& critical = *plan.add_pods();
  critical.set_namespace_("shop");
  critical.set_name("db-0");
  critical.set_workload("StatefulSet/db");
  critical.set_critical(true);
  critical.add_blocks("critical: the policy (policy.critical) says that it may not be moved");
  api::PodNote& left = *plan.add_left_out();
  left.set_pod("kube-system/proxy");
  left.set_text("of a DaemonSet: it belongs to the node");
  return response;
}

}  // namespace

TEST_CASE("a plan shows who goes when and where, who stays and why, who was left out, and how to go on") {
  const std::string text = plan_view(example_plan(), {});
  for (const char* part :
       {"Plan 0123456789abcdef: if worker-3", "moves 1 of 3 pods in 1 wave", "within 90 s", "shop/cart-7d9f",
        "MemoryExhaustion", "worker-1", "single replica", "stays shop/bare", "risk 42 %", "no controller",
        "of Deployment/cart", "of StatefulSet/db", "critical: the policy",
        "kube-system/proxy, of a DaemonSet", "first fit", "--local-data or --force",
        "vedette evacuate --plan 0123456789abcdef"}) {
    INFO(part << "\n" << text);
    CHECK(text.find(part) != std::string::npos);
  }
  std::istringstream lines(text);
  for (std::string line; std::getline(lines, line);) CHECK(text_width(line) <= 80);
}

TEST_CASE("a plan and a step of an evacuation are JSON with the documented fields") {
  const auto plan = nlohmann::json::parse(json_view(example_plan()));
  CHECK(plan["plan"] == "0123456789abcdef");
  CHECK(plan["pods"][0]["fits"] == "worker-1");
  CHECK(plan["pods"][1]["blocks"].size() == 1);
  CHECK(plan["pods"][1]["critical"] == false);
  CHECK(plan["pods"][2]["critical"] == true);
  CHECK(plan["pods"][2]["workload"] == "StatefulSet/db");
  CHECK(plan["left_out"][0]["pod"] == "kube-system/proxy");

  api::Response response;
  api::Evacuation& step = *response.mutable_evacuation();
  step.set_wave(2);
  step.set_waves(3);
  step.set_left(1);
  step.add_waiting()->set_pod("shop/cart");
  CHECK(evacuation_view(response, {}) == "wave 2 of 3, 1 pod left\n  waits shop/cart\n");
  const auto json = nlohmann::json::parse(json_view(response));
  CHECK(json["wave"] == 2);
  CHECK(json["waiting"][0]["pod"] == "shop/cart");
  step.set_wave(0);
  step.clear_waiting();
  CHECK(evacuation_view(response, {}) == "the plan is carried out: all its pods are gone\n");
}
