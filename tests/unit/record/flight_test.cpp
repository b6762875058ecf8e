#include "agent/record/flight.h"

#include <csignal>
#include <filesystem>
#include <fstream>

#include <doctest/doctest.h>
#include <sys/wait.h>
#include <unistd.h>

#include "agent/record/flight_folder.h"
#include "agent/record/replay_source.h"
#include "tests/unit/temporary_folder.h"

namespace vedette {
namespace {

namespace fs = std::filesystem;

constexpr const char* kIncident = "20261125-071455-3fa21c";
constexpr WallNs kEpochNs = 1'700'000'000'000'000'000;  // before any file of these tests

// Two ticks a second: `tick` is the number of one, and what its sample counts.
std::shared_ptr<Snapshot> snapshot_of(std::uint64_t tick) {
  static const EntityPtr node = [] {
    auto entity = std::make_shared<Entity>();
    entity->name = "node";
    return entity;
  }();
  auto snapshot = std::make_shared<Snapshot>();
  const std::uint64_t time_ns = (1 + tick) * 500'000'000;
  snapshot->observation.time = {time_ns, kEpochNs + time_ns};
  snapshot->observation.interval_s = 0.5;
  snapshot->observation.entities = {node};
  snapshot->observation.samples.resize(1);
  snapshot->observation.samples[0].counters[0] = tick;
  snapshot->features.entities = {node};
  snapshot->scores.entities.resize(1);
  return snapshot;
}

void add_incident(Snapshot& snapshot, const std::string& id, bool closed) {
  Incident incident;
  incident.id = id;
  incident.opened_wall_ns = kEpochNs;
  if (closed) incident.closed_wall_ns = snapshot.observation.time.wall_ns;
  snapshot.incidents.push_back(incident);
}

RecordingHeader header_of(WallNs started_wall_ns) {
  RecordingHeader header;
  header.started_wall_ns = started_wall_ns;
  return header;
}

// What a folder plays back: ticks by their number.
struct Played {
  std::vector<std::uint64_t> ticks;
  std::vector<std::pair<std::uint64_t, ReplaySource::Start>> starts;
  std::vector<std::string> notes;
  std::string error;

  bool in_a_row() const {
    for (std::size_t i = 1; i < ticks.size(); ++i) {
      if (ticks[i] != ticks[i - 1] + 1) return false;
    }
    return !ticks.empty();
  }
  bool mentions(const std::string& part) const {
    return std::ranges::any_of(notes,
                               [&](const std::string& note) { return note.find(part) != std::string::npos; });
  }
};

Played play(const std::string& path) {
  Played played;
  auto source = ReplaySource::open(path);
  if (!source) {
    played.error = source.error().text;
    return played;
  }
  Observation observation;
  for (;;) {
    const auto wait = (*source)->wait();
    if (!wait) {
      played.error = wait.error().text;
      break;
    }
    if (*wait == Source::Wait::kEnd) break;
    REQUIRE((*source)->collect(observation).has_value());
    const std::uint64_t tick = observation.samples[0].counters[0];
    played.ticks.push_back(tick);
    if ((*source)->start() != ReplaySource::Start::kNone)
      played.starts.emplace_back(tick, (*source)->start());
  }
  played.notes = (*source)->notes();
  return played;
}

}  // namespace

TEST_CASE("a flight recorder keeps the last minutes in segments that play one after the other") {
  const TemporaryFolder folder;
  FlightOptions options;
  options.folder = folder.file("flight");
  options.keep_s = 10;
  Flight flight(options, header_of(1));
  for (std::uint64_t tick = 0; tick < 200; ++tick) flight.write(*snapshot_of(tick), 0);
  CHECK(flight.use().error == "");
  CHECK(flight.use().bytes > 0);
  flight.end(0);

  const std::vector<std::string> segments = segments_in(options.folder);
  CHECK(segments.size() >= 5);
  CHECK(segments.size() <= 7);
  const Played played = play(options.folder);
  CHECK(played.error == "");
  CHECK(played.in_a_row());
  CHECK(played.ticks.back() == 199);
  CHECK(played.ticks.front() <= 199 - 20);
  CHECK(played.ticks.front() >= 199 - 20 - 2 * 4);
  // Only the first one lacks what came before it; each of them can be read alone.
  REQUIRE(played.starts.size() == 1);
  CHECK(played.starts[0].second == ReplaySource::Start::kContinued);
  CHECK(play(options.folder + "/" + segments[2]).in_a_row());
}

TEST_CASE("a flight recorder stays below its bytes, and small files are few") {
  const TemporaryFolder folder;
  FlightOptions options;
  options.folder = folder.file("flight");
  options.max_bytes = 60'000;
  {
    Flight flight(options, header_of(1));
    for (std::uint64_t tick = 0; tick < 5'000; ++tick) flight.write(*snapshot_of(tick), 0);
    flight.end(0);
  }
  std::uintmax_t bytes = 0;
  for (const std::string& segment : segments_in(options.folder))
    bytes += fs::file_size(options.folder + "/" + segment);
  CHECK(bytes <= options.max_bytes);
  CHECK(bytes > options.max_bytes / 2);
  // An agent that starts again and again.
  for (std::uint64_t run = 0; run < 100; ++run) {
    Flight flight(options, header_of(2 + run));
    flight.write(*snapshot_of(5'000), 0);
  }
  CHECK(segments_in(options.folder).size() <= 64);
}

TEST_CASE("an incident keeps what led to it and how it ended, without a copy, when the rest is long gone") {
  const TemporaryFolder folder;
  FlightOptions options;
  options.folder = folder.file("flight");
  options.keep_s = 60;
  options.before_s = 30;
  options.after_s = 20;
  Flight flight(options, header_of(1));
  const std::string slice = options.folder + "/" + kIncident;
  for (std::uint64_t tick = 0; tick < 1'000; ++tick) {
    const auto snapshot = snapshot_of(tick);
    if (tick >= 200 && tick <= 260) add_incident(*snapshot, kIncident, tick == 260);
    flight.write(*snapshot, 0);
    if (tick == 230) {
      for (const std::string& segment : segments_in(slice))
        CHECK(fs::hard_link_count(fs::path(slice) / segment) == 2);
      CHECK(play(slice).ticks.back() == 230);  // while it goes on
    }
  }
  flight.end(0);
  CHECK(flight.use().slices == 1);
  CHECK(flight.use().slice_error == "");
  const Played played = play(slice);
  CHECK(played.error == "");
  CHECK(played.in_a_row());
  CHECK(played.ticks.front() <= 200 - 2 * 30);
  CHECK(played.ticks.back() >= 260 + 2 * 20);
  CHECK(played.ticks.back() < 400);
  CHECK(play(options.folder).ticks.front() > 400);
}

TEST_CASE("slices of incidents are bounded: the oldest goes first, one alone may have a quarter") {
  const TemporaryFolder folder;
  FlightOptions options;
  options.folder = folder.file("flight");
  options.keep_s = 10;
  options.before_s = 1;
  options.after_s = 1;
  options.max_slice_bytes = 40'000;
  Flight flight(options, header_of(1));
  const std::string endless = "20261125-071455-000000";
  for (std::uint64_t tick = 0; tick < 3'000; ++tick) {
    const auto snapshot = snapshot_of(tick);
    add_incident(*snapshot, endless, false);
    flight.write(*snapshot, 0);
  }
  const std::uint64_t alone = flight.use().slice_bytes;
  CHECK(alone > 5'000);
  CHECK(alone < options.max_slice_bytes / 2);
  std::string newest;
  for (std::uint64_t tick = 3'000; tick < 6'000; ++tick) {
    const auto snapshot = snapshot_of(tick);
    newest = "20261126-0714" + std::to_string(10 + tick / 100) + "-000000";
    add_incident(*snapshot, endless, false);
    add_incident(*snapshot, newest, tick % 100 == 99);
    flight.write(*snapshot, 0);
    CHECK(flight.use().slice_bytes <= options.max_slice_bytes);
  }
  const std::vector<std::string> slices = slices_in(options.folder);
  CHECK(slices.size() == flight.use().slices);
  CHECK(slices.size() >= 2);
  CHECK(slices.back() == newest);
  CHECK(slices.front() != endless);
}

TEST_CASE("after the clock went back the slice of what happens now stays, and older ones go") {
  const TemporaryFolder folder;
  FlightOptions options;
  options.folder = folder.file("flight");
  options.before_s = 1;
  options.max_slice_bytes = 1;
  const std::string now = "19700101-000012-3fa21c";
  for (const std::string& incident : {std::string(kIncident), now}) {
    Flight flight(options, header_of(1));
    for (std::uint64_t tick = 0; tick < 10; ++tick) {
      const auto snapshot = snapshot_of(tick);
      add_incident(*snapshot, incident, false);
      flight.write(*snapshot, 0);
    }
    flight.end(0);
    CHECK(slices_in(options.folder) == std::vector<std::string>{incident});
    // Whatever becomes of the last minutes.
    for (const std::string& segment : segments_in(options.folder)) fs::remove(options.folder + "/" + segment);
  }
}

TEST_CASE("a slice ends also where the tick that closed its incident was not written") {
  const TemporaryFolder folder;
  FlightOptions options;
  options.folder = folder.file("flight");
  options.keep_s = 60;
  options.after_s = 20;
  Flight flight(options, header_of(1));
  for (std::uint64_t tick = 0; tick < 400; ++tick) {
    const auto snapshot = snapshot_of(tick);
    if (tick < 100) add_incident(*snapshot, kIncident, false);
    flight.write(*snapshot, 0);
  }
  flight.end(0);
  const Played played = play(options.folder + "/" + kIncident);
  CHECK(played.ticks.back() >= 100 + 2 * 20);
  CHECK(played.ticks.back() < 100 + 2 * 20 + 2 * 24);  // and the segment in which that was
}

TEST_CASE(
    "what a killed agent had told is read back, and the next one's ticks follow as a run of their own") {
  const TemporaryFolder folder;
  FlightOptions options;
  options.folder = folder.file("flight");
  const pid_t child = ::fork();
  REQUIRE(child >= 0);
  if (child == 0) {
    Flight flight(options, header_of(1));
    for (std::uint64_t tick = 0; tick < 20; ++tick) flight.write(*snapshot_of(tick), 0);
    ::kill(::getpid(), SIGKILL);
  }
  int status = 0;
  REQUIRE(::waitpid(child, &status, 0) == child);
  REQUIRE(WIFSIGNALED(status));
  {
    Flight flight(options, header_of(2));
    for (std::uint64_t tick = 20; tick < 30; ++tick) flight.write(*snapshot_of(tick), 0);
    flight.end(0);
  }
  const Played played = play(options.folder);
  CHECK(played.error == "");
  CHECK(played.in_a_row());
  CHECK(played.ticks.size() == 30);
  CHECK(played.mentions("ends early"));
  REQUIRE(played.starts.size() == 2);
  CHECK(played.starts[1] == std::pair<std::uint64_t, ReplaySource::Start>{20, ReplaySource::Start::kRun});
}

TEST_CASE("a folder that cannot be written is told, tried again, and what was missed is in the next file") {
  const TemporaryFolder folder;
  FlightOptions options;
  options.folder = folder.file("later") + "/flight";
  Flight flight(options, header_of(1));
  for (std::uint64_t tick = 0; tick < 30; ++tick) flight.write(*snapshot_of(tick), 0);
  CHECK(flight.use().error.find("later/flight: No such file") != std::string::npos);
  CHECK(flight.use().dropped == 30);
  fs::create_directory(folder.file("later"));
  for (std::uint64_t tick = 30; tick < 60; ++tick) flight.write(*snapshot_of(tick), 0);
  CHECK(flight.use().error == "");
  CHECK(flight.use().dropped == 40);  // twice ten seconds
  flight.end(0);
  const Played played = play(options.folder);
  CHECK(played.ticks.front() == 40);
  CHECK(played.mentions("40 ticks were not recorded before tick 0"));
}

TEST_CASE("a folder that another agent records into is left alone") {
  const TemporaryFolder folder;
  FlightOptions options;
  options.folder = folder.file("flight");
  Flight first(options, header_of(1));
  first.write(*snapshot_of(0), 0);
  Flight second(options, header_of(2));
  second.write(*snapshot_of(0), 0);
  CHECK(second.use().error.find("another agent records into it") != std::string::npos);
  CHECK(segments_in(options.folder).size() == 1);
}

TEST_CASE("a slice that cannot be kept does not end the recording, and is told") {
  const TemporaryFolder folder;
  FlightOptions options;
  options.folder = folder.file("flight");
  Flight flight(options, header_of(1));
  flight.write(*snapshot_of(0), 0);
  std::ofstream(options.folder + "/" + kIncident) << "in the way";
  const auto snapshot = snapshot_of(1);
  add_incident(*snapshot, kIncident, false);
  flight.write(*snapshot, 0);
  CHECK(flight.use().error == "");
  CHECK(flight.use().slice_error.find(kIncident) != std::string::npos);
  flight.end(0);
  CHECK(play(options.folder).ticks.size() == 2);
}

TEST_CASE("names of other files are no segments") {
  CHECK(segment_number("00000042-20261127-023131.rec") == 42);
  for (const char* name : {"", "42.rec", "00000042-20261127-023131.rec.old", "x0000042-20261127-023131.rec",
                           "00000000-20261127-023131.rec", kIncident}) {
    CHECK_MESSAGE(segment_number(name) == 0, name);
  }
}

}  // namespace vedette
