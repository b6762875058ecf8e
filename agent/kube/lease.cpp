#include "agent/kube/lease.h"

#include <algorithm>
#include <utility>

#include <nlohmann/json.hpp>

#include "agent/kube/json_read.h"
#include "agent/kube/node.h"

namespace vedette {
namespace {

using nlohmann::json;

constexpr const char* kPoolLabel = "vedette.dev/pool";
constexpr const char* kShardLabel = "vedette.dev/shard";
constexpr const char* kNodeLabel = "vedette.dev/node";
constexpr const char* kVersionAnnotation = "vedette.dev/node-version";
constexpr std::size_t kMaxLabel = 63;  // shorter than a node's name may be; the holder itself is in the spec
constexpr const char* kLeasesPerPage = "500";  // .4 MB of JSON

SlotLease parse_lease(const json& object) {
  const json& metadata = child(object, "metadata");
  const json& spec = child(object, "spec");
  SlotLease lease;
  lease.name = text_at(metadata, "name");
  lease.uid = text_at(metadata, "uid");
  lease.resource_version = text_at(metadata, "resourceVersion");
  lease.pool = text_at(child(metadata, "labels"), kPoolLabel);
  lease.shard = static_cast<unsigned>(
      std::strtoul(text_at(child(metadata, "labels"), kShardLabel).c_str(), nullptr, 10));
  lease.node_version = text_at(child(metadata, "annotations"), kVersionAnnotation);
  lease.holder = text_at(spec, "holderIdentity");
  lease.acquired_ns = parse_time(text_at(spec, "acquireTime"));
  lease.renewed_ns = parse_time(text_at(spec, "renewTime"));
  if (const json& duration = child(spec, "leaseDurationSeconds"); duration.is_number_integer()) {
    lease.duration = std::chrono::seconds(duration.get<long>());
  }
  return lease;
}

std::string to_json(const SlotLease& lease) {
  json metadata = {{"name", lease.name},
                   {"labels",
                    {{kPoolLabel, lease.pool},
                     {kShardLabel, std::to_string(lease.shard)},
                     {kNodeLabel, cut_name(lease.holder, kMaxLabel)}}},
                   {"annotations", {{kVersionAnnotation, lease.node_version}}}};
  if (!lease.resource_version.empty()) metadata["resourceVersion"] = lease.resource_version;
  return to_text({{"apiVersion", "coordination.k8s.io/v1"},
                  {"kind", "Lease"},
                  {"metadata", std::move(metadata)},
                  {"spec",
                   {{"holderIdentity", lease.holder},
                    {"leaseDurationSeconds", lease.duration.count()},
                    {"acquireTime", format_time(lease.acquired_ns, true)},
                    {"renewTime", format_time(lease.renewed_ns, true)}}}});
}

}  // namespace

KubeLeases::KubeLeases(KubeClient& client, const std::string& namespace_name)
    : client_(client),
      path_("/apis/coordination.k8s.io/v1/namespaces/" + url_encode(namespace_name) + "/leases") {}

Result<std::vector<SlotLease>> KubeLeases::of_shard(const std::string& pool, unsigned shard) {
  return list("resourceVersion=0&labelSelector=" + url_encode(std::string(kPoolLabel) + "=" + pool + "," +
                                                              kShardLabel + "=" + std::to_string(shard)));
}

Result<std::vector<SlotLease>> KubeLeases::of_holder(const std::string& node) {
  auto leases =
      list("labelSelector=" + url_encode(std::string(kNodeLabel) + "=" + cut_name(node, kMaxLabel)));
  if (leases) std::erase_if(*leases, [&](const SlotLease& lease) { return lease.holder != node; });
  return leases;
}

Result<std::vector<SlotLease>> KubeLeases::all() {
  return list(std::string("limit=") + kLeasesPerPage + "&labelSelector=" + url_encode(kPoolLabel));
}

Result<std::vector<SlotLease>> KubeLeases::list(const std::string& query) {
  std::vector<SlotLease> leases;
  for (std::string token;;) {
    const std::string path = path_ + "?" + query + (token.empty() ? "" : "&continue=" + url_encode(token));
    auto reply = require_success(client_.get(path), "GET " + path_);
    if (!reply) return tl::unexpected(reply.error());
    const json answer = json::parse(reply->body, nullptr, false);
    const json& items = child(answer, "items");
    if (text_at(answer, "kind") != "LeaseList" || (!items.is_array() && !items.is_null())) {
      return fail("GET " + path_ + ": the answer is not a LeaseList (" + std::to_string(reply->body.size()) +
                  " bytes)");
    }
    for (const json& item : items) leases.push_back(parse_lease(item));
    token = text_at(child(answer, "metadata"), "continue");
    if (token.empty()) return leases;
  }
}

Result<std::optional<SlotLease>> KubeLeases::create(const SlotLease& lease) {
  return written(client_.post(path_, to_json(lease)), "POST " + path_);
}

Result<std::optional<SlotLease>> KubeLeases::update(const SlotLease& lease) {
  const std::string path = path_ + "/" + lease.name;
  return written(client_.put(path, to_json(lease)), "PUT " + path);
}

Result<bool> KubeLeases::remove(const SlotLease& lease) {
  const std::string path = path_ + "/" + lease.name;
  const json body = {{"apiVersion", "v1"},
                     {"kind", "DeleteOptions"},
                     {"preconditions", {{"uid", lease.uid}, {"resourceVersion", lease.resource_version}}}};
  auto reply = client_.del(path, to_text(body));
  if (reply && (reply->status == 409 || reply->status == 404)) return false;
  reply = require_success(std::move(reply), "DELETE " + path);
  if (!reply) return tl::unexpected(reply.error());
  return true;
}

Result<std::optional<SlotLease>> KubeLeases::written(Result<KubeReply> raw, const std::string& call) {
  const bool update = call.starts_with("PUT");
  if (raw && (raw->status == 409 || (update && raw->status == 404))) return std::optional<SlotLease>();
  auto reply = require_success(std::move(raw), call);
  if (!reply) return tl::unexpected(reply.error());
  SlotLease lease = parse_lease(json::parse(reply->body, nullptr, false));
  if (lease.resource_version.empty() || lease.holder.empty()) {
    return fail(call + ": the answer is not a Lease (" + std::to_string(reply->body.size()) + " bytes)");
  }
  return std::optional(std::move(lease));
}

}  // namespace vedette
