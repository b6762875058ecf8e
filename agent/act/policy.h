// What may be done about which trouble of the node: an ordered list of rules, as data. agent/act/policy.yaml
// explains the fields and ships inside the binary; `policy:` of the configuration replaces it. Read by
// act/decider and by `vedette policy`; immutable once made: any thread.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "agent/act/track_record.h"
#include "agent/assess/condition.h"
#include "agent/base/result.h"
#include "agent/yaml_section.h"

namespace vedette {

enum class Effect : std::uint8_t { kNone, kPreferNoSchedule, kNoSchedule, kNoExecute };  // weakest first
std::string_view to_string(Effect effect);
std::optional<Effect> parse_effect(std::string_view text);

struct PolicyRule {
  // Under which its record is kept. Without one in the file: made of what it is about, "event-unhealthy".
  std::string name;
  std::optional<Domain> domain;
  std::optional<Evidence> evidence;
  std::string reason;
  Severity severity = Severity::kInfo;
  double confidence = 0.8;
  double for_s = 0;
  Effect effect = Effect::kNone;
  Effect escalate_to = Effect::kNone;  // kNone: never
  double escalate_after_s = 0;
  std::optional<double> recovery_s;  // none: as long as the condition
  // It acts once its record has so many verdicts, this part of them confirmed; 0: at once.
  unsigned after_verdicts = 0;
  double after_precision = 0;

  bool is_about(const Condition& condition) const;
  // What its record lacks: "has 3 of 20 verdicts"; empty: it may act.
  std::string lacks(const TrackRecord& record) const;
};

struct Policy {
  std::vector<PolicyRule> rules;
  std::vector<std::string> critical;
  unsigned relapse_doublings = 4;
  std::string origin;  // "built in", or the file

  // Those that ship.
  static const std::shared_ptr<const Policy>& builtin();
  // The section `policy` of `root`, and what ships where it says nothing. Errors name file, line, field and
  // what was expected.
  static Result<Policy> read(YamlSection& root, const std::string& origin);
  // The same of a configuration file.
  static Result<Policy> load(const std::string& file);
  // What read() makes the same policy of, whatever ships by then.
  std::string yaml() const;

  // Number of the first rule about `condition`; rules.size() if there is none.
  std::size_t find(const Condition& condition) const;
  // `pod`: NAMESPACE/NAME.
  bool is_critical(const std::string& pod) const;
};

// A rule in plain words.
struct RuleText {
  std::string about;  // "hard evidence of storage, unhealthy"
  std::string when;   // "confidence 0.8, for 10s"
  std::string does;   // "NoSchedule; NoExecute after 5m; lifted 5m after the last evidence"
};
RuleText describe(const PolicyRule& rule);

}  // namespace vedette
