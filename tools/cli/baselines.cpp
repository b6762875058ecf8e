#include "tools/cli/baselines.h"

#include <algorithm>
#include <ostream>
#include <utility>

#include <fcntl.h>
#include <nlohmann/json.hpp>
#include <unistd.h>

#include "agent/base/clean_text.h"
#include "agent/base/clock.h"
#include "agent/base/handle.h"
#include "agent/record/baseline_file.h"
#include "agent/score/anomaly.h"
#include "exporter/api.pb.h"
#include "tools/cli/agent_client.h"
#include "tools/cli/format.h"
#include "tools/cli/json_text.h"

namespace vedette {
namespace {

double known_s(const Baseline& baseline) {
  return baseline.detector.age_rows() * AnomalyOptions{}.row_s;
}

std::string list_text(const Baselines& baselines, const Screen& screen) {
  std::string text =
      wrap("What is usual for " + std::to_string(baselines.list.size()) + " workloads, learnt on " +
               clean_text(baselines.node) + " by vedette " + clean_text(baselines.agent_version) +
               ", saved at " + format_clock(baselines.saved_wall_ns, wall_now()) + ", " +
               format_bytes(static_cast<double>(baselines.file.size())),
           screen.columns, 0);
  constexpr std::size_t kRevision = 14;
  constexpr std::size_t kTime = 12;
  const std::size_t name =
      std::max<std::size_t>(20, std::min<std::size_t>(60, screen.columns - kRevision - kTime - 2));
  text += screen.paint(Paint::kDim, pad_right("WORKLOAD", name) + "  " + pad_right("REVISION", kRevision) +
                                        pad_left("LEARNT FROM", kTime)) +
          "\n";
  for (const Baseline& baseline : baselines.list) {
    text += pad_right(clean_text(baseline.workload), name) + "  " +
            pad_right(clean_text(baseline.revision), kRevision) +
            pad_left(format_duration(known_s(baseline)), kTime) + "\n";
  }
  for (const std::string& left_out : baselines.left_out)
    text += wrap("note: left out: " + left_out, screen.columns, 0);
  return text;
}

std::string list_json(const Baselines& baselines) {
  nlohmann::ordered_json json{{"node", baselines.node},
                              {"agent_version", baselines.agent_version},
                              {"saved_wall_ns", baselines.saved_wall_ns},
                              {"bytes", baselines.file.size()},
                              {"left_out", baselines.left_out},
                              {"workloads", nlohmann::ordered_json::array()}};
  for (const Baseline& baseline : baselines.list) {
    json["workloads"].push_back(nlohmann::ordered_json{{"workload", baseline.workload},
                                                       {"revision", baseline.revision},
                                                       {"learnt_from_s", known_s(baseline)}});
  }
  return json_text(json);
}

}  // namespace

int run_baselines(const BaselinesCommand& command, bool json, const CliStreams& streams) {
  const auto list = [&](const Result<Baselines>& baselines) {
    if (!baselines) return fail_with(streams, kExitDegraded, baselines.error().text);
    streams.out << (json ? list_json(*baselines) : list_text(*baselines, streams.screen));
    return static_cast<int>(kExitHealthy);
  };
  const bool from_file = !command.file.empty() && !command.exports;
  if (from_file && !command.imports) return list(load_baselines(command.file));
  api::Request request;
  request.mutable_baselines();
  if (command.imports) {
    // Read here, so that what is wrong with it is told with its name.
    Result<Baselines> given = load_baselines(command.file);
    if (!given) return fail_with(streams, kExitUsage, given.error().text);
    for (const std::string& left_out : given->left_out)
      streams.err << "vedette: " << command.file << ": " << left_out << ": left out\n";
    request.mutable_baselines()->set_file(std::move(given->file));
  }
  Result<AgentClient> client = AgentClient::connect(command.socket_path);
  if (!client) return fail_with(streams, kExitUnreachable, client.error().text);
  Result<api::Response> response = client->ask(std::move(request));
  if (!response) return fail_with(streams, kExitUnreachable, response.error().text);
  if (response->has_error()) return answered_error(*response, json, streams);
  if (command.imports) {
    const std::uint32_t count = response->baselines().imported();
    if (json) {
      streams.out << json_text(nlohmann::json{{"imported", count}});
    } else {
      streams.out << "the agent was given what is usual for " << count
                  << " workloads, and uses it where it does not know better\n";
    }
    return kExitHealthy;
  }
  Result<Baselines> saved =
      parse_baselines(std::move(*response->mutable_baselines()->mutable_file()), "the agent's file");
  if (!saved || !command.exports) return list(saved);
  const FileHandle out(::open(command.file.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600));
  if (!out)
    return fail_with(streams, kExitUsage, fail_errno("make the new file " + command.file).value().text);
  std::string_view left = saved->file;
  while (!left.empty()) {
    const ssize_t wrote = ::write(out.get(), left.data(), left.size());
    if (wrote < 0) return fail_with(streams, kExitUsage, fail_errno("write " + command.file).value().text);
    left.remove_prefix(static_cast<std::size_t>(wrote));
  }
  return list(saved);
}

}  // namespace vedette
