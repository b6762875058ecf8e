#include "agent/record/verdict.h"

#include <bit>
#include <cmath>
#include <cstdint>
#include <cstdio>

namespace vedette {
namespace {

// All 17 digits: two doubles that differ must look different.
std::string text(double value) {
  char buffer[40];
  std::snprintf(buffer, sizeof buffer, "%.17g", value);
  return buffer;
}
std::string text(bool value) {
  return value ? "true" : "false";
}
std::string text(std::uint64_t value) {
  return std::to_string(value);
}
std::string text(const std::string& value) {
  return "\"" + value + "\"";
}

bool same(double a, double b) {
  return same_bits(a, b);
}
template <typename T>
bool same(const T& a, const T& b) {
  return a == b;
}

class Differences {
public:
  explicit Differences(std::size_t limit) : limit_(limit) {}

  void add(std::string sentence) {
    if (list_.size() < limit_) {
      list_.push_back(std::move(sentence));
    } else {
      ++more_;
    }
  }
  template <typename T>
  void compare(const std::string& what, const T& recorded, const T& replayed) {
    if (!same(recorded, replayed))
      add(what + ": recorded " + text(recorded) + ", replayed " + text(replayed));
  }
  std::vector<std::string> take() {
    if (more_ > 0) list_.push_back("and " + std::to_string(more_) + " more");
    return std::move(list_);
  }

private:
  std::size_t limit_;
  std::size_t more_ = 0;
  std::vector<std::string> list_;
};

}  // namespace

bool same_bits(double a, double b) {
  if (std::isnan(a) || std::isnan(b)) return std::isnan(a) && std::isnan(b);
  return std::bit_cast<std::uint64_t>(a) == std::bit_cast<std::uint64_t>(b);
}

RecordedVerdict verdict_of(const Snapshot& snapshot) {
  RecordedVerdict verdict;
  verdict.entities.reserve(snapshot.scores.entities.size());
  for (std::size_t row = 0; row < snapshot.scores.entities.size(); ++row) {
    const EntityScore& score = snapshot.scores.entities[row];
    const EntityId id = row < snapshot.features.entities.size() ? snapshot.features.entities[row]->id : 0;
    verdict.entities.push_back(
        {id, score.anomaly, score.anomaly_threshold, score.risk, score.anomalous, score.learning, {}});
    if (score.reasons_matter()) verdict.entities.back().anomaly_reasons = score.anomaly_reasons;
  }
  verdict.conditions.reserve(snapshot.conditions.size());
  for (const Condition& condition : snapshot.conditions) {
    verdict.conditions.push_back({condition.reason, condition.entity ? condition.entity->id : kNodeEntity,
                                  condition.severity, condition.since.monotonic_ns, condition.confidence,
                                  condition.count, condition.recovering});
  }
  verdict.generation = snapshot.decision.generation;
  verdict.taint = snapshot.decision.taint;
  verdict.reason = snapshot.decision.reason;
  verdict.held_back = snapshot.decision.held_back;
  verdict.effect = snapshot.decision.effect;
  return verdict;
}

std::vector<std::string> verdict_differences(const RecordedVerdict& recorded, const RecordedVerdict& now,
                                             const std::vector<EntityPtr>& entities, std::size_t limit) {
  Differences differences(limit);

  if (recorded.entities.size() != now.entities.size()) {
    differences.add("entities scored: recorded " + std::to_string(recorded.entities.size()) + ", replayed " +
                    std::to_string(now.entities.size()));
  } else {
    for (std::size_t row = 0; row < now.entities.size(); ++row) {
      const auto& a = recorded.entities[row];
      const auto& b = now.entities[row];
      const std::string name = row < entities.size() ? entities[row]->name : std::to_string(row);
      differences.compare(name + " id", std::uint64_t{a.entity}, std::uint64_t{b.entity});
      differences.compare(name + " anomaly", a.anomaly, b.anomaly);
      differences.compare(name + " anomaly threshold", a.anomaly_threshold, b.anomaly_threshold);
      differences.compare(name + " anomalous", a.anomalous, b.anomalous);
      differences.compare(name + " learning", std::uint64_t(a.learning), std::uint64_t(b.learning));
      differences.compare(name + " risk", a.risk, b.risk);
    }
  }

  if (recorded.conditions.size() != now.conditions.size()) {
    differences.add("conditions: recorded " + std::to_string(recorded.conditions.size()) + ", replayed " +
                    std::to_string(now.conditions.size()));
  } else {
    for (std::size_t i = 0; i < now.conditions.size(); ++i) {
      const auto& a = recorded.conditions[i];
      const auto& b = now.conditions[i];
      const std::string name = "condition " + b.reason;
      differences.compare(name + " reason", a.reason, b.reason);
      differences.compare(name + " entity", std::uint64_t{a.entity}, std::uint64_t{b.entity});
      differences.compare(name + " severity", std::uint64_t(a.severity), std::uint64_t(b.severity));
      differences.compare(name + " since", a.since_ns, b.since_ns);
      differences.compare(name + " confidence", a.confidence, b.confidence);
      differences.compare(name + " count", std::uint64_t{a.count}, std::uint64_t{b.count});
      differences.compare(name + " recovering", a.recovering, b.recovering);
    }
  }

  differences.compare("decision generation", recorded.generation, now.generation);
  differences.compare("decision taint", recorded.taint, now.taint);
  differences.compare("decision reason", recorded.reason, now.reason);
  differences.compare("decision effect", recorded.effect, now.effect);
  differences.compare("decision held back", recorded.held_back, now.held_back);
  return differences.take();
}

}  // namespace vedette
