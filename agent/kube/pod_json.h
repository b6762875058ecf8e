// What Vedette wants of a Pod object and of a watch event, out of the API server's JSON. Pure functions;
// called by PodWatch's thread and by tests.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include <nlohmann/json_fwd.hpp>

#include "agent/base/result.h"
#include "agent/pods/pod_info.h"

namespace vedette {

// PodInfo::workload of a pod's metadata.
std::string workload_of(const nlohmann::json& metadata);

struct WatchedPod {
  std::string uid;  // metadata.uid, which for a static pod is not PodInfo::uid
  PodInfo info;
};

struct PodPage {
  std::vector<WatchedPod> pods;
  std::string resource_version;
  std::string continue_token;  // empty: the last page
};
// A PodList as LIST answers it. Errors: no JSON, not a PodList.
Result<PodPage> parse_pod_page(std::string_view body);

struct PodChange {
  enum class Kind { kSet, kDeleted, kBookmark, kError };
  Kind kind = Kind::kBookmark;
  WatchedPod pod;                // kSet, kDeleted
  std::string resource_version;  // all but kError
  long code = 0;                 // kError: 410 says that our resourceVersion is forgotten
  std::string message;           // kError
};
// One line of a watch. Errors: no JSON, an unknown type, a pod without uid.
Result<PodChange> parse_pod_change(std::string_view line);

}  // namespace vedette
