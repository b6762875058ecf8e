#include "tools/cli/commands.h"

#include <algorithm>
#include <map>
#include <ostream>

#include <CLI/CLI.hpp>
#include <nlohmann/json.hpp>

#include "agent/act/policy.h"
#include "agent/base/clean_text.h"
#include "agent/base/duration.h"
#include "agent/record/flight.h"
#include "exporter/api.pb.h"
#include "exporter/policy_answer.h"
#include "exporter/wire.h"
#include "tools/cli/agent_client.h"
#include "tools/cli/baselines.h"
#include "tools/cli/cleanup.h"
#include "tools/cli/evacuation.h"
#include "tools/cli/format.h"
#include "tools/cli/json_text.h"
#include "tools/cli/kubeconfig.h"
#include "tools/cli/live_top.h"
#include "tools/cli/record.h"
#include "tools/cli/replay.h"
#include "tools/cli/said_text.h"
#include "tools/cli/score_tables.h"
#include "tools/cli/views.h"

namespace vedette {
namespace {

// An agent of another version of the API does not come so far: see AgentClient::receive().
ExitCode code_of(api::Error::Code code) {
  switch (code) {
    case api::Error::BAD_REQUEST:
      return kExitUsage;
    case api::Error::NOT_READY:
    case api::Error::TOO_MANY:
      return kExitUnreachable;
    default:
      return kExitDegraded;
  }
}

// The policy of a file, without an agent.
int explain_file(const std::string& file, bool only_check, bool json, const CliStreams& streams) {
  const Result<Policy> policy = Policy::load(file);
  if (!policy) return fail_with(streams, kExitUsage, policy.error().text);
  if (only_check) {
    if (json) {
      streams.out << json_text(nlohmann::json{
          {"file", file}, {"valid", true}, {"rules", policy->rules.size()}, {"origin", policy->origin}});
    } else {
      streams.out << file << ": the policy is valid, " << policy->rules.size() << " rules (" << policy->origin
                  << ")\n";
    }
    return kExitHealthy;
  }
  api::Response response;
  response.set_version(kApiVersion);
  fill(*policy, *response.mutable_policy());
  streams.out << (json ? json_view(response) : policy_view(response, streams.screen));
  return kExitHealthy;
}

int status_code(const api::Status& status) {
  if (status.overall() == "healthy") return kExitHealthy;
  return status.overall() == "unhealthy" ? kExitUnhealthy : kExitDegraded;
}

}  // namespace

int fail_with(const CliStreams& streams, int code, const std::string& text) {
  streams.err << "vedette: " << text << "\n";
  return code;
}

int answered_error(const api::Response& response, bool json, const CliStreams& streams) {
  const api::Error& error = response.error();
  if (json) streams.out << json_view(response);
  std::string text = error.text();
  if (error.candidates_size() > 0)
    text += error.code() == api::Error::AMBIGUOUS ? "; which one?" : "; among them:";
  for (const std::string& candidate : error.candidates()) text += "\n  " + candidate;
  return fail_with(streams, code_of(error.code()), text);
}

int run_cli(std::vector<std::string> arguments, const CliStreams& streams) {
  CLI::App app{"Ask the agent on this node what is healthy, what is not, and why.", "vedette"};
  std::string socket_path = kDefaultSocketPath;
  bool json = false;
  app.set_version_flag("--version", "vedette " VEDETTE_VERSION);
  app.add_option("--socket", socket_path, "The agent's socket")
      ->envname("VEDETTE_SOCKET")
      ->capture_default_str();
  app.add_flag("--json", json, "Answer as one JSON document");
  app.require_subcommand(1);
  app.fallthrough();

  CLI::App& status =
      *app.add_subcommand("status",
                          "Is this node fine; if not: what, since when, why, what next.\n"
                          "Exits 0 healthy, 1 degraded, 2 unhealthy, 3 no agent, or one that hangs.");
  CLI::App& top = *app.add_subcommand("top", "Live view of the node and its pods");
  bool once = false;
  top.add_flag("--once", once, "Print one frame and exit");
  TopOrder order = TopOrder::kSeverity;
  const std::map<std::string, TopOrder> orders{{"severity", TopOrder::kSeverity},
                                               {"risk", TopOrder::kRisk},
                                               {"anomaly", TopOrder::kAnomaly},
                                               {"cpu", TopOrder::kCpu},
                                               {"memory", TopOrder::kMemory}};
  top.add_option("--sort", order, "severity, risk, anomaly, cpu or memory")
      ->transform(CLI::CheckedTransformer(orders, CLI::ignore_case).description(""));
  CLI::App& explain = *app.add_subcommand(
      "explain", "The evidence about one pod, unit, container or the node; or an incident");
  std::string entity;
  explain.add_option("ENTITY", entity, "Its name, or a part that only it has; or the id of an incident")
      ->required();
  CLI::App& incidents = *app.add_subcommand("incidents", "Open incidents and those of the last day");
  bool all = false;
  std::string since = "1d";
  CLI::Option* every = incidents.add_flag("--all", all, "All that the journal has");
  incidents.add_option("--since", since, "Those of the last 30s, 5m, 2h or 1d")
      ->capture_default_str()
      ->excludes(every);
  CLI::App& feedback = *app.add_subcommand("feedback", "Say whether the agent was right about an incident");
  std::string incident;
  std::string verdict;
  std::string why;
  feedback.add_option("INCIDENT", incident, "Its id, as `vedette incidents` prints it")->required();
  feedback
      .add_option("VERDICT", verdict,
                  "true: there was trouble; false: there was none; benign: it was harmless")
      ->required()
      ->check(CLI::IsMember({"true", "false", "benign"}).description(""));
  feedback.add_option("WHY", why, "In a sentence")->required();
  CLI::App& probes = *app.add_subcommand("probes", "Kernel probes: state, cost, losses");
  CLI::App& policy =
      *app.add_subcommand("policy", "What leads to a taint, and what is made of each present condition");
  std::string policy_file;
  std::string checked_file;
  CLI::Option* config =
      policy.add_option("--config", policy_file, "Explain the policy of this file; asks no agent");
  policy.add_option("--check", checked_file, "Say whether the policy of this file is valid")
      ->excludes(config);
  CLI::App& pause =
      *app.add_subcommand("pause", "Leave this node's taint as it is, for DURATION or until resumed");
  CLI::App& resume = *app.add_subcommand("resume", "End a pause");
  CLI::App& veto = *app.add_subcommand("veto", "Let REASON set no taint, for DURATION or until lifted");
  CLI::App& healthy =
      *app.add_subcommand("healthy", "Set all evidence so far aside: only what comes from now on counts");
  std::string duration;
  std::string reason;
  bool lift = false;
  veto.add_option("REASON", reason, "As `vedette status` prints it")->required();
  veto.add_flag("--lift", lift, "Lift the veto");
  const auto is_duration = [](const std::string& text) {
    return parse_duration(text).value_or(0) > 0 ? "" : "expected " + std::string(kDurationForm);
  };
  incidents.get_option("--since")->check(is_duration);
  for (CLI::App* command : {&pause, &veto}) {
    command->add_option("DURATION", duration, "Like 30s, 5m, 2h or 1d")->check(is_duration);
  }
  for (CLI::App* command :
       {&status, &top, &explain, &probes, &policy, &pause, &resume, &veto, &healthy, &incidents, &feedback})
    command->fallthrough();
  CLI::App& cleanup =
      *app.add_subcommand("cleanup",
                          "Remove what agents that are gone left on the cluster's nodes: taint,\n"
                          "condition, annotation, Leases. Exits 0 when all is clean.");
  CleanupOptions left;
  std::string kubeconfig;
  CLI::Option* with_kubeconfig =
      cleanup.add_option("--kubeconfig", kubeconfig, "Where kubectl is told of the API server");
  cleanup
      .add_option("--server", left.client.url,
                  "https://HOST:PORT of the API server, or that of `kubectl proxy`; in a pod: its own")
      ->excludes(with_kubeconfig);
  cleanup.add_option("--ca", left.client.ca_file, "The server's authority, PEM")->excludes(with_kubeconfig);
  cleanup.add_option("--token-file", left.client.token_file, "A token that may change nodes")
      ->excludes(with_kubeconfig);
  cleanup.add_option("--namespace", left.namespace_name, "Of the agents' Leases")->capture_default_str();
  cleanup.add_flag("--all", left.all, "Also what living agents hold: stop them first, or it comes back");
  CLI::App& plan =
      *app.add_subcommand("plan", "How this node would be emptied now: order, waves, blocks, fit");
  bool local_data = false;
  bool force = false;
  plan.add_flag("--local-data", local_data, "Move pods too whose local data is lost or stays behind");
  plan.add_flag("--force", force, "Move pods too that nothing makes anew or that fit nowhere");
  CLI::App& evacuate =
      *app.add_subcommand("evacuate",
                          "Carry a plan out through the Eviction API. Ctrl-C stops it where it "
                          "is; the same command resumes it.");
  std::string plan_id;
  evacuate.add_option("--plan", plan_id, "Its id, as `vedette plan` prints it")->required();
  CLI::App& score = *app.add_subcommand(
      "score", "Judge tables of measurements with the agent's own detector; asks no agent");
  ScoreTablesOptions tables;
  score
      .add_option("SET", tables.set, "Folder with train/E.csv and test/E.csv, or .csv.gz, for each entity E")
      ->required();
  score.add_option("OUT", tables.out, "Folder for E.csv: score and alarm of each row of test/E.csv")
      ->required();
  score
      .add_option("--false-alarms", tables.false_alarms,
                  "Share of rows that may alarm although nothing is wrong")
      ->capture_default_str()
      ->check(CLI::Range(1e-8, 0.5));
  CLI::App& record = *app.add_subcommand(
      "record",
      "What recordings hold, and a part of the flight recorder's as one file. Exits 2 on an error.");
  record.require_subcommand(1);
  CLI::App& inspect = *record.add_subcommand("inspect", "What a recording, or a folder of them, holds");
  std::string recording;
  inspect.add_option("FILE", recording, "A recording, the flight recorder's folder, or an incident's in it")
      ->required();
  CLI::App& exported =
      *record.add_subcommand("export", "Write an incident's slice, or the last minutes, to a file");
  RecordExportOptions part;
  part.folder = kDefaultFlight;
  std::vector<std::string> what;
  std::string last_minutes;
  exported.add_option("ARGUMENTS", what, "INCIDENT OUT: its id, and the new file; with --last: OUT alone")
      ->required()
      ->expected(1, 2);
  exported.add_option("--last", last_minutes, "At least the last 30s, 5m, 2h or 1d of what is kept")
      ->check(is_duration);
  exported.add_option("--folder", part.folder, "The flight recorder's")->capture_default_str();
  CLI::App& baselines = *app.add_subcommand(
      "baselines", "What is usual for each workload: kept by the agent, given to other nodes");
  baselines.require_subcommand(1);
  BaselinesCommand usual;
  CLI::App& usual_list = *baselines.add_subcommand("list", "What the agent saved last, or a file holds");
  usual_list.add_option("FILE", usual.file, "A file of baselines; asks no agent");
  CLI::App& usual_export =
      *baselines.add_subcommand("export", "Write what the agent saved last to a new file");
  usual_export.add_option("FILE", usual.file, "A new file")->required();
  CLI::App& usual_import = *baselines.add_subcommand(
      "import", "Give the agent what another node exported; it keeps what it knows better");
  usual_import.add_option("FILE", usual.file, "As `baselines export` wrote it")->required();
  for (CLI::App* command : {&baselines, &usual_list, &usual_export, &usual_import}) command->fallthrough();
  CLI::App& replay =
      *app.add_subcommand("replay",
                          "Judge a recording again: what would be otherwise, change by change.\n"
                          "Exits 0 when nothing would, 1 when something would, 2 on an error.");
  ReplayCommand again;
  replay
      .add_option("FILE", again.path, "A recording, or a folder of the flight recorder: an incident's slice")
      ->required();
  replay.add_option("--policy", again.policy_file, "Decide by the policy of this configuration file");
  replay.add_option("--model", again.model, "Score by this risk model: builtin, off, or a file");
  CLI::Option* plot = replay.add_option("--plot", again.plot_out, "Draw it as SVG into this file");
  replay.add_option("--entity", again.entity, "With --plot: of whom; without, whoever was worst")
      ->needs(plot);
  CLI::Option* features =
      replay.add_option("--features-out", again.features_out, "Write all features as CSV to this file");
  replay.add_option("--features-of", again.features_of, "Of entities whose name contains this")
      ->needs(features);
  for (CLI::App* command : {&plan, &evacuate, &replay, &record, &inspect, &exported}) command->fallthrough();

  try {
    std::reverse(arguments.begin(), arguments.end());  // as CLI11 wants a vector
    app.parse(arguments);
  } catch (const CLI::ParseError& error) {
    return app.exit(error, streams.out, streams.err) == 0 ? kExitHealthy : kExitUsage;
  }

  if (top.parsed() && streams.live && !once && !json) {
    const Status shown = run_live_top(socket_path, order, streams.screen.colour);
    return shown ? kExitHealthy : fail_with(streams, kExitUnreachable, shown.error().text);
  }

  if (!policy_file.empty() || !checked_file.empty()) {
    return explain_file(checked_file + policy_file, !checked_file.empty(), json, streams);
  }
  if (score.parsed()) {
    const Status scored = score_tables(tables, streams.out);
    return scored ? kExitHealthy : fail_with(streams, kExitUsage, scored.error().text);
  }
  if (replay.parsed()) return run_replay(again, json, streams);
  if (inspect.parsed()) return run_record_inspect(recording, json, streams);
  if (exported.parsed()) {
    if (what.size() != (last_minutes.empty() ? 2 : 1)) {
      return fail_with(streams, kExitUsage, "record export: expected INCIDENT OUT, or --last TIME OUT");
    }
    if (last_minutes.empty()) part.incident = what.front();
    part.last_s = parse_duration(last_minutes).value_or(0);
    part.out = what.back();
    return run_record_export(part, json, streams);
  }
  if (baselines.parsed()) {
    usual.socket_path = socket_path;
    usual.exports = usual_export.parsed();
    usual.imports = usual_import.parsed();
    return run_baselines(usual, json, streams);
  }
  if (cleanup.parsed()) {
    if (!kubeconfig.empty()) {
      Result<KubeClientOptions> client = read_kubeconfig(kubeconfig);
      if (!client) return fail_with(streams, kExitUsage, client.error().text);
      left.client = std::move(*client);
    }
    const Result<bool> clean = run_cleanup(left, json, streams.out, streams.err);
    if (!clean) return fail_with(streams, kExitUnreachable, clean.error().text);
    return *clean ? kExitHealthy : kExitDegraded;
  }

  api::Request request;
  if (status.parsed()) request.mutable_status();
  if (top.parsed()) request.mutable_top();
  if (explain.parsed()) request.mutable_explain()->set_entity(entity);
  if (incidents.parsed())
    request.mutable_incidents()->set_since_s(all ? 0 : parse_duration(since).value_or(0));
  if (feedback.parsed()) {
    request.mutable_feedback()->set_incident(incident);
    request.mutable_feedback()->set_verdict(verdict);
    request.mutable_feedback()->set_why(why);
  }
  if (probes.parsed()) request.mutable_probes();
  if (policy.parsed()) request.mutable_policy();
  if (pause.parsed()) request.mutable_say()->set_word(api::OperatorRequest::PAUSE);
  if (resume.parsed()) request.mutable_say()->set_word(api::OperatorRequest::RESUME);
  if (veto.parsed())
    request.mutable_say()->set_word(lift ? api::OperatorRequest::LIFT_VETO : api::OperatorRequest::VETO);
  if (healthy.parsed()) request.mutable_say()->set_word(api::OperatorRequest::HEALTHY);
  if (request.has_say()) {
    request.mutable_say()->set_reason(reason);
    request.mutable_say()->set_seconds(parse_duration(duration).value_or(0));
  }
  for (const std::string* text : {&entity, &incident, &why, &reason, &plan_id}) {
    if (!is_utf8(*text)) return fail_with(streams, kExitUsage, "'" + clean_text(*text) + "' is no UTF-8");
  }
  Result<AgentClient> client = AgentClient::connect(socket_path);
  if (!client) return fail_with(streams, kExitUnreachable, client.error().text);
  if (plan.parsed()) {
    request.mutable_plan()->set_local_data(local_data);
    request.mutable_plan()->set_force(force);
  }
  const Result<api::Response> response = evacuate.parsed() ? run_evacuation(*client, plan_id, streams, json)
                                                           : ask_patiently(*client, std::move(request));
  if (!response) return fail_with(streams, kExitUnreachable, response.error().text);
  if (response->has_error()) return answered_error(*response, json, streams);

  if (json) {
    streams.out << json_view(*response);
  } else if (response->has_status()) {
    streams.out << status_view(*response, streams.screen);
  } else if (response->has_top()) {
    TopState state;
    state.order = order;
    streams.out << top_view(*response, streams.screen, state);
  } else if (response->has_explain()) {
    streams.out << explain_view(*response, streams.screen);
  } else if (response->has_probes()) {
    streams.out << probes_view(*response, streams.screen);
  } else if (response->has_policy()) {
    streams.out << policy_view(*response, streams.screen);
  } else if (response->has_incidents()) {
    streams.out << incidents_view(*response, streams.screen);
  } else if (response->has_incident()) {
    streams.out << incident_view(*response, streams.screen);
  } else if (response->has_said()) {
    streams.out << said_text(response->said(), response->agent().wall_ns());
  } else if (response->has_plan()) {
    streams.out << plan_view(*response, streams.screen);
  } else if (response->has_evacuation()) {  // told on the way
  } else {
    return fail_with(streams, kExitUnreachable, "the agent sent an unexpected answer");
  }
  if (response->has_evacuation()) {
    const api::Evacuation& last = response->evacuation();
    return last.left() + static_cast<unsigned>(last.staying_size()) == 0 ? kExitHealthy : kExitDegraded;
  }
  if (!response->has_status()) return kExitHealthy;
  const std::string stuck = stuck_text(response->agent().age_s());
  return stuck.empty() ? status_code(response->status()) : fail_with(streams, kExitUnreachable, stuck);
}

}  // namespace vedette
