// The reasons that a condition may have, so that a misspelt one is not taken for a word about something. Pure
// functions: any thread.
#pragma once

#include <cstddef>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "agent/collect/log_rules.h"

namespace vedette {

// Those that are built in, and those of `rules`.
std::set<std::string> known_reasons(const LogRules& rules);

// The `count` of `names` that are spelt most like `word`, the nearest first.
std::vector<std::string> nearest_names(std::string_view word, const std::set<std::string>& names,
                                       std::size_t count);

}  // namespace vedette
