#include "agent/record/recorder.h"

#include <condition_variable>
#include <cstdio>
#include <deque>
#include <mutex>
#include <optional>
#include <stop_token>
#include <thread>

#include <spdlog/spdlog.h>

#include "agent/record/recording.pb.h"
#include "agent/record/recording_file.h"

namespace vedette {

struct Recorder::State {
  struct Entry {
    std::shared_ptr<const Snapshot> snapshot;
    std::uint64_t dropped_before = 0;
  };

  RecorderOptions options;

  mutable std::mutex mutex;
  std::condition_variable_any changed;
  std::deque<Entry> queue;            // under mutex
  std::uint64_t dropped_pending = 0;  // under mutex: dropped since the last entry queued
  RecorderState totals;               // under mutex

  // The recorder's thread only (before it starts: make()).
  std::optional<RecordingWriter> writer;
  TickEncoder encoder;
  recording::Message message;
  std::string bytes;
  std::uint64_t ticks = 0, file_ticks = 0, file_dropped = 0;

  std::jthread thread;  // last: it must end before what it uses

  Status start_file(bool continues);
  Status append();
  Status end_file(bool full);
  Status write(const Entry& entry);
  void run(const std::stop_token& stop);
};

Status Recorder::State::start_file(bool continues) {
  auto created = RecordingWriter::create(options.path);
  if (!created) return tl::unexpected(created.error());
  writer.emplace(std::move(*created));
  encoder = TickEncoder();
  file_ticks = file_dropped = 0;
  RecordingHeader header = options.header;
  header.continues = continues;
  message.Clear();
  TickEncoder::encode_header(header, *message.mutable_header());
  return append();
}

Status Recorder::State::append() {
  bytes.clear();
  if (!message.AppendToString(&bytes) || bytes.size() > kMaxFrameBytes) {
    return fail("recording " + options.path + ": a message of " + std::to_string(message.ByteSizeLong()) +
                " bytes is larger than a recording may hold");
  }
  return writer->append(bytes);
}

Status Recorder::State::end_file(bool full) {
  message.Clear();
  recording::End& end = *message.mutable_end();
  end.set_ticks(file_ticks);
  end.set_dropped(file_dropped);
  end.set_full(full);
  if (auto status = append(); !status) return status;
  auto status = writer->finish();
  writer.reset();
  return status;
}

Status Recorder::State::write(const Entry& entry) {
  message.Clear();
  encoder.encode(*entry.snapshot, entry.dropped_before, *message.mutable_tick());
  if (auto status = append(); !status) return status;
  ++file_ticks;
  ++ticks;
  file_dropped += entry.dropped_before;
  if (writer->bytes_written() < options.max_bytes) return {};

  if (auto status = end_file(true); !status) return status;
  if (options.when_full == RecorderOptions::WhenFull::kStop) {
    return fail("recording " + options.path + " reached its bound of " + std::to_string(options.max_bytes) +
                " bytes and ended");
  }
  const std::string older = options.path + ".1";
  if (std::rename(options.path.c_str(), older.c_str()) != 0) {
    return fail_errno("rename recording " + options.path + " to " + older);
  }
  return start_file(true);
}

void Recorder::State::run(const std::stop_token& stop) {
  std::unique_lock lock(mutex);
  while (true) {
    changed.wait(lock, stop, [&] { return !queue.empty(); });
    if (queue.empty()) break;
    const Entry entry = std::move(queue.front());
    queue.pop_front();
    if (!totals.recording) {
      ++totals.dropped;
      continue;
    }
    lock.unlock();
    const Status status = write(entry);
    if (!status) spdlog::warn("{}; the agent goes on without recording", status.error().text);
    lock.lock();
    totals.ticks = ticks;
    if (status) {
      totals.bytes = writer->bytes_written();
    } else {
      totals.recording = false;
      totals.error = status.error().text;
    }
  }
  file_dropped += dropped_pending;
  const bool recording = totals.recording;
  lock.unlock();
  if (!recording) return;
  if (const auto status = end_file(false); !status) spdlog::warn("{}", status.error().text);
}

Result<std::unique_ptr<Recorder>> Recorder::make(RecorderOptions options) {
  auto state = std::make_unique<State>();
  state->options = std::move(options);
  if (auto status = state->start_file(state->options.header.continues); !status) {
    return tl::unexpected(status.error());
  }
  State* shared = state.get();
  state->thread = std::jthread([shared](const std::stop_token& stop) { shared->run(stop); });
  return std::unique_ptr<Recorder>(new Recorder(std::move(state)));
}

Recorder::Recorder(std::unique_ptr<State> state) : state_(std::move(state)) {}
Recorder::~Recorder() = default;

void Recorder::publish(const std::shared_ptr<const Snapshot>& snapshot) {
  {
    const std::lock_guard lock(state_->mutex);
    if (!state_->totals.recording || state_->queue.size() >= state_->options.queue_ticks) {
      ++state_->totals.dropped;
      ++state_->dropped_pending;
      return;
    }
    state_->queue.push_back({snapshot, std::exchange(state_->dropped_pending, 0)});
  }
  state_->changed.notify_one();
}

RecorderState Recorder::state() const {
  const std::lock_guard lock(state_->mutex);
  return state_->totals;
}

}  // namespace vedette
