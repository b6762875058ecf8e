#include <algorithm>
#include <map>
#include <string>

#include "exporter/api.pb.h"
#include "tools/cli/budget_text.h"
#include "tools/cli/format.h"
#include "tools/cli/views.h"

namespace vedette {

std::string probes_view(const api::Response& response, const Screen& screen) {
  const api::Probes& probes = response.probes();
  std::string text =
      screen.paint(Paint::kDim, pad_right("PROBE", 12) + pad_right("STATE", 11) + pad_left("RUNS", 8) +
                                    pad_left("NS/RUN", 9) + pad_left("OF A CORE", 11) +
                                    pad_left("WATCHED", 14) + "  SIGNALS") +
      "\n";
  for (const api::Probe& probe : probes.probes()) {
    const auto runs = static_cast<double>(probe.runs());
    const auto run_ns = static_cast<double>(probe.run_ns());
    const auto sampled_ns = static_cast<double>(probe.sampled_ns());
    const bool counted = probe.runs() > 0;
    text += pad_right(probe.name(), 11) + " " +
            screen.paint(paint_of(probe.state()), pad_right(probe.state(), 10)) + " " +
            pad_left(counted ? format_number(runs) : "–", 8) +
            pad_left(counted ? format_number(run_ns / runs) : "–", 9) +
            pad_left(counted && sampled_ns > 0 ? format_percent(run_ns / sampled_ns) : "–", 11) +
            pad_left(
                probe.watched_ns() > 0 ? format_duration(static_cast<double>(probe.watched_ns()) / 1e9) : "–",
                14) +
            "  " + std::to_string(probe.signals_size()) + "\n";
    if (!probe.reason().empty())
      text += screen.paint(Paint::kYellow, wrap(probe.reason(), screen.columns, 12));
    if (probe.misses() > 0)
      text += screen.paint(
          Paint::kYellow,
          wrap(format_number(static_cast<double>(probe.misses())) +
                   " runs missed, skipped by the kernel for others in it: its counts lack what those saw",
               screen.columns, 12));
    if (probe.state_age_s() > 0)
      text += screen.paint(Paint::kDim, wrap(probe.state() + " for " + format_duration(probe.state_age_s()),
                                             screen.columns, 12));
  }
  const bool none_counted = std::all_of(probes.probes().begin(), probes.probes().end(),
                                        [](const api::Probe& probe) { return probe.runs() == 0; });
  if (none_counted && probes.budget().unmeasured().empty())
    text += screen.paint(Paint::kDim,
                         "runs are counted for a second in each minute: no such second has passed yet\n");
  if (probes.has_budget()) {
    text += "\n" + screen.paint(is_strained(probes.budget()) ? Paint::kYellow : Paint::kPlain,
                                wrap("budget: " + budget_text(probes.budget()), screen.columns, 0));
  }

  const api::Losses& losses = probes.losses();
  text +=
      "\n" +
      screen.paint(Paint::kDim, pad_right("RECORDS", 16) + pad_left("PRODUCED", 10) + pad_left("LOST", 10)) +
      "\n";
  const auto line = [&](const std::string& name, std::uint64_t produced, std::uint64_t lost) {
    text += pad_right(name, 16) + pad_left(format_number(static_cast<double>(produced)), 10) +
            screen.paint(lost > 0 ? Paint::kYellow : Paint::kPlain,
                         pad_left(format_number(static_cast<double>(lost)), 10)) +
            "\n";
  };
  for (const api::EventLoss& event : losses.events()) {
    if (event.produced() > 0 || event.lost() > 0) line(event.type(), event.produced(), event.lost());
  }
  line("all", losses.produced(), losses.lost());
  text += "\n";
  const auto count = [&](const char* what, std::uint64_t number) {
    text += pad_right(what, 26) +
            screen.paint(number > 0 ? Paint::kYellow : Paint::kPlain,
                         pad_left(format_number(static_cast<double>(number)), 10)) +
            "\n";
  };
  text += pad_right("records received", 26) +
          pad_left(format_number(static_cast<double>(losses.received())), 10) + "\n";
  count("counts without a slot", losses.no_slot());
  count("runs missed", losses.misses());
  count("starts without room", losses.no_task_storage());
  const std::map<std::string, std::uint64_t> lacking(losses.no_start().begin(), losses.no_start().end());
  for (const auto& [signal, number] : lacking) count(("  " + signal + " lacks").c_str(), number);
  count("missed ticks", losses.missed_ticks());
  count("kernel log lines lost", losses.log_lost());
  count("counts by label without room or owner", losses.no_detail());
  return text;
}

}  // namespace vedette
