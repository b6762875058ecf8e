// Cgroups as a container has them: one in the v2 hierarchy, and in the v1 hierarchies memory, cpu, cpuacct
// and pids where those are mounted, all of one name under /vedette-bench. For the programs beside this file;
// one thread.
#pragma once

#include <cstdio>
#include <set>
#include <string>
#include <utility>

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "agent/base/handle.h"
#include "agent/collect/cgroup_tree.h"
#include "agent/collect/kept_file.h"

namespace vedette::bench {

class ContainerCgroups {
public:
  ContainerCgroups() {
    ReadBuffer buffer;
    const CgroupMounts mounts = find_cgroup_mounts(buffer.read_path("/proc/self/mountinfo").value_or(""));
    for (const auto& mount : {mounts.unified, mounts.memory, mounts.cpu, mounts.cpuacct, mounts.pids}) {
      if (!mount.empty()) tops_.insert(mount + "/vedette-bench");
    }
    for (const std::string& top : tops_) ::mkdir(top.c_str(), 0755);
  }
  ContainerCgroups(const ContainerCgroups&) = delete;
  ContainerCgroups& operator=(const ContainerCgroups&) = delete;
  ~ContainerCgroups() {
    for (const std::string& top : tops_) ::rmdir(top.c_str());  // once it is empty
  }

  void make(const std::string& name) const {
    for (const std::string& top : tops_) ::mkdir(path(top, name).c_str(), 0755);
  }
  // The calling process goes there.
  void join(const std::string& name) const {
    for (const std::string& top : tops_) {
      const std::string file = path(top, name).append("/cgroup.procs");
      const FileHandle members(::open(file.c_str(), O_WRONLY | O_CLOEXEC));
      if (!members || ::write(members.get(), "0", 1) != 1) std::perror("join the cgroup");
    }
  }
  void remove(const std::string& name) const {
    for (const std::string& top : tops_) ::rmdir(path(top, name).c_str());
  }

private:
  static std::string path(std::string top, const std::string& name) {
    return std::move(top.append("/").append(name));
  }

  std::set<std::string> tops_;  // some controllers share a hierarchy
};

}  // namespace vedette::bench
