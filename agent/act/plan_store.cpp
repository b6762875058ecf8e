#include "agent/act/plan_store.h"

#include <algorithm>
#include <cstdio>
#include <utility>

#include <nlohmann/json.hpp>
#include <spdlog/spdlog.h>

#include "agent/act/kept_json.h"
#include "agent/base/kept_text.h"

namespace vedette {
namespace {

using nlohmann::json;

// Of the file. Fields that are added keep it, for an older agent does not look at them; any other change is a
// new one.
constexpr std::uint64_t kPlansFormat = 1;
// An evacuation may be resumed after others have looked at plans of their own.
constexpr std::size_t kMaxPlans = 32;
// 32 plans of 1000 pods; the oldest are dropped beyond it.
constexpr std::size_t kMaxPlansBytes = std::size_t{8} << 20;

json json_of(const Plan& plan) {
  json pods = json::array();
  for (const PlannedPod& pod : plan.pods) {
    json entry = {
        {"uid", pod.uid}, {"namespace", pod.namespace_name}, {"name", pod.name}, {"wave", pod.wave}};
    if (!pod.blocks.empty()) entry["stays"] = pod.blocks.front();
    pods.push_back(std::move(entry));
  }
  return {{"id", plan.id},
          {"local_data", plan.options.local_data},
          {"force", plan.options.force},
          {"waves", plan.waves},
          {"pods", std::move(pods)}};
}

Plan plan_of(const KeptJson& entry, const std::string& node) {
  Plan plan;
  plan.id = entry.text("id");
  plan.node = node;
  plan.options = {entry.flag("local_data"), entry.flag("force")};
  plan.waves = entry.number("waves");
  for (const KeptJson& kept : entry.list("pods")) {
    PlannedPod pod;
    pod.uid = kept.text("uid");
    pod.namespace_name = kept.text("namespace");
    pod.name = kept.text("name");
    pod.wave = kept.number("wave");
    if (pod.wave == 0) pod.blocks.push_back(kept.text("stays"));
    plan.pods.push_back(std::move(pod));
  }
  return plan;
}

}  // namespace

PlanStore::PlanStore(std::string file, std::string node) : file_(std::move(file)), node_(std::move(node)) {
  if (file_.empty()) return;
  const Status known = read();
  if (known) return;
  plans_.clear();
  const std::string aside = file_ + ".damaged";
  const bool kept = std::rename(file_.c_str(), aside.c_str()) == 0;
  spdlog::warn("plans of `vedette plan` are forgotten, make a new one: {}; {}", known.error().text,
               kept ? "kept as " + aside : fail_errno("rename it to " + aside).value().text);
}

Status PlanStore::read() {
  const auto text = read_kept_text(file_, kMaxPlansBytes);
  if (!text) return tl::unexpected(text.error());
  if (!*text) return {};
  const json root = json::parse(**text, nullptr, false);
  std::string error;
  const KeptJson kept(root, "", error);
  kept.expect(kept.number("format") == kPlansFormat, "format", std::to_string(kPlansFormat));
  // Of a node that had another name: its pods are none of ours.
  if (kept.text("node") != node_ && error.empty()) return {};
  for (const KeptJson& entry : kept.list("plans")) plans_.push_back(plan_of(entry, node_));
  if (plans_.size() > kMaxPlans) plans_.resize(kMaxPlans);
  return error.empty() ? Status{} : fail(file_ + ": " + error);
}

const Plan* PlanStore::find(const std::string& id) const {
  const auto found = std::ranges::find(plans_, id, &Plan::id);
  return found == plans_.end() ? nullptr : &*found;
}

Status PlanStore::add(Plan plan) {
  std::erase_if(plans_, [&](const Plan& known) { return known.id == plan.id; });
  plans_.push_front(std::move(plan));
  if (plans_.size() > kMaxPlans) plans_.pop_back();
  if (file_.empty()) return {};
  json root = {{"format", kPlansFormat}, {"node", node_}, {"plans", json::array()}};
  for (const Plan& known : plans_) root["plans"].push_back(json_of(known));
  for (;;) {
    const std::string text = root.dump(1, ' ', false, json::error_handler_t::replace) + "\n";
    json& list = root["plans"];
    if (text.size() <= kMaxPlansBytes || list.empty()) return replace_kept_text(file_, text);
    list.erase(list.size() - 1);
  }
}

}  // namespace vedette
