#include "agent/collect/cgroup_tree.h"

#include <cstring>
#include <utility>

#include <dirent.h>
#include <fcntl.h>
#include <sys/stat.h>

#include "agent/base/handle.h"
#include "agent/collect/mount_info.h"

namespace vedette {

const std::string& CgroupMounts::primary() const {
  for (const auto* root : {&unified, &memory, &pids, &cpu}) {
    if (!root->empty()) return *root;
  }
  return named;
}

CgroupMounts find_cgroup_mounts(std::string_view mountinfo, std::string_view below) {
  while (below.ends_with('/')) below.remove_suffix(1);
  CgroupMounts found;
  for (auto& mount : parse_mountinfo(mountinfo)) {
    const std::string_view point = mount.point;
    if (!below.empty() &&
        !(point.starts_with(below) && (point.size() == below.size() || point[below.size()] == '/'))) {
      continue;
    }
    // The first one counts: later ones are copies in other places, or a container's own.
    const auto take = [&](std::string& slot) {
      if (slot.empty()) slot = mount.point;
    };
    if (mount.type == "cgroup2") {
      take(found.unified);
    } else if (mount.type == "cgroup") {
      bool known = false;
      for (const auto& [controller, slot] :
           {std::pair{"memory", &found.memory}, std::pair{"cpu", &found.cpu},
            std::pair{"cpuacct", &found.cpuacct}, std::pair{"pids", &found.pids}}) {
        if (has_option(mount.super_options, controller)) {
          take(*slot);
          known = true;
        }
      }
      if (!known) take(found.named);
    }
  }
  return found;
}

CgroupTree::CgroupTree(std::string root) : root_(std::move(root)), stat_(root_ + "/cgroup.stat", budget_) {}

std::uint64_t CgroupTree::population() {
  const auto text = stat_.read(buffer_);
  if (!text) return 0;
  // Dying ones count too, so that one birth and one death in between still show.
  return find_number(*text, "nr_descendants").value_or(0) +
         (find_number(*text, "nr_dying_descendants").value_or(0) << 32);
}

std::vector<CgroupEntry> CgroupTree::scan() {
  std::vector<CgroupEntry> found;
  struct stat status {};
  if (::stat(root_.c_str(), &status) != 0) return found;
  found.push_back({status.st_ino, "/"});
  for (std::size_t next = 0; next < found.size(); ++next) {
    const auto parent = found[next].path;
    const FileHandle file(::open((root_ + parent).c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
    if (!file) continue;
    // Links: itself, its name, and one for each child; leaves need no look at their forty files. (btrfs,
    // where tests may stand, says 1 for all.)
    if (::fstat(file.get(), &status) == 0 && status.st_nlink == 2) continue;
    const DirectoryHandle directory(::opendir((root_ + parent).c_str()));
    if (!directory) continue;
    while (const auto* entry = ::readdir(directory.get())) {
      if (entry->d_type != DT_DIR || std::strcmp(entry->d_name, ".") == 0 ||
          std::strcmp(entry->d_name, "..") == 0) {
        continue;
      }
      found.push_back({entry->d_ino, (parent == "/" ? parent : parent + "/") + entry->d_name});
    }
  }
  return found;
}

}  // namespace vedette
