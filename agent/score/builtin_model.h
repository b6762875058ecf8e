// The failure-risk model that ships inside the binary: agent/score/model/risk.ubj, whose card stands beside
// it. A constant, any thread.
#pragma once

#include <string_view>

namespace vedette {

// XGBoost's UBJ, for RiskScorer::from_bytes().
std::string_view builtin_risk_model();

}  // namespace vedette
