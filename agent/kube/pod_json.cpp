#include "agent/kube/pod_json.h"

#include <nlohmann/json.hpp>

namespace vedette {
namespace {

using nlohmann::json;

// Two thirds of a pod's JSON that nothing here reads; not building it keeps a page's memory small.
bool wanted(int /*depth*/, json::parse_event_t event, json& value) {
  if (event != json::parse_event_t::key) return true;
  const auto& key = value.get_ref<const std::string&>();
  return key != "managedFields" && key != "spec" && key != "conditions";
}

json parse(std::string_view text) {
  return json::parse(text, wanted, false);
}

const json& child(const json& object, const char* key) {
  static const json nothing;
  if (!object.is_object()) return nothing;
  const auto found = object.find(key);
  return found == object.end() ? nothing : *found;
}

std::string text_at(const json& object, const char* key) {
  const json& value = child(object, key);
  return value.is_string() ? value.get<std::string>() : std::string();
}

std::string workload_of(const json& metadata) {
  const json& owners = child(metadata, "ownerReferences");
  if (owners.is_array()) {
    for (const json& owner : owners) {
      const json& controller = child(owner, "controller");
      const std::string kind = text_at(owner, "kind");
      const std::string name = text_at(owner, "name");
      // A static pod's mirror is owned by its Node.
      if (!controller.is_boolean() || !controller.get<bool>() || kind.empty() || kind == "Node") continue;
      const std::string hash = text_at(child(metadata, "labels"), "pod-template-hash");
      const std::string suffix = "-" + hash;
      if (kind == "ReplicaSet" && !hash.empty() && name.size() > suffix.size() && name.ends_with(suffix)) {
        return "Deployment/" + name.substr(0, name.size() - suffix.size());
      }
      return std::string(kind).append("/").append(name);
    }
  }
  return "Pod/" + text_at(metadata, "name");
}

WatchedPod parse_pod(const json& object) {
  const json& metadata = child(object, "metadata");
  WatchedPod pod;
  pod.uid = text_at(metadata, "uid");
  const std::string hash = text_at(child(metadata, "annotations"), "kubernetes.io/config.hash");
  pod.info.uid = hash.empty() ? pod.uid : hash;
  pod.info.namespace_name = text_at(metadata, "namespace");
  pod.info.name = text_at(metadata, "name");
  pod.info.workload = workload_of(metadata);
  for (const char* list : {"containerStatuses", "initContainerStatuses", "ephemeralContainerStatuses"}) {
    const json& statuses = child(child(object, "status"), list);
    if (!statuses.is_array()) continue;
    for (const json& status : statuses) {
      const std::string id = text_at(status, "containerID");  // "containerd://0123…"
      const std::size_t scheme = id.find("://");
      if (scheme != std::string::npos) pod.info.container_ids.push_back(id.substr(scheme + 3));
    }
  }
  return pod;
}

}  // namespace

Result<PodPage> parse_pod_page(std::string_view body) {
  const json list = parse(body);
  const json& items = child(list, "items");
  if (text_at(list, "kind") != "PodList" || (!items.is_array() && !items.is_null())) {
    return fail("list of pods: the answer is not a PodList (" + std::to_string(body.size()) + " bytes)");
  }
  PodPage page;
  page.resource_version = text_at(child(list, "metadata"), "resourceVersion");
  page.continue_token = text_at(child(list, "metadata"), "continue");
  for (const json& item : items) {
    WatchedPod pod = parse_pod(item);
    if (!pod.uid.empty()) page.pods.push_back(std::move(pod));
  }
  return page;
}

Result<PodChange> parse_pod_change(std::string_view line) {
  const json event = parse(line);
  const std::string type = text_at(event, "type");
  const json& object = child(event, "object");
  PodChange change;
  if (type == "ERROR") {
    change.kind = PodChange::Kind::kError;
    const json& code = child(object, "code");
    change.code = code.is_number_integer() ? code.get<long>() : 0;
    change.message = text_at(object, "message");
    return change;
  }
  change.resource_version = text_at(child(object, "metadata"), "resourceVersion");
  if (type == "BOOKMARK") return change;
  if (type != "ADDED" && type != "MODIFIED" && type != "DELETED") {
    return fail("watch of pods: a line of " + std::to_string(line.size()) + " bytes is no watch event");
  }
  change.kind = type == "DELETED" ? PodChange::Kind::kDeleted : PodChange::Kind::kSet;
  change.pod = parse_pod(object);
  if (change.pod.uid.empty()) return fail("watch of pods: an event of type " + type + " holds no pod");
  return change;
}

}  // namespace vedette
