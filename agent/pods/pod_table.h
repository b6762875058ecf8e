// Who owns a cgroup: cgroup id -> entity, for the living and for those that died a moment ago.
// Called by collect/LiveSource on the tick thread only.
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "agent/base/clock.h"
#include "agent/pods/entity.h"
#include "agent/pods/pod_info.h"

namespace vedette {

// On cgroup v2 the inode number of the cgroup's directory, which is also what bpf_get_current_cgroup_id()
// says.
using CgroupId = std::uint64_t;

struct PodTableOptions {
  // Events reach the agent within a tick, a person's question or a late socket close takes longer.
  std::chrono::seconds keep_dead{60};
  // A kilobyte each. Containers that come and go faster than 17 a second for a minute are forgotten sooner.
  std::size_t max_dead = 1024;
};

// A living entity and where its files are.
struct LivingEntity {
  EntityPtr entity;
  std::vector<std::string> roots;    // directories whose subtrees are the entity; one, except for odd pods
  std::vector<std::string> members;  // all its living cgroups, the roots included if they are known
};

class PodTable {
public:
  explicit PodTable(PodTableOptions options = {});

  // A cgroup that exists. `path` begins with '/' and is relative to the root of the hierarchy. A path that
  // had another id before is another cgroup: the old id counts as dead from now on. Where the directory of a
  // unit or a container comes after one of the same owner went, the owner was started again. Answers the
  // owner.
  EntityPtr add(CgroupId id, std::string_view path, MonotonicNs now);
  // The cgroup is gone; its owner can still be found for `keep_dead`.
  void remove(CgroupId id, MonotonicNs now);
  // Forgets those that died longer than `keep_dead` ago.
  void expire(MonotonicNs now);

  // What the API server says about the pods of this node. Entities get their names (a new EntityPtr with the
  // same id); a pod that is missing in the list keeps the name it had.
  void set_pods(const PodList& list);

  // Null when the id was never seen or is long dead. The root cgroup and directories that only group others
  // belong to the node.
  EntityPtr find(CgroupId id) const;
  // Name of the container whose cgroup it is, or was; empty where there is none, or the API has not told yet.
  std::string container_name(CgroupId id) const;
  // How often containers of this pod were started again since the first list of pods; none where the API has
  // not told.
  std::optional<std::uint64_t> restarts(EntityId id) const;
  // The one entity with a living cgroup in a directory of this name, or else with a dead one; null for the
  // node, and for several.
  EntityPtr find_directory(std::string_view name) const;
  // Path of a known cgroup, empty if unknown.
  std::string_view path(CgroupId id) const;
  // Newest value of an entity that find() answered before; null when all its cgroups are forgotten.
  EntityPtr entity(EntityId id) const;

  // Grows when a LivingEntity appears, changes or goes.
  std::uint64_t version() const { return version_; }
  // All entities with a living cgroup except the node, by EntityId.
  std::vector<LivingEntity> living() const;
  std::vector<CgroupId> living_ids() const;

private:
  struct Cgroup {
    std::string path;
    std::string root;
    std::string container_id;
    std::string container_name;
    EntityId owner = kNodeEntity;
    bool whole = false;  // all of a unit or of a container is in it
    bool alive = true;
    MonotonicNs died_ns = 0;
  };
  struct Owner {
    EntityPtr entity;
    std::string key;
    std::size_t cgroups = 0;  // that name it, dead ones included
    bool ended = false;       // a unit or a container of it, and none was started since
  };
  struct Death {
    CgroupId id;
    MonotonicNs died_ns;
  };

  EntityId acquire(const Entity& wanted, const std::string& key);
  void release(EntityId id);
  void note_start(EntityId id);
  void forget(CgroupId id);
  void forget_first_death();
  void rename(EntityId id);
  Entity describe_pod(const std::string& uid) const;

  PodTableOptions options_;
  EntityPtr node_;
  EntityId last_id_ = kNodeEntity;
  std::uint64_t version_ = 0;
  std::unordered_map<CgroupId, Cgroup> cgroups_;
  std::unordered_map<std::string, CgroupId> by_path_;  // living ones only
  std::unordered_map<EntityId, Owner> owners_;
  std::unordered_map<std::string, EntityId> by_key_;
  std::deque<Death> deaths_;                       // oldest first
  std::unordered_map<std::string, PodInfo> pods_;  // by uid
  // By uid: as the first list of pods had them.
  std::unordered_map<std::string, std::uint64_t> restarts_before_;
  bool listed_ = false;
  struct Contained {
    std::string uid;
    std::string name;
  };
  std::unordered_map<std::string, Contained> containers_;  // by id, those of pods
};

}  // namespace vedette
