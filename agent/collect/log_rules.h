// Which lines of the kernel log mean trouble: one table, of which collect/LogSource takes what to hear of and
// assess/ what to make of it. Data: agent/collect/log_rules.yaml ships inside the binary, users put theirs
// before it. Immutable once made: any thread.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include <re2/set.h>

#include "agent/base/result.h"
#include "agent/base/severity.h"
#include "agent/collect/signals.h"
#include "agent/yaml_section.h"

namespace vedette {

// The fields of log_rules.yaml, which explains them.
struct LogRule {
  std::string pattern;
  std::string reason;  // empty: such lines are not heard of
  Domain domain = Domain::kKernel;
  Severity severity = Severity::kDegraded;
  std::uint32_t unhealthy_at = 0;
  std::string probe;
  std::optional<vedette_counter> counter = {};  // one of log_counters()
};

// The counters of bpf/signals.h that are read from the kernel log, in their order there.
const std::vector<vedette_counter>& log_counters();

// The list below the key `log_rules` of `root`; none if it is not there. Errors name file, line, field and
// what was expected.
Result<std::vector<LogRule>> read_log_rules(YamlSection& root);

class LogRules {
public:
  // `rules` first, then those that ship. Fails only if all patterns together are too large.
  static Result<std::shared_ptr<const LogRules>> make(std::vector<LogRule> rules);
  // Those that ship, alone.
  static const std::shared_ptr<const LogRules>& builtin();

  // The first rule whose pattern `line` contains; null if there is none. All patterns are looked for at once,
  // in time proportional to the line's length whatever they are.
  const LogRule* find(std::string_view line) const;
  // All of them, the first one first.
  std::vector<const LogRule*> find_all(std::string_view line) const;
  const std::vector<LogRule>& rules() const { return rules_; }

private:
  explicit LogRules(std::vector<LogRule> rules);

  std::vector<LogRule> rules_;
  re2::RE2::Set patterns_;
};

}  // namespace vedette
