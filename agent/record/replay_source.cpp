#include "agent/record/replay_source.h"

#include <algorithm>
#include <utility>

#include "agent/record/recording.pb.h"
#include "agent/record/recording_file.h"

namespace vedette {

struct ReplaySource::State {
  RecordingReader reader;
  TickDecoder decoder;
  recording::Message message;
  std::string bytes;
  std::vector<std::string> notes;
  std::uint64_t ticks = 0, dropped = 0;
  bool exact = true;
  bool ended = false;

  tl::unexpected<Error> damaged(const std::string& what) const {
    return fail("recording " + reader.path() + ": damaged before byte " + std::to_string(reader.offset()) +
                ": " + what);
  }
  std::string after() const { return " after " + std::to_string(ticks) + " ticks"; }
};

Result<std::unique_ptr<ReplaySource>> ReplaySource::open(const std::string& path) {
  auto reader = RecordingReader::open(path);
  if (!reader) return tl::unexpected(reader.error());
  std::string bytes;
  const auto read = reader->next(bytes);
  if (!read) return tl::unexpected(read.error());
  if (*read != RecordingReader::Read::kFrame) {
    return fail("recording " + path + ": ends at byte " + std::to_string(reader->offset()) +
                " before its header");
  }
  recording::Message message;
  if (!message.ParseFromString(bytes) || !message.has_header()) {
    return fail("recording " + path + ": the first message is no header of a recording");
  }
  auto decoder = TickDecoder::make(message.header());
  if (!decoder) return fail("recording " + path + ": " + decoder.error().text);
  auto state = std::make_unique<State>(State{std::move(*reader), std::move(*decoder), {}, {}, {}});
  state->notes = state->decoder.notes();
  if (state->decoder.header().continues) {
    state->exact = false;
    state->notes.emplace_back(
        "the recording continues an earlier file: what the agent had learnt there is missing");
  }
  return std::unique_ptr<ReplaySource>(new ReplaySource(std::move(state)));
}

ReplaySource::ReplaySource(std::unique_ptr<State> state) : state_(std::move(state)) {}
ReplaySource::~ReplaySource() = default;

Result<Source::Wait> ReplaySource::wait() {
  State& state = *state_;
  if (state.ended) return Wait::kEnd;
  const auto read = state.reader.next(state.bytes);
  if (!read) {
    state.ended = true;
    return tl::unexpected(read.error());
  }
  if (*read != RecordingReader::Read::kFrame) {
    state.ended = true;
    state.notes.push_back("the recording ends early at byte " + std::to_string(state.reader.offset()) +
                          state.after() + ": the agent was killed or the file is truncated");
    return Wait::kEnd;
  }
  if (!state.message.ParseFromString(state.bytes))
    return state.damaged("a message cannot be read" + state.after());
  if (state.message.has_tick()) return Wait::kTick;
  if (!state.message.has_end()) return state.damaged("a message of unknown kind" + state.after());

  state.ended = true;
  const recording::End& end = state.message.end();
  if (end.ticks() != state.ticks) {
    return state.damaged(std::to_string(state.ticks) + " ticks where " + std::to_string(end.ticks()) +
                         " were written");
  }
  // Each tick tells of those dropped before it; these came after the last one.
  const std::uint64_t dropped = end.dropped() - std::min(end.dropped(), state.dropped);
  if (dropped > 0) {
    state.exact = false;
    state.notes.push_back(std::to_string(dropped) + " ticks were not recorded" + state.after());
  }
  if (end.full())
    state.notes.emplace_back("the recording reached its size bound and ended before the run did");
  // Nothing may follow: the stream must end with the file.
  const auto after = state.reader.next(state.bytes);
  if (!after) return tl::unexpected(after.error());
  if (*after == RecordingReader::Read::kFrame) return state.damaged("a message after the end");
  return Wait::kEnd;
}

Status ReplaySource::collect(Observation& observation) {
  State& state = *state_;
  if (!state.message.has_tick()) return fail("recording " + state.reader.path() + ": no tick to collect");
  if (auto status = state.decoder.decode(state.message.tick(), observation); !status) {
    state.ended = true;
    return state.damaged(status.error().text);
  }
  if (const std::uint64_t dropped = state.decoder.dropped_before(); dropped > 0) {
    state.exact = false;
    state.dropped += dropped;
    state.notes.push_back(std::to_string(dropped) + " ticks were not recorded before tick " +
                          std::to_string(state.ticks));
  }
  ++state.ticks;
  return {};
}

const RecordingHeader& ReplaySource::header() const {
  return state_->decoder.header();
}
const ActState& ReplaySource::act() const {
  return state_->decoder.act();
}
const RecordedVerdict& ReplaySource::verdict() const {
  return state_->decoder.verdict();
}
std::uint64_t ReplaySource::ticks() const {
  return state_->ticks;
}
bool ReplaySource::exact() const {
  return state_->exact;
}
const std::vector<std::string>& ReplaySource::notes() const {
  return state_->notes;
}

}  // namespace vedette
