// Where a view is drawn: how wide it is and whether it knows colours. Plain values and pure functions.
#pragma once

#include <cstddef>
#include <string>
#include <string_view>

namespace vedette {

enum class Paint : unsigned char { kPlain, kBold, kDim, kGreen, kYellow, kRed };

struct Screen {
  std::size_t columns = 80;
  std::size_t rows = 24;
  bool colour = false;

  std::string paint(Paint paint, std::string_view text) const;
};

// Of an overall state, a severity or a probe's state.
Paint paint_of(std::string_view state);
// One glyph that tells them apart without colours: ● fine, ▲ degraded, ✖ unhealthy.
const char* mark_of(std::string_view state);

}  // namespace vedette
