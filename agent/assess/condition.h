// A judged trouble of the node or of a pod: what people are told and what act/ decides on. Made by assess/,
// immutable in a snapshot.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "agent/base/clock.h"
#include "agent/base/severity.h"
#include "agent/pods/entity.h"

namespace vedette {

enum class Evidence : std::uint8_t { kEvent, kLevel, kRisk, kAnomaly };

std::string_view to_string(Evidence evidence);

struct Condition {
  std::string reason;  // CamelCase, stable, one of the names in assess/README.md: "FilesystemError"
  Domain domain = Domain::kKernel;
  Evidence evidence = Evidence::kEvent;
  Severity severity = Severity::kInfo;
  EntityPtr entity;  // never null: the node's conditions name the node
  // Somebody is worse off, and it does not say by whom: an incident asks for the cause.
  bool suffers = false;
  double confidence = 1;        // 0..1; telemetry loss lowers it
  Instant since;                // when it became active
  MonotonicNs evidence_ns = 0;  // the kernel's time of the newest evidence
  MonotonicNs first_evidence_ns = 0;
  std::uint32_t count = 0;  // pieces of evidence since it became active
  bool recovering = false;  // no new evidence; waits out its recovery time
  double recovers_in_s = 0;
  double probability = 0;  // a prediction: of a failure within horizon_s; 0: it is none
  double horizon_s = 0;
  // A prediction: what it announced has come since (an OOM kill, no descriptor or no disk space left). A
  // level or an anomaly: hard evidence of the same domain has.
  bool came_true = false;
  std::string message;               // one sentence with numbers
  std::vector<std::string> details;  // contributions: "memory_use 0.97 (+2.1)"
};

}  // namespace vedette
