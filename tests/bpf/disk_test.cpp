#include <cstring>
#include <tuple>

#include <linux/aio_abi.h>
#include <sys/syscall.h>

#include "tests/bpf/bpf_fixture.h"

using namespace vedette;
using namespace vedette::bpf_test;

namespace {

constexpr std::size_t kDiskPage = 4096;

// A loop device of its own on a file in memory, so that no other disk works for it. `room`: how much of its
// 16 MiB can be written before the device fails.
class LoopDisk {
public:
  explicit LoopDisk(const std::string& room = "32M") {
    std::string name = std::filesystem::temp_directory_path() / "vedette-disk.XXXXXX";
    if (::mkdtemp(name.data()) == nullptr) return;
    directory_ = name;
    if (::mount("none", directory_.c_str(), "tmpfs", 0, ("size=" + room).c_str()) != 0) return;
    mounted_ = true;
    const std::string image = directory_ + "/image";
    if (shell("truncate -s 16M " + image + " && losetup -f --show " + image + " > " + directory_ +
              "/device") == 0) {
      device_ = read_text(directory_ + "/device");
    }
  }
  LoopDisk(const LoopDisk&) = delete;
  LoopDisk& operator=(const LoopDisk&) = delete;
  ~LoopDisk() {
    if (!device_.empty()) shell("losetup -d " + device_);
    for (int i = 0; mounted_ && i < 100 && ::umount(directory_.c_str()) != 0; ++i)
      std::this_thread::sleep_for(std::chrono::milliseconds(20));
    std::error_code ignored;
    if (!directory_.empty()) std::filesystem::remove(directory_, ignored);
  }

  bool ready() const { return !device_.empty(); }
  const std::string& device() const { return device_; }
  bool set_queue(const std::string& file, const std::string& value) const {
    return write_text("/sys/block" + device_.substr(4) + "/queue/" + file, value);
  }
  // Documentation/block/stat.rst: reads, read merges, sectors, ms, writes, write merges, sectors, ...
  std::vector<std::uint64_t> kernel_counts() const {
    std::ifstream file("/sys/block" + device_.substr(4) + "/stat");
    std::vector<std::uint64_t> counts;
    for (std::uint64_t count = 0; file >> count;) counts.push_back(count);
    REQUIRE(counts.size() >= 7);
    return counts;
  }

private:
  std::string directory_, device_;
  bool mounted_ = false;
};

// What the probes counted by label, summed.
class Details {
public:
  explicit Details(KernelProbes& probes) : probes_(probes) {}

  std::uint64_t of(vedette_detail detail, const Cgroup& cgroup, std::int64_t label) {
    probes_.read_details([&](const detail_key& key, std::uint64_t count) {
      counts_[{key.detail, key.cgroup_id, key.label}] += count;
    });
    return counts_[{detail, cgroup.id(), static_cast<int>(label)}];
  }

private:
  KernelProbes& probes_;
  std::map<std::tuple<unsigned, std::uint64_t, int>, std::uint64_t> counts_;
};

// The least and the most time that what stands in the histograms of reads and writes took together.
std::pair<std::uint64_t, std::uint64_t> bounds_ns(const CgroupTotals& totals) {
  std::uint64_t least = 0;
  std::uint64_t most = 0;
  for (const vedette_histogram histogram : {HISTOGRAM_disk_read_latency, HISTOGRAM_disk_write_latency}) {
    for (std::size_t i = 0; i < HISTOGRAM_BUCKETS; ++i) {
      const std::uint64_t count = totals.histograms[histogram][i];
      least += i == 0 ? 0 : count << (i + 9);
      most += count << (i + 10);
    }
  }
  return {least, most};
}

// Bytes beside the page cache: each call is one bio. Runs in the child; false: errno says why.
bool transfer(const std::string& device, bool write, std::size_t size, std::size_t offset) {
  const FileHandle disk(::open(device.c_str(), (write ? O_WRONLY : O_RDONLY) | O_DIRECT | O_CLOEXEC));
  void* memory = nullptr;
  if (!disk || ::posix_memalign(&memory, kDiskPage, size) != 0) return false;
  std::memset(memory, 0x5a, size);
  const auto position = static_cast<off_t>(offset);
  const ssize_t done =
      write ? ::pwrite(disk.get(), memory, size, position) : ::pread(disk.get(), memory, size, position);
  const int error = errno;
  std::free(memory);
  errno = error;
  return done == static_cast<ssize_t>(size);
}

// Writes `count` neighbouring pages with one io_submit(), which hands them to the block layer together.
bool write_together(const std::string& device, int count) {
  const FileHandle disk(::open(device.c_str(), O_WRONLY | O_DIRECT | O_CLOEXEC));
  aio_context_t context = 0;
  void* memory = nullptr;
  const std::size_t size = kDiskPage * static_cast<std::size_t>(count);
  if (!disk || ::posix_memalign(&memory, kDiskPage, size) != 0) return false;
  std::memset(memory, 0x5a, size);
  if (::syscall(SYS_io_setup, count, &context) != 0) return false;
  std::vector<iocb> blocks(static_cast<std::size_t>(count));
  std::vector<iocb*> list;
  for (std::size_t i = 0; i < blocks.size(); ++i) {
    blocks[i].aio_lio_opcode = IOCB_CMD_PWRITE;
    blocks[i].aio_fildes = static_cast<std::uint32_t>(disk.get());
    blocks[i].aio_buf = reinterpret_cast<std::uint64_t>(memory) + i * kDiskPage;
    blocks[i].aio_nbytes = kDiskPage;
    blocks[i].aio_offset = static_cast<std::int64_t>(i * kDiskPage);
    list.push_back(&blocks[i]);
  }
  std::vector<io_event> events(blocks.size());
  const bool sent = ::syscall(SYS_io_submit, context, count, list.data()) == count &&
                    ::syscall(SYS_io_getevents, context, count, count, events.data(), nullptr) == count;
  for (const io_event& event : events) {
    if (event.res != static_cast<std::int64_t>(kDiskPage)) return false;
  }
  ::syscall(SYS_io_destroy, context);
  return sent;
}

}  // namespace

TEST_CASE("reads and writes of a disk are counted exactly, with bytes, times and device") {
  const LoopDisk disk;
  if (!disk.ready()) VEDETTE_SKIP("no loop device here");
  const auto probes = attach();
  Heard heard(*probes);
  Details details(*probes);
  const Cgroup cgroup(probes->cgroup_mount());
  const std::vector<std::uint64_t> before = disk.kernel_counts();
  REQUIRE(run_in(cgroup, [&] {
            for (std::size_t i = 0; i < 20; ++i) {
              if (!transfer(disk.device(), false, kDiskPage, i * 3 * kDiskPage)) return 1;
              ::usleep(1000);  // no more than are timed
            }
            for (std::size_t i = 0; i < 30; ++i) {
              if (!transfer(disk.device(), true, 2 * kDiskPage, i * 3 * kDiskPage)) return 2;
              ::usleep(1000);
            }
            return 0;
          }) == 0);

  const CgroupTotals& totals = heard.in(cgroup);
  CHECK(totals.counters[COUNTER_disk_reads] == 20);
  CHECK(totals.counters[COUNTER_disk_read_bytes] == 20 * kDiskPage);
  CHECK(totals.counters[COUNTER_disk_writes] == 30);
  CHECK(totals.counters[COUNTER_disk_written_bytes] == 60 * kDiskPage);
  CHECK(totals.counters[COUNTER_disk_merges] == 0);
  CHECK(totals.counters[COUNTER_disk_errors] == 0);
  CHECK(totals.counters[COUNTER_disk_timeouts] == 0);
  CHECK(heard.observed(cgroup.id(), HISTOGRAM_disk_read_latency) == 20);
  CHECK(heard.observed(cgroup.id(), HISTOGRAM_disk_write_latency) == 30);
  // The open bucket starts at 4.3 s: a start that was not one would be there.
  CHECK(heard.in(cgroup).histograms[HISTOGRAM_disk_read_latency][HISTOGRAM_BUCKETS - 1] == 0);
  CHECK(heard.in(cgroup).histograms[HISTOGRAM_disk_write_latency][HISTOGRAM_BUCKETS - 1] == 0);

  const std::int64_t device = kernel_device(disk.device());
  CHECK(details.of(DETAIL_disk_reads_by_device, cgroup, device) == 20);
  CHECK(details.of(DETAIL_disk_writes_by_device, cgroup, device) == 30);
  CHECK(details.of(DETAIL_disk_bytes_by_device, cgroup, device) == 80 * kDiskPage);
  CHECK(details.of(DETAIL_disk_errors_by_device, cgroup, device) == 0);
  // All were timed: what they took together lies between the bounds of their buckets.
  const auto [least_ns, most_ns] = bounds_ns(totals);
  CHECK(totals.counters[COUNTER_disk_wait_ns] >= least_ns);
  CHECK(totals.counters[COUNTER_disk_wait_ns] <= most_ns);
  CHECK(details.of(DETAIL_disk_read_wait_by_device_ns, cgroup, device) +
            details.of(DETAIL_disk_write_wait_by_device_ns, cgroup, device) ==
        totals.counters[COUNTER_disk_wait_ns]);
  CHECK(details.of(DETAIL_disk_write_wait_by_device_ns, cgroup, device) > 0);
  const std::vector<std::uint64_t> after = disk.kernel_counts();
  CHECK(after[0] - before[0] == 20);
  CHECK(after[4] - before[4] == 30);
}

TEST_CASE("of a thousand reads in a row each is counted, some are timed, and their time stands for all") {
  const LoopDisk disk;
  if (!disk.ready()) VEDETTE_SKIP("no loop device here");
  const auto probes = attach();
  Heard heard(*probes);
  const Cgroup cgroup(probes->cgroup_mount());
  constexpr std::uint64_t kReads = 1000;
  const auto read = [&](std::uint64_t times) {
    return run_in(cgroup, [&] {
      for (std::size_t i = 0; i < times; ++i) {
        if (!transfer(disk.device(), false, kDiskPage, i % 16 * kDiskPage)) return 1;
      }
      return 0;
    });
  };
  REQUIRE(read(1) == 0);
  const CgroupTotals first = heard.in(cgroup);
  CHECK(first.counters[COUNTER_disk_reads] == 1);  // from now on it has a place for its counts
  REQUIRE(read(kReads) == 0);
  CgroupTotals rest = heard.in(cgroup);
  for (std::size_t b = 0; b < HISTOGRAM_BUCKETS; ++b)
    rest.histograms[HISTOGRAM_disk_read_latency][b] -= first.histograms[HISTOGRAM_disk_read_latency][b];
  CHECK(rest.counters[COUNTER_disk_reads] == kReads + 1);
  std::uint64_t timed = 0;
  for (const std::uint64_t bucket : rest.histograms[HISTOGRAM_disk_read_latency]) timed += bucket;
  CHECK(timed >= 32);
  CHECK(timed <= kReads);
  const auto [least_ns, most_ns] = bounds_ns(rest);
  const std::uint64_t wait_ns = rest.counters[COUNTER_disk_wait_ns] - first.counters[COUNTER_disk_wait_ns];
  CHECK(wait_ns >= least_ns * kReads / timed * 99 / 100);
  CHECK(wait_ns <= most_ns * kReads / timed);
}

TEST_CASE(
    "a transfer larger than its disk takes at once is all its owner's, in as many requests as it took") {
  const LoopDisk disk;
  if (!disk.ready()) VEDETTE_SKIP("no loop device here");
  if (!disk.set_queue("max_sectors_kb", "128")) VEDETTE_SKIP("the size of its requests cannot be set");
  const auto probes = attach();
  Heard heard(*probes);
  const Cgroup cgroup(probes->cgroup_mount());
  const std::vector<std::uint64_t> before = disk.kernel_counts();
  constexpr std::size_t kSize = std::size_t{2} << 20;
  REQUIRE(run_in(cgroup, [&] { return transfer(disk.device(), true, kSize, 0) ? 0 : 1; }) == 0);
  const std::vector<std::uint64_t> after = disk.kernel_counts();

  const CgroupTotals& totals = heard.in(cgroup);
  CHECK(totals.counters[COUNTER_disk_written_bytes] == kSize);
  CHECK(totals.counters[COUNTER_disk_writes] == after[4] - before[4]);
  CHECK(totals.counters[COUNTER_disk_writes] >= kSize / (128 << 10));
  CHECK(totals.counters[COUNTER_disk_merges] == after[5] - before[5]);
}

TEST_CASE("writes that follow each other become one request, and the others are merges") {
  const LoopDisk disk;
  if (!disk.ready()) VEDETTE_SKIP("no loop device here");
  const auto probes = attach();
  Heard heard(*probes);
  const Cgroup cgroup(probes->cgroup_mount());
  REQUIRE(disk.set_queue("nomerges", "0"));  // which loop devices did not do until 6.12 or so
  const int status = run_in(cgroup, [&] {
    if (!write_together(disk.device(), 8)) return errno == ENOSYS ? 77 : 1;
    return 0;
  });
  if (WEXITSTATUS(status) == 77) VEDETTE_SKIP("no asynchronous I/O in this kernel");
  REQUIRE(status == 0);
  CHECK(heard.in(cgroup).counters[COUNTER_disk_writes] == 1);
  CHECK(heard.in(cgroup).counters[COUNTER_disk_merges] == 7);
  Details details(*probes);
  CHECK(details.of(DETAIL_disk_merges_by_device, cgroup, kernel_device(disk.device())) == 7);
  CHECK(heard.in(cgroup).counters[COUNTER_disk_written_bytes] == 8 * kDiskPage);
  CHECK(heard.observed(cgroup.id(), HISTOGRAM_disk_write_latency) == 1);
}

TEST_CASE("two cgroups at one disk behind a scheduler: each has its own requests, whoever dispatched them") {
  const LoopDisk disk;
  if (!disk.ready()) VEDETTE_SKIP("no loop device here");
  if (!disk.set_queue("scheduler", "mq-deadline")) VEDETTE_SKIP("no mq-deadline in this kernel");
  const auto probes = attach();
  Heard heard(*probes);
  const Cgroup readers(probes->cgroup_mount());
  const Cgroup writers(probes->cgroup_mount());
  constexpr std::size_t kRequests = 300;
  const auto work = [&](bool write) {
    for (std::size_t i = 0; i < kRequests; ++i) {
      if (!transfer(disk.device(), write, kDiskPage, (2 * i + (write ? 1000 : 0)) * kDiskPage)) return 1;
    }
    return 0;
  };
  Child one({&readers}, [&] { return work(false); });
  Child two({&writers}, [&] { return work(true); });
  REQUIRE(one.wait() == 0);
  REQUIRE(two.wait() == 0);
  CHECK(heard.in(readers).counters[COUNTER_disk_reads] == kRequests);
  CHECK(heard.in(readers).counters[COUNTER_disk_writes] == 0);
  CHECK(heard.in(writers).counters[COUNTER_disk_writes] == kRequests);
  CHECK(heard.in(writers).counters[COUNTER_disk_reads] == 0);
}

TEST_CASE("writes that the disk fails are errors of who wrote, by device, and no bytes") {
  const LoopDisk disk("1M");
  if (!disk.ready()) VEDETTE_SKIP("no loop device here");
  const auto probes = attach();
  Heard heard(*probes);
  Details details(*probes);
  const Cgroup cgroup(probes->cgroup_mount());
  constexpr int kWrites = 320;  // of 4 KiB: the last 64 at least find no room
  const int status = run_in(cgroup, [&] {
    int failures = 0;
    for (std::size_t i = 0; i < kWrites; ++i) {
      if (!transfer(disk.device(), true, kDiskPage, i * kDiskPage)) ++failures;
    }
    return failures;
  });
  REQUIRE(WIFEXITED(status));
  const auto failures = static_cast<std::uint64_t>(WEXITSTATUS(status));
  REQUIRE(failures >= 64);

  const CgroupTotals& totals = heard.in(cgroup);
  CHECK(totals.counters[COUNTER_disk_errors] == failures);
  CHECK(totals.counters[COUNTER_disk_timeouts] == 0);
  CHECK(totals.counters[COUNTER_disk_writes] == kWrites);
  CHECK(totals.counters[COUNTER_disk_written_bytes] == (kWrites - failures) * kDiskPage);
  const std::int64_t device = kernel_device(disk.device());
  CHECK(details.of(DETAIL_disk_errors_by_device, cgroup, device) == failures);
  CHECK(details.of(DETAIL_disk_bytes_by_device, cgroup, device) == (kWrites - failures) * kDiskPage);
}

TEST_CASE("counts by device stay exact while two cgroups take turns in the place they are kept in") {
  const Zram zram;
  if (!zram.ready()) VEDETTE_SKIP("no zram in this kernel");
  const std::int64_t device = kernel_device(zram.device());
  // As count_request() has it; were it another, this test would still hold, and try less.
  const auto place_of = [&](const Cgroup& cgroup) {
    return (static_cast<std::uint32_t>(cgroup.id()) * 31 + static_cast<std::uint32_t>(device)) *
               0x9e3779b1U >>
           (32 - 9);
  };
  const std::string mount = attach()->cgroup_mount();
  const Cgroup one(mount);
  auto two = std::make_unique<Cgroup>(mount);
  for (int i = 0; i < 5000 && place_of(*two) != place_of(one); ++i) two = std::make_unique<Cgroup>(mount);

  const auto probes = attach();
  Details details(*probes);
  std::uint64_t of_one = 0;
  std::uint64_t of_two = 0;
  const auto write_in = [&](const Cgroup& cgroup, std::uint64_t& sum) {
    constexpr std::uint64_t kWrites = 5;
    REQUIRE(run_in(cgroup, [&] {
              for (std::size_t n = 0; n < kWrites; ++n) {
                if (!transfer(zram.device(), true, kDiskPage, n * kDiskPage)) return 1;
              }
              return 0;
            }) == 0);
    sum += kWrites;
  };
  // Each check takes longer than it takes until a place that rests is given away.
  const auto check = [&] {
    for (int i = 0; i < 3; ++i) {
      std::this_thread::sleep_for(std::chrono::milliseconds(400));
      CHECK(details.of(DETAIL_disk_writes_by_device, one, device) == of_one);
      CHECK(details.of(DETAIL_disk_bytes_by_device, one, device) == of_one * kDiskPage);
      CHECK(details.of(DETAIL_disk_writes_by_device, *two, device) == of_two);
      CHECK(details.of(DETAIL_disk_bytes_by_device, *two, device) == of_two * kDiskPage);
    }
  };
  for (int round = 0; round < 2; ++round) {
    write_in(one, of_one);
    check();
    write_in(one, of_one);
    write_in(*two, of_two);
    check();
    write_in(*two, of_two);
    check();
  }
}

TEST_CASE("a driver that takes bios instead of requests is counted and timed the same, once") {
  const Zram zram;
  if (!zram.ready()) VEDETTE_SKIP("no zram in this kernel");
  const auto probes = attach();
  Heard heard(*probes);
  Details details(*probes);
  const Cgroup cgroup(probes->cgroup_mount());
  REQUIRE(run_in(cgroup, [&] {
            for (std::size_t i = 0; i < 16; ++i) {
              if (!transfer(zram.device(), true, kDiskPage, i * kDiskPage)) return 1;
            }
            for (std::size_t i = 0; i < 12; ++i) {
              if (!transfer(zram.device(), false, 2 * kDiskPage, i * kDiskPage)) return 2;
            }
            return 0;
          }) == 0);
  const CgroupTotals& totals = heard.in(cgroup);
  CHECK(totals.counters[COUNTER_disk_writes] == 16);
  CHECK(totals.counters[COUNTER_disk_written_bytes] == 16 * kDiskPage);
  CHECK(totals.counters[COUNTER_disk_reads] == 12);
  CHECK(totals.counters[COUNTER_disk_read_bytes] == 24 * kDiskPage);
  CHECK(heard.observed(cgroup.id(), HISTOGRAM_disk_read_latency) == 12);
  CHECK(heard.observed(cgroup.id(), HISTOGRAM_disk_write_latency) == 16);
  CHECK(details.of(DETAIL_disk_reads_by_device, cgroup, kernel_device(zram.device())) == 12);
  CHECK(details.of(DETAIL_disk_writes_by_device, cgroup, kernel_device(zram.device())) == 16);
}

TEST_CASE("what a task writes into the page cache and then waits for is its own") {
  const LoopFilesystem filesystem;
  if (!filesystem.ready()) VEDETTE_SKIP("no ext4 on a loop device here");
  const auto probes = attach();
  Heard heard(*probes);
  Details details(*probes);
  const Cgroup cgroup(probes->cgroup_mount());
  constexpr std::size_t kSize = std::size_t{256} << 10;
  const std::string file = filesystem.mount_point() + "/file";
  REQUIRE(run_in(cgroup, [&] {
            const FileHandle handle(::open(file.c_str(), O_CREAT | O_WRONLY, 0644));
            const std::string data(kSize, 'x');
            if (::write(handle.get(), data.data(), data.size()) != static_cast<ssize_t>(data.size()))
              return 1;
            return ::fdatasync(handle.get()) == 0 ? 0 : 2;
          }) == 0);
  // The journal's own writes are the kernel's; the file system may write some of its blocks for the task.
  const std::uint64_t bytes =
      details.of(DETAIL_disk_bytes_by_device, cgroup, kernel_device(filesystem.device()));
  CHECK(bytes >= kSize);
  CHECK(bytes < 2 * kSize);
  CHECK(heard.in(cgroup).counters[COUNTER_disk_writes] >= 1);
}

TEST_CASE("what is written from the page cache is told of who dirtied it, or as nobody's the kernel names") {
  const LoopFilesystem filesystem;
  if (!filesystem.ready()) VEDETTE_SKIP("no ext4 on a loop device here");
  const auto probes = attach();
  Heard heard(*probes);
  Details details(*probes);
  const Cgroup cgroup(probes->cgroup_mount());
  const std::string controllers = " " + read_text(cgroup.path() + "/cgroup.controllers") + " ";
  // It knows who dirtied a page with both controllers in cgroup v2 only.
  const bool names_owner =
      controllers.find(" io ") != std::string::npos && controllers.find(" memory ") != std::string::npos;
  constexpr std::size_t kSize = std::size_t{256} << 10;
  const std::string file = filesystem.mount_point() + "/file";
  REQUIRE(run_in(cgroup, [&] {
            const FileHandle handle(::open(file.c_str(), O_CREAT | O_WRONLY, 0644));
            const std::string data(kSize, 'x');
            return ::write(handle.get(), data.data(), data.size()) == static_cast<ssize_t>(kSize) ? 0 : 1;
          }) == 0);
  const std::int64_t device = kernel_device(filesystem.device());
  // To make the file, blocks of the file system were read.
  const std::uint64_t before = details.of(DETAIL_disk_bytes_by_device, cgroup, device);
  REQUIRE(before < kSize);
  const FileHandle root(::open(filesystem.mount_point().c_str(), O_RDONLY | O_DIRECTORY));
  const std::uint64_t unowned = heard.everywhere(COUNTER_disk_unowned_bytes);
  const std::uint64_t requests = heard.everywhere(COUNTER_disk_unowned_requests);
  REQUIRE(::syncfs(root.get()) == 0);
  if (!names_owner) {
    CHECK(heard.everywhere(COUNTER_disk_unowned_bytes) - unowned >= kSize);
    CHECK(heard.everywhere(COUNTER_disk_unowned_requests) > requests);
    return;
  }

  const std::uint64_t bytes = details.of(DETAIL_disk_bytes_by_device, cgroup, device) - before;
  CHECK(bytes >= kSize);
  CHECK(bytes < 2 * kSize);
  CHECK(heard.in(cgroup).counters[COUNTER_disk_writes] >= 1);
}
