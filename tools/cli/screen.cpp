#include "tools/cli/screen.h"

namespace vedette {

std::string Screen::paint(Paint paint, std::string_view text) const {
  if (!colour || paint == Paint::kPlain || text.empty()) return std::string(text);
  const char* code = "";
  switch (paint) {
    case Paint::kPlain:
      break;
    case Paint::kBold:
      code = "\x1b[1m";
      break;
    case Paint::kDim:
      code = "\x1b[2m";
      break;
    case Paint::kGreen:
      code = "\x1b[32m";
      break;
    case Paint::kYellow:
      code = "\x1b[33m";
      break;
    case Paint::kRed:
      code = "\x1b[1;31m";
      break;
  }
  return code + std::string(text) + "\x1b[0m";
}

Paint paint_of(std::string_view state) {
  if (state == "unhealthy") return Paint::kRed;
  if (state == "degraded" || state == "anomalous") return Paint::kYellow;
  if (state == "healthy" || state == "attached" || state == "ok") return Paint::kGreen;
  return Paint::kDim;
}

const char* mark_of(std::string_view state) {
  if (state == "unhealthy") return "✖";
  if (state == "degraded") return "▲";
  return "●";
}

}  // namespace vedette
