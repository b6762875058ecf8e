#include "agent/collect/proc_source.h"

#include <array>
#include <cmath>
#include <cstdio>
#include <memory>
#include <utility>

#include <fcntl.h>
#include <linux/magic.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <unistd.h>

namespace vedette {
namespace {

constexpr std::size_t kPathBytes = 32;  // "4294967295/limits"
// One that came while a thread of another went is seen after this many rounds at the latest.
constexpr unsigned kListRounds = 5;
// Some 2 us each.
constexpr std::uint64_t kMostListed = 4096;

// In a /proc/PID/fd descriptor N stands at N + 2, after "." and ".."; to pass over a free one takes the
// kernel a few ns.
bool has_descriptor_from(int directory, std::uint64_t first) {
  std::array<char, 64> entries{};
  return ::lseek(directory, static_cast<off_t>(first + 2), SEEK_SET) >= 0 &&
         ::getdents64(directory, entries.data(), entries.size()) > 0;
}

}  // namespace

std::uint64_t descriptors_in(DIR* directory) {
  std::uint64_t count = 0;
  while (const auto* entry = ::readdir(directory)) {
    if (entry->d_name[0] != '.' && ++count == kMostListed) break;
  }
  if (count < kMostListed) return count;
  const int file = ::dirfd(directory);
  std::uint64_t last = count - 1;  // there is one from here on
  std::uint64_t none = count;
  while (has_descriptor_from(file, none)) {
    last = none;
    none *= 2;
  }
  while (none - last > 1) {
    const auto middle = last + (none - last) / 2;
    (has_descriptor_from(file, middle) ? last : none) = middle;
  }
  return last + 1;
}

std::optional<double> parse_open_files_limit(std::string_view limits) {
  const auto line = find_line(limits, "Max open files");
  const auto soft = line ? parse_number(*line) : std::nullopt;
  if (!soft) return std::nullopt;
  return static_cast<double>(*soft);
}

ProcSource::ProcSource(ProcOptions options, FileBudget& budget)
    : options_(std::move(options)),
      budget_(budget),
      proc_(::open(options_.proc.c_str(), O_PATH | O_DIRECTORY | O_CLOEXEC)),
      file_nr_(options_.proc + "/sys/fs/file-nr", budget) {
  // Since 6.2 (f1f1f2569901 "proc: report open files as size in stat() for /proc/pid/fd") the size of an fd
  // directory is the number of descriptors; our own has some, so 0 there means an older kernel.
  struct statfs filesystem {};
  struct stat status {};
  size_is_count_ = proc_ && ::fstatfs(proc_.get(), &filesystem) == 0 &&
                   filesystem.f_type == PROC_SUPER_MAGIC &&
                   ::fstatat(proc_.get(), "self/fd", &status, 0) == 0 && status.st_size > 0;
}

bool ProcSource::read_node(Gauges& gauges) {
  const auto text = file_nr_.read(buffer_);
  if (!text) return false;
  auto rest = *text;
  const auto used = parse_number(next_word(rest));
  next_word(rest);  // always 0 since 2.6
  const auto limit = parse_number(rest);
  if (!used || !limit || *limit == 0) return false;
  gauges[GAUGE_open_files] = static_cast<double>(*used);
  gauges[GAUGE_open_files_use] = static_cast<double>(*used) / static_cast<double>(*limit);
  return true;
}

std::optional<double> ProcSource::count_descriptors(std::uint32_t process) {
  std::array<char, kPathBytes> path{};
  std::snprintf(path.data(), path.size(), "%u/fd", process);
  if (size_is_count_) {
    struct stat status {};
    if (::fstatat(proc_.get(), path.data(), &status, 0) != 0) return std::nullopt;
    return static_cast<double>(status.st_size);
  }
  const int file = ::openat(proc_.get(), path.data(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (file < 0) return std::nullopt;
  const DirectoryHandle directory(::fdopendir(file));
  if (!directory) return std::nullopt;
  return static_cast<double>(descriptors_in(directory.get()));
}

std::optional<double> ProcSource::open_files_limit(std::uint32_t process, MonotonicNs now) {
  auto& known = processes_[process];
  if (known.read_ns == 0 || now > known.read_ns + options_.limit_age_ns) {
    std::array<char, kPathBytes> path{};
    std::snprintf(path.data(), path.size(), "%u/limits", process);
    const auto text = buffer_.read_path(proc_.get(), path.data());
    known.limit = text ? parse_open_files_limit(*text) : std::nullopt;
    known.read_ns = now;
  }
  return known.limit;
}

void ProcSource::list_processes(Watched& watched) {
  watched.processes.clear();
  for (auto& procs : watched.procs) {
    auto text = procs.read(buffer_).value_or("");
    std::string_view line;
    while (next_line(text, line)) {
      const auto process = parse_number(line);
      // 0: a process outside of our pid namespace.
      if (process && *process != 0) watched.processes.push_back(static_cast<std::uint32_t>(*process));
    }
  }
}

bool ProcSource::count_files(const Watched& watched, MonotonicNs now, Gauges& gauges) {
  bool all = true;
  auto& open = gauges[GAUGE_open_files] = kMissing;
  auto& use = gauges[GAUGE_open_files_use] = kMissing;
  for (const auto process : watched.processes) {
    const auto count = count_descriptors(process);
    if (!count) {
      all = false;
      continue;
    }
    open = std::isnan(open) ? *count : open + *count;
    const auto limit = open_files_limit(process, now);
    if (!limit || *limit <= 0) continue;
    if (std::isnan(use) || *count / *limit > use) use = *count / *limit;
  }
  return all;
}

void ProcSource::read(const LivingEntity& entity, MonotonicNs now, Gauges& gauges) {
  auto& watched = entities_[entity.entity->id];
  if (watched.members != entity.members) {
    watched.members = entity.members;
    watched.tasks = kMissing;
    watched.procs.clear();
    for (const auto& member : entity.members) {
      watched.procs.emplace_back(options_.cgroups + member + "/cgroup.procs", budget_);
    }
  }
  const double tasks = gauges[GAUGE_pids];
  const bool same = tasks == watched.tasks && ++watched.rounds < kListRounds;  // never with kMissing
  if (!same || !count_files(watched, now, gauges)) {
    list_processes(watched);
    watched.rounds = 0;
    watched.tasks = count_files(watched, now, gauges) ? tasks : kMissing;
  }
  if (now > swept_ns_ + options_.limit_age_ns) {  // a pid may be another process by then
    swept_ns_ = now;
    std::erase_if(processes_,
                  [&](const auto& known) { return now > known.second.read_ns + options_.limit_age_ns; });
  }
}

const std::vector<std::uint32_t>& ProcSource::processes(EntityId entity) const {
  static const std::vector<std::uint32_t> none;
  const auto found = entities_.find(entity);
  return found == entities_.end() ? none : found->second.processes;
}

}  // namespace vedette
