#include "agent/record/replay_source.h"

#include <algorithm>
#include <filesystem>
#include <optional>
#include <utility>

#include "agent/record/flight_folder.h"
#include "agent/record/recording.pb.h"
#include "agent/record/recording_file.h"
#include "agent/record/tick_decoder.h"

namespace vedette {

struct ReplaySource::State {
  std::vector<std::string> files;  // that are still to come, the next one last
  bool is_folder = false;
  std::optional<RecordingReader> reader;
  recording::Message message;
  std::string bytes;
  std::vector<std::string> notes;
  std::uint64_t ticks = 0, dropped = 0;
  bool exact = true;

  // The part that is read: a header and what follows it.
  std::optional<TickDecoder> decoder;
  std::string file;
  std::size_t part = 0;
  std::uint64_t part_ticks = 0, part_dropped = 0;
  bool part_ended = false;
  Start next_start = Start::kRun;  // of its first tick
  Start start = Start::kRun;

  tl::unexpected<Error> damaged(const std::string& what) const {
    return fail("recording " + reader->path() + ": damaged before byte " + std::to_string(reader->offset()) +
                ": " + what);
  }
  std::string after() const { return " after " + std::to_string(ticks) + " ticks"; }

  Result<bool> next_message();
  Status begin_part();
  Status end_part();
};

// False: there is none.
Result<bool> ReplaySource::State::next_message() {
  while (true) {
    const bool opened = !reader;
    if (opened) {
      if (files.empty()) return false;
      const std::string next_file = std::move(files.back());
      files.pop_back();
      std::error_code error;
      if (is_folder && std::filesystem::file_size(next_file, error) == 0) continue;  // killed as it began
      auto next = RecordingReader::open(next_file);
      if (!next) return tl::unexpected(next.error());
      reader.emplace(std::move(*next));
    }
    const auto read = reader->next(bytes);
    if (!read) return tl::unexpected(read.error());
    if (*read == RecordingReader::Read::kFrame) {
      if (Status ok = parse_message(bytes, message); !ok) return damaged(ok.error().text + after());
      if (opened && !message.has_header())
        return fail("recording " + reader->path() + ": the first message is no header of a recording");
      return true;
    }
    if (opened && !is_folder) {
      return fail("recording " + reader->path() + ": ends at byte " + std::to_string(reader->offset()) +
                  " before its header");
    }
    if (*read == RecordingReader::Read::kTruncated && (opened || !part_ended)) {
      notes.push_back(reader->path() + " ends early at byte " + std::to_string(reader->offset()) + after() +
                      ": the agent was killed, writes on, or the file is truncated");
    }
    reader.reset();
  }
}

Status ReplaySource::State::begin_part() {
  auto made = TickDecoder::make(message.header());
  if (!made) return fail("recording " + reader->path() + ": " + made.error().text);
  const RecordingHeader& header = made->header();
  const bool follows = decoder && header.started_wall_ns == decoder->header().started_wall_ns &&
                       header.ticks_before == decoder->header().ticks_before + part_ticks + part_dropped;
  if (!header.continues) {
    next_start = Start::kRun;
  } else if (!follows) {
    next_start = Start::kContinued;
    exact = false;
    notes.push_back(reader->path() + " continues an earlier file" + (ticks == 0 ? "" : after()) +
                    ": what the agent had learnt there is missing");
  }
  if (decoder && !part_ended && file == reader->path())
    notes.push_back("a run ends early" + after() + ": the agent was killed");
  for (const std::string& note : made->notes()) {
    if (std::ranges::find(notes, note) == notes.end()) notes.push_back(note);
  }
  decoder.emplace(std::move(*made));
  file = reader->path();
  ++part;
  part_ticks = part_dropped = 0;
  part_ended = false;
  return {};
}

Status ReplaySource::State::end_part() {
  const recording::End& end = message.end();
  if (end.ticks() != part_ticks) {
    return damaged(std::to_string(part_ticks) + " ticks where " + std::to_string(end.ticks()) +
                   " were written");
  }
  // Each tick tells of those dropped before it; these came after the last one.
  const std::uint64_t late = end.dropped() - std::min(end.dropped(), part_dropped);
  if (late > 0) {
    exact = false;
    dropped += late;
    notes.push_back(std::to_string(late) + " ticks were not recorded" + after());
  }
  if (end.full()) notes.emplace_back("the recording reached its size bound and ended before the run did");
  part_ended = true;
  return {};
}

Result<std::unique_ptr<ReplaySource>> ReplaySource::open(const std::string& path) {
  auto state = std::make_unique<State>();
  std::error_code error;
  if (std::filesystem::is_directory(path, error)) {
    for (const std::string& name : segments_in(path)) {
      state->files.push_back(std::filesystem::path(path) / name);
    }
    if (state->files.empty()) return fail("recording " + path + ": the folder has no segment of a recording");
    std::ranges::reverse(state->files);
    state->is_folder = true;
  } else {
    state->files.push_back(path);
  }
  const auto read = state->next_message();
  if (!read) return tl::unexpected(read.error());
  if (!*read) return fail("recording " + path + ": no segment in the folder has a header");
  if (Status begun = state->begin_part(); !begun) return tl::unexpected(begun.error());
  return std::unique_ptr<ReplaySource>(new ReplaySource(std::move(state)));
}

ReplaySource::ReplaySource(std::unique_ptr<State> state) : state_(std::move(state)) {}
ReplaySource::~ReplaySource() = default;

Result<Source::Wait> ReplaySource::wait() {
  State& state = *state_;
  const auto fails = [&](const Error& error) {
    state.files.clear();
    state.reader.reset();
    return tl::unexpected(error);
  };
  while (true) {
    const auto read = state.next_message();
    if (!read) return fails(read.error());
    if (!*read) return Wait::kEnd;
    Status ok;
    if (state.message.has_header()) {
      ok = state.begin_part();
    } else if (state.part_ended) {
      ok = state.damaged("a message after the end");
    } else if (state.message.has_tick()) {
      return Wait::kTick;
    } else if (state.message.has_end()) {
      ok = state.end_part();
    } else {
      ok = state.damaged("a message of unknown kind" + state.after());
    }
    if (!ok) return fails(ok.error());
  }
}

Status ReplaySource::collect(Observation& observation) {
  State& state = *state_;
  if (!state.reader || !state.message.has_tick()) return fail("recording: no tick to collect");
  if (auto status = state.decoder->decode(state.message.tick(), observation); !status) {
    const tl::unexpected<Error> error = state.damaged(status.error().text);
    state.files.clear();
    state.reader.reset();
    return error;
  }
  state.start = std::exchange(state.next_start, Start::kNone);
  if (const std::uint64_t dropped = state.decoder->dropped_before(); dropped > 0) {
    state.exact = false;
    state.start = Start::kContinued;
    state.part_dropped += dropped;
    state.dropped += dropped;
    state.notes.push_back(std::to_string(dropped) + " ticks were not recorded before tick " +
                          std::to_string(state.ticks));
  }
  ++state.part_ticks;
  ++state.ticks;
  return {};
}

const RecordingHeader& ReplaySource::header() const {
  return state_->decoder->header();
}
const ActState& ReplaySource::act() const {
  return state_->decoder->act();
}
const std::shared_ptr<const Policy>& ReplaySource::policy() const {
  return state_->decoder->policy();
}
const std::shared_ptr<const Baselines>& ReplaySource::taught() const {
  return state_->decoder->taught();
}
const std::vector<Lesson>& ReplaySource::lessons() const {
  return state_->decoder->lessons();
}
const RecordedVerdict& ReplaySource::verdict() const {
  return state_->decoder->verdict();
}
ReplaySource::Start ReplaySource::start() const {
  return state_->start;
}
const std::string& ReplaySource::file() const {
  return state_->file;
}
std::size_t ReplaySource::part() const {
  return state_->part;
}
std::uint64_t ReplaySource::ticks() const {
  return state_->ticks;
}
std::uint64_t ReplaySource::dropped() const {
  return state_->dropped;
}
bool ReplaySource::exact() const {
  return state_->exact;
}
const std::vector<std::string>& ReplaySource::notes() const {
  return state_->notes;
}

}  // namespace vedette
