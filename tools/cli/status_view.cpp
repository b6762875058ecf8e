#include <cmath>

#include "exporter/api.pb.h"
#include "tools/cli/budget_text.h"
#include "tools/cli/condition_text.h"
#include "tools/cli/format.h"
#include "tools/cli/said_text.h"
#include "tools/cli/views.h"

namespace vedette {
namespace {

constexpr std::size_t kLabelColumns = 11;

std::string counted(std::uint32_t number, const char* one, const char* many) {
  return std::to_string(number) + " " + (number == 1 ? one : many);
}

class StatusText {
public:
  StatusText(const api::Response& response, const Screen& screen)
      : agent_(response.agent()), status_(response.status()), screen_(screen) {}

  std::string text() {
    headline();
    load();
    troubles();
    actions();
    telemetry();
    return std::move(text_);
  }

private:
  // "  Label      value", the value wrapped behind its label.
  void row(const std::string& label, const std::string& value, Paint paint = Paint::kPlain) {
    std::string lines = wrap(value, screen_.columns, kLabelColumns + 2);
    lines.erase(0, kLabelColumns + 2);
    if (lines.ends_with('\n')) lines.pop_back();
    text_ += "  " + screen_.paint(Paint::kDim, pad_right(label, kLabelColumns)) +
             screen_.paint(paint, lines) + "\n";
  }

  void headline() {
    const std::string& overall = status_.overall();
    text_ += screen_.paint(paint_of(overall), mark_of(overall)) + " " +
             screen_.paint(Paint::kBold, agent_.node()) + " is " + screen_.paint(paint_of(overall), overall) +
             "\n";
    std::string watched = counted(status_.pods(), "pod", "pods") + ", " +
                          counted(status_.others(), "unit or container", "units and containers");
    if (status_.warming_up() > 0)
      watched += ", " + std::to_string(status_.warming_up()) + " still warming up";
    row("Watching", watched);
    row("Judged",
        format_duration(agent_.age_s()) + " ago, at " + format_clock(agent_.wall_ns(), agent_.wall_ns()) +
            " (tick " + std::to_string(agent_.ticks()) + ", up " + format_duration(agent_.uptime_s()) + ")",
        agent_.age_s() > 5 ? Paint::kYellow : Paint::kPlain);
  }

  std::string load_item(std::string_view column, const char* label) const {
    for (const api::Value& value : status_.load()) {
      if (value.column() == column && !std::isnan(value.value())) {
        return std::string(label) + " " + format_feature(value.column(), value.unit(), value.value());
      }
    }
    return "";
  }

  void load() {
    std::string line;
    const auto add = [&](const std::string& item, const char* separator) {
      if (item.empty()) return;
      if (!line.empty()) line += separator;
      line += item;
    };
    add(load_item("cpu_limit_use", "cpu"), " · ");
    add(load_item("memory_use", "memory"), " · ");
    add(load_item("disk_space_use", "disk"), " · ");
    add(load_item("disk_inodes_use", "inodes"), " · ");
    add(load_item("open_files_use", "files"), " · ");
    if (!line.empty()) row("Load", line);
    line.clear();
    add(load_item("pressure_cpu", "cpu"), " · ");
    add(load_item("pressure_memory", "memory"), " · ");
    add(load_item("pressure_io", "io"), " · ");
    if (!line.empty()) row("Stalled", line);
  }

  void troubles() {
    text_ += "\n";
    if (status_.conditions().empty()) {
      row("Troubles", "none");
      return;
    }
    for (const api::Condition& condition : status_.conditions()) {
      text_ += condition_text(condition, agent_.wall_ns(), screen_, true);
    }
  }

  void actions() {
    const api::Decision& decision = status_.decision();
    const api::Act& act = status_.act();
    const bool observes = decision.mode() != "enforce";
    text_ += "\n";
    row("Mode", decision.mode() == "advise"
                    ? "advise: the agent writes conditions and events, and taints nothing"
                : observes ? "observe: the agent says what it would do and changes nothing"
                           : "enforce: the agent taints and untaints its node");
    if (!status_.policy_error().empty())
      row("Policy", "the one before stays in force: " + status_.policy_error(), Paint::kRed);
    if (!status_.restart_for().empty())
      row("Restart", "needed for what changed in the configuration: " + status_.restart_for(),
          Paint::kYellow);
    const api::Journal& journal = status_.journal();
    if (!journal.error().empty())
      row("Journal", "what happens now is not on disk: " + journal.error(), Paint::kYellow);
    if (!journal.set_aside().empty())
      row("Journal", "a new one was begun: " + journal.set_aside(), Paint::kYellow);
    if (journal.dropped() > 0 && journal.error().empty())
      row("Journal", format_number(static_cast<double>(journal.dropped())) + " entries were lost",
          Paint::kYellow);
    const api::Flight& flight = status_.flight();
    if (!flight.error().empty())
      row("Flight", "the last minutes are not kept: " + flight.error(), Paint::kYellow);
    if (!flight.slice_error().empty())
      row("Flight", "the slice of an incident ends early: " + flight.slice_error(), Paint::kYellow);
    const api::Kept& kept = status_.kept();
    if (!kept.error().empty())
      row("Baselines", "what is learnt now is not kept: " + kept.error(), Paint::kYellow);
    if (kept.left_out() > 0)
      row("Baselines", std::to_string(kept.left_out()) + " workloads are not kept: there are too many",
          Paint::kYellow);
    if (!kept.set_aside().empty())
      row("Baselines", "all is learnt anew: " + kept.set_aside(), Paint::kYellow);
    for (const api::OperatorSay& said : status_.said()) {
      std::string lines = said_text(said, agent_.wall_ns());
      for (std::size_t end; (end = lines.find('\n')) != std::string::npos; lines.erase(0, end + 1)) {
        row("Operator", lines.substr(0, end), Paint::kYellow);
      }
    }
    const std::string taint = "vedette.dev/unhealthy=" + decision.reason() + ":" + decision.effect();
    if (decision.taint()) {
      row(observes ? "Would do" : "Wants",
          "taint " + taint + ", since " + format_clock(decision.since_wall_ns(), agent_.wall_ns()));
    }
    if (!act.known()) {
      row("Done", act.connected()
                      ? "nothing: the node object was not read yet"
                      : "nothing: no API server" + (act.last_error().empty() ? "" : ": " + act.last_error()));
    } else {
      std::string done = act.tainted() ? "tainted: vedette.dev/unhealthy=" + act.taint_reason() + ", since " +
                                             format_clock(act.tainted_since_wall_ns(), agent_.wall_ns()) +
                                             (act.adopted() ? " (found at start)" : "")
                                       : "no taint of ours on the node";
      if (act.patches() > 0) done += "; " + format_number(static_cast<double>(act.patches())) + " patches";
      if (act.last_evidence_to_ack_s() > 0) {
        done += ", the last " + format_duration(act.last_evidence_to_ack_s()) + " after its evidence";
      }
      row("Done", done, act.tainted() ? Paint::kRed : Paint::kPlain);
      if (!act.connected() || !act.last_error().empty()) {
        row("API server", act.last_error().empty() ? "not connected" : act.last_error(), Paint::kYellow);
      }
    }
    if (!act.held_back().empty()) row("Held back", act.held_back(), Paint::kYellow);
    if (!decision.held_back().empty()) row("Held back", decision.held_back(), Paint::kYellow);
    if (!decision.next().empty()) row("Next", decision.next());
  }

  void telemetry() {
    const api::Losses& losses = status_.losses();
    const api::SelfUse& self = status_.self();
    text_ += "\n";
    const int troubled = status_.troubled_probes_size();
    std::string probes = troubled == 0 ? "all " + std::to_string(status_.probes()) + " probes"
                                       : std::to_string(static_cast<int>(status_.probes()) - troubled) +
                                             " of " + std::to_string(status_.probes()) + " probes";
    if (status_.probes_off() > 0) probes += ", " + std::to_string(status_.probes_off()) + " off";
    if (losses.lost() == 0) {
      probes += "; no record lost of " + format_number(static_cast<double>(losses.produced()));
    } else {
      probes += "; " + format_number(static_cast<double>(losses.lost())) + " records lost of " +
                format_number(static_cast<double>(losses.produced()));
    }
    const auto also = [&](std::uint64_t count, const char* what) {
      if (count > 0) probes += "; " + format_number(static_cast<double>(count)) + what;
    };
    also(losses.no_slot(), " counts without a slot");
    also(losses.misses(), " runs of probes missed");
    also(losses.no_task_storage(), " starts without room");
    also(losses.missed_ticks(), " missed ticks");
    also(losses.log_lost(), " log lines lost");
    also(losses.no_detail(), " counts by label without room or owner");
    const bool impaired = troubled > 0 || losses.lost() > 0 || losses.no_slot() > 0 || losses.log_lost() > 0;
    row("Telemetry", probes, impaired ? Paint::kYellow : Paint::kPlain);
    for (const api::Probe& probe : status_.troubled_probes()) {
      row("", probe.name() + " is " + probe.state() + (probe.reason().empty() ? "" : ": " + probe.reason()));
    }
    if (status_.has_budget()) {
      row("Budget", budget_text(status_.budget()),
          is_strained(status_.budget()) ? Paint::kYellow : Paint::kPlain);
    }
    row("Agent", agent_.version() + " · tick " + format_duration(self.tick_ms() / 1e3) + " · collect " +
                     format_duration(self.collect_ms() / 1e3) + " · " + format_percent(self.cpu_share()) +
                     " of a core · " +
                     format_bytes(static_cast<double>(self.rss_bytes() + self.bpf_map_bytes())));
  }

  const api::Agent& agent_;
  const api::Status& status_;
  const Screen& screen_;
  std::string text_;
};

}  // namespace

std::string status_view(const api::Response& response, const Screen& screen) {
  return StatusText(response, screen).text();
}

}  // namespace vedette
