#include "agent/collect/mounts_source.h"

#include <algorithm>
#include <array>
#include <cctype>
#include <set>
#include <utility>

#include <fcntl.h>
#include <linux/openat2.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "agent/base/handle.h"

namespace vedette {
namespace {

// Filesystems that answer from this machine. Network and FUSE filesystems may hang in statfs for ever;
// overlay only repeats the filesystem below it.
constexpr std::array<std::string_view, 11> kLocalTypes{"ext2", "ext3", "ext4", "xfs",      "btrfs", "f2fs",
                                                       "vfat", "jfs",  "zfs",  "bcachefs", "tmpfs"};

// More processes than this of one entity hardly bring a mount namespace that the first ones did not.
constexpr std::size_t kProcessesPerEntity = 64;

std::uint64_t device_of(dev_t device) {
  return static_cast<std::uint64_t>(major(device)) << 20 | minor(device);
}

// Opens a mount point as the process whose root is `root` sees it. No symbolic link is followed: the path is
// the kernel's own, and whoever owns the namespace may have put links in its way since.
FileHandle open_in_root(int root, const std::string& path) {
  open_how how{};
  how.flags = O_PATH | O_CLOEXEC;
  how.resolve = RESOLVE_IN_ROOT | RESOLVE_NO_SYMLINKS;
  return FileHandle(static_cast<int>(::syscall(SYS_openat2, root, path.c_str(), &how, sizeof how)));
}

void raise(std::optional<double>& worst, double use) {
  if (!worst || use > *worst) worst = use;
}

void look_at(int root, const Mount& mount, MountUse& use) {
  const auto file = open_in_root(root, mount.point);
  if (!file) return;
  struct stat status {};
  // Something else may have been mounted over it. (btrfs gives each subvolume a device of its own.)
  if (mount.type != "btrfs" &&
      (::fstat(file.get(), &status) != 0 || device_of(status.st_dev) != mount.device)) {
    return;
  }
  struct statfs space {};
  if (::fstatfs(file.get(), &space) != 0) return;
  // As df: of what an ordinary user may use, so that the blocks reserved for root do not hide ENOSPC.
  const double used = static_cast<double>(space.f_blocks) - static_cast<double>(space.f_bfree);
  const double usable = used + static_cast<double>(space.f_bavail);
  if (space.f_blocks > 0 && usable > 0) {
    if (!use.space || used / usable > *use.space) use.space_mount = mount.point;
    raise(use.space, used / usable);
  }
  if (space.f_files > 0) {
    raise(use.inodes, 1.0 - static_cast<double>(space.f_ffree) / static_cast<double>(space.f_files));
  }
}

std::uint64_t inode_of(const std::string& path) {  // 0: cannot be looked at
  struct stat status {};
  return ::stat(path.c_str(), &status) == 0 ? status.st_ino : 0;
}

bool is_hex(std::string_view text) {
  return std::all_of(text.begin(), text.end(),
                     [](char c) { return std::isxdigit(static_cast<unsigned char>(c)); });
}

}  // namespace

bool is_local_writable(const Mount& mount) {
  if (!mount.writable) return false;
  return std::find(kLocalTypes.begin(), kLocalTypes.end(), mount.type) != kLocalTypes.end();
}

bool is_on_disk(const Mount& mount) {
  return mount.type != "tmpfs" &&
         std::find(kLocalTypes.begin(), kLocalTypes.end(), mount.type) != kLocalTypes.end();
}

bool is_read_only(const Mount& mount) {
  return std::ranges::any_of(std::array{"ro", "emergency_ro", "shutdown"},
                             [&](const char* word) { return has_option(mount.super_options, word); });
}

bool is_made_for_pod(const Mount& mount) {
  // /var/lib/kubelet/pods/UID/volumes/... (and its /var/lib/kubelet/plugins/.../mount for devices), and the
  // 64 hex digits of a container's or sandbox' id.
  constexpr std::size_t kContainerIdLength = 64;
  const std::string_view point = mount.point;
  if (point.find("/kubelet/pods/") != std::string_view::npos) return true;
  if (point.find("/kubelet/plugins/") != std::string_view::npos) return true;
  for (std::size_t begin = 1; begin < point.size();) {
    const auto end = std::min(point.find('/', begin), point.size());
    const auto part = point.substr(begin, end - begin);
    if (part.size() == kContainerIdLength && is_hex(part)) return true;
    begin = end + 1;
  }
  return false;
}

// A filesystem that was read-only from the start, and is writable now and then for an update, is not counted.
std::uint32_t MountsReader::count_read_only(const std::vector<Mount>& host) {
  std::unordered_map<std::uint64_t, bool> read_only;
  for (const auto& mount : host) {
    if (is_on_disk(mount)) read_only[mount.device] = is_read_only(mount);
  }
  std::erase_if(was_writable_, [&](const auto& entry) { return !read_only.contains(entry.first); });
  std::uint32_t count = 0;
  for (const auto& [device, now] : read_only) {
    const auto at = was_writable_.try_emplace(device, !now).first;
    if (at->second && now) ++count;
  }
  return count;
}

std::uint64_t MountsReader::namespace_of(std::uint32_t pid, const std::string& process, MonotonicNs now) {
  auto& known = processes_[pid];
  if (known.first_ns == 0) known.first_ns = now;
  known.seen_ns = now;
  const bool young = now < known.first_ns + to_ns(options_.young);
  if (young || now > known.asked_ns + to_ns(options_.relist)) {
    known.asked_ns = now;
    known.mounts = inode_of(process + "/ns/mnt");
  }
  return known.mounts;
}

MountsReading MountsReader::read(const MountsRequest& request, MonotonicNs now) {
  MountsReading reading;
  reading.read_ns = now;

  // Process 1 lives in the host's namespace; in a pod without hostPID, or without the right to look at it, we
  // take what we see ourselves.
  std::string host = options_.proc + "/1";
  FileHandle host_root(::open((host + "/root").c_str(), O_PATH | O_DIRECTORY | O_CLOEXEC));
  if (!host_root) {
    host = options_.proc + "/self";
    host_root = FileHandle(::open((host + "/root").c_str(), O_PATH | O_DIRECTORY | O_CLOEXEC));
  }
  const std::uint64_t host_namespace = inode_of(host + "/ns/mnt");

  std::set<std::uint64_t> host_devices;
  if (const auto text = buffer_.read_path(host + "/mountinfo")) {
    const auto mounts = parse_mountinfo(*text);
    reading.read_only = count_read_only(mounts);
    for (const auto& mount : mounts) {
      if (is_made_for_pod(mount)) continue;
      const bool first = host_devices.insert(mount.device).second;
      // A bind mount repeats a filesystem that was looked at.
      if ((first || mount.type == "btrfs") && is_local_writable(mount) && host_root) {
        look_at(host_root.get(), mount, reading.node);
      }
    }
  }

  for (const auto& group : request.groups) {
    std::set<std::uint64_t> looked_at;
    const auto count = std::min(group.processes.size(), kProcessesPerEntity);
    for (std::size_t i = 0; i < count; ++i) {
      const auto process = options_.proc + "/" + std::to_string(group.processes[i]);
      const std::uint64_t id = namespace_of(group.processes[i], process, now);
      if (id == 0 || id == host_namespace || !looked_at.insert(id).second) continue;
      auto& space = namespaces_[id];
      if (space.first_ns == 0) space.first_ns = now;
      space.seen_ns = now;
      const bool young = now < space.first_ns + to_ns(options_.young);
      if (space.listed_ns == 0 || young || now > space.listed_ns + to_ns(options_.relist)) {
        const auto text = buffer_.read_path(process + "/mountinfo");
        if (!text) {
          looked_at.erase(id);
          continue;
        }
        space.mounts.clear();
        std::set<std::uint64_t> devices = host_devices;
        for (auto& mount : parse_mountinfo(*text)) {
          if (is_local_writable(mount) && devices.insert(mount.device).second) {
            space.mounts.push_back(std::move(mount));
          }
        }
        space.listed_ns = now;
      }
      if (space.mounts.empty()) continue;
      const FileHandle root(::open((process + "/root").c_str(), O_PATH | O_DIRECTORY | O_CLOEXEC));
      if (!root) {  // it ended: another of the entity's processes may live there still
        processes_.erase(group.processes[i]);
        looked_at.erase(id);
        continue;
      }
      auto& use = reading.entities[group.entity];
      for (const auto& mount : space.mounts) look_at(root.get(), mount, use);
    }
  }
  std::erase_if(namespaces_, [&](const auto& space) { return space.second.seen_ns != now; });
  std::erase_if(processes_, [&](const auto& process) { return process.second.seen_ns != now; });
  return reading;
}

MountsSource::MountsSource(MountsOptions options)
    : options_(std::move(options)), thread_([this](const std::stop_token& stop) { run(stop); }) {}

void MountsSource::run(const std::stop_token& stop) {
  MountsReader reader(options_);
  const MountsRequest none;
  std::uint64_t seen = 0;
  // The first answer waits for nobody; the second for the first list of processes, so that an entity's mounts
  // show as early as the node's.
  bool first_request = true;
  while (!stop.stop_requested()) {
    seen = request_.version();
    const auto request = request_.get();
    reading_.set(reader.read(request ? *request : none, monotonic_now()));
    if (request) first_request = false;
    const auto until = std::chrono::steady_clock::now() + options_.interval;
    while (!stop.stop_requested()) {
      const auto left =
          std::chrono::duration_cast<std::chrono::milliseconds>(until - std::chrono::steady_clock::now());
      if (left.count() <= 0) break;
      request_.wait(seen, stop, left);
      if (first_request && seen != 0) break;  // seen: updated by wait()
    }
  }
}

}  // namespace vedette
