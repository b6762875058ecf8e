#include "agent/kube/node.h"

#include <cstdio>
#include <ctime>
#include <functional>
#include <sstream>
#include <utility>

#include <nlohmann/json.hpp>

#include "agent/kube/json_read.h"

namespace vedette {
namespace {

using nlohmann::json;

// The API server's own limits: a longer note refuses the event, longer text of a condition helps nobody.
constexpr std::size_t kMaxNote = 1024;
constexpr std::size_t kMaxConditionMessage = 1024;
constexpr const char* kTimesAnnotation = "vedette.dev/taint-times";
constexpr std::size_t kMaxTimes = 60;  // 1.3 kB; beyond one a minute nobody counts
// Where the API server wants events about objects without a namespace.
constexpr const char* kEventPath = "/apis/events.k8s.io/v1/namespaces/default/events";

std::vector<WallNs> parse_times(const std::string& text) {
  std::vector<WallNs> times;
  std::istringstream words(text);
  for (std::string word; words >> word;) {
    if (const WallNs time = parse_time(word); time != 0) times.push_back(time);
  }
  return times;
}

bool is_ours(const json& taint, const std::string& key) {
  return taint.is_object() && text_at(taint, "key") == key;
}

}  // namespace

std::string format_time(WallNs time, bool with_fraction) {
  const auto seconds = static_cast<std::time_t>(time / 1'000'000'000ULL);
  std::tm parts{};
  ::gmtime_r(&seconds, &parts);
  char text[64];
  std::size_t length = std::strftime(text, sizeof text, "%Y-%m-%dT%H:%M:%S", &parts);
  if (with_fraction) {
    length += static_cast<std::size_t>(std::snprintf(text + length, sizeof text - length, ".%06u",
                                                     static_cast<unsigned>(time % 1'000'000'000ULL / 1000)));
  }
  return std::string(text, length) + "Z";
}

WallNs parse_time(const std::string& text) {
  std::tm parts{};
  const char* rest = ::strptime(text.c_str(), "%Y-%m-%dT%H:%M:%S", &parts);
  if (rest == nullptr) return 0;
  WallNs fraction = 0;
  if (*rest == '.') {
    WallNs unit = 100'000'000;
    for (++rest; *rest >= '0' && *rest <= '9'; ++rest, unit /= 10) {
      fraction += unit * static_cast<WallNs>(*rest - '0');
    }
  }
  const std::time_t seconds = ::timegm(&parts);
  if (std::string_view(rest) != "Z" || seconds < 0) return 0;
  return static_cast<WallNs>(seconds) * 1'000'000'000ULL + fraction;
}

std::string cut_name(std::string name, std::size_t bytes) {
  if (name.size() > bytes) name.resize(bytes);
  while (!name.empty() && (name.back() == '.' || name.back() == '-')) name.pop_back();
  return name;
}

std::string cut_text(std::string text, std::size_t bytes) {
  if (text.size() <= bytes) return text;
  while (bytes > 0 && (static_cast<unsigned char>(text[bytes]) & 0xc0U) == 0x80U) --bytes;
  text.resize(bytes);
  return text;
}

KubeNode::KubeNode(KubeClient& client, KubeNodeOptions options)
    : client_(client), options_(std::move(options)), path_("/api/v1/nodes/" + url_encode(options_.name)) {}

Result<NodeState> KubeNode::parse(const KubeReply& reply) const {
  return parse(json::parse(reply.body, nullptr, false));
}

Result<NodeState> KubeNode::parse(const json& node) const {
  const json& metadata = child(node, "metadata");
  if (!metadata.is_object() || text_at(metadata, "name") != options_.name) {
    return fail("node " + options_.name +
                ": the answer is not this Node object, expected JSON with metadata.name");
  }
  NodeState state;
  state.uid = text_at(metadata, "uid");
  state.resource_version = text_at(metadata, "resourceVersion");
  if (!options_.pool_label.empty()) {
    state.pool = text_at(child(metadata, "labels"), options_.pool_label.c_str());
  }
  state.taint_times = parse_times(text_at(child(metadata, "annotations"), kTimesAnnotation));
  const json& taints = child(child(node, "spec"), "taints");
  state.taints_json = taints.is_array() ? to_text(taints) : "[]";
  if (taints.is_array()) {
    for (const json& taint : taints) {
      if (!is_ours(taint, options_.taint_key)) continue;
      state.our_taints.push_back({.key = options_.taint_key,
                                  .value = text_at(taint, "value"),
                                  .effect = text_at(taint, "effect"),
                                  .time_added = text_at(taint, "timeAdded")});
    }
  }
  const json& conditions = child(child(node, "status"), "conditions");
  if (conditions.is_array()) {
    for (const json& condition : conditions) {
      if (!condition.is_object()) continue;
      const std::string type = text_at(condition, "type");
      if (!type.starts_with(options_.condition_prefix)) continue;
      state.our_conditions[type] =
          NodeCondition{.type = type,
                        .status = text_at(condition, "status"),
                        .reason = text_at(condition, "reason"),
                        .message = text_at(condition, "message"),
                        .heartbeat_ns = parse_time(text_at(condition, "lastHeartbeatTime")),
                        .transition_ns = parse_time(text_at(condition, "lastTransitionTime"))};
    }
  }
  const json& annotations = child(metadata, "annotations");
  if (annotations.is_object()) {
    for (const auto& [key, value] : annotations.items()) {
      if (key.starts_with(options_.annotation_prefix) && value.is_string())
        state.our_annotations[key] = value.get<std::string>();
    }
  }
  return state;
}

Result<NodeState> KubeNode::read(Freshness freshness) {
  const std::string path = freshness == Freshness::kCached ? path_ + "?resourceVersion=0" : path_;
  auto reply = require_success(client_.get(path), "GET " + path);
  if (!reply) return tl::unexpected(reply.error());
  return parse(*reply);
}

Result<std::optional<NodeState>> KubeNode::find() {
  auto raw = client_.get(path_);
  if (raw && raw->status == 404) return std::optional<NodeState>();
  auto reply = require_success(std::move(raw), "GET " + path_);
  if (!reply) return tl::unexpected(reply.error());
  return parse(*reply).map([](NodeState state) { return std::optional(std::move(state)); });
}

Result<std::optional<NodeState>> KubeNode::write_taint(const NodeState& seen,
                                                       const std::optional<Taint>& ours) {
  const json before = json::parse(seen.taints_json, nullptr, false);
  if (!before.is_array() || seen.resource_version.empty()) {
    return fail("node " + options_.name + ": taints without a resourceVersion, read the node first");
  }
  json after = json::array();
  for (const json& taint : before) {
    if (!is_ours(taint, options_.taint_key)) after.push_back(taint);
  }
  if (ours) {
    after.push_back({{"key", options_.taint_key},
                     {"value", ours->value},
                     {"effect", ours->effect},
                     {"timeAdded", ours->time_added}});
  }
  json metadata = {{"resourceVersion", seen.resource_version}};
  if (ours && seen.our_taints.empty()) {
    const std::size_t old = seen.taint_times.size() < kMaxTimes ? 0 : seen.taint_times.size() - kMaxTimes + 1;
    std::string times;
    for (std::size_t i = old; i < seen.taint_times.size(); ++i)
      times += format_time(seen.taint_times[i]) + " ";
    metadata["annotations"] = {{kTimesAnnotation, times + ours->time_added}};
  }
  const json body = {{"metadata", std::move(metadata)}, {"spec", {{"taints", std::move(after)}}}};
  auto raw = client_.patch(path_, PatchType::kStrategic, to_text(body));
  if (raw && raw->status == 409) return std::optional<NodeState>();
  auto reply = require_success(std::move(raw), "PATCH " + path_);
  if (!reply) return tl::unexpected(reply.error());
  return parse(*reply).map([](NodeState state) { return std::optional(std::move(state)); });
}

Result<NodeState> KubeNode::write_status(const std::vector<NodeCondition>& conditions,
                                         const std::map<std::string, std::string>& annotations) {
  json list = json::array();
  for (const NodeCondition& condition : conditions) {
    list.push_back({{"type", condition.type},
                    {"status", condition.status},
                    {"reason", condition.reason},
                    {"message", cut_text(condition.message, kMaxConditionMessage)},
                    {"lastHeartbeatTime", format_time(condition.heartbeat_ns)},
                    {"lastTransitionTime", format_time(condition.transition_ns)}});
  }
  json body = {{"status", {{"conditions", std::move(list)}}}};
  // The status carries metadata too: the kubelet writes its own annotations this way.
  if (!annotations.empty()) body["metadata"]["annotations"] = annotations;
  auto reply = require_success(client_.patch(path_ + "/status", PatchType::kStrategic, to_text(body)),
                               "PATCH " + path_ + "/status");
  if (!reply) return tl::unexpected(reply.error());
  return parse(*reply);
}

Status KubeNode::erase_traces(const NodeState& seen) {
  json conditions = json::array();
  for (const auto& [type, condition] : seen.our_conditions)
    conditions.push_back({{"$patch", "delete"}, {"type", type}});
  const json status = {{"status", {{"conditions", std::move(conditions)}}}};
  auto reply = require_success(client_.patch(path_ + "/status", PatchType::kStrategic, to_text(status)),
                               "PATCH " + path_ + "/status");
  if (!reply) return tl::unexpected(reply.error());
  const json metadata = {
      {"metadata", {{"annotations", {{kTimesAnnotation, nullptr}, {kVerdictAnnotation, nullptr}}}}}};
  reply = require_success(client_.patch(path_, PatchType::kMerge, to_text(metadata)), "PATCH " + path_);
  if (!reply) return tl::unexpected(reply.error());
  return {};
}

Status KubeNode::write_event(const std::string& node_uid, const NodeEvent& event) {
  if (event.count > 1) {
    // All else of an event is immutable.
    const json series = {
        {"series", {{"count", event.count}, {"lastObservedTime", format_time(event.time_ns, true)}}}};
    const std::string path = std::string(kEventPath) + "/" + event.name;
    auto raw = client_.patch(path, PatchType::kMerge, to_text(series));
    if (!raw || raw->status != 404) {
      auto reply = require_success(std::move(raw), "PATCH " + path);
      return reply ? Status{} : tl::unexpected(reply.error());
    }
  }
  const json body = {
      {"apiVersion", "events.k8s.io/v1"},
      {"kind", "Event"},
      {"metadata", {{"name", event.name}, {"namespace", "default"}}},
      {"eventTime", format_time(event.time_ns, true)},
      {"type", event.type},
      {"reason", event.reason},
      {"action", event.action},
      {"note", cut_text(event.note, kMaxNote)},
      {"reportingController", "vedette.dev/agent"},
      {"reportingInstance", cut_text(options_.name, 128)},  // the field's own limit
      {"regarding", {{"apiVersion", "v1"}, {"kind", "Node"}, {"name", options_.name}, {"uid", node_uid}}}};
  auto raw = client_.post(kEventPath, to_text(body));
  if (raw && raw->status == 409) return {};
  auto reply = require_success(std::move(raw), std::string("POST ") + kEventPath);
  if (!reply) return tl::unexpected(reply.error());
  return {};
}

namespace {

// Gives each page of a list of nodes to `take`, as a table whose rows have no object but its metadata
// (`include`: "Metadata") or none ("None"); until that returns false.
Status page_nodes(KubeClient& client, const std::string& query,
                  const std::function<bool(const json&)>& take) {
  const std::string accept = "application/json;as=Table;v=v1;g=meta.k8s.io,application/json";
  for (std::string token;;) {
    auto reply = require_success(
        client.get("/api/v1/nodes?" + query + (token.empty() ? "" : "&continue=" + url_encode(token)),
                   accept),
        "GET /api/v1/nodes");
    if (!reply) return tl::unexpected(reply.error());
    const json list = json::parse(reply->body, nullptr, false);
    if (text_at(list, "kind") != "Table") {
      return fail("GET /api/v1/nodes: the answer is no table (" + std::to_string(reply->body.size()) +
                  " bytes)");
    }
    token = text_at(child(list, "metadata"), "continue");
    if (!take(list) || token.empty()) return {};
  }
}

}  // namespace

Result<std::vector<std::string>> list_node_names(KubeClient& client) {
  std::vector<std::string> names;
  const Status listed = page_nodes(client, "includeObject=Metadata&limit=500", [&](const json& table) {
    for (const json& row : child(table, "rows")) {
      names.push_back(text_at(child(child(row, "object"), "metadata"), "name"));
    }
    return true;
  });
  if (!listed) return tl::unexpected(listed.error());
  return names;
}

Result<std::size_t> count_nodes(KubeClient& client, const std::string& label, const std::string& value) {
  // Without a selector one row is enough: the server says how many remain.
  const std::string query = label.empty() ? "includeObject=None&limit=1"
                                          : "includeObject=None&limit=500&labelSelector=" +
                                                url_encode(value.empty() ? "!" + label : label + "=" + value);
  std::size_t count = 0;
  const Status listed = page_nodes(client, query, [&](const json& table) {
    count += child(table, "rows").size();
    const json& remaining = child(child(table, "metadata"), "remainingItemCount");
    if (!label.empty() || !remaining.is_number_unsigned()) return true;
    count += remaining.get<std::size_t>();
    return false;
  });
  if (!listed) return tl::unexpected(listed.error());
  return count;
}

}  // namespace vedette
