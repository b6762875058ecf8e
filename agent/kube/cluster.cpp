#include "agent/kube/cluster.h"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <functional>
#include <limits>
#include <set>

#include <nlohmann/json.hpp>

#include "agent/kube/json_read.h"
#include "agent/kube/pod_json.h"

namespace vedette {
namespace {

using nlohmann::json;

// What no plan reads, and is most of the bytes of a list. Keys of an item's metadata, spec and status stand
// at depth 4, those of a container at 6; labels, where "env" is a name like any other, at 5.
bool wanted(int depth, json::parse_event_t event, json& value) {
  static const std::set<std::string, std::less<>> unread{
      "managedFields", "affinity",       "containerStatuses", "images",  "env",
      "envFrom",       "volumeMounts",   "lifecycle",         "command", "args",
      "livenessProbe", "readinessProbe", "startupProbe"};
  return event != json::parse_event_t::key || (depth != 4 && depth != 6) ||
         !unread.contains(value.get_ref<const std::string&>());
}

std::int64_t number_at(const json& object, const char* key, std::int64_t otherwise = 0) {
  const json& value = child(object, key);
  return value.is_number_integer() ? value.get<std::int64_t>() : otherwise;
}

std::map<std::string, std::string> texts_of(const json& object) {
  std::map<std::string, std::string> texts;
  if (!object.is_object()) return texts;
  for (const auto& [key, value] : object.items()) {
    if (value.is_string()) texts[key] = value.get<std::string>();
  }
  return texts;
}

// An absent list is an empty one.
const json::array_t& list_at(const json& object, const char* key) {
  static const json::array_t none;
  const json& list = child(object, key);
  return list.is_array() ? list.get_ref<const json::array_t&>() : none;
}

Resources resources_of(const json& object) {
  Resources resources;
  for (const auto& [name, text] : texts_of(object)) {
    if (const auto amount = parse_quantity(text)) resources[name] = *amount;
  }
  return resources;
}

void raise(Resources& highest, const Resources& other) {
  for (const auto& [name, amount] : other) highest[name] = std::max(highest[name], amount);
}

// What the scheduler reserves (KEP 753): all containers and sidecars together, or the moment of an init
// container with the sidecars before it, whichever is more; a request of the pod as a whole stands above.
Resources requests_of(const json& spec) {
  const auto requests = [](const json& holder) {
    return resources_of(child(child(holder, "resources"), "requests"));
  };
  Resources running;
  Resources starting;
  Resources sidecars;
  for (const json& container : list_at(spec, "containers")) add(running, requests(container));
  for (const json& init : list_at(spec, "initContainers")) {
    Resources moment = sidecars;
    add(moment, requests(init));
    if (text_at(init, "restartPolicy") == "Always") sidecars = moment;
    raise(starting, moment);
  }
  add(running, sidecars);
  raise(running, starting);
  for (const auto& [name, amount] : requests(spec)) running[name] = amount;
  add(running, resources_of(child(spec, "overhead")));
  running["pods"] = 1000;
  return running;
}

void read_volumes(const json& spec, ClusterPod& pod) {
  for (const json& volume : list_at(spec, "volumes")) {
    const std::string name = text_at(volume, "name");
    if (volume.contains("emptyDir")) pod.local_volumes.push_back({"emptyDir", name});
    if (volume.contains("hostPath")) {
      pod.local_volumes.push_back({"hostPath", text_at(child(volume, "hostPath"), "path")});
    }
    if (volume.contains("persistentVolumeClaim")) {
      pod.claims.push_back(text_at(child(volume, "persistentVolumeClaim"), "claimName"));
    }
    if (volume.contains("ephemeral")) pod.claims.push_back(std::string(pod.name).append("-").append(name));
  }
}

ClusterPod parse_pod(const json& object) {
  const json& metadata = child(object, "metadata");
  const json& spec = child(object, "spec");
  ClusterPod pod;
  pod.uid = text_at(metadata, "uid");
  pod.namespace_name = text_at(metadata, "namespace");
  pod.name = text_at(metadata, "name");
  pod.node = text_at(spec, "nodeName");
  pod.workload = workload_of(metadata);
  for (const json& owner : list_at(metadata, "ownerReferences")) {
    const std::string kind = text_at(owner, "kind");
    if (!true_at(owner, "controller") || kind == "Node") continue;
    pod.controller = text_at(owner, "uid");
    pod.daemon = kind == "DaemonSet";
  }
  pod.mirror = child(metadata, "annotations").is_object() &&
               child(metadata, "annotations").contains("kubernetes.io/config.mirror");
  const std::string phase = text_at(child(object, "status"), "phase");
  pod.finished = phase == "Succeeded" || phase == "Failed";
  pod.terminating = !text_at(metadata, "deletionTimestamp").empty();
  pod.priority = number_at(spec, "priority");
  pod.grace = std::chrono::seconds(number_at(spec, "terminationGracePeriodSeconds", pod.grace.count()));
  pod.labels = texts_of(child(metadata, "labels"));
  pod.node_selector = texts_of(child(spec, "nodeSelector"));
  for (const json& toleration : list_at(spec, "tolerations")) {
    pod.tolerations.push_back({text_at(toleration, "key"), text_at(toleration, "operator"),
                               text_at(toleration, "value"), text_at(toleration, "effect")});
  }
  read_volumes(spec, pod);
  pod.requests = requests_of(spec);
  return pod;
}

DisruptionBudget parse_budget(const json& object) {
  DisruptionBudget budget;
  budget.namespace_name = text_at(child(object, "metadata"), "namespace");
  budget.name = text_at(child(object, "metadata"), "name");
  const json& selector = child(child(object, "spec"), "selector");
  if (selector.is_object()) {
    budget.selector.emplace();
    for (const auto& [key, value] : texts_of(child(selector, "matchLabels"))) {
      budget.selector->push_back({key, "In", {value}});
    }
    for (const json& expression : list_at(selector, "matchExpressions")) {
      SelectorTerm term{text_at(expression, "key"), text_at(expression, "operator"), {}};
      for (const json& value : list_at(expression, "values")) {
        if (value.is_string()) term.values.push_back(value.get<std::string>());
      }
      budget.selector->push_back(std::move(term));
    }
  }
  const json& status = child(object, "status");
  budget.allowed = number_at(status, "disruptionsAllowed");
  budget.desired = number_at(status, "desiredHealthy");
  budget.expected = number_at(status, "expectedPods");
  return budget;
}

ClusterNode parse_node(const json& object) {
  const json& spec = child(object, "spec");
  const json& status = child(object, "status");
  ClusterNode node;
  node.name = text_at(child(object, "metadata"), "name");
  node.labels = texts_of(child(child(object, "metadata"), "labels"));
  node.unschedulable = true_at(spec, "unschedulable");
  for (const json& taint : list_at(spec, "taints")) {
    node.taints.push_back({text_at(taint, "key"), text_at(taint, "value"), text_at(taint, "effect"), ""});
  }
  for (const json& condition : list_at(status, "conditions")) {
    if (text_at(condition, "type") == "Ready") node.ready = text_at(condition, "status") == "True";
  }
  node.allocatable = resources_of(child(status, "allocatable"));
  return node;
}

// `parse_item` gives an Item, or an optional one where not every object counts.
template <typename Item, typename Parse>
Result<Page<Item>> parse_page(std::string_view body, const char* kind, const Parse& parse_item,
                              const json::parser_callback_t& filter = nullptr) {
  const json list = json::parse(body, filter, false);
  if (text_at(list, "kind") != kind) {
    return fail("the answer is not a " + std::string(kind) + " (" + std::to_string(body.size()) + " bytes)");
  }
  Page<Item> page;
  page.continue_token = text_at(child(list, "metadata"), "continue");
  for (const json& object : list_at(list, "items")) {
    if (std::optional<Item> item = parse_item(object)) page.items.push_back(std::move(*item));
  }
  return page;
}

}  // namespace

bool selects(const DisruptionBudget& budget, const ClusterPod& pod) {
  if (!budget.selector || budget.namespace_name != pod.namespace_name) return false;
  return std::all_of(budget.selector->begin(), budget.selector->end(), [&](const SelectorTerm& term) {
    const auto label = pod.labels.find(term.key);
    const bool there = label != pod.labels.end();
    const bool listed = there && std::count(term.values.begin(), term.values.end(), label->second) > 0;
    if (term.op == "In") return listed;
    if (term.op == "NotIn") return !listed;
    if (term.op == "Exists") return there;
    return term.op == "DoesNotExist" && !there;
  });
}

bool tolerates(const ClusterPod& pod, const Taint& taint) {
  return std::any_of(pod.tolerations.begin(), pod.tolerations.end(), [&](const Toleration& toleration) {
    if (!toleration.effect.empty() && toleration.effect != taint.effect) return false;
    if (toleration.op == "Exists") return toleration.key.empty() || toleration.key == taint.key;
    return (toleration.op.empty() || toleration.op == "Equal") && toleration.key == taint.key &&
           toleration.value == taint.value;
  });
}

void add(Resources& sum, const Resources& more) {
  for (const auto& [name, amount] : more) {
    std::int64_t& total = sum[name];
    if (__builtin_add_overflow(total, amount, &total)) total = std::numeric_limits<std::int64_t>::max();
  }
}

std::optional<std::int64_t> parse_quantity(std::string_view text) {
  double number = 0;
  const auto [end, error] =
      std::from_chars(text.data(), text.data() + text.size(), number, std::chars_format::fixed);
  if (error != std::errc()) return std::nullopt;
  const std::string_view suffix(end, static_cast<std::size_t>(text.data() + text.size() - end));
  static const std::map<std::string_view, double> factors{
      {"n", 1e-9},    {"u", 1e-6},    {"m", 1e-3},    {"", 1},       {"k", 1e3},     {"M", 1e6},
      {"G", 1e9},     {"T", 1e12},    {"P", 1e15},    {"E", 1e18},   {"Ki", 0x1p10}, {"Mi", 0x1p20},
      {"Gi", 0x1p30}, {"Ti", 0x1p40}, {"Pi", 0x1p50}, {"Ei", 0x1p60}};
  if (const auto factor = factors.find(suffix); factor != factors.end()) {
    number *= factor->second;
  } else {
    int exponent = 0;
    std::string_view digits = suffix.substr(1);
    if (digits.starts_with('+')) digits.remove_prefix(1);
    const auto parsed = std::from_chars(digits.data(), digits.data() + digits.size(), exponent);
    if ((suffix[0] != 'e' && suffix[0] != 'E') || parsed.ec != std::errc() ||
        parsed.ptr != digits.data() + digits.size()) {
      return std::nullopt;
    }
    number *= std::pow(10.0, exponent);
  }
  // A hair less than the sum of rounding: .1 cores are 100 thousandths, not 101.
  const double thousandths = std::ceil(number * 1000 - 1e-6);
  constexpr double kMost = 9.2e18;  // still below the largest int64
  if (!(thousandths < kMost)) return std::numeric_limits<std::int64_t>::max();
  return static_cast<std::int64_t>(thousandths);
}

Result<Page<ClusterPod>> parse_cluster_pods(std::string_view body) {
  return parse_page<ClusterPod>(body, "PodList", parse_pod, wanted);
}
Result<Page<DisruptionBudget>> parse_budgets(std::string_view body) {
  return parse_page<DisruptionBudget>(body, "PodDisruptionBudgetList", parse_budget);
}
Result<Page<ClusterNode>> parse_cluster_nodes(std::string_view body) {
  return parse_page<ClusterNode>(body, "NodeList", parse_node, wanted);
}
Result<Page<LocalClaim>> parse_local_claims(std::string_view body) {
  return parse_page<LocalClaim>(
      body, "PersistentVolumeList", [](const json& volume) -> std::optional<LocalClaim> {
        const json& spec = child(volume, "spec");
        if (!child(spec, "local").is_object() && !child(spec, "hostPath").is_object()) return std::nullopt;
        const json& claim = child(spec, "claimRef");
        return LocalClaim{text_at(claim, "namespace") + "/" + text_at(claim, "name"),
                          text_at(child(volume, "metadata"), "name")};
      });
}
Result<ClusterNode> parse_cluster_node(std::string_view body) {
  const json object = json::parse(body, nullptr, false);
  if (text_at(object, "kind") != "Node") return fail("the answer is not a Node object");
  return parse_node(object);
}

}  // namespace vedette
