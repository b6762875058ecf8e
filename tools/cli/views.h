// The answers as text for people and as JSON for programs (field names: README.md beside this file).
// Pure functions: any thread.
#pragma once

#include <string>

#include "tools/cli/screen.h"

namespace vedette {

namespace api {
class Response;
}  // namespace api

// Each expects the answer it is named after.
std::string status_view(const api::Response& response, const Screen& screen);
std::string explain_view(const api::Response& response, const Screen& screen);
std::string policy_view(const api::Response& response, const Screen& screen);
std::string probes_view(const api::Response& response, const Screen& screen);
std::string plan_view(const api::Response& response, const Screen& screen);
std::string incidents_view(const api::Response& response, const Screen& screen);
std::string incident_view(const api::Response& response, const Screen& screen);
std::string evacuation_view(const api::Response& response, const Screen& screen);

enum class TopOrder : unsigned char { kSeverity, kRisk, kAnomaly, kCpu, kMemory };
struct TopState {
  TopOrder order = TopOrder::kSeverity;
  std::size_t scroll = 0;  // rows hidden above
  bool live = false;       // exactly screen.rows lines, with a line of keys
  std::string notice;      // shown instead of the keys: "agent gone, waiting"
};
std::string top_view(const api::Response& response, const Screen& screen, const TopState& state);

// Any answer, Error included, as one JSON document; a missing number is null.
std::string json_view(const api::Response& response);

}  // namespace vedette
