#include "agent/pods/pod_table.h"

#include <algorithm>
#include <memory>
#include <set>
#include <utility>

#include "agent/pods/cgroup_names.h"

namespace vedette {
namespace {

constexpr std::size_t kShortIdLength = 12;  // as `docker ps` and `crictl ps` show them

constexpr std::string_view kPathKey = "path:";

std::string pod_key(const std::string& uid) {
  return "pod:" + uid;
}

bool same(const Entity& left, const Entity& right) {
  return left.kind == right.kind && left.name == right.name && left.namespace_name == right.namespace_name &&
         left.pod_name == right.pod_name && left.uid == right.uid && left.workload == right.workload &&
         left.revision == right.revision;
}

Entity describe(const CgroupName& name) {
  Entity entity;
  entity.kind = name.kind;
  switch (name.kind) {
    case EntityKind::kUnit:
      entity.name = "unit/" + name.id;
      entity.workload = name.id;
      break;
    case EntityKind::kContainer:
      entity.name = "container/" + name.id.substr(0, kShortIdLength);
      entity.uid = name.id;
      entity.workload = name.root;
      break;
    case EntityKind::kCgroup:
      entity.name = "cgroup/" + name.id.substr(1);
      entity.workload = name.id;
      break;
    case EntityKind::kNode:
    case EntityKind::kPod:
      break;
  }
  return entity;
}

}  // namespace

PodTable::PodTable(PodTableOptions options) : options_(options), node_(std::make_shared<const Entity>()) {}

Entity PodTable::describe_pod(const std::string& uid) const {
  Entity entity;
  entity.kind = EntityKind::kPod;
  entity.uid = uid;
  if (const auto found = pods_.find(uid); found != pods_.end()) {
    const auto& pod = found->second;
    entity.namespace_name = pod.namespace_name;
    entity.pod_name = pod.name;
    entity.workload = pod.workload;
    entity.revision = pod.revision;
    entity.name = "pod/" + pod.namespace_name + "/" + pod.name;
  } else {
    entity.name = "pod/uid/" + uid;
  }
  return entity;
}

EntityPtr PodTable::add(CgroupId id, std::string_view path, MonotonicNs now) {
  std::string key_path(path);
  if (const auto known = cgroups_.find(id); known != cgroups_.end()) {
    if (known->second.alive && known->second.path == key_path) return find(id);
    forget(id);  // renamed (cgroup v1 allows it): nothing of the old name holds
  }
  if (const auto old = by_path_.find(key_path); old != by_path_.end()) remove(old->second, now);

  auto name = parse_cgroup_path(path);
  Cgroup cgroup;
  cgroup.path = key_path;
  cgroup.root = name.root;
  cgroup.container_id = name.kind == EntityKind::kContainer ? name.id : name.container_id;
  cgroup.whole = name.container_id.empty()
                     ? key_path == name.root
                     : parse_cgroup_path(path.substr(0, path.rfind('/'))).container_id.empty();
  if (name.kind == EntityKind::kContainer) {
    if (const auto pod = containers_.find(name.id); pod != containers_.end()) {
      name.kind = EntityKind::kPod;
      name.id = pod->second.uid;
    }
  }
  if (const auto known = containers_.find(cgroup.container_id); known != containers_.end()) {
    cgroup.container_name = known->second.name;
  }
  if (name.kind == EntityKind::kPod) {
    cgroup.owner = acquire(describe_pod(name.id), pod_key(name.id));
  } else if (name.kind != EntityKind::kNode) {
    const auto entity = describe(name);
    // Units of the same name in different places (a user's and the system's) are different ones.
    cgroup.owner = acquire(entity, std::string(kPathKey) + name.root);
  }
  if (cgroup.whole) note_start(cgroup.owner);
  by_path_[std::move(key_path)] = id;
  cgroups_[id] = std::move(cgroup);
  ++version_;
  return find(id);
}

EntityId PodTable::acquire(const Entity& wanted, const std::string& key) {
  if (const auto found = by_key_.find(key); found != by_key_.end()) {
    ++owners_[found->second].cgroups;
    return found->second;
  }
  auto entity = std::make_shared<Entity>(wanted);
  entity->id = ++last_id_;
  const bool taken = std::any_of(owners_.begin(), owners_.end(),
                                 [&](const auto& owner) { return owner.second.entity->name == wanted.name; });
  // A system container runs units that are called as the host's are.
  if (taken && wanted.kind == EntityKind::kUnit) entity->name = "unit" + key.substr(kPathKey.size());
  by_key_[key] = entity->id;
  const auto id = entity->id;
  owners_[id] = Owner{std::move(entity), key, 1};
  return id;
}

void PodTable::note_start(EntityId id) {
  const auto owner = owners_.find(id);
  if (owner == owners_.end() || !std::exchange(owner->second.ended, false)) return;
  Entity again = *owner->second.entity;
  ++again.restarts;
  owner->second.entity = std::make_shared<const Entity>(std::move(again));
}

void PodTable::release(EntityId id) {
  const auto owner = owners_.find(id);
  if (owner == owners_.end() || --owner->second.cgroups > 0) return;
  by_key_.erase(owner->second.key);
  owners_.erase(owner);
}

void PodTable::remove(CgroupId id, MonotonicNs now) {
  const auto found = cgroups_.find(id);
  if (found == cgroups_.end() || !found->second.alive) return;
  found->second.alive = false;
  found->second.died_ns = now;
  by_path_.erase(found->second.path);
  if (const auto owner = owners_.find(found->second.owner); owner != owners_.end())
    owner->second.ended = owner->second.ended || found->second.whole;
  deaths_.push_back({id, now});
  ++version_;
  while (deaths_.size() > options_.max_dead) forget_first_death();
}

void PodTable::forget_first_death() {
  const Death death = deaths_.front();
  deaths_.pop_front();
  const auto found = cgroups_.find(death.id);
  // Not one that was made again under this id since.
  if (found != cgroups_.end() && !found->second.alive && found->second.died_ns == death.died_ns)
    forget(death.id);
}

void PodTable::expire(MonotonicNs now) {
  const auto keep_ns = to_ns(options_.keep_dead);
  while (!deaths_.empty() && now > deaths_.front().died_ns + keep_ns) forget_first_death();
}

void PodTable::forget(CgroupId id) {
  const auto found = cgroups_.find(id);
  if (found == cgroups_.end()) return;
  if (found->second.alive) by_path_.erase(found->second.path);
  release(found->second.owner);
  cgroups_.erase(found);
  ++version_;
}

void PodTable::set_pods(const PodList& list) {
  pods_.clear();
  containers_.clear();
  for (const auto& pod : list.pods) {
    pods_[pod.uid] = pod;
    if (!listed_) restarts_before_[pod.uid] = pod.restarts;
    for (const auto& container : pod.containers) containers_[container.id] = {pod.uid, container.name};
  }
  listed_ = true;
  // A static pod's mirror may go and come back while the pod itself goes on.
  std::erase_if(restarts_before_, [&](const auto& pod) {
    return !pods_.contains(pod.first) && !by_key_.contains(pod_key(pod.first));
  });
  for (auto& [id, cgroup] : cgroups_) {
    // A container whose path has no uid (cgroupsPerQOS off): only the API knows whose it is.
    if (cgroup.container_id.empty()) continue;
    const auto pod = containers_.find(cgroup.container_id);
    if (pod == containers_.end()) continue;  // a dead one keeps the name it had
    cgroup.container_name = pod->second.name;
    const auto owner = owners_.find(cgroup.owner);
    if (owner == owners_.end() || owner->second.entity->kind != EntityKind::kContainer) continue;
    const auto old = cgroup.owner;
    cgroup.owner = acquire(describe_pod(pod->second.uid), pod_key(pod->second.uid));
    release(old);
    ++version_;
  }
  for (const auto& entry : owners_) rename(entry.first);
}

void PodTable::rename(EntityId id) {
  auto& owner = owners_[id];
  if (owner.entity->kind != EntityKind::kPod || !pods_.contains(owner.entity->uid)) return;
  auto entity = describe_pod(owner.entity->uid);
  entity.id = id;
  entity.restarts = owner.entity->restarts;
  if (same(entity, *owner.entity)) return;
  owner.entity = std::make_shared<const Entity>(std::move(entity));
  ++version_;
}

EntityPtr PodTable::find(CgroupId id) const {
  const auto found = cgroups_.find(id);
  if (found == cgroups_.end()) return nullptr;
  return entity(found->second.owner);
}

EntityPtr PodTable::entity(EntityId id) const {
  if (id == kNodeEntity) return node_;
  const auto owner = owners_.find(id);
  return owner == owners_.end() ? nullptr : owner->second.entity;
}

std::string PodTable::container_name(CgroupId id) const {
  const auto found = cgroups_.find(id);
  return found == cgroups_.end() ? std::string() : found->second.container_name;
}

std::optional<std::uint64_t> PodTable::restarts(EntityId id) const {
  const auto owner = owners_.find(id);
  if (owner == owners_.end() || owner->second.entity->kind != EntityKind::kPod) return std::nullopt;
  const auto pod = pods_.find(owner->second.entity->uid);
  if (pod == pods_.end()) return std::nullopt;
  const auto before = restarts_before_.find(pod->first);
  return pod->second.restarts -
         (before == restarts_before_.end() ? 0 : std::min(before->second, pod->second.restarts));
}

EntityPtr PodTable::find_directory(std::string_view name) const {
  for (const bool alive : {true, false}) {
    std::set<EntityId> owners;
    for (const auto& [id, cgroup] : cgroups_) {
      const std::string_view path = cgroup.path;
      if (cgroup.alive == alive && path.substr(path.rfind('/') + 1) == name) owners.insert(cgroup.owner);
    }
    if (owners.size() == 1 && *owners.begin() != kNodeEntity) return entity(*owners.begin());
    if (!owners.empty()) return nullptr;
  }
  return nullptr;
}

std::string_view PodTable::path(CgroupId id) const {
  const auto found = cgroups_.find(id);
  return found == cgroups_.end() ? std::string_view() : std::string_view(found->second.path);
}

std::vector<LivingEntity> PodTable::living() const {
  std::unordered_map<EntityId, LivingEntity> found;
  for (const auto& [id, cgroup] : cgroups_) {
    if (!cgroup.alive || cgroup.owner == kNodeEntity) continue;
    auto& living = found[cgroup.owner];
    living.members.push_back(cgroup.path);
    if (std::find(living.roots.begin(), living.roots.end(), cgroup.root) == living.roots.end()) {
      living.roots.push_back(cgroup.root);
    }
  }
  std::vector<LivingEntity> all;
  all.reserve(found.size());
  for (auto& [id, living] : found) {
    living.entity = entity(id);
    std::sort(living.members.begin(), living.members.end());
    std::sort(living.roots.begin(), living.roots.end());
    all.push_back(std::move(living));
  }
  std::sort(all.begin(), all.end(), [](const LivingEntity& left, const LivingEntity& right) {
    return left.entity->id < right.entity->id;
  });
  return all;
}

std::vector<CgroupId> PodTable::living_ids() const {
  std::vector<CgroupId> ids;
  ids.reserve(cgroups_.size());
  for (const auto& [id, cgroup] : cgroups_) {
    if (cgroup.alive) ids.push_back(id);
  }
  return ids;
}

}  // namespace vedette
