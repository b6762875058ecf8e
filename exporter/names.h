// Words for the enums of the snapshot that have none where they are declared. Pure functions: any thread.
#pragma once

#include <string_view>

#include "agent/collect/observation.h"
#include "agent/pods/entity.h"

namespace vedette {

// The entity, or the label, that stands for all without a series of their own.
inline constexpr const char* kRestName = "_other";

constexpr std::string_view to_string(EntityKind kind) {
  switch (kind) {
    case EntityKind::kNode:
      return "node";
    case EntityKind::kPod:
      return "pod";
    case EntityKind::kUnit:
      return "unit";
    case EntityKind::kContainer:
      return "container";
    case EntityKind::kCgroup:
      return "cgroup";
  }
  return "";
}

constexpr std::string_view label_name(detail_label label) {
  switch (label) {
    case LABEL_CALL:
      return "call";
    case LABEL_CODE:
      return "code";
    case LABEL_DEVICE:
      return "device";
    case LABEL_REASON:
      return "reason";
    case LABEL_SIGNAL:
      return "signal";
    case LABEL_SERVER:
      return "server";
  }
  return "label";
}

constexpr std::string_view to_string(ProbeState state) {
  switch (state) {
    case ProbeState::kAttached:
      return "attached";
    case ProbeState::kDegraded:
      return "degraded";
    case ProbeState::kOff:
      return "off";
    case ProbeState::kShed:
      return "shed";
  }
  return "";
}

}  // namespace vedette
