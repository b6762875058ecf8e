#include "agent/pods/cgroup_names.h"

#include <algorithm>
#include <array>
#include <cstddef>
#include <optional>

namespace vedette {
namespace {

constexpr std::size_t kContainerIdLength = 64;  // docker, containerd, CRI-O and podman: sha256 in hex
constexpr std::size_t kUuidLength = 36;
constexpr std::size_t kConfigHashLength = 32;  // a static pod's uid: md5 of its manifest in hex

bool is_hex(std::string_view text) {
  return std::all_of(text.begin(), text.end(),
                     [](char c) { return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'f'); });
}

bool is_container_id(std::string_view text) {
  return text.size() == kContainerIdLength && is_hex(text);
}

// The systemd driver writes '_' where the uid has '-': '-' separates the levels of a slice there.
std::optional<std::string> parse_pod_uid(std::string_view text) {
  if (text.size() == kConfigHashLength && is_hex(text)) return std::string(text);
  if (text.size() != kUuidLength) return std::nullopt;
  std::string uid(text);
  for (std::size_t i = 0; i < kUuidLength; ++i) {
    const bool dash = i == 8 || i == 13 || i == 18 || i == 23;
    if (dash) {
      if (uid[i] != '-' && uid[i] != '_') return std::nullopt;
      uid[i] = '-';
    } else if (!is_hex(std::string_view(uid).substr(i, 1))) {
      return std::nullopt;
    }
  }
  return uid;
}

// How runtimes name a container's own directory: PREFIX + id + SUFFIX.
struct ContainerForm {
  std::string_view prefix;
  std::string_view suffix;
};
constexpr std::array kContainerForms{
    ContainerForm{"docker-", ".scope"},
    ContainerForm{"cri-containerd-", ".scope"},
    ContainerForm{"crio-", ".scope"},
    ContainerForm{"libpod-", ".scope"},
    ContainerForm{"nerdctl-", ".scope"},
    ContainerForm{"libpod-payload-", ""},
    ContainerForm{"crio-", ""},
    ContainerForm{"libpod-", ""},
    ContainerForm{"cri-containerd-", ""},
    ContainerForm{"", ""},
    ContainerForm{"libpod-conmon-", ".scope"},  // the monitor beside the container is part of it
    ContainerForm{"crio-conmon-", ".scope"},
};

// Directories that stand above containers and pods and hold no process of their own.
constexpr std::array<std::string_view, 2> kGroupingDirectories{"docker", "libpod_parent"};

constexpr std::array<std::string_view, 3> kUnitSuffixes{".service", ".scope", ".slice"};

std::optional<std::string> parse_container(std::string_view segment) {
  // "SLICE:RUNTIME:ID": a runtime told to use the systemd driver that could not.
  if (const auto colon = segment.rfind(':'); colon != std::string_view::npos) {
    segment.remove_prefix(colon + 1);
  }
  for (const auto& form : kContainerForms) {
    if (!segment.starts_with(form.prefix) || !segment.ends_with(form.suffix)) continue;
    if (segment.size() != form.prefix.size() + kContainerIdLength + form.suffix.size()) continue;
    const auto id = segment.substr(form.prefix.size(), kContainerIdLength);
    if (is_container_id(id)) return std::string(id);
  }
  return std::nullopt;
}

// "pod<uid>" (cgroupfs driver) below a kubepods directory, or "...kubepods[-qos]-pod<uid>.slice" (systemd
// driver; whatever --cgroup-root is stands before "kubepods").
std::optional<std::string> parse_pod(std::string_view segment, bool below_kubepods) {
  if (below_kubepods && segment.starts_with("pod")) {
    if (auto uid = parse_pod_uid(segment.substr(3))) return uid;
  }
  constexpr std::string_view kPodMark = "-pod";
  const auto kubepods = segment.find("kubepods");
  const auto mark = segment.rfind(kPodMark);
  const auto end = segment.find(".slice");
  if (kubepods == std::string_view::npos || mark == std::string_view::npos || end == std::string_view::npos ||
      end < mark) {
    return std::nullopt;
  }
  const auto begin = mark + kPodMark.size();
  return parse_pod_uid(segment.substr(begin, end - begin));
}

bool is_kubepods(std::string_view segment) {
  return segment == "kubepods" || segment == "kubepods.slice" || segment.ends_with("-kubepods.slice");
}

// Slices that only group pods: kubepods.slice, kubepods-besteffort.slice, kubelet-kubepods-burstable.slice.
bool is_kubepods_group(std::string_view segment) {
  return is_kubepods(segment) ||
         (segment.ends_with(".slice") &&
          (segment.starts_with("kubepods-") || segment.find("-kubepods-") != segment.npos));
}

bool is_unit(std::string_view segment) {
  return std::any_of(kUnitSuffixes.begin(), kUnitSuffixes.end(), [&](std::string_view suffix) {
    return segment.size() > suffix.size() && segment.ends_with(suffix);
  });
}

// "user-1000.slice": all sessions and services of one user are one entity, or each login would make a new
// one.
bool is_user_slice(std::string_view segment) {
  constexpr std::string_view kPrefix = "user-";
  constexpr std::string_view kSuffix = ".slice";
  if (!segment.starts_with(kPrefix) || !segment.ends_with(kSuffix)) return false;
  const auto uid = segment.substr(kPrefix.size(), segment.size() - kPrefix.size() - kSuffix.size());
  return !uid.empty() && std::all_of(uid.begin(), uid.end(), [](char c) { return c >= '0' && c <= '9'; });
}

}  // namespace

CgroupName parse_cgroup_path(std::string_view path) {
  constexpr std::string_view kDeleted = " (deleted)";  // /proc/PID/cgroup of a cgroup that is gone
  if (path.ends_with(kDeleted)) path.remove_suffix(kDeleted.size());
  while (path.ends_with('/')) path.remove_suffix(1);
  if (path.empty()) return {};

  CgroupName pod;
  CgroupName container;
  CgroupName unit;
  std::string_view slice;  // the deepest one: owner of processes that no unit holds
  std::size_t slice_end = 0;
  bool below_kubepods = false;
  bool grouping = false;  // the last segment only groups others

  for (std::size_t begin = 1; begin <= path.size();) {
    const std::size_t end = std::min(path.find('/', begin), path.size());
    const auto segment = path.substr(begin, end - begin);
    const auto prefix = path.substr(0, end);
    grouping = false;
    if (pod.id.empty()) {
      if (auto uid = parse_pod(segment, below_kubepods)) {
        pod = {EntityKind::kPod, *std::move(uid), std::string(prefix), {}};
      } else if (is_kubepods(segment)) {
        below_kubepods = true;
        grouping = true;
      } else if (is_kubepods_group(segment) ||
                 (below_kubepods && (segment == "burstable" || segment == "besteffort"))) {
        grouping = true;
      }
    }
    if (auto id = parse_container(segment)) {
      if (!pod.id.empty()) {
        if (pod.container_id.empty()) pod.container_id = *std::move(id);
      } else if (container.id.empty()) {
        container = {EntityKind::kContainer, *std::move(id), std::string(prefix), {}};
      }
    } else if (is_unit(segment) && unit.id.empty() && container.id.empty()) {
      if (!segment.ends_with(".slice") || is_user_slice(segment)) {
        unit = {EntityKind::kUnit, std::string(segment), std::string(prefix), {}};
      } else {
        slice = segment;
        slice_end = end;
      }
    } else if (end == path.size() && std::find(kGroupingDirectories.begin(), kGroupingDirectories.end(),
                                               segment) != kGroupingDirectories.end()) {
      grouping = true;
    }
    begin = end + 1;
  }

  if (!pod.id.empty()) return pod;
  // "SLICE:RUNTIME:ID" holds the pod and its container in one directory and is found above as a pod.
  if (grouping && container.id.empty()) return {};
  if (!container.id.empty()) return container;
  if (!unit.id.empty()) return unit;
  if (!slice.empty() && slice_end == path.size()) {
    return {EntityKind::kUnit, std::string(slice), std::string(path), {}};
  }
  return {EntityKind::kCgroup, std::string(path), std::string(path), {}};
}

}  // namespace vedette
