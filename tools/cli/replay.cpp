#include "tools/cli/replay.h"

#include <algorithm>
#include <fstream>
#include <optional>
#include <ostream>
#include <utility>

#include <nlohmann/json.hpp>

#include "agent/base/clean_text.h"
#include "agent/record/feature_dump.h"
#include "agent/replay.h"
#include "tools/cli/format.h"
#include "tools/cli/json_text.h"
#include "tools/cli/record.h"
#include "tools/cli/replay_plot.h"
#include "tools/cli/transitions.h"

namespace vedette {
namespace {

using Json = nlohmann::ordered_json;

struct Report {
  std::string path;
  RecordingHeader header;
  std::string policy_then, policy_now, model_then, model_now;
  WallNs first_wall_ns = 0, last_wall_ns = 0;
  std::uint64_t ticks = 0;
  std::uint64_t different = 0;                 // ticks with another verdict
  std::uint64_t first_tick = 0;                // the first of them
  WallNs first_tick_wall_ns = 0;               // and its time
  std::vector<std::string> first_differences;  // and what differs in it
  std::vector<TransitionPair> pairs;
  std::vector<Transition> unjudged;  // happened then, and cannot be judged again
  std::vector<std::string> notes;

  bool is_same() const {
    return different == 0 &&
           std::ranges::all_of(pairs, [](const TransitionPair& pair) { return pair.is_same(); });
  }
};

// Those of `all` that are not in `some`, which is in the same order.
std::vector<Transition> without(const std::vector<Transition>& all, const std::vector<Transition>& some) {
  std::vector<Transition> left;
  for (const TransitionPair& pair : side_by_side(all, some)) {
    if (pair.then && !pair.is_same()) left.push_back(*pair.then);
  }
  return left;
}

Result<ReplayOptions> options_of(const ReplayCommand& command) {
  ReplayOptions options{command.path, nullptr, command.model};
  if (command.policy_file.empty()) return options;
  Result<Policy> policy = Policy::load(command.policy_file);
  if (!policy) return tl::unexpected(policy.error());
  options.policy = std::make_shared<const Policy>(std::move(*policy));
  return options;
}

Result<Report> judge(const ReplayCommand& command, const ReplayOptions& options, ReplaySurvey& survey) {
  auto replay = Replay::open(options);
  if (!replay) return tl::unexpected(replay.error());
  std::optional<FeatureDump> dump;
  if (!command.features_out.empty()) {
    FeatureDumpOptions wanted;
    wanted.path = command.features_out;
    wanted.entities = command.features_of;
    Result<FeatureDump> opened = FeatureDump::open(wanted);
    if (!opened) return tl::unexpected(opened.error());
    dump = std::move(*opened);
  }

  Report report;
  report.path = command.path;
  Transitions all_then;
  Transitions then;
  Transitions now;
  ReplayedTick tick;
  for (;;) {
    const Result<bool> more = (*replay)->next(tick);
    if (!more) return tl::unexpected(more.error());
    if (!*more) break;
    const Snapshot& snapshot = tick.snapshot;
    const Instant& time = snapshot.observation.time;
    const std::vector<EntityPtr>& entities = snapshot.features.entities;
    if (report.first_wall_ns == 0) report.first_wall_ns = time.wall_ns;
    report.last_wall_ns = time.wall_ns;
    all_then.tick(time.wall_ns, tick.then, entities);
    then.tick(time.wall_ns, tick.comparable_then, entities);
    now.tick(time.wall_ns, tick.comparable_now, entities);
    survey.add(tick);
    if (dump) {
      if (Status ok = dump->write(snapshot.observation, snapshot.features); !ok)
        return tl::unexpected(ok.error());
    }
    std::vector<std::string> differences =
        verdict_differences(tick.comparable_then, tick.comparable_now, entities);
    if (!differences.empty() && report.different++ == 0) {
      report.first_tick = (*replay)->source().ticks() - 1;
      report.first_tick_wall_ns = time.wall_ns;
      report.first_differences = std::move(differences);
    }
    if (snapshot.decision.policy) report.policy_now = snapshot.decision.policy->origin;
  }
  if (dump) {
    if (Status ok = dump->close(); !ok) return tl::unexpected(ok.error());
  }
  const ReplaySource& source = (*replay)->source();
  report.header = source.header();
  report.ticks = source.ticks();
  report.pairs = side_by_side(then.list(), now.list());
  report.unjudged = without(all_then.list(), then.list());
  report.notes = source.notes();
  report.policy_then = source.policy() ? source.policy()->origin : "";
  report.model_then = report.header.settings ? report.header.settings->model : "";
  report.model_now = command.model.empty() ? report.model_then : command.model;
  if (report.header.agent_version != VEDETTE_VERSION)
    report.notes.push_back("recorded by version " + report.header.agent_version +
                           ", judged by " VEDETTE_VERSION);
  if (!report.header.settings) {
    report.notes.emplace_back(
        "format 1 tells no settings and no policy: the defaults and what ships are taken instead");
  }
  if ((*replay)->took_scores()) {
    report.notes.push_back(
        "where the beginning is missing, anomaly scores are those of then; not compared are the first " +
        std::to_string(static_cast<int>(Replay::kSettleS)) +
        " s, what began before their end, and how often the node had been tainted before");
  }
  return report;
}

Status draw(const ReplayCommand& command, const ReplayOptions& options, const ReplaySurvey& survey) {
  const Result<Plot> plot = plot_of_replay(options, survey, command.entity);
  if (!plot) return tl::unexpected(plot.error());
  std::ofstream file(command.plot_out, std::ios::trunc);
  if (!file) return fail_errno("create " + command.plot_out);
  file << plot_svg(*plot);
  file.close();
  return file ? Status{} : Status(fail_errno("write " + command.plot_out));
}

Json as_json(const Transition& transition) {
  constexpr const char* kKinds[] = {"begins", "worsens", "ends", "taints", "lifts", "holds_back"};
  return {{"wall_ns", transition.wall_ns},
          {"kind", kKinds[static_cast<std::size_t>(transition.kind)]},
          {"what", transition.what},
          {"detail", transition.detail}};
}

Json as_json(const Report& report) {
  Json json{{"path", report.path},
            {"same", report.is_same()},
            {"ticks", report.ticks},
            {"ticks_different", report.different},
            {"first_wall_ns", report.first_wall_ns},
            {"last_wall_ns", report.last_wall_ns},
            {"node", report.header.node},
            {"policy_then", report.policy_then},
            {"policy_now", report.policy_now},
            {"model_then", report.model_then},
            {"model_now", report.model_now},
            {"transitions", Json::array()},
            {"not_judged", Json::array()},
            {"first_differences", report.first_differences},
            {"notes", report.notes}};
  for (const TransitionPair& pair : report.pairs) {
    json["transitions"].push_back(Json{{"same", pair.is_same()},
                                       {"then", pair.then ? as_json(*pair.then) : Json()},
                                       {"now", pair.now ? as_json(*pair.now) : Json()}});
  }
  for (const Transition& transition : report.unjudged) json["not_judged"].push_back(as_json(transition));
  return json;
}

std::string as_text(const Report& report, const Screen& screen) {
  const double lasts_s = static_cast<double>(report.last_wall_ns - report.first_wall_ns) / kNsPerSecond;
  std::string text =
      wrap(clean_text(report.path + ": " + std::to_string(report.ticks) + " ticks" +
                      (report.header.node.empty() ? "" : " of node " + report.header.node) + ", from " +
                      format_clock(report.first_wall_ns, 0) + " on, " + format_duration(lasts_s)),
           screen.columns, 0);
  const auto input = [&](const std::string& what, const std::string& then, const std::string& now) {
    text += "  " + what + ": " + clean_text(then == now || then.empty() ? now : now + " instead of " + then) +
            "\n";
  };
  input("policy", report.policy_then, report.policy_now);
  if (!report.model_now.empty()) input("model ", report.model_then, report.model_now);
  text += "\n";
  const auto line = [&](Paint paint, const char* mark, WallNs when, const std::string& words) {
    const std::string head = "  " + format_clock(when, when) + "  " + mark + " ";
    const std::string lines = wrap(clean_text(words), screen.columns, text_width(head));
    text += screen.paint(paint, head + lines.substr(text_width(head)));
  };
  for (const Transition& transition : report.unjudged)
    line(Paint::kDim, "·", transition.wall_ns, transition.text() + " (then; not judged again)");
  std::size_t others = 0;
  for (const TransitionPair& pair : report.pairs) {
    others += pair.is_same() ? 0 : 1;
    if (pair.is_same()) {
      line(Paint::kPlain, "=", pair.then->wall_ns, pair.then->text());
    } else if (pair.then && pair.now) {
      line(Paint::kYellow, "~", pair.now->wall_ns,
           pair.now->text() + " (then: " + format_clock(pair.then->wall_ns, pair.now->wall_ns) + ")");
    } else if (pair.then) {
      line(Paint::kRed, "-", pair.then->wall_ns, pair.then->text());
    } else {
      line(Paint::kGreen, "+", pair.now->wall_ns, pair.now->text());
    }
  }
  if (report.pairs.empty() && report.unjudged.empty()) text += "  nothing happened, then or now\n";
  text += "\n";
  if (report.different > 0) {
    text += wrap("The first other verdict is that of tick " + std::to_string(report.first_tick) + ", " +
                     format_clock(report.first_tick_wall_ns, report.first_tick_wall_ns) + ":",
                 screen.columns, 0);
    for (const std::string& difference : report.first_differences)
      text += wrap(clean_text(difference), screen.columns, 4);
    text += "\n";
  }
  for (const std::string& note : report.notes) text += wrap("note: " + clean_text(note), screen.columns, 0);
  text += "= as then  - only then  + only now  ~ at another time\n";
  text += std::to_string(report.ticks) + " ticks replayed, " + std::to_string(report.different) +
          " with another verdict; of " + std::to_string(report.pairs.size()) + " changes " +
          std::to_string(others) + " are other ones\n";
  return text;
}

}  // namespace

int run_replay(const ReplayCommand& command, bool json, const CliStreams& streams) {
  const auto fails = [&](const std::string& text) { return fail_with(streams, kExitUnreadable, text); };
  const Result<ReplayOptions> options = options_of(command);
  if (!options) return fails(options.error().text);
  ReplaySurvey survey;
  const Result<Report> report = judge(command, *options, survey);
  if (!report) return fails(clean_text(report.error().text));
  if (!command.plot_out.empty()) {
    const Status drawn = draw(command, *options, survey);
    if (!drawn) return fails(drawn.error().text);
  }
  if (json) {
    streams.out << json_text(as_json(*report));
  } else {
    streams.out << as_text(*report, streams.screen);
  }
  return report->is_same() ? kExitHealthy : kExitDegraded;
}

}  // namespace vedette
