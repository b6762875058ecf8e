#include "agent/record/flight.h"

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <filesystem>
#include <set>
#include <string_view>
#include <utility>
#include <vector>

#include <fcntl.h>
#include <spdlog/spdlog.h>
#include <sys/file.h>
#include <sys/stat.h>

#include "agent/assess/incidents.h"
#include "agent/base/duration.h"
#include "agent/record/flight_folder.h"

namespace vedette {
namespace {

namespace fs = std::filesystem;

constexpr int kParts = 5;  // segments that the bounds are divided into: what is dropped at once
// An agent that starts again and again must not fill the folder with small files.
constexpr std::size_t kMaxSegments = 64;
constexpr std::size_t kMaxSlices = 64;
// A full or missing disk comes back when somebody has helped.
constexpr double kRetryS = 10;

std::int64_t nanoseconds(double seconds) {
  return static_cast<std::int64_t>(seconds * kNsPerSecond);
}

std::string segment_name(std::uint64_t number, WallNs now) {
  char text[32];
  std::snprintf(text, sizeof text, "%08llu-", static_cast<unsigned long long>(number));
  return text + utc_stamp(now) + kSegmentEnding;
}

}  // namespace

Flight::Flight(FlightOptions options, RecordingHeader header)
    : options_(std::move(options)), header_(std::move(header)) {
  use_.on = true;
  use_.folder = options_.folder;
}
Flight::~Flight() = default;

void Flight::write(const Snapshot& snapshot, std::uint64_t dropped_before) {
  const MonotonicNs now = snapshot.observation.time.monotonic_ns;
  lost_ += dropped_before;
  if (now < next_try_ns_) {
    ++lost_;
    use_.dropped += 1 + dropped_before;
    return;
  }
  const Status ok = try_write(snapshot, lost_);
  if (ok) {
    if (!use_.error.empty()) spdlog::info("flight recorder {}: records again", options_.folder);
    use_.error.clear();
    next_try_ns_ = 0;
    use_.dropped += dropped_before;
    use_.bytes = writer_->bytes();
    for (const Segment& segment : segments_) use_.bytes += segment.bytes;
    return;
  }
  if (use_.error.empty()) spdlog::warn("{}; the agent goes on without the last minutes", ok.error().text);
  use_.error = ok.error().text;
  ++lost_;
  use_.dropped += 1 + dropped_before;
  next_try_ns_ = now + static_cast<MonotonicNs>(nanoseconds(kRetryS));
  // What is there so far can be read; what comes later is another file, and perhaps in another folder.
  writer_.reset();
  lock_.reset();
}

Status Flight::try_write(const Snapshot& snapshot, std::uint64_t dropped_before) {
  const Instant& now = snapshot.observation.time;
  if (!lock_) {
    if (Status ok = open_folder(now); !ok) return ok;
  }
  if (writer_ && (seconds_between(started_ns_, now.monotonic_ns) >= options_.keep_s / kParts ||
                  writer_->bytes() >= options_.max_bytes / kParts)) {
    if (Status ok = end_segment(now); !ok) return ok;
  }
  if (!writer_) {
    drop_old_segments(now);
    if (Status ok = start_segment(now); !ok) return ok;
  }
  if (Status ok = writer_->write(snapshot, dropped_before); !ok) return ok;
  ticks_ += dropped_before + 1;
  lost_ = 0;
  read_incidents(snapshot);
  return {};
}

Status Flight::open_folder(const Instant& now) {
  if (::mkdir(options_.folder.c_str(), 0700) != 0 && errno != EEXIST)
    return fail_errno("flight recorder: make " + options_.folder);
  FileHandle folder(::open(options_.folder.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (!folder) return fail_errno("flight recorder: open " + options_.folder);
  if (::flock(folder.get(), LOCK_EX | LOCK_NB) != 0) {
    return fail("flight recorder: " + options_.folder + ": another agent records into it");
  }
  segments_.clear();
  for (const std::string& incident : slices_in(options_.folder))
    number_ = std::max(number_, newest_segment(path(incident)));
  for (const std::string& name : segments_in(options_.folder)) {
    number_ = std::max(number_, segment_number(name));
    struct stat status {};
    if (::stat(path(name).c_str(), &status) != 0) continue;
    const std::int64_t ended_wall_ns = status.st_mtim.tv_sec * 1'000'000'000LL + status.st_mtim.tv_nsec;
    const std::int64_t age_ns =
        std::max<std::int64_t>(0, static_cast<std::int64_t>(now.wall_ns) - ended_wall_ns);
    segments_.push_back({name, static_cast<std::uint64_t>(status.st_size),
                         static_cast<std::int64_t>(now.monotonic_ns) - age_ns});
  }
  lock_ = std::move(folder);
  drop_old_slices();
  return {};
}

Status Flight::start_segment(const Instant& now) {
  name_ = segment_name(++number_, now.wall_ns);
  header_.ticks_before = ticks_;
  header_.continues = ticks_ + lost_ > 0;
  auto writer = TickWriter::create(path(name_), header_);
  if (!writer) {
    ::unlink(path(name_).c_str());  // on a full disk an empty file is all there is
    return tl::unexpected(writer.error());
  }
  writer_.emplace(std::move(*writer));
  started_ns_ = now.monotonic_ns;
  for (auto& [incident, slice] : slices_) {
    if (slice.bytes < options_.max_slice_bytes / 4) keep(name_, incident, slice);
  }
  if (!slices_.empty()) drop_old_slices();
  return {};
}

Status Flight::end_segment(const Instant& now) {
  Status ok = writer_->end(0, false);
  const std::uint64_t bytes = writer_->bytes();
  segments_.push_back({name_, bytes, static_cast<std::int64_t>(now.monotonic_ns)});
  writer_.reset();
  for (auto& [incident, slice] : slices_) slice.bytes += bytes;
  std::erase_if(slices_, [&](const auto& entry) {
    const Slice& slice = entry.second;
    return slice.closed_ns && seconds_between(*slice.closed_ns, now.monotonic_ns) >= options_.after_s;
  });
  return ok;
}

void Flight::drop_old_segments(const Instant& now) {
  std::uint64_t bytes = 0;
  for (const Segment& segment : segments_) bytes += segment.bytes;
  const std::int64_t oldest_ns = static_cast<std::int64_t>(now.monotonic_ns) - nanoseconds(options_.keep_s);
  // Room for the one that comes next, which ends a little beyond its part.
  const std::uint64_t room = options_.max_bytes / 4 * 3;
  while (!segments_.empty() &&
         (bytes > room || segments_.size() >= kMaxSegments || segments_.front().ended_ns < oldest_ns)) {
    bytes -= segments_.front().bytes;
    ::unlink(path(segments_.front().name).c_str());
    segments_.pop_front();
  }
}

void Flight::read_incidents(const Snapshot& snapshot) {
  const Instant& now = snapshot.observation.time;
  std::set<std::string_view> open;
  for (const Incident& incident : snapshot.incidents) {
    if (incident.closed_wall_ns != 0) continue;
    open.insert(incident.id);
    if (slices_.contains(incident.id)) continue;
    slices_.emplace(incident.id, begin_slice(incident.id, now));
    drop_old_slices();
  }
  // The tick that closed it may not have been written.
  for (auto& [incident, slice] : slices_) {
    if (!slice.closed_ns && !open.contains(incident)) slice.closed_ns = now.monotonic_ns;
  }
}

Flight::Slice Flight::begin_slice(const std::string& incident, const Instant& now) {
  Slice slice;
  if (::mkdir(path(incident).c_str(), 0700) != 0 && errno != EEXIST) {
    give_up(slice, "make " + path(incident) + ": " + std::strerror(errno));
    return slice;
  }
  const std::int64_t first_ns = static_cast<std::int64_t>(now.monotonic_ns) - nanoseconds(options_.before_s);
  for (const Segment& segment : segments_) {
    if (segment.ended_ns < first_ns) continue;
    keep(segment.name, incident, slice);
    slice.bytes += segment.bytes;
  }
  keep(name_, incident, slice);
  return slice;
}

// The same file under another name: what is written to it later is in the slice as well.
void Flight::keep(const std::string& segment, const std::string& incident, Slice& slice) {
  if (slice.given_up) return;
  const std::string kept = path(incident) + "/" + segment;
  if (::link(path(segment).c_str(), kept.c_str()) != 0 && errno != EEXIST)
    give_up(slice, "link " + kept + ": " + std::strerror(errno));
}

void Flight::give_up(Slice& slice, const std::string& why) {
  spdlog::warn("flight recorder: {}; the rest of that incident is not kept", why);
  use_.slice_error = why;
  slice.given_up = true;
}

void Flight::drop_old_slices() {
  struct Kept {
    std::uint64_t newest = 0;  // the number of its last segment: the clock that named it may have gone back
    std::string incident;
    std::uint64_t bytes = 0;
  };
  std::vector<Kept> slices;
  use_.slice_bytes = 0;
  for (const std::string& incident : slices_in(options_.folder)) {
    slices.push_back({newest_segment(path(incident)), incident, recorded_bytes(path(incident))});
    use_.slice_bytes += slices.back().bytes;
  }
  use_.slices = slices.size();
  std::ranges::stable_sort(slices, {}, &Kept::newest);
  // The newest stays, whatever its size.
  for (std::size_t i = 0; i + 1 < slices.size(); ++i) {
    if (use_.slice_bytes <= options_.max_slice_bytes && use_.slices <= kMaxSlices) break;
    const std::string& incident = slices[i].incident;
    if (const auto open = slices_.find(incident); open != slices_.end()) open->second.given_up = true;
    spdlog::info("flight recorder {}: what is kept of incident {} is dropped for newer ones", options_.folder,
                 incident);
    std::error_code error;
    fs::remove_all(path(incident), error);
    use_.slice_bytes -= slices[i].bytes;
    --use_.slices;
  }
}

void Flight::end(std::uint64_t dropped) {
  if (!writer_) return;
  if (Status ok = writer_->end(dropped, false); !ok) spdlog::warn("{}", ok.error().text);
  writer_.reset();
}

}  // namespace vedette
