// What the tests of the kernel's side share: cgroups, children in them that do exactly what a test says, loop
// devices; each cleans up after itself, whatever the test did. Root, one thread.
#pragma once

#include <array>
#include <atomic>
#include <cerrno>
#include <chrono>
#include <csignal>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <functional>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <thread>
#include <tuple>
#include <utility>
#include <vector>

#include <bpf/bpf.h>
#include <doctest/doctest.h>
#include <fcntl.h>
#include <poll.h>
#include <sched.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/wait.h>
#include <unistd.h>

#include "agent/base/handle.h"
#include "agent/collect/kernel_probes.h"
#include "tests/skip.h"

namespace vedette::bpf_test {

inline std::unique_ptr<KernelProbes> attach(const KernelOptions& options = {}) {
  auto probes = KernelProbes::make(options);
  REQUIRE_MESSAGE(probes.has_value(), probes.error().text);
  return std::move(*probes);
}

inline const ProbeHealth& health_of(const KernelProbes& probes, std::string_view name) {
  for (const ProbeHealth& probe : probes.health()) {
    if (probe.name == name) return probe;
  }
  FAIL("no probe of that name");
  std::abort();
}

// Whether that many system calls were counted of those that were `made`: all, but for the runs that the
// kernel skipped. It tells how many these were: on 7.x, where a task may be preempted inside the program, and
// never before.
inline bool all_calls(KernelProbes& probes, std::uint64_t counted, std::uint64_t made) {
  probes.survey([](const survey_record&) {});
  const std::uint64_t missed = health_of(probes, "syscalls").misses.value_or(0);
  if (counted != made) MESSAGE(counted, " calls counted of ", made, ", ", missed, " runs missed");
  return counted <= made && counted + missed >= made;
}

inline bool write_text(const std::string& file, const std::string& text) {
  const FileHandle handle(::open(file.c_str(), O_WRONLY | O_CLOEXEC));
  return handle && ::write(handle.get(), text.data(), text.size()) == static_cast<ssize_t>(text.size());
}

inline std::string read_text(const std::string& file) {
  std::ifstream stream(file);
  std::string text;
  std::getline(stream, text, '\0');
  while (text.ends_with('\n')) text.pop_back();
  return text;
}

// 0 when the shell command succeeded.
inline int shell(const std::string& command) {
  return std::system(("{ " + command + "; } >/dev/null 2>&1").c_str());
}

// Waits for what another process or the kernel will do; false: it did not within a generous limit.
inline bool eventually(const std::function<bool()>& happened, int limit_s = 20) {
  const auto end = std::chrono::steady_clock::now() + std::chrono::seconds(limit_s);
  while (!happened()) {
    if (std::chrono::steady_clock::now() > end) return false;
    std::this_thread::sleep_for(std::chrono::milliseconds(20));
  }
  return true;
}

// A directory of its own in the v2 hierarchy (or in the one at `mount`); what runs in it dies with it.
class Cgroup {
public:
  explicit Cgroup(std::string mount) {
    static int number = 0;
    path_ = std::move(mount) + "/vedette-test-" + std::to_string(::getpid()) + "-" + std::to_string(++number);
    REQUIRE_MESSAGE(::mkdir(path_.c_str(), 0755) == 0, "mkdir ", path_);
    struct stat status {};
    REQUIRE(::stat(path_.c_str(), &status) == 0);
    id_ = status.st_ino;
  }
  Cgroup(const Cgroup&) = delete;
  Cgroup& operator=(const Cgroup&) = delete;
  ~Cgroup() { remove(); }

  void remove() {
    if (path_.empty()) return;
    for (int i = 0; i < 500 && ::rmdir(path_.c_str()) != 0 && errno != ENOENT; ++i) {
      std::ifstream members(path_ + "/cgroup.procs");
      for (pid_t pid = 0; members >> pid;) ::kill(pid, SIGKILL);
      std::this_thread::sleep_for(std::chrono::milliseconds(10));
    }
    path_.clear();
  }

  std::uint64_t id() const { return id_; }
  const std::string& path() const { return path_; }
  void add(pid_t pid) const { CHECK(write_text(path_ + "/cgroup.procs", std::to_string(pid))); }

private:
  std::string path_;
  std::uint64_t id_ = 0;
};

// A child that waits outside, is moved into the cgroups, and then runs `work` and leaves with its result.
// In the cgroup it makes one system call more than `work` does: the read() it waited in returns there.
class Child {
public:
  Child(const std::vector<const Cgroup*>& cgroups, const std::function<int()>& work,
        const std::function<void()>& prepare = {}) {
    std::array<int, 2> gate{};
    REQUIRE(::pipe2(gate.data(), O_CLOEXEC) == 0);
    pid_ = ::fork();
    REQUIRE(pid_ >= 0);
    if (pid_ == 0) {
      ::close(gate[1]);
      ::signal(SIGTERM, SIG_DFL);  // doctest's handler is not the child's
      if (prepare) prepare();
      char go = 0;
      if (::read(gate[0], &go, 1) != 1) ::_exit(99);
      ::_exit(work());
    }
    ::close(gate[0]);
    ::signal(SIGPIPE, SIG_IGN);  // the child may give up
    // In the read, not on the way to it: its return must be the first thing the cgroup sees. (Or dead
    // already: `prepare` gave up.)
    const std::string proc = "/proc/" + std::to_string(pid_);
    REQUIRE(eventually([&] {
      return read_text(proc + "/syscall").starts_with("0 ") ||
             read_text(proc + "/stat").find(") Z ") != std::string::npos;
    }));
    for (const Cgroup* cgroup : cgroups) cgroup->add(pid_);
    const bool written = ::write(gate[1], "g", 1) == 1;
    ::close(gate[1]);
    if (!written) CHECK(errno == EPIPE);
  }
  Child(const Child&) = delete;
  Child& operator=(const Child&) = delete;
  ~Child() {
    if (pid_ > 0) {
      ::kill(pid_, SIGKILL);
      wait();
    }
  }

  // As waitpid() has it.
  int wait() {
    int status = 0;
    while (pid_ > 0 && ::waitpid(pid_, &status, 0) < 0 && errno == EINTR) {
    }
    pid_ = -1;
    return status;
  }
  pid_t pid() const { return pid_; }

private:
  pid_t pid_ = -1;
};

inline int run_in(const Cgroup& cgroup, const std::function<int()>& work,
                  const std::function<void()>& prepare = {}) {
  return Child({&cgroup}, work, prepare).wait();
}

// A value that this process and its children see and change together.
template <typename T>
class Shared {
public:
  Shared() {
    void* place = ::mmap(nullptr, sizeof(T), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    REQUIRE(place != MAP_FAILED);
    value_ = new (place) T{};
  }
  Shared(const Shared&) = delete;
  Shared& operator=(const Shared&) = delete;
  ~Shared() { ::munmap(value_, sizeof(T)); }
  T& operator*() const { return *value_; }
  T* operator->() const { return value_; }

private:
  T* value_ = nullptr;
};

// For Child's `prepare`: a network namespace with a loopback and nobody else. The child ends with 98 where
// that, or what `more` (a shell command) adds to it, is not possible.
inline std::function<void()> own_network(const std::string& more = "true") {
  return [more] {
    if (::unshare(CLONE_NEWNET) != 0 || shell("ip link set lo up && " + more) != 0) ::_exit(98);
  };
}
inline bool no_network(int status) {
  return WIFEXITED(status) && WEXITSTATUS(status) == 98;
}

// Of all maps that the kernel has now.
inline std::set<__u32> map_ids() {
  std::set<__u32> ids;
  for (__u32 id = 0; bpf_map_get_next_id(id, &id) == 0;) ids.insert(id);
  return ids;
}

struct OpenMap {
  FileHandle handle;
  bpf_map_info info{};
};
// The maps that came since `before` was map_ids().
inline std::vector<OpenMap> maps_since(const std::set<__u32>& before) {
  std::vector<OpenMap> maps;
  for (const __u32 id : map_ids()) {
    if (before.contains(id)) continue;
    OpenMap map{.handle = FileHandle(bpf_map_get_fd_by_id(id))};
    __u32 size = sizeof(map.info);
    if (bpf_obj_get_info_by_fd(map.handle.get(), &map.info, &size) == 0) maps.push_back(std::move(map));
  }
  return maps;
}

// Everything one set of probes has said so far, summed.
class Heard {
public:
  explicit Heard(KernelProbes& probes) : probes_(probes) {}

  void listen() {
    std::vector<CgroupTotals> changed;
    probes_.read_totals(changed);
    for (const CgroupTotals& delta : changed) {
      CgroupTotals& sum = totals_[delta.cgroup_id];
      sum.cgroup_id = delta.cgroup_id;
      sum.removed = delta.removed;
      for (std::size_t i = 0; i < COUNTER_COUNT; ++i) sum.counters[i] += delta.counters[i];
      for (std::size_t h = 0; h < HISTOGRAM_COUNT; ++h) {
        for (std::size_t b = 0; b < HISTOGRAM_BUCKETS; ++b) sum.histograms[h][b] += delta.histograms[h][b];
      }
    }
    probes_.read_events(events_);
  }

  // Listens, then answers.
  const CgroupTotals& in(const Cgroup& cgroup) { return in(cgroup.id()); }
  const CgroupTotals& in(std::uint64_t id) {
    listen();
    return totals_[id];
  }
  std::uint64_t everywhere(vedette_counter counter) {
    listen();
    std::uint64_t sum = 0;
    for (const auto& entry : totals_) sum += entry.second.counters[counter];
    return sum;
  }
  std::uint64_t observed(std::uint64_t id, vedette_histogram histogram) {
    std::uint64_t sum = 0;
    for (const std::uint64_t bucket : in(id).histograms[histogram]) sum += bucket;
    return sum;
  }
  std::uint64_t detail(vedette_detail detail, std::int32_t label, std::uint64_t cgroup_id = 0) {
    probes_.read_details([&](const detail_key& key, std::uint64_t added) {
      details_[{static_cast<vedette_detail>(key.detail), key.label, key.cgroup_id}] += added;
    });
    return details_[{detail, label, cgroup_id}];
  }
  std::vector<RawEvent> events(vedette_event type, std::uint64_t cgroup_id) {
    listen();
    std::vector<RawEvent> found;
    for (const RawEvent& event : events_) {
      if (event.type == type && event.cgroup_id == cgroup_id) found.push_back(event);
    }
    return found;
  }

private:
  KernelProbes& probes_;
  std::map<std::uint64_t, CgroupTotals> totals_;
  std::map<std::tuple<vedette_detail, std::int32_t, std::uint64_t>, std::uint64_t> details_;
  std::vector<RawEvent> events_;
};

// The kernel's dev_t of a device file: major << 20 | minor.
inline std::int64_t kernel_device(const std::string& path) {
  struct stat status {};
  REQUIRE(::stat(path.c_str(), &status) == 0);
  return static_cast<std::int64_t>(major(status.st_rdev)) << 20 | minor(status.st_rdev);
}

// A compressed disk in memory, whose driver takes bios without making requests of them. `ready()` is false
// where the kernel has none.
class Zram {
public:
  explicit Zram(const std::string& mem_limit = "") : number_(read_text("/sys/class/zram-control/hot_add")) {
    if (number_.empty()) return;
    ready_ = write_text(disk() + "/disksize", "16M") &&
             (mem_limit.empty() || write_text(disk() + "/mem_limit", mem_limit)) &&
             eventually([&] { return std::filesystem::exists(device()); });
  }
  Zram(const Zram&) = delete;
  Zram& operator=(const Zram&) = delete;
  ~Zram() {
    if (number_.empty()) return;
    write_text(disk() + "/reset", "1");
    write_text("/sys/class/zram-control/hot_remove", number_);
  }

  bool ready() const { return ready_; }
  std::string device() const { return "/dev/zram" + number_; }

private:
  std::string disk() const { return "/sys/block/zram" + number_; }

  std::string number_;
  bool ready_ = false;
};

// A small ext4 on a loop device. `device()` is empty where that is not possible (no loop, no mkfs).
class LoopFilesystem {
public:
  LoopFilesystem() {
    std::string name = std::filesystem::temp_directory_path() / "vedette-loop.XXXXXX";
    if (::mkdtemp(name.data()) == nullptr) return;
    directory_ = name;
    image_ = directory_ + "/image";
    mount_ = directory_ + "/mount";
    if (shell("truncate -s 16M " + image_ + " && mkfs.ext4 -q " + image_ + " && mkdir " + mount_) != 0)
      return;
    const std::string command = "losetup -f --show " + image_ + " > " + directory_ + "/device 2>/dev/null";
    if (std::system(command.c_str()) != 0) return;
    attached_ = read_text(directory_ + "/device");
    if (::mount(attached_.c_str(), mount_.c_str(), "ext4", 0, "errors=continue") != 0) return;
    mounted_ = true;
  }
  LoopFilesystem(const LoopFilesystem&) = delete;
  LoopFilesystem& operator=(const LoopFilesystem&) = delete;
  ~LoopFilesystem() {
    if (mounted_) {
      shell("fsfreeze -u " + mount_);
      for (int i = 0; i < 100 && ::umount(mount_.c_str()) != 0; ++i)
        std::this_thread::sleep_for(std::chrono::milliseconds(20));
    }
    if (!attached_.empty()) shell("losetup -d " + attached_);
    std::error_code ignored;
    if (!directory_.empty()) std::filesystem::remove_all(directory_, ignored);
  }

  bool ready() const { return mounted_; }
  const std::string& mount_point() const { return mount_; }
  std::string device_name() const { return attached_.substr(attached_.rfind('/') + 1); }
  const std::string& device() const { return attached_; }

private:
  std::string directory_, image_, mount_, attached_;
  bool mounted_ = false;
};

}  // namespace vedette::bpf_test
