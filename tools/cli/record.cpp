#include "tools/cli/record.h"

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <ctime>
#include <ostream>
#include <utility>
#include <vector>

#include <nlohmann/json.hpp>
#include <sys/stat.h>
#include <unistd.h>

#include "agent/act/policy.h"
#include "agent/base/clean_text.h"
#include "agent/base/clock.h"
#include "agent/record/flight_folder.h"
#include "agent/record/recording_file.h"
#include "agent/record/replay_source.h"
#include "tools/cli/format.h"
#include "tools/cli/json_text.h"

namespace vedette {
namespace {

using Json = nlohmann::ordered_json;

// From one header to the next.
struct Part {
  std::string file;
  RecordingHeader header;
  ReplaySource::Start start = ReplaySource::Start::kNone;
  WallNs first_wall_ns = 0, last_wall_ns = 0;
  std::uint64_t ticks = 0;
  std::size_t entities = 0;  // at most at once
};

struct Contents {
  std::vector<Part> parts;
  std::string policy;  // where the last one was read
  std::uint64_t ticks = 0, dropped = 0;
  std::uint64_t bytes = 0;
  std::vector<std::string> notes;
  std::vector<std::pair<std::string, std::uint64_t>> slices;  // of incidents, and their bytes
};

Result<Contents> read_contents(const std::string& path) {
  auto source = ReplaySource::open(path);
  if (!source) return tl::unexpected(source.error());
  Contents contents;
  Observation observation;
  std::size_t part = 0;
  for (;;) {
    const auto wait = (*source)->wait();
    if (!wait) return tl::unexpected(wait.error());
    if (*wait == Source::Wait::kEnd) break;
    if (Status ok = (*source)->collect(observation); !ok) return tl::unexpected(ok.error());
    const WallNs now = observation.time.wall_ns;
    if (std::exchange(part, (*source)->part()) != (*source)->part())
      contents.parts.push_back({(*source)->file(), (*source)->header(), (*source)->start(), now, now, 0, 0});
    Part& last = contents.parts.back();
    last.last_wall_ns = now;
    ++last.ticks;
    last.entities = std::max(last.entities, observation.entities.size());
    if ((*source)->policy()) contents.policy = (*source)->policy()->origin;
  }
  contents.ticks = (*source)->ticks();
  contents.dropped = (*source)->dropped();
  contents.notes = (*source)->notes();
  contents.bytes = recorded_bytes(path);
  for (const std::string& slice : slices_in(path))
    contents.slices.emplace_back(slice, recorded_bytes(std::filesystem::path(path) / slice));
  return contents;
}

std::string name_of(const std::string& path) {
  return path.substr(path.rfind('/') + 1);
}

const char* word_of(ReplaySource::Start start) {
  switch (start) {
    case ReplaySource::Start::kRun:
      return "a run begins";
    case ReplaySource::Start::kContinued:
      return "what came before is missing";
    case ReplaySource::Start::kNone:
      break;
  }
  return "";
}

Json as_json(const std::string& path, const Contents& contents) {
  Json json{{"path", path},
            {"ticks", contents.ticks},
            {"dropped", contents.dropped},
            {"bytes", contents.bytes},
            {"policy", contents.policy},
            {"notes", contents.notes},
            {"parts", Json::array()},
            {"slices", Json::array()}};
  for (const Part& part : contents.parts) {
    Json entry{{"file", part.file},
               {"format", part.header.format_version},
               {"agent_version", part.header.agent_version},
               {"kernel", part.header.kernel_release},
               {"node", part.header.node},
               {"run_began_wall_ns", part.header.started_wall_ns},
               {"ticks_before", part.header.ticks_before},
               {"begins_run", part.start == ReplaySource::Start::kRun},
               {"follows", part.start == ReplaySource::Start::kNone},
               {"first_wall_ns", part.first_wall_ns},
               {"last_wall_ns", part.last_wall_ns},
               {"ticks", part.ticks},
               {"entities", part.entities}};
    json["parts"].push_back(std::move(entry));
  }
  for (const auto& slice : contents.slices)
    json["slices"].push_back(Json{{"incident", slice.first}, {"bytes", slice.second}});
  return json;
}

std::string as_text(const std::string& path, const Contents& contents, const Screen& screen) {
  std::string text = screen.paint(Paint::kBold, path) + ": " + std::to_string(contents.ticks) + " ticks, " +
                     format_bytes(static_cast<double>(contents.bytes));
  if (contents.dropped > 0) text += ", " + std::to_string(contents.dropped) + " ticks are missing";
  text += "\n";
  if (!contents.parts.empty()) {
    const Part& first = contents.parts.front();
    const Part& last = contents.parts.back();
    const RecordingHeader& header = last.header;
    text += wrap(clean_text("from " + format_clock(first.first_wall_ns, 0) + " to " +
                            format_clock(last.last_wall_ns, 0) + ", by vedette " + header.agent_version +
                            " on Linux " + header.kernel_release +
                            (header.node.empty() ? "" : ", node " + header.node) + "; format " +
                            std::to_string(header.format_version) +
                            (contents.policy.empty() ? "" : ", policy " + contents.policy) +
                            (header.settings ? ", model " + header.settings->model : "")),
                 screen.columns, 2);
    text += "\n" +
            screen.paint(Paint::kDim, "  " + pad_right("PART", 31) + pad_right("FROM", 10) +
                                          pad_left("LASTS", 12) + pad_left("TICKS", 8) +
                                          pad_left("ENTITIES", 10)) +
            "\n";
    for (const Part& part : contents.parts) {
      const double lasts_s = static_cast<double>(part.last_wall_ns - part.first_wall_ns) / kNsPerSecond;
      text += "  " + pad_right(name_of(part.file), 31) +
              pad_right(format_clock(part.first_wall_ns, part.first_wall_ns), 10) +
              pad_left(format_duration(lasts_s), 12) + pad_left(std::to_string(part.ticks), 8) +
              pad_left(std::to_string(part.entities), 10) + "  " + word_of(part.start) + "\n";
    }
  }
  if (!contents.slices.empty()) text += "\n" + screen.paint(Paint::kBold, "Kept of incidents") + "\n";
  for (const auto& slice : contents.slices) {
    text += "  " + pad_right(slice.first, 24) + pad_left(format_bytes(static_cast<double>(slice.second)), 9) +
            "\n";
  }
  for (const std::string& note : contents.notes) text += wrap("note: " + clean_text(note), screen.columns, 0);
  return text;
}

// The messages of `file`, as they are. Where it ends early, so does its part in `out`.
Status copy(const std::string& file, RecordingWriter& out) {
  auto reader = RecordingReader::open(file);
  if (!reader) return tl::unexpected(reader.error());
  std::string message;
  for (;;) {
    const auto read = reader->next(message);
    if (!read) return tl::unexpected(read.error());
    if (*read != RecordingReader::Read::kFrame) return {};
    if (Status ok = out.append(message); !ok) return ok;
  }
}

}  // namespace

int run_record_inspect(const std::string& path, bool json, const CliStreams& streams) {
  const Result<Contents> contents = read_contents(path);
  if (!contents) return fail_with(streams, kExitUnreadable, clean_text(contents.error().text));
  if (json) {
    streams.out << json_text(as_json(path, *contents));
  } else {
    streams.out << as_text(path, *contents, streams.screen);
  }
  return kExitHealthy;
}

int run_record_export(const RecordExportOptions& options, bool json, const CliStreams& streams) {
  const std::string folder =
      options.incident.empty() ? options.folder : options.folder + "/" + options.incident;
  if (::access(folder.c_str(), R_OK | X_OK) != 0) {
    const std::string why = folder + ": " + std::strerror(errno);
    return fail_with(
        streams, kExitUnreadable,
        why + (options.incident.empty() ? ": expected the flight recorder's folder (record.flight)"
                                        : ": no slice of that incident is kept; `vedette record inspect " +
                                              options.folder + "` lists those that are"));
  }
  std::vector<std::string> files;
  for (const std::string& name : segments_in(folder)) {
    const std::string file = std::filesystem::path(folder) / name;
    struct stat status {};
    if (::stat(file.c_str(), &status) != 0) continue;
    if (options.last_s == 0 || std::difftime(std::time(nullptr), status.st_mtime) <= options.last_s)
      files.push_back(file);
  }
  if (files.empty()) return fail_with(streams, kExitUnreadable, folder + ": it has no segment of that time");
  if (::access(options.out.c_str(), F_OK) == 0)
    return fail_with(streams, kExitUnreadable,
                     options.out + ": it is there already; expected the name of a new file");
  Result<RecordingWriter> out = RecordingWriter::create(options.out);
  if (!out) return fail_with(streams, kExitUnreadable, out.error().text);
  for (const std::string& file : files) {
    if (Status ok = copy(file, *out); !ok) {
      ::unlink(options.out.c_str());
      return fail_with(streams, kExitUnreadable, ok.error().text);
    }
  }
  if (Status ok = out->finish(); !ok) return fail_with(streams, kExitUnreadable, ok.error().text);
  return run_record_inspect(options.out, json, streams);
}

}  // namespace vedette
