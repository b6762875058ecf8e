#include "agent/collect/live_source.h"

#include <cmath>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <functional>
#include <map>
#include <optional>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include <arpa/inet.h>
#include <doctest/doctest.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <sched.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tests/skip.h"

namespace vedette {
namespace {

namespace fs = std::filesystem;

CgroupMounts host_mounts() {
  ReadBuffer buffer;
  const auto text = buffer.read_path("/proc/self/mountinfo");
  return text ? find_cgroup_mounts(*text) : CgroupMounts();
}

// The number behind `key` in a file of "key number" lines.
std::optional<std::uint64_t> number_in(const std::string& file, const std::string& key) {
  std::ifstream stream(file);
  std::uint64_t number = 0;
  for (std::string word; stream >> word >> number;) {
    if (word == key) return number;
  }
  return std::nullopt;
}

// A cgroup of this test in every hierarchy, removed with it.
class TestCgroup {
public:
  explicit TestCgroup(const std::string& name)
      : path_("/vedette-" + name + "-" + std::to_string(::getpid())) {
    const auto mounts = host_mounts();
    for (const auto& root : {mounts.unified, mounts.memory, mounts.cpu, mounts.cpuacct, mounts.pids}) {
      std::error_code error;
      if (!root.empty()) fs::create_directory(root + path_, error);
      if (!root.empty()) directories_.push_back(root + path_);
    }
  }
  TestCgroup(const TestCgroup&) = delete;
  TestCgroup& operator=(const TestCgroup&) = delete;
  ~TestCgroup() { remove(); }

  bool exists() const { return !directories_.empty() && fs::exists(directories_.front()); }
  std::string entity_name() const { return "cgroup" + path_; }
  // Called by the child itself.
  void enter() const {
    for (const auto& directory : directories_) std::ofstream(directory + "/cgroup.procs") << "0";
  }
  void limit_memory(std::size_t bytes) const {
    for (const auto& directory : directories_) {
      for (const auto* file : {"/memory.limit_in_bytes", "/memory.max"}) {
        if (fs::exists(directory + file)) std::ofstream(directory + file) << bytes;
      }
    }
  }
  // Into whichever of its directories has that file; false: none, or the kernel refused.
  bool write(const std::string& file, const std::string& text) const {
    for (const auto& directory : directories_) {
      if (fs::exists(directory + file))
        return static_cast<bool>(std::ofstream(directory + file) << text << std::flush);
    }
    return false;
  }
  // The number behind `key` in the first of its files of that name that has it.
  std::optional<std::uint64_t> number(const std::string& file, const std::string& key) const {
    for (const auto& directory : directories_) {
      if (const auto found = number_in(directory + file, key)) return found;
    }
    return std::nullopt;
  }
  // How often its memory limit was met, as the kernel says.
  std::uint64_t limits_met() const {
    for (const auto& directory : directories_) {
      std::uint64_t count = 0;
      if (std::ifstream(directory + "/memory.failcnt") >> count) return count;
    }
    return number("/memory.events", "max").value_or(0);
  }
  // A zombie's cgroup is busy for a moment.
  void remove() const {
    for (const auto& directory : directories_) {
      for (int i = 0; i < 100 && fs::exists(directory); ++i) {
        if (::rmdir(directory.c_str()) == 0) break;
        ::usleep(10'000);
      }
    }
  }

private:
  std::string path_;
  std::vector<std::string> directories_;
};

// A child process in a cgroup that does `work` and then each step as it is told.
class SteppedChild {
public:
  SteppedChild(const TestCgroup& cgroup, const std::function<void()>& start,
               const std::function<void()>& step) {
    REQUIRE(::pipe(to_child_) == 0);
    REQUIRE(::pipe(from_child_) == 0);
    pid_ = ::fork();
    REQUIRE(pid_ >= 0);
    if (pid_ == 0) {
      // What the test and the source have open would count as the child's.
      const int in = ::fcntl(to_child_[0], F_DUPFD, kFirstFree);
      const int out = ::fcntl(from_child_[1], F_DUPFD, kFirstFree);
      ::dup2(in, to_child_[0] = 3);
      ::dup2(out, from_child_[1] = 4);
      ::close_range(5, ~0U, 0);
      cgroup.enter();
      start();
      char byte = 'r';
      while (::write(from_child_[1], &byte, 1) == 1 && ::read(to_child_[0], &byte, 1) == 1 && byte == 's')
        step();
      ::_exit(0);
    }
    ::close(to_child_[0]);
    ::close(from_child_[1]);
    await();
  }
  SteppedChild(const SteppedChild&) = delete;
  SteppedChild& operator=(const SteppedChild&) = delete;
  ~SteppedChild() {
    kill(SIGKILL);
    ::close(to_child_[1]);
    ::close(from_child_[0]);
  }

  void step() {
    REQUIRE(::write(to_child_[1], "s", 1) == 1);
    await();
  }
  // A step that the child does not survive.
  void last_step() {
    REQUIRE(::write(to_child_[1], "s", 1) == 1);
    ::waitpid(pid_, nullptr, 0);
    pid_ = -1;
  }
  void kill(int signal) {
    if (pid_ <= 0) return;
    ::kill(pid_, signal);
    ::waitpid(pid_, nullptr, 0);
    pid_ = -1;
  }

private:
  void await() const {
    char byte = 0;
    REQUIRE(::read(from_child_[0], &byte, 1) == 1);
  }

  static constexpr int kFirstFree = 500;  // beyond what the test has open

  int to_child_[2] = {-1, -1};
  int from_child_[2] = {-1, -1};
  pid_t pid_ = -1;
};

LiveOptions quick() {
  LiveOptions options;
  options.tick_interval = std::chrono::milliseconds(50);
  options.files.interval = std::chrono::milliseconds(100);
  return options;
}

LiveOptions files_alone() {
  LiveOptions options = quick();
  options.use_kernel_probes = false;
  return options;
}

std::optional<std::size_t> row_of(const Observation& observation, const std::string& name) {
  for (std::size_t i = 0; i < observation.entities.size(); ++i) {
    if (observation.entities[i]->name == name) return i;
  }
  return std::nullopt;
}

double gauge(const Observation& observation, const std::string& name, vedette_gauge which) {
  const auto row = row_of(observation, name);
  return row ? observation.samples[*row].gauges[which] : kMissing;
}

// Ticks until `found` says so; false when 200 ticks (10 s) did not bring it.
bool tick_until(LiveSource& source, Observation& observation, const std::function<bool()>& found) {
  for (int i = 0; i < 200; ++i) {
    const auto waited = source.wait();
    REQUIRE(waited.has_value());
    REQUIRE(*waited == Source::Wait::kTick);
    REQUIRE(source.collect(observation).has_value());
    if (found()) return true;
  }
  return false;
}

bool probe_works(const Observation& observation, const std::string& name) {
  for (const auto& probe : observation.probes) {
    if (probe.name == name) return probe.state == ProbeState::kAttached;
  }
  return false;
}

TEST_CASE("A process in a cgroup of its own is seen with its memory, its descriptors and its private mount" *
          doctest::test_suite("cgroup proc mounts")) {
  struct statx root {};
  if (::statx(AT_FDCWD, "/", 0, STATX_TYPE, &root) != 0 ||
      (root.stx_attributes & STATX_ATTR_MOUNT_ROOT) == 0) {
    VEDETTE_SKIP("/ is no mount point (a chroot), so a process here cannot have a mount of its own");
  }
  if (::geteuid() != 0) VEDETTE_SKIP("making cgroups and mounts needs root");
  const TestCgroup cgroup("live");
  if (!cgroup.exists()) VEDETTE_SKIP("no cgroup can be made here");
  constexpr std::size_t kLimit = 64UL * 1024 * 1024;
  cgroup.limit_memory(kLimit);
  const auto mount_point = fs::temp_directory_path() / ("vedette-live-" + std::to_string(::getpid()));
  fs::create_directory(mount_point);

  auto made = LiveSource::make(quick());
  REQUIRE(made.has_value());
  auto& source = **made;
  Observation observation;
  {
    SteppedChild child(
        cgroup,
        [&] {
          const rlimit files{100, 100};
          ::setrlimit(RLIMIT_NOFILE, &files);
          constexpr std::size_t kBytes = 16UL * 1024 * 1024;
          auto* memory = static_cast<volatile char*>(std::malloc(kBytes));
          for (std::size_t i = 0; i < kBytes; i += 4096) memory[i] = 1;
          if (::unshare(CLONE_NEWNS) != 0 ||
              ::mount(nullptr, "/", nullptr, MS_REC | MS_PRIVATE, nullptr) != 0 ||
              ::mount("none", mount_point.c_str(), "tmpfs", 0, "size=1M") != 0) {
            ::_exit(1);
          }
          std::ofstream(mount_point / "data") << std::string(512UL * 1024, 'x');
        },
        [] {
          for (int i = 0; i < 20; ++i) (void)::open("/dev/null", O_RDONLY);
        });
    const auto name = cgroup.entity_name();
    CHECK(tick_until(source, observation, [&] { return row_of(observation, name).has_value(); }));
    CHECK(tick_until(source, observation, [&] {
      return gauge(observation, name, GAUGE_memory_bytes) > 16 * 1024 * 1024 &&
             gauge(observation, name, GAUGE_memory_use) > 0.25;
    }));
    CHECK(gauge(observation, name, GAUGE_memory_use) < 1);
    CHECK(tick_until(source, observation,
                     [&] { return gauge(observation, name, GAUGE_disk_space_use) > 0.45; }));
    CHECK(gauge(observation, name, GAUGE_disk_space_use) < 0.6);
    CHECK(observation.samples[0].gauges[GAUGE_disk_space_use] > 0);
    CHECK(observation.samples[0].gauges[GAUGE_memory_use] > 0);

    const double before = gauge(observation, name, GAUGE_open_files_use);
    const double files = gauge(observation, name, GAUGE_open_files);
    CHECK(before > 0);
    CHECK(gauge(observation, name, GAUGE_pids) == 1);
    child.step();
    CHECK(tick_until(source, observation,
                     [&] { return gauge(observation, name, GAUGE_open_files_use) > before + 0.19; }));
    const double between = gauge(observation, name, GAUGE_open_files_use);
    CHECK(gauge(observation, name, GAUGE_open_files) == files + 20);
    child.step();
    CHECK(tick_until(source, observation,
                     [&] { return gauge(observation, name, GAUGE_open_files_use) > between + 0.19; }));
    CHECK(gauge(observation, name, GAUGE_open_files_use) < 0.7);
    if (probe_works(observation, "syscalls")) {
      child.step();
      CHECK(tick_until(source, observation, [&] {
        const auto row = row_of(observation, name);
        return !row || observation.samples[*row].counters[COUNTER_syscalls] > 0 ||
               gauge(observation, name, GAUGE_open_files_use) > between + 0.38;
      }));
    }
  }
  cgroup.remove();
  fs::remove(mount_point);
  // Its entity lingers a few seconds and is then gone.
  CHECK(row_of(observation, cgroup.entity_name()).has_value());
  CHECK(tick_until(source, observation, [&] { return !row_of(observation, cgroup.entity_name()); }));
}

TEST_CASE("The last words of a cgroup that was born and died between two ticks still carry its name") {
  if (::geteuid() != 0) VEDETTE_SKIP("making cgroups needs root");
  auto made = LiveSource::make(quick());
  REQUIRE(made.has_value());
  auto& source = **made;
  Observation observation;
  REQUIRE(source.wait().has_value());
  REQUIRE(source.collect(observation).has_value());
  if (!probe_works(observation, "process")) VEDETTE_SKIP("the process probe is not attached here");

  std::string name;
  {
    const TestCgroup cgroup("short");
    name = cgroup.entity_name();
    SteppedChild child(
        cgroup, [] {}, [] {});
    child.kill(SIGKILL);
    cgroup.remove();
    REQUIRE_FALSE(cgroup.exists());
  }
  std::uint64_t exits = 0;
  CHECK(tick_until(source, observation, [&] {
    const auto row = row_of(observation, name);
    if (!row) return false;
    exits += observation.samples[*row].counters[COUNTER_exits_by_signal];
    for (const auto& event : observation.events) {
      if (event.type == EVENT_signal_exit && event.entity == observation.entities[*row]->id) {
        CHECK(event.value == SIGKILL);
        return true;
      }
    }
    return false;
  }));
  CHECK(exits == 1);
}

TEST_CASE("Who connects to whom is told by name, until the server is gone") {
  if (::geteuid() != 0) VEDETTE_SKIP("making cgroups needs root");
  const TestCgroup clients("clients");
  const TestCgroup servers("servers");
  if (!clients.exists()) VEDETTE_SKIP("no cgroup can be made here");
  auto made = LiveSource::make(quick());
  REQUIRE(made.has_value());
  auto& source = **made;
  Observation observation;
  REQUIRE(source.wait().has_value());
  REQUIRE(source.collect(observation).has_value());
  if (!probe_works(observation, "tcp")) VEDETTE_SKIP("the tcp probe is not attached here");

  auto* shared = static_cast<sockaddr_in*>(
      ::mmap(nullptr, sizeof(sockaddr_in), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0));
  REQUIRE(shared != MAP_FAILED);
  shared->sin_family = AF_INET;
  shared->sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  auto* address = reinterpret_cast<sockaddr*>(shared);
  const auto connect_once = [address] {
    const int fd = ::socket(AF_INET, SOCK_STREAM, 0);
    if (::connect(fd, address, sizeof(sockaddr_in)) != 0) ::_exit(1);
  };
  SteppedChild server(
      servers,
      [&] {
        const int fd = ::socket(AF_INET, SOCK_STREAM, 0);
        socklen_t size = sizeof(sockaddr_in);
        if (::bind(fd, address, size) != 0 || ::listen(fd, 16) != 0 || ::getsockname(fd, address, &size) != 0)
          ::_exit(1);
      },
      connect_once);
  SteppedChild client(
      clients, [] {}, connect_once);
  for (int i = 0; i < 3; ++i) client.step();
  server.step();  // to itself

  std::map<std::pair<std::string, std::string>, std::uint64_t> told;
  const auto name = [&](EntityId id) {
    for (const auto& entity : observation.entities) {
      if (entity->id == id) return entity->name;
    }
    return std::string();
  };
  CHECK(tick_until(source, observation, [&] {
    for (const Connections& made_now : observation.connections)
      told[{name(made_now.client), name(made_now.server)}] += made_now.count;
    return told.size() == 1;
  }));
  const std::string server_name = servers.entity_name();
  CHECK(told[{clients.entity_name(), server_name}] == 3);
  CHECK(told.size() == 1);

  const auto by_server = [&] {
    std::uint64_t count = 0;
    for (const DetailCount& detail : *observation.details) {
      if (detail.detail != DETAIL_tcp_connects_by_server || detail.label != server_name) continue;
      CHECK(detail.entity->name == clients.entity_name());
      count += detail.count;
    }
    return count;
  };
  CHECK(by_server() == 3);
  server.kill(SIGKILL);
  servers.remove();
  CHECK(tick_until(source, observation, [&] { return by_server() == 0; }));
  ::munmap(shared, sizeof(sockaddr_in));
}

TEST_CASE("What the probes count of a cgroup without a slot is not known, instead of 0") {
  if (::geteuid() != 0) VEDETTE_SKIP("making cgroups needs root");
  const TestCgroup cgroup("slotless");
  if (!cgroup.exists()) VEDETTE_SKIP("no cgroup can be made here");
  SteppedChild child(
      cgroup, [] {}, [] {});
  for (const bool room : {true, false}) {
    LiveOptions options = quick();
    if (!room) options.kernel.slots = 2;  // nobody's, and the root's
    auto made = LiveSource::make(options);
    REQUIRE(made.has_value());
    Observation observation;
    REQUIRE(tick_until(**made, observation,
                       [&] { return row_of(observation, cgroup.entity_name()).has_value(); }));
    if (!probe_works(observation, "syscalls")) VEDETTE_SKIP("the syscalls probe is not attached here");
    const Sample& sample = observation.samples[*row_of(observation, cgroup.entity_name())];
    CHECK(sample.unknown.test(COUNTER_syscalls) == !room);
    CHECK(sample.unknown.test(COUNTER_oom_kills) == !room);
    CHECK(sample.gauges[GAUGE_pids] == 1);
    CHECK_FALSE(observation.samples.front().unknown.test(COUNTER_syscalls));
  }
}

TEST_CASE("An OOM kill at a pod's own limit is that pod's event, and the kernel log tells of it" *
          doctest::test_suite("memory log")) {
  if (::geteuid() != 0) VEDETTE_SKIP("making cgroups needs root");
  const TestCgroup cgroup("oom");
  if (!cgroup.exists()) VEDETTE_SKIP("no cgroup can be made here");
  constexpr std::size_t kLimit = 16UL * 1024 * 1024;
  cgroup.limit_memory(kLimit);
  auto made = LiveSource::make(quick());
  REQUIRE(made.has_value());
  auto& source = **made;
  Observation observation;
  REQUIRE(source.wait().has_value());
  REQUIRE(source.collect(observation).has_value());
  if (!probe_works(observation, "memory")) VEDETTE_SKIP("the memory probe is not attached here");
  const bool log_works = probe_works(observation, "log");

  SteppedChild child(
      cgroup, [] {},
      [] {
        constexpr std::size_t kTooMuch = 8 * kLimit;
        auto* memory = static_cast<volatile char*>(std::malloc(kTooMuch));
        for (std::size_t i = 0; i < kTooMuch; i += 4096) memory[i] = 1;
      });
  child.last_step();
  bool event_seen = false;
  bool log_seen = false;
  std::uint64_t kills = 0;
  std::uint64_t limits_met = 0;
  std::uint64_t ooms = 0;  // of a v2 cgroup: v1 has no such counts
  std::uint64_t own_kills = 0;
  CHECK(tick_until(source, observation, [&] {
    const auto row = row_of(observation, cgroup.entity_name());
    if (row) {
      const auto& counters = observation.samples[*row].counters;
      kills += counters[COUNTER_oom_kills];
      limits_met += counters[COUNTER_memory_max_events];
      ooms += counters[COUNTER_memory_oom_events];
      own_kills += counters[COUNTER_memory_oom_kills];
    }
    for (const auto& event : observation.events) {
      if (event.type == EVENT_oom_kill && row && event.entity == observation.entities[*row]->id) {
        event_seen = true;
        CHECK(event.value == OOM_CGROUP_LIMIT);
      }
      if (event.type == KernelEvent::kLogEvent && event.text.find("oom-kill:") != std::string::npos) {
        CHECK(event.entity == kNodeEntity);
        log_seen = log_seen || event.text.find(cgroup.entity_name().substr(6)) != std::string::npos;
      }
    }
    return event_seen && (log_seen || !log_works) && kills > 0 && limits_met == cgroup.limits_met();
  }));
  CHECK(event_seen);
  CHECK(kills == 1);
  CHECK(limits_met > 0);
  CHECK(ooms == cgroup.number("/memory.events", "oom").value_or(0));
  CHECK(own_kills == cgroup.number("/memory.events", "oom_kill").value_or(0));
  CHECK((log_seen || !log_works));
}

// Kernels before 6.x tell a cgroup's faults in batches of 32 for each CPU.
constexpr std::uint64_t kBatch = 64;

TEST_CASE("The pages a process touches are the faults of its cgroup, and the node counts them too" *
          doctest::test_suite("cgroup")) {
  if (::geteuid() != 0) VEDETTE_SKIP("making cgroups needs root");
  const TestCgroup cgroup("faults");
  if (!cgroup.exists()) VEDETTE_SKIP("no cgroup can be made here");
  auto made = LiveSource::make(files_alone());
  REQUIRE(made.has_value());
  constexpr std::uint64_t kPages = 20'000;
  constexpr std::uint64_t kSlack =
      2'000;  // the kernel flushes a cgroup's counts lazily, and the child lives on
  SteppedChild child(
      cgroup, [] {},
      [] {
        constexpr std::size_t kPage = 4096;
        auto* memory =
            ::mmap(nullptr, kPages * kPage, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        ::madvise(memory, kPages * kPage, MADV_NOHUGEPAGE);  // a huge page is one fault
        for (std::size_t i = 0; i < kPages; ++i) static_cast<volatile char*>(memory)[i * kPage] = 1;
      });
  Observation observation;
  std::uint64_t faults = 0;
  std::uint64_t of_node = 0;
  const auto count = [&] {
    const auto row = row_of(observation, cgroup.entity_name());
    if (!row || observation.samples[*row].unknown.test(COUNTER_page_faults)) return false;
    faults += observation.samples[*row].counters[COUNTER_page_faults];
    of_node += observation.samples[0].counters[COUNTER_page_faults];
    return true;
  };
  REQUIRE(tick_until(**made, observation, count));
  CHECK(faults < kSlack);
  child.step();
  CHECK(tick_until(**made, observation, [&] { return count() && faults >= kPages - kSlack; }));
  for (int i = 0; i < 20; ++i) tick_until(**made, observation, count);
  CHECK(faults >= kPages - kBatch);
  CHECK(faults < kPages + kSlack);
  CHECK(of_node >= faults);
}

TEST_CASE("Pages of a file that are not in memory are major faults of who touches them, each one" *
          doctest::test_suite("cgroup")) {
  if (::geteuid() != 0) VEDETTE_SKIP("making cgroups needs root");
  const TestCgroup cgroup("major");
  if (!cgroup.exists()) VEDETTE_SKIP("no cgroup can be made here");
  constexpr std::uint64_t kPages = 300;
  constexpr std::size_t kPage = 4096;
  fs::create_directories("/var/tmp");
  const std::string file = "/var/tmp/vedette-pages-" + std::to_string(::getpid());
  const FileHandle pages(::open(file.c_str(), O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600));
  REQUIRE(pages);
  fs::remove(file);
  const std::string text(kPages * kPage, 'x');
  REQUIRE(::write(pages.get(), text.data(), text.size()) == static_cast<ssize_t>(text.size()));
  REQUIRE(::fsync(pages.get()) == 0);
  REQUIRE(::posix_fadvise(pages.get(), 0, 0, POSIX_FADV_DONTNEED) == 0);
  void* mapped = ::mmap(nullptr, kPages * kPage, PROT_READ, MAP_SHARED, pages.get(), 0);
  REQUIRE(mapped != MAP_FAILED);
  REQUIRE(::madvise(mapped, kPages * kPage, MADV_RANDOM) == 0);

  auto made = LiveSource::make(files_alone());
  REQUIRE(made.has_value());
  SteppedChild child(
      cgroup, [] {},
      [&] {
        for (std::size_t i = 0; i < kPages; ++i) (void)static_cast<volatile char*>(mapped)[i * kPage];
      });
  const auto row = [&](const Observation& of) { return row_of(of, cgroup.entity_name()); };
  Observation observation;
  std::uint64_t faults = 0;
  std::uint64_t of_node = 0;
  const auto count = [&] {
    if (!row(observation)) return false;
    faults += observation.samples[*row(observation)].counters[COUNTER_major_faults];
    of_node += observation.samples[0].counters[COUNTER_major_faults];
    return !observation.samples[*row(observation)].unknown.test(COUNTER_major_faults);
  };
  REQUIRE(tick_until(**made, observation, count));
  const auto major_faults = [&] {
    const auto of_v1 = cgroup.number("/memory.stat", "total_pgmajfault");
    return of_v1 ? of_v1 : cgroup.number("/memory.stat", "pgmajfault");
  };
  REQUIRE(major_faults().has_value());
  const std::uint64_t before = *major_faults();
  faults = 0;
  child.step();
  CHECK(tick_until(**made, observation, [&] { return count() && faults >= kPages - kBatch; }));
  for (int i = 0; i < 20; ++i) tick_until(**made, observation, count);
  CHECK(faults >= kPages - kBatch);
  CHECK(faults <= kPages);
  CHECK(faults == *major_faults() - before);
  CHECK(of_node >= kPages);
  ::munmap(mapped, kPages * kPage);
}

TEST_CASE("Each huge page that is split is counted" * doctest::test_suite("kernel")) {
  constexpr std::size_t kHuge = 2UL << 20;
  constexpr std::uint64_t kPages = 5;
  // 2 MiB at their own multiples.
  auto* place = static_cast<char*>(
      ::mmap(nullptr, (kPages + 1) * kHuge, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
  REQUIRE(place != MAP_FAILED);
  auto* memory = place + (kHuge - reinterpret_cast<std::uintptr_t>(place) % kHuge);
  const auto made_huge = [] { return number_in("/proc/vmstat", "thp_fault_alloc"); };
  const auto huge_before = made_huge();
  if (!huge_before || ::madvise(memory, kPages * kHuge, MADV_HUGEPAGE) != 0)
    VEDETTE_SKIP("this kernel has no huge pages");
  for (std::size_t i = 0; i < kPages; ++i) memory[i * kHuge] = 1;
  if (*made_huge() - *huge_before < kPages) VEDETTE_SKIP("no huge pages are to be had");

  auto made = LiveSource::make(files_alone());
  REQUIRE(made.has_value());
  Observation observation;
  REQUIRE(tick_until(**made, observation, [] { return true; }));
  const auto splits = [] { return number_in("/proc/vmstat", "thp_split_page").value(); };
  const std::uint64_t before = splits();
  // What is given back of a huge page is a page of its own.
  for (std::size_t i = 0; i < kPages; ++i) REQUIRE(::madvise(memory + i * kHuge, 4096, MADV_FREE) == 0);
  CHECK(splits() - before >= kPages);  // and what others do meanwhile
  std::uint64_t counted = 0;
  CHECK(tick_until(**made, observation, [&] {
    counted += observation.samples.front().counters[COUNTER_huge_page_splits];
    return counted >= kPages && counted == splits() - before;
  }));
  ::munmap(place, (kPages + 1) * kHuge);
}

TEST_CASE("A CPU quota that holds a pod back: its share of time, and how much of the quota is used" *
          doctest::test_suite("cgroup")) {
  if (::geteuid() != 0) VEDETTE_SKIP("making cgroups needs root");
  const TestCgroup cgroup("quota");
  // A twentieth of one CPU, in periods of 100 ms: so much it gets on a busy machine, too.
  if (!cgroup.write("/cpu.cfs_quota_us", "5000") && !cgroup.write("/cpu.max", "5000 100000"))
    VEDETTE_SKIP("no CPU quota can be set here");
  auto options = files_alone();
  options.files.interval = std::chrono::milliseconds(1000);
  auto made = LiveSource::make(options);
  REQUIRE(made.has_value());
  SteppedChild child(
      cgroup,
      [] {
        std::thread([] {
          for (;;) ::getppid();
        }).detach();
      },
      [] {});
  Observation observation;
  const auto of = [&](vedette_gauge which) { return gauge(observation, cgroup.entity_name(), which); };
  const std::uint64_t before = cgroup.number("/cpu.stat", "nr_throttled").value_or(0);
  const auto began = std::chrono::steady_clock::now();
  CHECK(tick_until(**made, observation, [&] { return of(GAUGE_cpu_throttled) > 0.7; }));
  const double passed_s = std::chrono::duration<double>(std::chrono::steady_clock::now() - began).count();
  // What it spins beyond the quota the kernel holds back in nearly each period, and says so.
  const auto periods = static_cast<double>(cgroup.number("/cpu.stat", "nr_throttled").value_or(0) - before);
  CHECK(periods >= 7);
  CHECK(periods <= passed_s * 10 + 2);
  CHECK(of(GAUGE_cpu_throttled) <= 1);
  CHECK(of(GAUGE_cpu_cores) > 0.02);
  CHECK(of(GAUGE_cpu_cores) < 0.15);
  CHECK(of(GAUGE_cpu_limit_use) == doctest::Approx(20 * of(GAUGE_cpu_cores)));
}

TEST_CASE("What memory.high holds back is counted as the kernel counts it" * doctest::test_suite("cgroup")) {
  if (::geteuid() != 0) VEDETTE_SKIP("making cgroups needs root");
  const TestCgroup cgroup("high");
  constexpr std::size_t kHigh = 8UL * 1024 * 1024;
  if (!cgroup.write("/memory.high", std::to_string(kHigh)))
    VEDETTE_SKIP("no memory.high: the memory controller is that of cgroup v1 here");
  auto made = LiveSource::make(files_alone());
  REQUIRE(made.has_value());
  SteppedChild child(
      cgroup, [] {},
      [] {
        // Not more: the kernel lets it wait the longer, the further above it is.
        constexpr std::size_t kTouched = kHigh + kHigh / 4;
        auto* memory = static_cast<volatile char*>(std::malloc(kTouched));
        for (std::size_t i = 0; i < kTouched; i += 4096) memory[i] = 1;
      });
  Observation observation;
  const auto row = [&] { return row_of(observation, cgroup.entity_name()); };
  REQUIRE(tick_until(**made, observation, [&] {
    return row() && !observation.samples[*row()].unknown.test(COUNTER_memory_high_events);
  }));
  const std::uint64_t before = cgroup.number("/memory.events", "high").value();
  std::uint64_t counted = 0;
  child.step();
  CHECK(tick_until(**made, observation, [&] {
    if (row()) counted += observation.samples[*row()].counters[COUNTER_memory_high_events];
    return counted > 0 && counted == cgroup.number("/memory.events", "high").value() - before;
  }));
  MESSAGE(counted, " times held back");
}

// A swap file of its own; off with it. On no loop device: that charges what it writes to whose page it is,
// whose limit is met then.
class SwapFile {
public:
  SwapFile() {
    fs::create_directories("/var/tmp");
    on_ = shell("dd if=/dev/zero of=" + file_ + " bs=1M count=40 && chmod 600 " + file_ + " && mkswap " +
                file_ + " && swapon " + file_);
  }
  SwapFile(const SwapFile&) = delete;
  SwapFile& operator=(const SwapFile&) = delete;
  ~SwapFile() { shell("swapoff " + file_ + "; rm -f " + file_); }
  bool on() const { return on_; }

private:
  static bool shell(const std::string& command) {
    return std::system(("{ " + command + "; } >/dev/null 2>&1").c_str()) ==
           0;  // NOLINT: the test's own words
  }
  std::string file_ = "/var/tmp/vedette-swap-" + std::to_string(::getpid());
  bool on_ = false;
};

TEST_CASE(
    "What a pod beyond its limit leaves in swap, and what the node wrote and read there, is what the kernel "
    "says" *
    doctest::test_suite("cgroup kernel")) {
  if (::geteuid() != 0) VEDETTE_SKIP("making cgroups needs root");
  const TestCgroup cgroup("swap");
  const SwapFile swap;
  if (!swap.on()) VEDETTE_SKIP("no swap file here");
  constexpr std::size_t kLimit = 16UL * 1024 * 1024;
  cgroup.limit_memory(kLimit);
  auto made = LiveSource::make(files_alone());
  REQUIRE(made.has_value());
  volatile char* memory = nullptr;
  SteppedChild child(
      cgroup, [&] { memory = static_cast<volatile char*>(std::malloc(2 * kLimit)); },
      [&] {
        for (std::size_t i = 0; i < 2 * kLimit; i += 4096) memory[i] = 1;
      });
  Observation observation;
  std::uint64_t out = 0;
  std::uint64_t in = 0;
  const std::uint64_t before = number_in("/proc/vmstat", "pswpout").value();
  const std::uint64_t in_before = number_in("/proc/vmstat", "pswpin").value();
  const auto count = [&] {
    out += observation.samples.front().counters[COUNTER_swapped_out_pages];
    in += observation.samples.front().counters[COUNTER_swapped_in_pages];
  };
  REQUIRE(tick_until(**made, observation, [&] {
    count();
    return row_of(observation, cgroup.entity_name()).has_value();
  }));
  child.step();
  CHECK(tick_until(**made, observation, [&] {
    count();
    return out > 0 && out == number_in("/proc/vmstat", "pswpout").value() - before;
  }));
  constexpr double kSwapped = 0.9 * kLimit;  // half of it cannot stay
  CHECK(tick_until(**made, observation,
                   [&] { return gauge(observation, cgroup.entity_name(), GAUGE_swap_bytes) >= kSwapped; }));
  CHECK(gauge(observation, cgroup.entity_name(), GAUGE_swap_bytes) <= 2.0 * kLimit);
  CHECK(observation.samples.front().gauges[GAUGE_swap_use] > 0.1);
  CHECK(observation.samples.front().gauges[GAUGE_swap_bytes] >= kSwapped);

  child.step();  // all of it again
  CHECK(tick_until(**made, observation, [&] {
    count();
    return in >= kSwapped / 4096 && in == number_in("/proc/vmstat", "pswpin").value() - in_before &&
           out == number_in("/proc/vmstat", "pswpout").value() - before;
  }));
}

// ext4 on a loop device, mounted errors=remount-ro; removed with it.
class LoopMount {
public:
  LoopMount() {
    shell("truncate -s 16M " + image_ + " && mkfs.ext4 -q " + image_ + " && mkdir " + point_ +
          " && mount -o loop,errors=remount-ro " + image_ + " " + point_);
    std::ifstream mounts("/proc/self/mountinfo");
    for (std::string line; std::getline(mounts, line);) {
      const auto at = line.find("/dev/loop");
      if (line.find(" " + point_ + " ") != std::string::npos && at != std::string::npos) {
        device_ = line.substr(at + 5, line.find(' ', at) - at - 5);
      }
    }
  }
  LoopMount(const LoopMount&) = delete;
  LoopMount& operator=(const LoopMount&) = delete;
  ~LoopMount() { shell("umount " + point_ + "; rm -rf " + point_ + " " + image_); }

  bool mounted() const { return !device_.empty(); }
  void fail() const { std::ofstream("/sys/fs/ext4/" + device_ + "/trigger_fs_error") << "1"; }
  bool says_read_only() const {
    std::ifstream mounts("/proc/self/mounts");
    for (std::string line; std::getline(mounts, line);) {
      if (line.find(point_) == std::string::npos) continue;
      return line.find(" ro,") != std::string::npos || line.find("emergency_ro") != std::string::npos;
    }
    return false;
  }

private:
  static void shell(const std::string& command) {
    (void)!std::system(("{ " + command + "; } 2>/dev/null").c_str());  // NOLINT: the test's own words
  }
  std::string image_ = "/tmp/vedette-disk-" + std::to_string(::getpid());
  std::string point_ = image_ + ".mnt";
  std::string device_;
};

TEST_CASE("A real ext4 that stops taking writes is a read-only mount, as the kernel log says" *
          doctest::test_suite("mounts log")) {
  if (::geteuid() != 0) VEDETTE_SKIP("mounting needs root");
  const LoopMount disk;
  if (!disk.mounted()) VEDETTE_SKIP("no ext4 can be mounted on a loop device here");
  auto made = LiveSource::make(files_alone());
  REQUIRE(made.has_value());
  Observation observation;
  const auto read_only = [&] { return observation.samples[0].gauges[GAUGE_read_only_mounts]; };
  REQUIRE(tick_until(**made, observation, [&] { return !std::isnan(read_only()); }));
  const double before = read_only();
  disk.fail();
  // Since d3476f3dad4a (6.12, and in the stable releases of 6.1 and 6.6) it stays "rw"; since 6.15 it says
  // so.
  if (!disk.says_read_only()) VEDETTE_SKIP("this kernel's list of mounts does not tell (6.1.x to 6.14)");
  bool log_seen = !probe_works(observation, "log");
  CHECK(tick_until(**made, observation, [&] {
    for (const auto& event : observation.events) {
      log_seen = log_seen || event.text.find("Remounting filesystem read-only") != std::string::npos;
    }
    return read_only() == before + 1;
  }));
  CHECK(log_seen);
}

TEST_CASE("Without kernel probes their signals are off and the files still speak") {
  auto made = LiveSource::make(files_alone());
  REQUIRE(made.has_value());
  Observation observation;
  REQUIRE(tick_until(**made, observation,
                     [&] { return !std::isnan(observation.samples[0].gauges[GAUGE_cpu_cores]); }));
  CHECK_FALSE(probe_works(observation, "syscalls"));
  CHECK(probe_works(observation, "cgroup"));
  CHECK(observation.samples[0].gauges[GAUGE_memory_use] > 0);
  CHECK(observation.samples[0].gauges[GAUGE_open_files] > 0);
  for (const auto& probe : observation.probes) {
    CAPTURE(probe.name);
    CHECK((probe.state == ProbeState::kAttached || !probe.reason.empty()));
  }
  CHECK((*made)->bpf_map_bytes() == 0);
}

TEST_CASE("A stop signal ends the waiting") {
  sigset_t mask;
  sigemptyset(&mask);
  sigaddset(&mask, SIGUSR2);
  REQUIRE(::pthread_sigmask(SIG_BLOCK, &mask, nullptr) == 0);
  const FileHandle stop(::signalfd(-1, &mask, SFD_CLOEXEC));
  auto options = files_alone();
  options.stop_fd = stop.get();
  auto made = LiveSource::make(options);
  REQUIRE(made.has_value());
  const auto first = (*made)->wait();
  REQUIRE(first.has_value());
  CHECK(*first == Source::Wait::kTick);
  ::kill(::getpid(), SIGUSR2);
  const auto last = (*made)->wait();
  REQUIRE(last.has_value());
  CHECK(*last == Source::Wait::kEnd);
  signalfd_siginfo info{};
  CHECK(::read(stop.get(), &info, sizeof info) == sizeof info);
  ::pthread_sigmask(SIG_UNBLOCK, &mask, nullptr);
}

}  // namespace
}  // namespace vedette
