#include "agent/act/policy.h"

#include <algorithm>
#include <array>
#include <cctype>
#include <cstdio>
#include <utility>

#include <fnmatch.h>
#include <yaml-cpp/yaml.h>

#include "agent/base/duration.h"

// Labels of agent/CMakeLists.txt.
// NOLINTNEXTLINE(readability-identifier-naming)
extern "C" const char vedette_policy_rules[], vedette_policy_rules_end[];

namespace vedette {
namespace {

constexpr std::array<std::string_view, 4> kEffects{"None", "PreferNoSchedule", "NoSchedule", "NoExecute"};
constexpr const char* kEffectForm = "None, PreferNoSchedule, NoSchedule or NoExecute";
constexpr double kDayS = 86'400;  // longer than a day is an operator's affair

Effect read_effect(YamlSection& section) {
  std::string text;
  section.required("effect", text);
  const std::optional<Effect> effect = parse_effect(text);
  if (!effect) section.refuse("effect", kEffectForm);
  return effect.value_or(Effect::kNone);
}

Result<PolicyRule> read_rule(YamlSection& section) {
  PolicyRule rule;
  std::size_t domain = 0;
  std::size_t evidence = 0;
  std::size_t severity = 0;
  section
      .choice("domain", domain,
              {"any", "kernel", "memory", "cpu", "storage", "network", "hardware", "runtime"})
      .choice("evidence", evidence, {"any", "event", "level", "risk", "anomaly"})
      .text("reason", rule.reason)
      .choice("severity", severity, {"info", "degraded", "unhealthy"})
      .number("confidence", rule.confidence, 0, 1)
      .duration("for", rule.for_s, kDayS);
  section.text("name", rule.name);
  const auto plain = [](unsigned char c) { return std::islower(c) != 0 || std::isdigit(c) != 0 || c == '-'; };
  if (section.has("name") && (rule.name.empty() || !std::ranges::all_of(rule.name, plain)))
    section.refuse("name", "a name of small letters, digits and hyphens");
  double recovery_s = -1;
  section.duration("recovery", recovery_s, kDayS);
  rule.effect = read_effect(section);
  if (section.has("escalate")) {
    YamlSection escalate = section.section("escalate");
    escalate.duration("after", rule.escalate_after_s, kDayS);
    rule.escalate_to = read_effect(escalate);
    if (rule.escalate_to <= rule.effect) escalate.refuse("effect", "a stronger effect than the rule's own");
    if (Status ok = escalate.finish(); !ok) return tl::unexpected(ok.error());
  }
  if (section.has("after")) {
    YamlSection after = section.section("after");
    after.count<unsigned>("verdicts", rule.after_verdicts, 1, 1'000'000)
        .number("precision", rule.after_precision, 0, 1);
    if (Status ok = after.finish(); !ok) return tl::unexpected(ok.error());
    if (rule.after_verdicts == 0) section.refuse("after", "verdicts: how many it takes");
  }
  if (Status ok = section.finish(); !ok) return tl::unexpected(ok.error());
  if (domain > 0) rule.domain = static_cast<Domain>(domain - 1);
  if (evidence > 0) rule.evidence = static_cast<Evidence>(evidence - 1);
  rule.severity = static_cast<Severity>(severity);
  if (recovery_s >= 0) rule.recovery_s = recovery_s;
  return rule;
}

// Of what it is about, so that it stays when rules are put in order anew.
std::string name_of(const PolicyRule& rule) {
  std::string name;
  const auto add = [&](std::string_view part) { name += (name.empty() ? "" : "-") + std::string(part); };
  if (rule.domain) add(to_string(*rule.domain));
  if (rule.evidence) add(to_string(*rule.evidence));
  for (const char c : rule.reason) {
    if (std::isupper(static_cast<unsigned char>(c)) != 0) add("");
    name += static_cast<char>(std::tolower(static_cast<unsigned char>(c)));
  }
  if (rule.severity != Severity::kInfo) add(to_string(rule.severity));
  return name.empty() ? "rest" : name;
}

Status read_into(Policy& policy, YamlSection& root) {
  YamlSection section = root.section("policy");
  section.count<unsigned>("relapse_doublings", policy.relapse_doublings, 0, 10)
      .words("critical", policy.critical);
  for (const std::string& pattern : policy.critical) {
    if (std::ranges::count(pattern, '/') != 1 || pattern.front() == '/' || pattern.back() == '/')
      section.refuse("critical", "a list of pods as NAMESPACE/NAME, not '" + pattern + "'");
  }
  std::vector<PolicyRule> rules;
  for (YamlSection& entry : section.sections("rules")) {
    Result<PolicyRule> rule = read_rule(entry);
    if (!rule) return tl::unexpected(rule.error());
    const auto taken = [&](const std::string& name) {
      return std::ranges::any_of(rules, [&](const PolicyRule& other) { return other.name == name; });
    };
    if (rule->name.empty()) {
      const std::string name = name_of(*rule);
      rule->name = name;
      for (int number = 2; taken(rule->name); ++number) rule->name = name + "-" + std::to_string(number);
    } else if (taken(rule->name)) {
      entry.refuse("name", "a name that no other rule has");
      return entry.finish();
    }
    rules.push_back(std::move(*rule));
  }
  if (!rules.empty()) policy.rules = std::move(rules);
  return section.finish();
}

Policy shipped() {
  const std::string_view text(vedette_policy_rules,
                              static_cast<std::size_t>(vedette_policy_rules_end - vedette_policy_rules));
  Policy policy;
  policy.origin = "built in";
  // Never fails: a unit test reads the same text.
  if (auto root = YamlSection::parse(text, "policy.yaml")) static_cast<void>(read_into(policy, *root));
  return policy;
}

}  // namespace

std::string_view to_string(Effect effect) {
  return kEffects[static_cast<std::size_t>(effect)];
}

std::optional<Effect> parse_effect(std::string_view text) {
  const auto found = std::ranges::find(kEffects, text);
  if (found == kEffects.end()) return std::nullopt;
  return static_cast<Effect>(found - kEffects.begin());
}

bool PolicyRule::is_about(const Condition& condition) const {
  return (!domain || *domain == condition.domain) && (!evidence || *evidence == condition.evidence) &&
         (reason.empty() || reason == condition.reason) && condition.severity >= severity;
}

std::string PolicyRule::lacks(const TrackRecord& record) const {
  if (after_verdicts == 0) return "";
  const auto found = record.find(name);
  const RuleRecord mine = found == record.end() ? RuleRecord{} : found->second;
  if (mine.verdicts() < after_verdicts) {
    return "has " + std::to_string(mine.verdicts()) + " of " + std::to_string(after_verdicts) + " verdicts";
  }
  if (mine.precision() >= after_precision) return "";
  char text[64];
  std::snprintf(text, sizeof text, "has a precision of %.3g, it takes %g", mine.precision(), after_precision);
  return text;
}

const std::shared_ptr<const Policy>& Policy::builtin() {
  static const auto policy = std::make_shared<const Policy>(shipped());
  return policy;
}

Result<Policy> Policy::read(YamlSection& root, const std::string& origin) {
  Policy policy = *builtin();
  if (!root.has("policy")) return policy;
  policy.origin = origin;
  if (Status ok = read_into(policy, root); !ok) return tl::unexpected(ok.error());
  return policy;
}

Result<Policy> Policy::load(const std::string& file) {
  Result<YamlSection> root = YamlSection::load(file);
  if (!root) return tl::unexpected(root.error());
  return read(*root, file);
}

std::string Policy::yaml() const {
  const auto number = [](double value, const char* unit) {
    char text[40];
    std::snprintf(text, sizeof text, "%.17g%s", value, unit);
    return std::string(text);
  };
  YAML::Emitter out;
  out << YAML::BeginMap << YAML::Key << "policy" << YAML::Value << YAML::BeginMap;
  out << YAML::Key << "relapse_doublings" << YAML::Value << relapse_doublings;
  out << YAML::Key << "critical" << YAML::Value << YAML::Flow << critical;
  out << YAML::Key << "rules" << YAML::Value << YAML::BeginSeq;
  const auto put = [&](const char* key, const std::string& value) {
    out << YAML::Key << key << YAML::Value << value;
  };
  for (const PolicyRule& rule : rules) {
    out << YAML::Flow << YAML::BeginMap;
    put("name", rule.name);
    if (rule.domain) put("domain", std::string(to_string(*rule.domain)));
    if (rule.evidence) put("evidence", std::string(to_string(*rule.evidence)));
    if (!rule.reason.empty()) put("reason", rule.reason);
    put("severity", std::string(to_string(rule.severity)));
    put("confidence", number(rule.confidence, ""));
    put("for", number(rule.for_s, "s"));
    put("effect", std::string(to_string(rule.effect)));
    if (rule.escalate_to != Effect::kNone) {
      out << YAML::Key << "escalate" << YAML::Value << YAML::BeginMap;
      put("after", number(rule.escalate_after_s, "s"));
      put("effect", std::string(to_string(rule.escalate_to)));
      out << YAML::EndMap;
    }
    if (rule.recovery_s) put("recovery", number(*rule.recovery_s, "s"));
    if (rule.after_verdicts > 0) {
      out << YAML::Key << "after" << YAML::Value << YAML::BeginMap;
      put("verdicts", std::to_string(rule.after_verdicts));
      put("precision", number(rule.after_precision, ""));
      out << YAML::EndMap;
    }
    out << YAML::EndMap;
  }
  out << YAML::EndSeq << YAML::EndMap << YAML::EndMap;
  return out.c_str();
}

std::size_t Policy::find(const Condition& condition) const {
  const auto rule = std::ranges::find_if(rules, [&](const PolicyRule& r) { return r.is_about(condition); });
  return static_cast<std::size_t>(rule - rules.begin());
}

bool Policy::is_critical(const std::string& pod) const {
  return std::ranges::any_of(critical, [&](const std::string& pattern) {
    return ::fnmatch(pattern.c_str(), pod.c_str(), FNM_PATHNAME) == 0;
  });
}

RuleText describe(const PolicyRule& rule) {
  RuleText text;
  if (!rule.reason.empty()) {
    text.about = rule.reason;
  } else if (!rule.evidence) {
    text.about = "any evidence";
  } else {
    constexpr std::array<const char*, 4> kNames{"hard evidence", "levels", "predicted failures", "anomalies"};
    text.about = kNames[static_cast<std::size_t>(*rule.evidence)];
  }
  if (rule.domain) text.about += " of " + std::string(to_string(*rule.domain));
  if (!rule.reason.empty() && rule.evidence) text.about += " by " + std::string(to_string(*rule.evidence));
  if (rule.severity == Severity::kDegraded) text.about += ", degraded or worse";
  if (rule.severity == Severity::kUnhealthy) text.about += ", unhealthy";
  if (rule.effect == Effect::kNone && rule.escalate_to == Effect::kNone) {
    text.when = "always";
    text.does = "nothing";
    return text;
  }
  char number[32];
  std::snprintf(number, sizeof number, "confidence %g", rule.confidence);
  text.when = number;
  if (rule.for_s > 0) text.when += ", evidence for " + duration_text(rule.for_s);
  if (rule.after_verdicts > 0) {
    char need[96];
    std::snprintf(need, sizeof need, ", after %u verdicts at precision %g", rule.after_verdicts,
                  rule.after_precision);
    text.when += need;
  }
  text.does = rule.effect == Effect::kNone ? "nothing" : std::string(to_string(rule.effect));
  if (rule.escalate_to != Effect::kNone) {
    text.does += "; " + std::string(to_string(rule.escalate_to)) + " after evidence for " +
                 duration_text(rule.escalate_after_s);
  }
  text.does += rule.recovery_s ? "; lifted " + duration_text(*rule.recovery_s) + " after the last evidence"
                               : "; lifted when the condition is over";
  return text;
}

}  // namespace vedette
