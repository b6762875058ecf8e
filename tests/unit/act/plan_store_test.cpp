#include "agent/act/plan_store.h"

#include <filesystem>
#include <fstream>
#include <iterator>

#include <doctest/doctest.h>

#include "tests/unit/temporary_folder.h"

using namespace vedette;

namespace {

Plan plan(const std::string& id) {
  Plan made;
  made.id = id;
  made.node = "n1";
  made.options = {true, false};
  made.waves = 1;
  made.pods.resize(2);
  made.pods[0].uid = "u1";
  made.pods[0].namespace_name = "shop";
  made.pods[0].name = "cart";
  made.pods[0].wave = 1;
  made.pods[1] = made.pods[0];
  made.pods[1].uid = "u2";
  made.pods[1].wave = 0;
  made.pods[1].blocks = {"local data", "fits nowhere"};
  return made;
}

std::string text_of(const std::string& file) {
  std::ifstream stream(file);
  return {std::istreambuf_iterator<char>(stream), {}};
}

}  // namespace

TEST_CASE("a plan is known to the next agent on this node, with all that carrying it out takes") {
  const TemporaryFolder folder;
  const std::string file = folder.file("plans.json");
  REQUIRE(PlanStore(file, "n1").add(plan("a")));
  const PlanStore again(file, "n1");
  const Plan* known = again.find("a");
  REQUIRE(known != nullptr);
  CHECK(known->options == PlanOptions{true, false});
  CHECK(known->waves == 1);
  REQUIRE(known->pods.size() == 2);
  CHECK(known->pods[0].uid == "u1");
  CHECK(known->pods[0].namespace_name == "shop");
  CHECK(known->pods[0].name == "cart");
  CHECK(known->pods[0].wave == 1);
  CHECK(known->pods[1].wave == 0);
  CHECK(known->pods[1].blocks.front() == "local data");
  CHECK(PlanStore(file, "n2").find("a") == nullptr);
  CHECK(again.find("b") == nullptr);
}

TEST_CASE("plans beyond the last 32 are forgotten, and one that is made again is the newest") {
  const TemporaryFolder folder;
  const std::string file = folder.file("plans.json");
  PlanStore store(file, "n1");
  for (int i = 0; i < 32; ++i) REQUIRE(store.add(plan(std::to_string(i))));
  REQUIRE(store.add(plan("0")));
  REQUIRE(store.add(plan("new")));
  const PlanStore again(file, "n1");
  CHECK(again.find("0") != nullptr);
  CHECK(again.find("new") != nullptr);
  CHECK(again.find("1") == nullptr);
  CHECK(again.find("2") != nullptr);
}

TEST_CASE(
    "a file of plans that is damaged or of a newer format is set aside, what is only new in it is not read") {
  const TemporaryFolder folder;
  const std::string file = folder.file("plans.json");
  REQUIRE(PlanStore(file, "n1").add(plan("a")));
  const std::string whole = text_of(file);
  const auto with = [&](const std::string& old, const std::string& now) {
    std::string text = whole;
    text.replace(text.find(old), old.size(), now);
    std::ofstream(file) << text;
  };
  with("\"wave\": 1", "\"mood\": [], \"wave\": 1");
  CHECK(PlanStore(file, "n1").find("a") != nullptr);
  const auto is_set_aside = [&] {
    std::filesystem::remove(file + ".damaged");
    const bool known = PlanStore(file, "n1").find("a") != nullptr;
    return !known && std::filesystem::exists(file + ".damaged") && !std::filesystem::exists(file);
  };
  with("\"format\": 1", "\"format\": 2");
  CHECK(is_set_aside());
  with("\"wave\": 1", "\"wave\": -1");
  CHECK(is_set_aside());
  std::ofstream(file) << whole.substr(0, whole.size() / 2);
  CHECK(is_set_aside());
  std::ofstream(file) << "";
  CHECK(is_set_aside());
  PlanStore store(file, "n1");
  CHECK(store.add(plan("b")));
  CHECK(PlanStore(file, "n1").find("b") != nullptr);
}

TEST_CASE("a plan that cannot be kept is still carried out by the agent that made it") {
  PlanStore store("/proc/no/plans.json", "n1");
  const Status kept = store.add(plan("a"));
  REQUIRE_FALSE(kept);
  CHECK(kept.error().text.find("/proc/no/plans.json.new") != std::string::npos);
  CHECK(store.find("a") != nullptr);
}
