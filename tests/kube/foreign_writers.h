// Eight other writers of one node's taints, each with one taint of its own that it rewrites again and again
// in the right way, and checks: if it ever finds its taint other than as it left it, somebody lost or changed
// it. Used by the test and by tools/bench/taint_writers.cpp.
#pragma once

#include <atomic>
#include <string>
#include <thread>
#include <vector>

#include <nlohmann/json.hpp>

#include "agent/kube/client.h"

namespace vedette {

struct ForeignCounts {
  std::atomic<unsigned> writes{0}, conflicts{0}, damaged{0}, errors{0};
};

// One writer: `rounds` rewrites of taint "writer-INDEX.example/round". Odd rounds carry a timeAdded and
// another effect, so that the fields differ as well.
inline void write_foreign_taint(KubeClient client, const std::string& path, unsigned index, unsigned rounds,
                                ForeignCounts& counts) {
  const std::string key = "writer-" + std::to_string(index) + ".example/round";
  nlohmann::json mine;  // as left on the node; null before the first write
  for (unsigned round = 0; round < rounds;) {
    const auto reply = client.get(path);
    const auto node = reply ? nlohmann::json::parse(reply->body, nullptr, false) : nlohmann::json();
    if (!node.is_object() || !node.contains("spec")) {
      ++counts.errors;
      return;
    }
    auto taints = node["spec"].value("taints", nlohmann::json::array());
    nlohmann::json found;
    auto others = nlohmann::json::array();
    for (const auto& taint : taints) {
      if (taint["key"] == key) {
        found = taint;
      } else {
        others.push_back(taint);
      }
    }
    if (found != mine) ++counts.damaged;
    nlohmann::json next = {{"key", key}, {"value", std::to_string(round)}, {"effect", "PreferNoSchedule"}};
    if (round % 2 == 1) {
      next["effect"] = "NoSchedule";
      next["timeAdded"] = "2026-01-02T03:04:05Z";
    }
    others.push_back(next);
    const nlohmann::json body = {{"metadata", {{"resourceVersion", node["metadata"]["resourceVersion"]}}},
                                 {"spec", {{"taints", others}}}};
    const auto written = client.patch(path, PatchType::kStrategic, body.dump());
    if (written && written->status == 200) {
      mine = next;
      ++counts.writes;
      ++round;
    } else if (written && written->status == 409) {
      mine = found;
      ++counts.conflicts;
    } else {
      ++counts.errors;
      return;
    }
  }
}

}  // namespace vedette
