// One Node object at the API server: reading it, putting one taint of ours on or off without touching any
// other, conditions and an annotation of ours, events about it. Called by act/node_writer's thread; as
// KubeClient, one thread.
#pragma once

#include <chrono>
#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include <nlohmann/json_fwd.hpp>

#include "agent/base/clock.h"
#include "agent/kube/client.h"

namespace vedette {

// What the agent writes for programs; `vedette.dev/` holds operators' annotations too.
inline constexpr const char* kVerdictAnnotation = "vedette.dev/verdict";

struct Taint {
  std::string key;
  std::string value;
  std::string effect;
  std::string time_added;  // RFC 3339, as the server has it; may be empty
  bool operator==(const Taint&) const = default;
};

struct NodeCondition {
  std::string type;
  std::string status;  // "True", "False"
  std::string reason;
  std::string message;
  WallNs heartbeat_ns = 0;
  WallNs transition_ns = 0;
};

// What one answer said of the node.
struct NodeState {
  std::string uid;
  std::string resource_version;
  std::string taints_json;        // spec.taints as the server sent it; "[]" when there are none
  std::vector<Taint> our_taints;  // those with our key: none or one, unless someone else meddled
  std::map<std::string, NodeCondition> our_conditions;  // by type: those with our prefix
  std::map<std::string, std::string> our_annotations;   // those with our prefix
  std::vector<WallNs> taint_times;                      // as write_taint() noted them, oldest first
  std::string pool;  // value of the label KubeNodeOptions::pool_label; empty: no such label
};

struct NodeEvent {
  std::string name;         // unique; the same name again is the same event
  std::uint32_t count = 1;  // above 1: it happened again, at `time_ns`
  std::string type;         // "Normal" or "Warning"
  std::string reason;       // CamelCase
  std::string action;       // CamelCase: what was done
  std::string note;         // cut to the API's 1024 bytes
  WallNs time_ns = 0;
};

struct KubeNodeOptions {
  std::string name;
  std::string taint_key = "vedette.dev/unhealthy";
  std::string condition_prefix = "Vedette";
  std::string annotation_prefix = "vedette.dev/";
  std::string pool_label;  // empty: all nodes are one pool
};

class KubeNode {
public:
  // `client` must outlive this.
  KubeNode(KubeClient& client, KubeNodeOptions options);

  enum class Freshness {
    kNewest,  // asks etcd
    kCached,  // what the apiserver has in memory: may be a moment old, costs it nothing
  };
  Result<NodeState> read(Freshness freshness = Freshness::kNewest);
  // The newest; nullopt: there is no such node.
  Result<std::optional<NodeState>> find();

  // Makes the list of taints `seen.taints_json` without ours, followed by `ours` if given. spec.taints is one
  // atomic list, so the whole of it is sent, under seen.resource_version: whoever wrote meanwhile wins and
  // the answer is nullopt (HTTP 409); then read() and try again. Otherwise the node as it is now. A taint
  // that was not there is noted in an annotation in the same breath, with the times of those before it.
  Result<std::optional<NodeState>> write_taint(const NodeState& seen, const std::optional<Taint>& ours);

  // One patch. Conditions merge by type and annotations by key: no other is sent, none is touched.
  Result<NodeState> write_status(const std::vector<NodeCondition>& conditions,
                                 const std::map<std::string, std::string>& annotations);
  // Removes our conditions that `seen` has and the annotations we write; an operator's stay. The taint is
  // write_taint()'s.
  Status erase_traces(const NodeState& seen);

  // `node_uid` as in NodeState. An event that is there already (a first try whose answer was lost) counts as
  // written. One that happened again becomes a series, or a new event where the first has expired.
  Status write_event(const std::string& node_uid, const NodeEvent& event);

  // What a Node object, as a watch of it sends it, says.
  Result<NodeState> parse(const nlohmann::json& node) const;

  const KubeNodeOptions& options() const { return options_; }

private:
  Result<NodeState> parse(const KubeReply& reply) const;

  KubeClient& client_;
  KubeNodeOptions options_;
  std::string path_;
};

// The names of all nodes, page by page, without their objects.
Result<std::vector<std::string>> list_node_names(KubeClient& client);

// How many nodes there are; with `label`, those on which it has this value, or which have no such label where
// `value` is empty. No node object is transferred.
Result<std::size_t> count_nodes(KubeClient& client, const std::string& label, const std::string& value);

// RFC 3339 in UTC: whole seconds as metav1.Time has them ("2026-01-02T03:04:05Z"), or microseconds as
// metav1.MicroTime must.
std::string format_time(WallNs time, bool with_fraction = false);
// The reverse, any fraction; 0 when it is not such a time.
WallNs parse_time(const std::string& text);

// Cuts to at most `bytes`, never inside a UTF-8 sequence.
std::string cut_text(std::string text, std::size_t bytes);
// Of an object's name, at most `bytes`, ending as names and labels must.
std::string cut_name(std::string name, std::size_t bytes);

}  // namespace vedette
