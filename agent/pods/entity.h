// What a verdict is about: the node, or one pod (without Kubernetes: one systemd unit or container).
// Made by pods/, read by every later stage; immutable once made, so any thread may hold one.
#pragma once

#include <cstdint>
#include <memory>
#include <string>

namespace vedette {

// Small number, unique for the life of the agent and never reused; the node is always 0.
using EntityId = std::uint32_t;
constexpr EntityId kNodeEntity = 0;

enum class EntityKind : std::uint8_t { kNode, kPod, kUnit, kContainer, kCgroup };

struct Entity {
  EntityId id = kNodeEntity;
  EntityKind kind = EntityKind::kNode;
  // Unique among the living, and what people type: "node", "pod/NAMESPACE/NAME", "unit/ssh.service",
  // "container/0123456789ab", "cgroup/PATH".
  std::string name = "node";
  std::string namespace_name;  // pods only
  std::string pod_name;        // pods only
  std::string uid;             // pods: the API's uid; containers: the full id
  std::string workload;        // what survives a restart: "Deployment/api", "ssh.service", image or path
  std::string revision{};      // of a pod: as in pod_info.h
  // How often it, or a container of it, was started again while the agent knew it.
  std::uint32_t restarts = 0;
};
using EntityPtr = std::shared_ptr<const Entity>;

}  // namespace vedette
