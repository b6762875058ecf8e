#include "agent/collect/log_rules.h"

#include <algorithm>
#include <cctype>
#include <utility>

#include <re2/re2.h>

// Labels of agent/CMakeLists.txt.
// NOLINTNEXTLINE(readability-identifier-naming)
extern "C" const char vedette_log_rules[], vedette_log_rules_end[];

namespace vedette {
namespace {

// The kernel's lines are bytes. Quiet: what is wrong with a pattern is ours to say.
re2::RE2::Options pattern_options() {
  re2::RE2::Options options;
  options.set_encoding(re2::RE2::Options::EncodingLatin1);
  options.set_log_errors(false);
  return options;
}

bool is_reason(std::string_view text) {
  const auto is_word = [](unsigned char c) { return std::isalnum(c) != 0; };
  return text.empty() ||
         (std::isupper(static_cast<unsigned char>(text.front())) != 0 && std::ranges::all_of(text, is_word));
}

std::string_view name_of(vedette_counter counter) {
  return kCounters[counter].name;
}

std::optional<vedette_counter> find_log_counter(std::string_view name) {
  const auto found = std::ranges::find(log_counters(), name, name_of);
  return found == log_counters().end() ? std::nullopt : std::optional(*found);
}

std::string log_counter_names() {
  std::string names;
  for (const vedette_counter counter : log_counters()) {
    if (!names.empty()) names += ", ";
    names += name_of(counter);
  }
  return names;
}

std::vector<LogRule> shipped_rules() {
  const std::string_view text(vedette_log_rules,
                              static_cast<std::size_t>(vedette_log_rules_end - vedette_log_rules));
  auto root = YamlSection::parse(text, "log_rules.yaml");
  auto rules = root ? read_log_rules(*root) : tl::unexpected(root.error());
  return rules ? std::move(*rules) : std::vector<LogRule>();  // never: a unit test counts them
}

}  // namespace

const std::vector<vedette_counter>& log_counters() {
  static const std::vector<vedette_counter> counters = [] {
    std::vector<vedette_counter> list;
    for (std::size_t i = 0; i < kCounters.size(); ++i) {
      if (kCounters[i].origin == "log") list.push_back(static_cast<vedette_counter>(i));
    }
    return list;
  }();
  return counters;
}

Result<std::vector<LogRule>> read_log_rules(YamlSection& root) {
  std::vector<LogRule> rules;
  for (YamlSection& section : root.sections("log_rules")) {
    LogRule rule;
    std::size_t domain = 0;
    std::size_t severity = 1;
    std::string counter;
    section.required("pattern", rule.pattern)
        .required("reason", rule.reason)
        .choice("domain", domain, {"kernel", "memory", "cpu", "storage", "network", "hardware", "runtime"})
        .choice("severity", severity, {"info", "degraded"})
        .count<std::uint32_t>("unhealthy_at", rule.unhealthy_at, 0, 1'000'000)
        .text("probe", rule.probe)
        .text("counter", counter);
    const re2::RE2 pattern(rule.pattern, pattern_options());
    if (!pattern.ok()) section.refuse("pattern", "a regular expression (" + pattern.error() + ")");
    if (rule.pattern.empty()) section.refuse("pattern", "a regular expression");
    rule.counter = find_log_counter(counter);
    if (!counter.empty() && !rule.counter) section.refuse("counter", "one of " + log_counter_names());
    if (!is_reason(rule.reason)) section.refuse("reason", "one word in CamelCase");
    if (Status ok = section.finish(); !ok) return tl::unexpected(ok.error());
    rule.domain = static_cast<Domain>(domain);
    rule.severity = static_cast<Severity>(severity);
    rules.push_back(std::move(rule));
  }
  return rules;
}

LogRules::LogRules(std::vector<LogRule> rules)
    : rules_(std::move(rules)), patterns_(pattern_options(), re2::RE2::UNANCHORED) {}

Result<std::shared_ptr<const LogRules>> LogRules::make(std::vector<LogRule> rules) {
  static const auto shipped = shipped_rules();
  rules.insert(rules.end(), shipped.begin(), shipped.end());
  std::shared_ptr<LogRules> made(new LogRules(std::move(rules)));
  for (const auto& rule : made->rules_) {
    std::string error;
    if (made->patterns_.Add(rule.pattern, &error) < 0) return fail(rule.pattern + ": " + error);
  }
  if (!made->patterns_.Compile()) return fail("log_rules: too many or too large patterns");
  return std::shared_ptr<const LogRules>(std::move(made));
}

const std::shared_ptr<const LogRules>& LogRules::builtin() {
  static const std::shared_ptr<const LogRules> rules = make({}).value();
  return rules;
}

const LogRule* LogRules::find(std::string_view line) const {
  const auto all = find_all(line);
  return all.empty() ? nullptr : all.front();
}

std::vector<const LogRule*> LogRules::find_all(std::string_view line) const {
  std::vector<int> found;
  std::vector<const LogRule*> all;
  if (!patterns_.Match(re2::StringPiece(line.data(), line.size()), &found)) return all;
  std::ranges::sort(found);
  for (const int place : found) all.push_back(&rules_[static_cast<std::size_t>(place)]);
  return all;
}

}  // namespace vedette
