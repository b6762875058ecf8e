#include "agent/assess/reasons.h"

#include <algorithm>
#include <cctype>
#include <numeric>
#include <utility>

#include "agent/assess/rules.h"

namespace vedette {
namespace {

bool same_letter(char a, char b) {
  return std::tolower(static_cast<unsigned char>(a)) == std::tolower(static_cast<unsigned char>(b));
}

// Letters to add, drop or change (Levenshtein), whatever their case.
std::size_t distance(std::string_view a, std::string_view b) {
  std::vector<std::size_t> row(b.size() + 1);
  std::iota(row.begin(), row.end(), std::size_t{0});
  for (std::size_t i = 0; i < a.size(); ++i) {
    std::size_t diagonal = std::exchange(row[0], i + 1);
    for (std::size_t j = 0; j < b.size(); ++j) {
      const std::size_t changed = diagonal + (same_letter(a[i], b[j]) ? 0 : 1);
      diagonal = std::exchange(row[j + 1], std::min({changed, row[j] + 1, row[j + 1] + 1}));
    }
  }
  return row.back();
}

}  // namespace

std::set<std::string> known_reasons(const LogRules& rules) {
  std::set<std::string> names(kScoreAndKillReasons.begin(), kScoreAndKillReasons.end());
  for (const EventRule& rule : kEventRules) names.emplace(rule.reason);
  for (const LevelRule& rule : kLevelRules) names.emplace(rule.reason);
  for (const LogRule& rule : rules.rules()) {
    if (!rule.reason.empty()) names.insert(rule.reason);
  }
  return names;
}

std::vector<std::string> nearest_names(std::string_view word, const std::set<std::string>& names,
                                       std::size_t count) {
  std::vector<std::pair<std::size_t, std::string>> ranked;
  ranked.reserve(names.size());
  for (const std::string& name : names) ranked.emplace_back(distance(word, name), name);
  std::ranges::sort(ranked);
  if (ranked.size() > count) ranked.resize(count);
  std::vector<std::string> nearest;
  nearest.reserve(ranked.size());
  for (auto& [far, name] : ranked) nearest.push_back(std::move(name));
  return nearest;
}

}  // namespace vedette
