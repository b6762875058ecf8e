#include "agent/record/recorder.h"

#include <condition_variable>
#include <deque>
#include <mutex>
#include <optional>
#include <stop_token>
#include <thread>
#include <utility>

#include <spdlog/spdlog.h>

#include "agent/record/tick_writer.h"

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
  FlightUse flight_use;               // under mutex

  // The recorder's thread only (before it starts: make()).
  std::optional<TickWriter> writer;
  std::optional<Flight> flight;

  std::jthread thread;  // last: it must end before what it uses

  Status write(const Entry& entry);
  void run(const std::stop_token& stop);
};

// Into the recording.
Status Recorder::State::write(const Entry& entry) {
  if (Status status = writer->write(*entry.snapshot, entry.dropped_before); !status) return status;
  if (writer->bytes() < options.max_bytes) return {};
  if (Status status = writer->end(0, true); !status) return status;
  return fail("recording " + options.path + " reached its bound of " + std::to_string(options.max_bytes) +
              " bytes and ended");
}

void Recorder::State::run(const std::stop_token& stop) {
  std::unique_lock lock(mutex);
  while (true) {
    changed.wait(lock, stop, [&] { return !queue.empty(); });
    if (queue.empty()) break;
    const Entry entry = std::move(queue.front());
    queue.pop_front();
    lock.unlock();
    const Status status = writer ? write(entry) : Status{};
    if (!status) {
      spdlog::warn("{}; the agent goes on without it", status.error().text);
      writer.reset();
    }
    if (flight) flight->write(*entry.snapshot, entry.dropped_before);
    lock.lock();
    if (flight) flight_use = flight->use();
  }
  const std::uint64_t dropped = dropped_pending;
  lock.unlock();
  if (flight) flight->end(dropped);
  if (!writer) return;
  if (const Status status = writer->end(dropped, false); !status) spdlog::warn("{}", status.error().text);
}

Result<std::unique_ptr<Recorder>> Recorder::make(RecorderOptions options) {
  auto state = std::make_unique<State>();
  state->options = std::move(options);
  if (!state->options.path.empty()) {
    auto writer = TickWriter::create(state->options.path, state->options.header);
    if (!writer) return tl::unexpected(writer.error());
    state->writer.emplace(std::move(*writer));
  }
  if (!state->options.flight.folder.empty()) {
    state->flight.emplace(state->options.flight, state->options.header);
    state->flight_use = state->flight->use();
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
    if (state_->queue.size() >= state_->options.queue_ticks) {
      ++state_->dropped_pending;
      return;
    }
    state_->queue.push_back({snapshot, std::exchange(state_->dropped_pending, 0)});
  }
  state_->changed.notify_one();
}

FlightUse Recorder::flight() const {
  const std::lock_guard lock(state_->mutex);
  return state_->flight_use;
}

}  // namespace vedette
