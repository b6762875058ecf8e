#include <algorithm>

#include <sys/syscall.h>

#include "tests/bpf/bpf_fixture.h"

using namespace vedette;
using namespace vedette::bpf_test;

namespace {

// Puts a sysctl back whatever happens.
class Setting {
public:
  Setting(std::string file, const std::string& value) : file_(std::move(file)), before_(read_text(file_)) {
    changed_ = !before_.empty() && write_text(file_, value);
  }
  Setting(const Setting&) = delete;
  Setting& operator=(const Setting&) = delete;
  ~Setting() {
    if (changed_) write_text(file_, before_);
  }
  bool changed() const { return changed_; }

private:
  std::string file_, before_;
  bool changed_ = false;
};

}  // namespace

TEST_CASE("an ext4 error is counted, wakes the agent, and names device, function and line" *
          doctest::test_suite("ext4")) {
  const LoopFilesystem filesystem;
  if (!filesystem.ready()) VEDETTE_SKIP("no ext4 on a loop device here");
  const auto probes = attach();
  if (health_of(*probes, "ext4").state != ProbeState::kAttached)
    VEDETTE_SKIP("ext4 is not traced by this kernel");
  Heard heard(*probes);
  heard.listen();
  const Cgroup cgroup(probes->cgroup_mount());
  const std::string trigger = "/sys/fs/ext4/" + filesystem.device_name() + "/trigger_fs_error";
  if (!std::filesystem::exists(trigger)) VEDETTE_SKIP("no " + trigger);
  REQUIRE(run_in(cgroup, [&] { return write_text(trigger, "1") ? 0 : 1; }) == 0);

  pollfd wake{probes->wake_fd(), POLLIN, 0};
  CHECK(::poll(&wake, 1, 10'000) == 1);
  CHECK(heard.in(cgroup).counters[COUNTER_ext4_errors] == 1);
  const std::vector<RawEvent> errors = heard.events(EVENT_ext4_error, cgroup.id());
  REQUIRE(errors.size() == 1);
  CHECK(errors[0].extra == kernel_device(filesystem.device()));
  CHECK(errors[0].value > 0);
  CHECK(std::string(errors[0].text) == "trigger_test_error");
}

TEST_CASE("a task blocked on a frozen filesystem: blocked time, a slow call with its number, a hung task" *
          doctest::test_suite("sched")) {
  const LoopFilesystem filesystem;
  if (!filesystem.ready()) VEDETTE_SKIP("no ext4 on a loop device here");
  const Setting timeout("/proc/sys/kernel/hung_task_timeout_secs", "1");
  const Setting interval("/proc/sys/kernel/hung_task_check_interval_secs", "1");
  const auto probes = attach();
  Heard heard(*probes);
  const Cgroup cgroup(probes->cgroup_mount());
  REQUIRE(shell("fsfreeze -f " + filesystem.mount_point()) == 0);
  const std::string file = filesystem.mount_point() + "/new";
  Child child({&cgroup}, [&] {
    return ::syscall(SYS_openat, AT_FDCWD, file.c_str(), O_CREAT | O_WRONLY, 0644) >= 0 ? 0 : 1;
  });
  bool hung = false;
  if (timeout.changed()) {
    hung = eventually([&] { return !heard.events(EVENT_hung_task, cgroup.id()).empty(); });
  } else {
    std::this_thread::sleep_for(std::chrono::milliseconds(400));
  }
  REQUIRE(shell("fsfreeze -u " + filesystem.mount_point()) == 0);
  REQUIRE(child.wait() == 0);

  CHECK(heard.in(cgroup).counters[COUNTER_blocked_disk_ns] > 300'000'000);
  CHECK(heard.observed(cgroup.id(), HISTOGRAM_blocked_disk_latency) >= 1);
  const std::vector<RawEvent> slow = heard.events(EVENT_slow_call, cgroup.id());
  REQUIRE(slow.size() == 1);
  CHECK(slow[0].value > 300'000'000);
  CHECK(static_cast<std::uint64_t>(slow[0].value) <= heard.in(cgroup).counters[COUNTER_blocked_disk_ns]);
  CHECK(slow[0].extra == SYS_openat);
  if (!timeout.changed()) VEDETTE_SKIP("this kernel looks for no hung tasks");
  CHECK(hung);
  CHECK(heard.in(cgroup).counters[COUNTER_hung_tasks] >= 1);
}

TEST_CASE("a device that refuses writes: failed requests are counted, with errno and device") {
  const Zram zram("64K");
  if (!zram.ready()) VEDETTE_SKIP("no zram in this kernel");
  const auto probes = attach();
  Heard heard(*probes);
  heard.listen();
  const std::string device = zram.device();
  const Cgroup cgroup(probes->cgroup_mount());
  const int status = run_in(cgroup, [&] {
    // Random bytes do not compress, and nothing may stay in the page cache.
    alignas(4096) static std::array<char, 4096> page{};
    const FileHandle random(::open("/dev/urandom", O_RDONLY));
    const FileHandle disk(::open(device.c_str(), O_WRONLY | O_DIRECT));
    for (int i = 0; i < 256; ++i) {
      if (::read(random.get(), page.data(), page.size()) < 0) return 1;
      if (::write(disk.get(), page.data(), page.size()) < 0) return errno == EIO || errno == ENOMEM ? 0 : 2;
    }
    return 3;
  });
  REQUIRE(status == 0);
  CHECK(heard.in(cgroup).counters[COUNTER_block_errors] == 1);
  const std::vector<RawEvent> errors = heard.events(EVENT_block_error, cgroup.id());
  REQUIRE(errors.size() == 1);
  CHECK(errors[0].extra == kernel_device(device));
  CHECK(errors[0].value > 0);
}
