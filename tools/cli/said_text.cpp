#include "tools/cli/said_text.h"

#include "exporter/api.pb.h"
#include "tools/cli/format.h"

namespace vedette {
namespace {

std::string until(std::uint64_t wall_ns, std::uint64_t now_wall_ns, const char* otherwise) {
  return wall_ns == ~std::uint64_t{0} ? otherwise : " until " + format_clock(wall_ns, now_wall_ns);
}

}  // namespace

std::string said_text(const api::OperatorSay& said, std::uint64_t now_wall_ns) {
  std::string text;
  const auto line = [&](const std::string& what) { text += what + " (" + said.by() + ")\n"; };
  if (said.paused_until_wall_ns() != 0)
    line("paused" + until(said.paused_until_wall_ns(), now_wall_ns, " until resumed"));
  for (const api::Veto& veto : said.vetoes())
    line(veto.reason() + " vetoed" + until(veto.until_wall_ns(), now_wall_ns, " until lifted"));
  if (said.healthy_wall_ns() != 0)
    line("marked healthy at " + format_clock(said.healthy_wall_ns(), now_wall_ns));
  if (!said.error().empty()) line("not understood: " + said.error());
  return text.empty() ? "nothing is paused or vetoed\n" : text;
}

}  // namespace vedette
