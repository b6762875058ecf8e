#include "agent/act/node_verdict.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <utility>

#include <nlohmann/json.hpp>

#include "agent/kube/node.h"

namespace vedette {
namespace {

using Json = nlohmann::ordered_json;

constexpr std::size_t kMaxVerdict = 4096;
// Of a sentence: a dozen conditions then have room.
constexpr std::size_t kMaxSentence = 160;
// Whoever may write the annotation may not keep a node tainted for ever by it.
constexpr double kMaxRecoveryS = 86'400;

constexpr std::array<std::pair<Domain, const char*>, 7> kTypes{{
    {Domain::kKernel, "VedetteKernelHealthy"},
    {Domain::kMemory, "VedetteMemoryHealthy"},
    {Domain::kCpu, "VedetteCPUHealthy"},
    {Domain::kStorage, "VedetteStorageHealthy"},
    {Domain::kNetwork, "VedetteNetworkHealthy"},
    {Domain::kHardware, "VedetteHardwareHealthy"},
    {Domain::kRuntime, "VedetteRuntimeHealthy"},
}};

std::string text_of(const Json& value) {
  return value.dump(-1, ' ', false, Json::error_handler_t::replace);
}

double rounded(double value) {
  return std::round(value * 100) / 100;
}

// The first that `fits`, for they come worst first; the others are counted.
template <typename Fits>
WantedCondition wanted(const char* type, const char* healthy, const std::vector<Condition>& conditions,
                       Fits fits) {
  WantedCondition made{type, true, "Healthy", healthy};
  std::size_t more = 0;
  for (const Condition& condition : conditions) {
    if (condition.severity == Severity::kInfo || !fits(condition)) continue;
    if (!made.healthy) {
      ++more;
      continue;
    }
    made.healthy = false;
    made.reason = condition.reason;
    made.message = condition.message;
    if (condition.entity->kind != EntityKind::kNode) made.message.insert(0, condition.entity->name + ": ");
  }
  if (more > 0) made.message += "; and " + std::to_string(more) + " more";
  return made;
}

}  // namespace

std::vector<WantedCondition> node_conditions(const std::vector<Condition>& conditions) {
  std::vector<WantedCondition> list;
  list.reserve(kTypes.size() + 1);
  for (const auto& [domain, type] : kTypes) {
    list.push_back(wanted(type, "no evidence of trouble", conditions, [d = domain](const Condition& c) {
      return c.evidence != Evidence::kRisk && c.domain == d && c.entity->kind == EntityKind::kNode;
    }));
  }
  list.push_back(wanted("VedetteForecastHealthy", "no failure is predicted", conditions,
                        [](const Condition& c) { return c.evidence == Evidence::kRisk; }));
  return list;
}

std::string verdict_json(const Decision& decision, const std::vector<Condition>& conditions,
                         VerdictDetail detail) {
  const bool full = detail == VerdictDetail::kFull;
  Json verdict = {{"mode", to_string(decision.mode)},
                  {"paused", decision.paused},
                  {"effect", decision.taint ? decision.effect : "None"},
                  {"reason", decision.reason},
                  {"since", format_time(decision.since_wall_ns)},
                  {"remembered", Json::array()},
                  {"conditions", Json::array()}};
  for (const Remembered& one : decision.remembered) {
    Json entry = {{"reason", one.reason}, {"relapses", one.relapses}};
    if (one.recovery_s > 0) {
      entry["recovery_s"] = one.recovery_s;
    } else {
      entry["ended"] = format_time(one.ended_wall_ns);
    }
    verdict["remembered"].push_back(std::move(entry));
  }
  if (full) {
    verdict["message"] = cut_text(decision.message, kMaxSentence);
    verdict["predictions"] = Json::array();
  }
  std::size_t size = text_of(verdict).size();
  for (const Condition& condition : conditions) {
    if (condition.severity == Severity::kInfo) continue;
    const bool prediction = condition.evidence == Evidence::kRisk;
    if (prediction ? !full : condition.entity->kind != EntityKind::kNode) continue;
    Json entry = {{"reason", condition.reason},
                  {"domain", to_string(condition.domain)},
                  {"evidence", to_string(condition.evidence)},
                  {"severity", to_string(condition.severity)},
                  {"since", format_time(condition.since.wall_ns)}};
    if (full) {
      entry["confidence"] = rounded(condition.confidence);
      entry["message"] = cut_text(condition.message, kMaxSentence);
    }
    if (prediction) {
      entry["entity"] = cut_text(condition.entity->name, kMaxSentence);
      entry["probability"] = rounded(condition.probability);
      entry["horizon_s"] = condition.horizon_s;
    }
    size += text_of(entry).size() + 1;  // and its comma
    if (size > kMaxVerdict) break;
    verdict[prediction ? "predictions" : "conditions"].push_back(std::move(entry));
  }
  return text_of(verdict);
}

std::vector<Remembered> remembered_of(const std::string& verdict) {
  const Json read = Json::parse(verdict, nullptr, false);
  std::vector<Remembered> list;
  if (!read.is_object() || !read.contains("remembered") || !read["remembered"].is_array()) return list;
  for (const Json& entry : read["remembered"]) {
    if (!entry.is_object() || list.size() == kMaxRemembered) continue;
    const auto text = [&](const char* key) {
      return entry.contains(key) && entry[key].is_string() ? entry[key].get<std::string>() : std::string();
    };
    const auto number = [&](const char* key) {
      const double value = entry.contains(key) && entry[key].is_number() ? entry[key].get<double>() : 0;
      return std::clamp(value, 0.0, kMaxRecoveryS);
    };
    Remembered one{text("reason"), number("recovery_s"), parse_time(text("ended")),
                   static_cast<unsigned>(number("relapses"))};
    if (!one.reason.empty()) list.push_back(std::move(one));
  }
  return list;
}

}  // namespace vedette
