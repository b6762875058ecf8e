#include "agent/kube/pod_json.h"

#include <algorithm>
#include <cctype>
#include <cstdint>
#include <functional>
#include <set>

#include <nlohmann/json.hpp>

#include "agent/base/fnv1a.h"
#include "agent/kube/json_read.h"

namespace vedette {
namespace {

using nlohmann::json;

// Most of a pod's JSON that nothing here reads; not building it keeps a page's memory small. Of the spec only
// containers are left, for their images, and initContainers, whose restartPolicy tells a sidecar.
bool reads(int /*depth*/, json::parse_event_t event, json& value) {
  static const std::set<std::string, std::less<>> unread{"managedFields",
                                                         "conditions",
                                                         "ephemeralContainers",
                                                         "volumes",
                                                         "tolerations",
                                                         "affinity",
                                                         "env",
                                                         "envFrom",
                                                         "volumeMounts",
                                                         "resources",
                                                         "lifecycle",
                                                         "command",
                                                         "args",
                                                         "ports",
                                                         "volumeDevices",
                                                         "livenessProbe",
                                                         "readinessProbe",
                                                         "startupProbe",
                                                         "securityContext"};
  return event != json::parse_event_t::key || !unread.contains(value.get_ref<const std::string&>());
}

json parse(std::string_view text) {
  return json::parse(text, reads, false);
}

// Of a pod whose controller counts no revisions: what its images are called, as a hash; empty: it has none.
std::string images_of(const json& spec) {
  const json& containers = child(spec, "containers");
  if (!containers.is_array()) return "";
  std::string images;
  for (const json& container : containers)
    images += text_at(container, "name") + "=" + text_at(container, "image") + "\n";
  return images.empty() ? "" : std::to_string(fnv1a(images));
}

WatchedPod parse_watched_pod(const json& object) {
  const json& metadata = child(object, "metadata");
  WatchedPod pod;
  pod.uid = text_at(metadata, "uid");
  const json& annotations = child(metadata, "annotations");
  // Of a mirror only: nobody can turn a pod into one later, and kubelet removes those that are not its own.
  const std::string hash = text_at(annotations, "kubernetes.io/config.mirror").empty()
                               ? ""
                               : text_at(annotations, "kubernetes.io/config.hash");
  pod.info.uid = hash.empty() ? pod.uid : hash;
  pod.info.namespace_name = text_at(metadata, "namespace");
  pod.info.name = text_at(metadata, "name");
  pod.info.workload = workload_of(metadata);
  const json& labels = child(metadata, "labels");
  pod.info.revision = text_at(labels, "pod-template-hash");
  if (pod.info.revision.empty()) pod.info.revision = text_at(labels, "controller-revision-hash");
  if (pod.info.revision.empty()) pod.info.revision = images_of(child(object, "spec"));
  std::set<std::string> sidecars;
  if (const json& inits = child(child(object, "spec"), "initContainers"); inits.is_array()) {
    for (const json& init : inits) {
      if (text_at(init, "restartPolicy") == "Always") sidecars.insert(text_at(init, "name"));
    }
  }
  const auto add = [&](const char* list, const std::string& prefix) {
    const json& statuses = child(child(object, "status"), list);
    if (!statuses.is_array()) return;
    for (const json& status : statuses) {
      if (const json& count = child(status, "restartCount"); count.is_number_unsigned())
        pod.info.restarts += count.get<std::uint64_t>();
      const std::string id = text_at(status, "containerID");  // "containerd://0123…"
      const std::size_t scheme = id.find("://");
      if (scheme == std::string::npos) continue;
      const std::string name = text_at(status, "name");
      pod.info.containers.push_back(
          {id.substr(scheme + 3), (sidecars.contains(name) ? "sidecar/" : prefix) + name});
    }
  };
  add("containerStatuses", "");
  add("initContainerStatuses", "init/");
  add("ephemeralContainerStatuses", "ephemeral/");
  return pod;
}

}  // namespace

std::string workload_of(const json& metadata) {
  const json& owners = child(metadata, "ownerReferences");
  if (owners.is_array()) {
    for (const json& owner : owners) {
      const std::string kind = text_at(owner, "kind");
      const std::string name = text_at(owner, "name");
      // A static pod's mirror is owned by its Node.
      if (!true_at(owner, "controller") || kind.empty() || kind == "Node") continue;
      const std::string hash = text_at(child(metadata, "labels"), "pod-template-hash");
      const std::string suffix = "-" + hash;
      if (kind == "ReplicaSet" && !hash.empty() && name.size() > suffix.size() && name.ends_with(suffix)) {
        return "Deployment/" + name.substr(0, name.size() - suffix.size());
      }
      // Of a CronJob: its name and the minute it was due, in minutes since 1970 (8 digits until 2160). From
      // 2021 on, when jobs began to be named so: "import-20251201" is somebody's date.
      constexpr std::size_t kMinuteDigits = 8;
      constexpr std::string_view kFirstMinute = "26900000";
      const std::size_t dash = name.rfind('-');
      const std::string_view minute = std::string_view(name).substr(dash == std::string::npos ? 0 : dash + 1);
      if (kind == "Job" && dash != std::string::npos && dash > 0 && minute.size() == kMinuteDigits &&
          minute >= kFirstMinute &&
          std::ranges::all_of(minute, [](unsigned char c) { return std::isdigit(c) != 0; })) {
        return "CronJob/" + name.substr(0, dash);
      }
      return std::string(kind).append("/").append(name);
    }
  }
  return "Pod/" + text_at(metadata, "name");
}

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
    WatchedPod pod = parse_watched_pod(item);
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
  change.pod = parse_watched_pod(object);
  if (change.pod.uid.empty()) return fail("watch of pods: an event of type " + type + " holds no pod");
  return change;
}

}  // namespace vedette
