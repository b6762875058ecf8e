#include "agent/collect/hardware_source.h"

#include <algorithm>
#include <array>
#include <filesystem>
#include <memory>
#include <string_view>
#include <utility>

namespace vedette {
namespace {

std::string below(const std::string& directory, const std::string& name) {
  std::string path = directory;
  path += '/';
  path += name;
  return path;
}

namespace fs = std::filesystem;

// Names in `directory` that begin with `prefix`, in order; none if it is not there.
std::vector<std::string> list(const std::string& directory, std::string_view prefix = {}) {
  std::vector<std::string> names;
  std::error_code error;
  for (fs::directory_iterator at(directory, error), end; !error && at != end; at.increment(error)) {
    auto name = at->path().filename().string();
    if (name.starts_with(prefix)) names.push_back(std::move(name));
  }
  std::ranges::sort(names);
  return names;
}

bool is_there(const std::string& path) {
  std::error_code error;
  return fs::exists(path, error);
}

// enum scsi_device_state and enum nvme_ctrl_state as sysfs spells them. "blocked", "resetting", "connecting"
// and the like pass by themselves, or end here.
constexpr std::array<std::string_view, 3> kFailedStates{"offline", "transport-offline", "dead"};

}  // namespace

std::optional<std::uint64_t> HardwareReader::number(const std::string& path) {
  const auto text = buffer_.read_path(path);
  return text ? parse_number(*text) : std::nullopt;
}

std::optional<std::uint64_t> HardwareReader::enter(Books& books, const Entries& entries) {
  for (const auto& [whose, value] : entries) books.parts[whose].set(value, books.total);
  std::erase_if(books.parts, [&](const auto& part) { return !entries.contains(part.first); });
  return entries.empty() ? std::nullopt : std::optional(books.total);
}

HardwareReading HardwareReader::read(MonotonicNs now) {
  HardwareReading reading;
  reading.read_ns = now;
  read_memory(reading);
  read_throttles(reading);
  read_btrfs(reading);
  read_disks(reading);
  return reading;
}

void HardwareReader::read_memory(HardwareReading& reading) {
  const auto controllers = sys_ + "/devices/system/edac/mc";
  Entries corrected;
  Entries uncorrected;
  for (const auto& name : list(controllers, "mc")) {
    const auto controller = below(controllers, name);
    if (const auto count = number(controller + "/ce_count")) corrected[name] = *count;
    if (const auto count = number(controller + "/ue_count")) uncorrected[name] = *count;
  }
  reading.memory_errors_corrected = enter(corrected_, corrected);
  reading.memory_errors_uncorrected = enter(uncorrected_, uncorrected);
}

void HardwareReader::read_throttles(HardwareReading& reading) {
  // Each CPU counts for itself what happens to its whole core and package: the most that one of them saw.
  const auto cpus = sys_ + "/devices/system/cpu";
  Entries most;
  for (const auto& name : list(cpus, "cpu")) {
    const auto cpu = below(cpus, name);
    const auto core = number(cpu + "/thermal_throttle/core_throttle_count");
    if (!core) {
      if (name == "cpu0") break;  // no such counters here: spares hundreds of looks
      continue;
    }
    const auto id = [&](const char* file) {
      return std::to_string(number(cpu + "/topology/" + file).value_or(0));
    };
    const auto package = "package " + id("physical_package_id");
    const auto raise = [&](const std::string& whose, std::uint64_t count) {
      auto& entry = most[whose];
      entry = std::max(entry, count);
    };
    raise(package + " core " + id("core_id"), *core);
    if (const auto count = number(cpu + "/thermal_throttle/package_throttle_count")) raise(package, *count);
  }
  reading.thermal_throttles = enter(throttles_, most);
}

void HardwareReader::read_btrfs(HardwareReading& reading) {
  const auto filesystems = sys_ + "/fs/btrfs";
  Entries errors;
  for (const auto& filesystem : list(filesystems)) {
    const auto devices = below(filesystems, filesystem) + "/devinfo";
    for (const auto& device : list(devices)) {
      // "write_errs 0\nread_errs 0\n..."
      auto text = buffer_.read_path(below(devices, device) + "/error_stats");
      if (!text) continue;
      std::uint64_t sum = 0;
      std::string_view line;
      while (next_line(*text, line)) {
        next_word(line);
        sum += parse_number(line).value_or(0);
      }
      errors[below(filesystem, device)] = sum;
    }
  }
  reading.btrfs_errors = enter(btrfs_, errors);
}

void HardwareReader::read_disks(HardwareReading& reading) {
  const auto judge = [&](const std::string& path) {
    const auto text = buffer_.read_path(path);
    if (!text) return;
    const auto state = text->substr(0, text->find('\n'));
    const bool failed = std::ranges::find(kFailedStates, state) != kFailedStates.end();
    reading.failed_disks = reading.failed_disks.value_or(0) + (failed ? 1 : 0);
  };
  for (const auto& name : list(sys_ + "/block")) {
    const auto disk = sys_ + "/block/" + name;
    if (!is_there(disk + "/device")) continue;  // loop, dm, md: what stands below them counts
    if (!name.starts_with("nvme")) judge(disk + "/device/state");
    const auto text = buffer_.read_path(disk + "/inflight");
    if (!text) continue;
    auto line = *text;
    const auto reads = parse_number(next_word(line));
    const auto writes = parse_number(line);
    if (reads && writes) {
      const auto depth = static_cast<double>(*reads + *writes);
      reading.disk_queue_depth = std::max(reading.disk_queue_depth.value_or(0), depth);
    }
  }
  // A dead NVMe controller loses its block devices, so it is asked itself.
  const auto controllers = sys_ + "/class/nvme";
  for (const auto& name : list(controllers, "nvme")) judge(below(controllers, name) + "/state");
}

HardwareSource::HardwareSource(const std::string& sys, std::chrono::milliseconds interval)
    : polled_(interval, [reader = std::make_shared<HardwareReader>(sys)](const std::stop_token&) {
        return reader->read(monotonic_now());
      }) {}

void HardwareSource::take(MonotonicNs now, Gauges& gauges, FileCounts& counts) const {
  const auto reading = polled_.fresh(now);
  const auto answer = reading ? *reading : HardwareReading();
  const auto count = [&](vedette_counter counter, std::optional<std::uint64_t> total) {
    if (total) {
      counts.set(counter, *total);
    } else {
      counts.forget(counter);
    }
  };
  count(COUNTER_memory_errors_corrected, answer.memory_errors_corrected);
  count(COUNTER_memory_errors_uncorrected, answer.memory_errors_uncorrected);
  count(COUNTER_thermal_throttles, answer.thermal_throttles);
  count(COUNTER_btrfs_errors, answer.btrfs_errors);
  gauges[GAUGE_disk_queue_depth] = answer.disk_queue_depth.value_or(kMissing);
  gauges[GAUGE_failed_disks] = answer.failed_disks.value_or(kMissing);
}

}  // namespace vedette
