#include "agent/act/policy.h"

#include <doctest/doctest.h>

using namespace vedette;

namespace {

std::string error_of(const std::string& yaml) {
  auto root = YamlSection::parse(yaml, "f");
  if (!root) return root.error().text;
  const auto policy = Policy::read(*root, "f");
  if (!policy) return policy.error().text;
  return "";
}

Policy parsed(const std::string& yaml) {
  auto root = YamlSection::parse(yaml, "f");
  REQUIRE(root);
  auto policy = Policy::read(*root, "f");
  REQUIRE(policy);
  return std::move(*policy);
}

Condition condition(Evidence evidence, Severity severity, Domain domain = Domain::kStorage) {
  Condition made;
  made.reason = "DiskError";
  made.evidence = evidence;
  made.severity = severity;
  made.domain = domain;
  return made;
}

}  // namespace

TEST_CASE("the policy that ships lets only unhealthy hard evidence taint, NoSchedule at most") {
  const Policy& policy = *Policy::builtin();
  REQUIRE(policy.rules.size() == 4);
  CHECK(policy.origin == "built in");
  CHECK(policy.relapse_doublings == 4);
  for (const Evidence evidence : {Evidence::kEvent, Evidence::kLevel, Evidence::kRisk, Evidence::kAnomaly}) {
    for (const Severity severity : {Severity::kInfo, Severity::kDegraded, Severity::kUnhealthy}) {
      const PolicyRule& rule = policy.rules[policy.find(condition(evidence, severity))];
      const bool acts = evidence == Evidence::kEvent && severity == Severity::kUnhealthy;
      CHECK(rule.effect == (acts ? Effect::kNoSchedule : Effect::kNone));
      CHECK(rule.escalate_to == Effect::kNone);
    }
  }
  CHECK(policy.rules[0].confidence == 0.8);
  CHECK(parsed("tick_ms: 100\n").rules.size() == 4);
  CHECK(parsed("policy: {critical: [a/b]}\n").rules.size() == 4);
}

TEST_CASE("every field of a rule is read, and the first rule about a condition is found") {
  const Policy policy = parsed(
      "policy:\n"
      "  relapse_doublings: 1\n"
      "  critical: ['kube-system/dns-*']\n"
      "  rules:\n"
      "  - {domain: storage, evidence: event, reason: DiskError, severity: degraded, confidence: 0.5, for: "
      "10s,\n"
      "     effect: PreferNoSchedule, escalate: {after: 5m, effect: NoExecute}, recovery: 1h}\n"
      "  - {domain: runtime, effect: NoSchedule}\n"
      "  - {severity: unhealthy, effect: NoSchedule}\n");
  REQUIRE(policy.rules.size() == 3);
  const PolicyRule& first = policy.rules[0];
  CHECK(first.confidence == 0.5);
  CHECK(first.for_s == 10);
  CHECK(first.effect == Effect::kPreferNoSchedule);
  CHECK(first.escalate_to == Effect::kNoExecute);
  CHECK(first.escalate_after_s == 300);
  CHECK(first.recovery_s == 3600);
  CHECK(policy.relapse_doublings == 1);
  CHECK(policy.find(condition(Evidence::kEvent, Severity::kDegraded)) == 0);
  CHECK(policy.find(condition(Evidence::kLevel, Severity::kDegraded)) == 3);
  CHECK(policy.find(condition(Evidence::kLevel, Severity::kUnhealthy)) == 2);
  CHECK(policy.find(condition(Evidence::kLevel, Severity::kInfo, Domain::kRuntime)) == 1);
  CHECK(policy.is_critical("kube-system/dns-1"));
  CHECK_FALSE(policy.is_critical("kube-system/proxy"));
  CHECK_FALSE(policy.is_critical("other/dns-1"));
  const RuleText text = describe(first);
  CHECK(text.about == "DiskError of storage by event, degraded or worse");
  CHECK(text.when == "confidence 0.5, evidence for 10s");
  CHECK(text.does == "PreferNoSchedule; NoExecute after evidence for 5m; lifted 1h after the last evidence");
}

TEST_CASE("what is wrong with a policy is one sentence with line, field and what was expected") {
  const auto rule = [](const std::string& fields) {
    return error_of("policy:\n  rules:\n  - {" + fields + "}\n");
  };
  CHECK(
      rule("effect: NoRun") ==
      "f:3: policy.rules[0].effect: expected None, PreferNoSchedule, NoSchedule or NoExecute, found 'NoRun'");
  CHECK(rule("reason: DiskError") == "f:3: policy.rules[0].effect: expected a value");
  CHECK(rule("domain: disk, effect: None").starts_with("f:3: policy.rules[0].domain: expected any, kernel,"));
  CHECK(rule("for: soon, effect: None") ==
        "f:3: policy.rules[0].for: expected a time like 30s, 5m, 2h or 1d, at most 1d, found 'soon'");
  CHECK(rule("recovery: 2d, effect: None").find("recovery: expected a time") != std::string::npos);
  CHECK(rule("for: 10, effect: None").find("for: expected a time") != std::string::npos);
  CHECK(rule("for: -1s, effect: None").find("for: expected a time") != std::string::npos);
  CHECK(rule("confidence: 2, effect: None").find("confidence: expected a number from 0 to 1") !=
        std::string::npos);
  CHECK(rule("effect: NoSchedule, escalate: {after: 1m, effect: None}")
            .starts_with("f:3: policy.rules[0].escalate.effect: expected a stronger effect"));
  CHECK(rule("effect: NoSchedule, escalate: {aftre: 1m, effect: NoExecute}")
            .starts_with("f:3: policy.rules[0].escalate.aftre: expected one of after effect"));
  CHECK(rule("efect: None, effect: None").starts_with("f:3: policy.rules[0].efect: expected one of"));
  CHECK(error_of("policy: {rule: []}\n").starts_with("f:1: policy.rule: expected one of critical"));
  CHECK(error_of("policy: {rules: 5}\n") == "f:1: policy.rules: expected a list, found '5'");
  CHECK(error_of("policy: {critical: [kube-system]}\n") ==
        "f:1: policy.critical: expected a list of pods as NAMESPACE/NAME, not 'kube-system'");
}

TEST_CASE("a rule has the name it is given, or one of what it is about, and no two have the same") {
  const Policy policy = parsed(
      "policy:\n"
      "  rules:\n"
      "  - {name: mine, effect: None}\n"
      "  - {domain: storage, reason: DiskError, severity: degraded, effect: None}\n"
      "  - {domain: storage, reason: DiskError, severity: degraded, effect: None}\n"
      "  - {effect: None}\n");
  CHECK(policy.rules[0].name == "mine");
  CHECK(policy.rules[1].name == "storage-disk-error-degraded");
  CHECK(policy.rules[2].name == "storage-disk-error-degraded-2");
  CHECK(policy.rules[3].name == "rest");
  CHECK(error_of("policy:\n  rules:\n  - {name: Mine, effect: None}\n")
            .starts_with("f:3: policy.rules[0].name: expected a name of small letters"));
  CHECK(error_of("policy:\n  rules:\n  - {name: a, effect: None}\n  - {name: a, effect: None}\n")
            .starts_with("f:4: policy.rules[1].name: expected a name that no other rule has"));
}

TEST_CASE("a rule that must earn it says what its record lacks") {
  const Policy policy =
      parsed("policy: {rules: [{name: r, effect: NoSchedule, after: {verdicts: 4, precision: 0.75}}]}\n");
  const PolicyRule& rule = policy.rules[0];
  CHECK(describe(rule).when == "confidence 0.8, after 4 verdicts at precision 0.75");
  CHECK(rule.lacks({}) == "has 0 of 4 verdicts");
  CHECK(rule.lacks({{"r", {2, 1, 9}}}) == "has 3 of 4 verdicts");
  CHECK(rule.lacks({{"r", {2, 2, 0}}}) == "has a precision of 0.5, it takes 0.75");
  CHECK(rule.lacks({{"r", {3, 1, 0}}}).empty());
  CHECK(rule.lacks({{"other", {9, 0, 0}}}) == "has 0 of 4 verdicts");
  CHECK(error_of("policy: {rules: [{effect: None, after: {precision: 0.5}}]}\n")
            .starts_with("f:1: policy.rules[0].after: expected verdicts: how many it takes"));
  CHECK(error_of("policy: {rules: [{effect: None, after: {verdicts: 0}}]}\n").find("after.verdicts") !=
        std::string::npos);
}

TEST_CASE("a policy told as YAML is read back the same") {
  const Policy policy = parsed(
      "policy:\n"
      "  relapse_doublings: 2\n"
      "  critical: [kube-system/*, 'a/b?']\n"
      "  rules:\n"
      "  - {domain: storage, evidence: event, reason: DiskError, severity: unhealthy, confidence: "
      "0.123456789, "
      "for: 1.5s, effect: NoSchedule, escalate: {after: 90s, effect: NoExecute}, recovery: 1h, "
      "after: {verdicts: 20, precision: 0.9}}\n"
      "  - {name: off, effect: None}\n");
  for (const Policy* each : {&policy, Policy::builtin().get()}) {
    const Policy again = parsed(each->yaml());
    CHECK(again.yaml() == each->yaml());
    CHECK(again.critical == each->critical);
    CHECK(again.relapse_doublings == each->relapse_doublings);
    REQUIRE(again.rules.size() == each->rules.size());
    for (std::size_t i = 0; i < again.rules.size(); ++i) {
      const PolicyRule& a = again.rules[i];
      const PolicyRule& b = each->rules[i];
      CHECK(a.name == b.name);
      CHECK(a.domain == b.domain);
      CHECK(a.evidence == b.evidence);
      CHECK(a.reason == b.reason);
      CHECK(a.severity == b.severity);
      CHECK(a.confidence == b.confidence);
      CHECK(a.for_s == b.for_s);
      CHECK(a.effect == b.effect);
      CHECK(a.escalate_to == b.escalate_to);
      CHECK(a.escalate_after_s == b.escalate_after_s);
      CHECK(a.recovery_s == b.recovery_s);
      CHECK(a.after_verdicts == b.after_verdicts);
      CHECK(a.after_precision == b.after_precision);
    }
  }
}
