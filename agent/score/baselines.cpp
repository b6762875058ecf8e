#include "agent/score/baselines.h"

namespace vedette {

std::string baseline_workload(const Entity& entity) {
  switch (entity.kind) {
    case EntityKind::kNode:
      return kNodeWorkload;
    case EntityKind::kPod: {
      if (entity.workload.empty()) return "";
      const bool own = entity.workload.starts_with("StatefulSet/");
      return "pod/" + entity.namespace_name + "/" + entity.workload + (own ? "/" + entity.pod_name : "");
    }
    case EntityKind::kUnit:
    case EntityKind::kCgroup:
      return entity.name;
    case EntityKind::kContainer:
      return "";
  }
  return "";
}

}  // namespace vedette
