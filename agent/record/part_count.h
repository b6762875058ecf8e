// Counts the parts of a protobuf message before any is made: a few compressed bytes can announce millions.
// Used by who reads files of others (tick_decoder, baseline_file); pure, any thread.
#pragma once

#include <cstddef>
#include <span>
#include <string_view>
#include <vector>

namespace vedette {

struct PartBound {
  std::string_view name;
  std::vector<int> path;  // numbers of fields, from the outermost message to the part
  std::size_t most;       // in all of the message
};

// The first bound that `bytes` go beyond, or null. Up to where they are no message: that the parser says.
const PartBound* too_many_parts(std::string_view bytes, std::span<const PartBound> bounds);

}  // namespace vedette
