// How often the verdicts of each rule of the policy were right: counted by the journal (agent/record), an
// input of the decider, which lets some rules act only on a good record. Plain values: any thread.
#pragma once

#include <cstdint>
#include <map>
#include <string>

namespace vedette {

struct RuleRecord {
  std::uint64_t confirmed = 0;
  std::uint64_t refuted = 0;    // false, or benign: nothing should have been done
  std::uint64_t undecided = 0;  // nobody said, and nothing that followed tells

  std::uint64_t verdicts() const { return confirmed + refuted; }
  double precision() const {
    return verdicts() == 0 ? 0 : static_cast<double>(confirmed) / static_cast<double>(verdicts());
  }
  bool operator==(const RuleRecord&) const = default;
};

using TrackRecord = std::map<std::string, RuleRecord>;  // by the rule's name

}  // namespace vedette
