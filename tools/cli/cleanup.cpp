#include "tools/cli/cleanup.h"

#include <algorithm>
#include <map>
#include <ostream>
#include <utility>
#include <vector>

#include <nlohmann/json.hpp>

#include "agent/kube/lease.h"
#include "agent/kube/node.h"
#include "tools/cli/json_text.h"

namespace vedette {
namespace {

// An agent that lives has written its conditions or its Lease within this time: both are renewed every 5 min.
constexpr WallNs kAliveNs = 900ULL * 1'000'000'000ULL;
constexpr unsigned kMaxConflicts = 16;

// The taint that was removed, "" where there was none; nullopt: there was nothing to do.
Result<std::optional<std::string>> clean(KubeNode& node, bool vouched, bool all) {
  for (unsigned tries = 0; tries < kMaxConflicts; ++tries) {
    const auto found = node.find();
    if (!found) return tl::unexpected(found.error());
    if (!*found) return std::optional<std::string>();
    const NodeState& seen = **found;
    const bool alive = vouched || std::ranges::any_of(seen.our_conditions, [](const auto& condition) {
                         return condition.second.heartbeat_ns + kAliveNs > wall_now();
                       });
    if (alive && !all) return std::optional<std::string>();
    if (seen.our_taints.empty() && seen.our_conditions.empty() && seen.taint_times.empty() &&
        !seen.our_annotations.contains(kVerdictAnnotation)) {
      return std::optional<std::string>();
    }
    std::string taint;
    if (!seen.our_taints.empty()) {
      const auto written = node.write_taint(seen, std::nullopt);
      if (!written) return tl::unexpected(written.error());
      if (!*written) continue;
      taint = seen.our_taints[0].key + "=" + seen.our_taints[0].value;
    }
    if (Status erased = node.erase_traces(seen); !erased) return tl::unexpected(erased.error());
    return std::optional(std::move(taint));
  }
  return fail("node " + node.options().name + ": " + std::to_string(kMaxConflicts) + " conflicts in a row");
}

}  // namespace

Result<bool> run_cleanup(const CleanupOptions& options, bool json, std::ostream& out, std::ostream& err) {
  auto client = KubeClient::make(options.client);
  if (!client) return tl::unexpected(client.error());
  KubeLeases leases(*client, options.namespace_name);
  const auto slots = leases.all();
  if (!slots) return tl::unexpected(slots.error());
  std::map<std::string, bool> vouched;
  for (const SlotLease& slot : *slots) vouched[slot.holder] |= !slot.expired(wall_now());
  const auto names = list_node_names(*client);
  if (!names) return tl::unexpected(names.error());

  // Text is written line by line: a large cluster takes its time.
  nlohmann::json document = {{"nodes", names->size()},
                             {"cleaned", nlohmann::json::array()},
                             {"leases", nlohmann::json::array()},
                             {"failures", nlohmann::json::array()}};
  const auto failed = [&](const std::string& why) {
    err << "vedette: " << why << "\n";
    document["failures"].push_back(why);
  };
  for (const std::string& name : *names) {
    KubeNodeOptions node_options;
    node_options.name = name;
    KubeNode node(*client, node_options);
    const auto done = clean(node, vouched[name], options.all);
    if (!done) {
      failed(done.error().text);
    } else if (*done) {
      document["cleaned"].push_back({{"node", name}, {"taint", **done}});
      const std::string taint = (*done)->empty() ? "" : " taint " + **done + " removed,";
      if (!json) out << name << ":" << taint << " conditions and annotations removed\n";
    }
  }
  // As act/taint_budget.h demands of whoever frees a slot: the node is read after the Lease, has no taint,
  // and is not at the version that a patch under way could still replace.
  for (const SlotLease& slot : *slots) {
    if (!options.all && !slot.expired(wall_now())) continue;
    KubeNodeOptions node_options;
    node_options.name = slot.holder;
    const auto seen = KubeNode(*client, node_options).find();
    if (seen && *seen && (!(*seen)->our_taints.empty() || (*seen)->resource_version == slot.node_version))
      continue;
    const auto gone = seen ? leases.remove(slot) : Result<bool>(tl::unexpected(seen.error()));
    if (!gone) {
      failed(gone.error().text);
    } else if (*gone) {
      document["leases"].push_back({{"name", slot.name}, {"holder", slot.holder}});
      if (!json) out << "lease " << slot.name << " of " << slot.holder << " removed\n";
    }
  }
  if (json) {
    out << json_text(document);
  } else {
    out << document["cleaned"].size() << " of " << names->size() << " nodes cleaned, "
        << document["leases"].size() << " leases removed\n";
  }
  return document["failures"].empty();
}

}  // namespace vedette
