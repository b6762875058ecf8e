// The agent's budget in one sentence, for `vedette status` and `vedette probes`. Pure: any thread.
#pragma once

#include <string>

namespace vedette {

namespace api {
class Budget;
}  // namespace api

std::string budget_text(const api::Budget& budget);
// Something was given up, or should be and cannot.
bool is_strained(const api::Budget& budget);

}  // namespace vedette
