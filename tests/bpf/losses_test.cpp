// What the probes can lose, made to be lost by real events: it must be counted, to the last one where the
// test knows how many there were.
#include <linux/aio_abi.h>
#include <linux/futex.h>
#include <linux/sched.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/utsname.h>

#include "agent/collect/live_source.h"
#include "agent/collect/probe_object.h"
#include "tests/bpf/bpf_fixture.h"

using namespace vedette;
using namespace vedette::bpf_test;

// NOLINTNEXTLINE(readability-identifier-naming): of tests/CMakeLists.txt
extern "C" const unsigned char vedette_bpf_recursive[], vedette_bpf_recursive_end[];

namespace {

Losses losses_of(const KernelProbes& probes) {
  Losses losses;
  probes.read_losses(losses);
  return losses;
}

bool is_older_than(int major, int minor) {
  utsname name{};
  int its_major = 0;
  int its_minor = 0;
  REQUIRE(::uname(&name) == 0);
  REQUIRE(std::sscanf(name.release, "%d.%d", &its_major, &its_minor) == 2);
  return its_major < major || (its_major == major && its_minor < minor);
}

bool is_blocked(pid_t pid) {
  return read_text("/proc/" + std::to_string(pid) + "/stat").find(") D ") != std::string::npos;
}

// A process with this very id; -1: there cannot be one.
pid_t fork_as(pid_t pid) {
  clone_args arguments{};
  arguments.exit_signal = SIGCHLD;
  arguments.set_tid = reinterpret_cast<std::uint64_t>(&pid);
  arguments.set_tid_size = 1;
  return static_cast<pid_t>(::syscall(SYS_clone3, &arguments, sizeof(arguments)));
}

// Writes every second page of a device, all of them in flight at once. Runs in the child; 0: all were
// written.
int write_at_once(const std::string& device, int count, std::atomic<int>& submitted) {
  constexpr std::size_t kPage = 4096;
  const FileHandle disk(::open(device.c_str(), O_WRONLY | O_DIRECT | O_CLOEXEC));
  aio_context_t context = 0;
  void* page = nullptr;
  if (!disk || ::posix_memalign(&page, kPage, kPage) != 0) return 1;
  if (::syscall(SYS_io_setup, count, &context) != 0) return 2;
  std::memset(page, 0x5a, kPage);
  std::vector<iocb> blocks(static_cast<std::size_t>(count));
  std::vector<iocb*> list;
  for (std::size_t i = 0; i < blocks.size(); ++i) {
    blocks[i].aio_lio_opcode = IOCB_CMD_PWRITE;
    blocks[i].aio_fildes = static_cast<std::uint32_t>(disk.get());
    blocks[i].aio_buf = reinterpret_cast<std::uint64_t>(page);
    blocks[i].aio_nbytes = kPage;
    blocks[i].aio_offset = static_cast<std::int64_t>(2 * i * kPage);
    list.push_back(&blocks[i]);
  }
  if (::syscall(SYS_io_submit, context, count, list.data()) != count) return 3;
  submitted.store(count);
  std::vector<io_event> events(blocks.size());
  if (::syscall(SYS_io_getevents, context, count, count, events.data(), nullptr) != count) return 4;
  for (const io_event& event : events) {
    if (event.res != static_cast<std::int64_t>(kPage)) return 5;
  }
  ::syscall(SYS_io_destroy, context);
  return 0;
}

}  // namespace

TEST_CASE("runs that the kernel skips, for the program is running already, are counted as its probe's") {
  if (is_older_than(6, 2))
    VEDETTE_SKIP("no program may call itself by way of bpf_trace_printk here (before 6.2)");
  const Tracepoints tracepoints = find_tracepoints();
  if (!tracepoints.names.contains("bpf_trace_printk")) VEDETTE_SKIP("this kernel has no bpf_trace_printk");
  std::vector<EmbeddedProbe> embedded(embedded_probes());
  embedded.push_back({"recursive", {vedette_bpf_recursive, vedette_bpf_recursive_end}});
  KernelOptions options;
  options.probes = embedded;
  const auto probes = attach(options);
  REQUIRE_MESSAGE(health_of(*probes, "recursive").state == ProbeState::kAttached,
                  health_of(*probes, "recursive").reason);
  std::vector<CgroupTotals> totals;
  const auto missed = [&](std::string_view probe) {
    probes->survey([](const survey_record&) {});
    return health_of(*probes, probe).misses;
  };
  const auto before = missed("recursive");
  REQUIRE(before.has_value());
  constexpr std::uint64_t kAsked = 20;
  for (std::uint64_t i = 1; i < kAsked; ++i) missed("recursive");
  // Each answer tells what came before it. Somebody else may print, too.
  const std::uint64_t made = *missed("recursive") - *before;
  CHECK(made >= kAsked);
  CHECK(made < 2 * kAsked);
  probes->read_totals(totals);  // brings what is known of each probe up to now
  CHECK(health_of(*probes, "recursive").misses == *before + made);
  CHECK(missed("sched").value_or(1) == 0);  // interrupts are off at its tracepoints
}

TEST_CASE("a kernel that does not count missed runs is not said to have none") {
  const auto probes = attach();
  probes->survey([](const survey_record&) {});
  CHECK(health_of(*probes, "process").misses.has_value() == !is_older_than(5, 12));
}

TEST_CASE("counts by label that find no room are counted as lost, to the last one") {
  KernelOptions options;
  options.details = 4;
  const auto probes = attach(options);
  const Cgroup cgroup(probes->cgroup_mount());
  constexpr std::uint64_t kCodes = 40;
  const std::uint64_t before = losses_of(*probes).no_detail;
  REQUIRE(run_in(cgroup, [] {
            for (std::uint64_t code = 1; code <= kCodes; ++code) {
              const pid_t pid = ::fork();
              if (pid == 0) ::_exit(static_cast<int>(code));
              ::waitpid(pid, nullptr, 0);
            }
            return 0;
          }) == 0);
  std::uint64_t counted = 0;
  probes->read_details([&](const detail_key& key, std::uint64_t count) {
    if (key.detail == DETAIL_exits_by_code && key.cgroup_id == cgroup.id()) counted += count;
  });
  CHECK(counted <= 4);
  CHECK(losses_of(*probes).no_detail - before >= kCodes - counted);
  Heard heard(*probes);
  CHECK(heard.in(cgroup).counters[COUNTER_exits_with_error] == kCodes);
}

TEST_CASE(
    "a wait for a lock whose start finds no room is told, and what counts it is not known for a while") {
  if (read_text("/proc/self/status").find("\nNSpid:\t" + std::to_string(::getpid()) + "\n") ==
      std::string::npos)
    VEDETTE_SKIP("process ids are not those of the kernel here");
  const LoopFilesystem filesystem;
  if (!filesystem.ready()) VEDETTE_SKIP("no ext4 on a loop device here");
  LiveOptions options;
  options.tick_interval = std::chrono::milliseconds(50);
  options.lost_starts_per_s = 0;
  auto source = LiveSource::make(options);
  REQUIRE(source.has_value());
  Observation observation;
  const auto tick = [&] {
    REQUIRE((*source)->wait().has_value());
    REQUIRE((*source)->collect(observation).has_value());
  };
  tick();
  for (const ProbeHealth& probe : observation.probes) {
    if (probe.name == "locks" && probe.state != ProbeState::kAttached)
      VEDETTE_SKIP("this kernel does not trace its locks (before 5.19)");
  }
  CHECK(!observation.samples.front().unknown.test(COUNTER_lock_contentions));

  REQUIRE(shell("fsfreeze -f " + filesystem.mount_point()) == 0);
  const auto meet_the_lock = [&](const char* name) {
    const std::string file = filesystem.mount_point() + name;
    return ::open(file.c_str(), O_CREAT | O_WRONLY, 0644) >= 0 ? 0 : 1;
  };
  const Shared<std::atomic<int>> second;
  Child first({}, [&] { return meet_the_lock("/first"); });
  CHECK(eventually([&] { return is_blocked(first.pid()); }));
  // Two threads whose ids share the lower 12 bits share a place (bpf/starts.bpf.h).
  Child rival({}, [&] {
    pid_t pid = -1;
    for (int i = 1; i < 7 && pid < 0; ++i) {
      for (const int sign : {1, -1}) {
        if (pid < 0) pid = fork_as(first.pid() + sign * i * 4096);
      }
    }
    if (pid == 0) ::_exit(meet_the_lock("/second"));
    second->store(pid < 0 ? -1 : pid);
    int status = 0;
    ::waitpid(pid, &status, 0);
    return status == 0 ? 0 : 1;
  });
  CHECK(eventually([&] { return second->load() < 0 || (second->load() > 0 && is_blocked(second->load())); }));
  const bool made = second->load() > 0;
  REQUIRE(shell("fsfreeze -u " + filesystem.mount_point()) == 0);
  REQUIRE(first.wait() == 0);
  if (!made) VEDETTE_SKIP("no process can choose its id here");
  REQUIRE(rival.wait() == 0);

  tick();
  const Losses& losses = observation.losses;
  CHECK(losses.no_start[COUNTER_lock_contentions] >= 1);
  CHECK(losses.no_start[COUNTER_lock_wait_ns] == losses.no_start[COUNTER_lock_contentions]);
  CHECK(losses.no_task_storage >= losses.no_start[COUNTER_lock_contentions]);
  for (int i = 0; i < 5; ++i) tick();
  for (const Sample& sample : observation.samples) {
    CHECK(sample.unknown.test(COUNTER_lock_contentions));
    CHECK(sample.unknown.test(COUNTER_lock_wait_ns));
  }
  CHECK(!observation.samples.front().unknown.test(COUNTER_context_switches));
}

TEST_CASE("a start whose end the kernel skipped ends with nothing else, so no time is invented") {
  if (read_text("/proc/self/status").find("\nNSpid:\t" + std::to_string(::getpid()) + "\n") ==
      std::string::npos)
    VEDETTE_SKIP("process ids are not those of the kernel here");
  const std::set<__u32> before = map_ids();
  const auto probes = attach();
  Heard heard(*probes);
  std::vector<FileHandle> starts;
  for (OpenMap& map : maps_since(before)) {
    if (std::string_view(map.info.name) == "starts") starts.push_back(std::move(map.handle));
  }
  // bpf/starts.bpf.h
  struct Start {
    std::uint64_t ns;
    std::uint32_t tid;
    std::uint32_t what;
  };
  constexpr std::uint32_t kPlaces = 4096;
  constexpr std::uint64_t kAgoNs = 50'000'000'000;  // of 60 s: then the place is free for others
  const auto leave_start = [&] {
    timespec now{};
    ::clock_gettime(CLOCK_MONOTONIC, &now);
    const std::uint64_t now_ns =
        static_cast<std::uint64_t>(now.tv_sec) * 1'000'000'000 + static_cast<std::uint64_t>(now.tv_nsec);
    const auto tid = static_cast<std::uint32_t>(::getpid());
    const Start start{.ns = now_ns - kAgoNs, .tid = tid, .what = 1};
    const std::uint32_t place = tid % kPlaces;
    for (const FileHandle& map : starts) bpf_map_update_elem(map.get(), &place, &start, BPF_ANY);
  };
  const auto is_sane = [&](const Cgroup& cgroup) {
    const CgroupTotals& totals = heard.in(cgroup);
    CHECK(totals.counters[COUNTER_lock_wait_ns] < kAgoNs);
    CHECK(totals.histograms[HISTOGRAM_syscall_latency].back() == 0);  // 4.3 s or more
    return totals.counters[COUNTER_lock_contentions];
  };

  // Each of these calls returns with a start of another one's.
  const Cgroup caller(probes->cgroup_mount());
  REQUIRE(run_in(caller, [&] {
            for (int i = 0; i < 100; ++i) leave_start();
            return 0;
          }) == 0);
  is_sane(caller);
  if (health_of(*probes, "locks").state != ProbeState::kAttached) return;  // before 5.19

  // Two that meet at the spinlock of a futex.
  const Cgroup spinner(probes->cgroup_mount());
  const Shared<std::atomic<int>> word;
  const auto spin = [&] {
    leave_start();
    for (int i = 0; i < 100'000; ++i) ::syscall(SYS_futex, &*word, FUTEX_WAIT, 1, nullptr, nullptr, 0);
    return 0;
  };
  Child other({&spinner}, spin);
  REQUIRE(run_in(spinner, spin) == 0);
  REQUIRE(other.wait() == 0);
  is_sane(spinner);

  const LoopFilesystem filesystem;
  if (!filesystem.ready()) VEDETTE_SKIP("no ext4 on a loop device here");
  const Cgroup waiter(probes->cgroup_mount());
  const Shared<std::atomic<bool>> began;
  REQUIRE(shell("fsfreeze -f " + filesystem.mount_point()) == 0);
  Child child({&waiter}, [&] {
    const std::string file = filesystem.mount_point() + "/file";
    leave_start();
    began->store(true);
    return ::open(file.c_str(), O_CREAT | O_WRONLY, 0644) >= 0 ? 0 : 1;
  });
  CHECK(eventually([&] { return began->load() && is_blocked(child.pid()); }));
  REQUIRE(shell("fsfreeze -u " + filesystem.mount_point()) == 0);
  REQUIRE(child.wait() == 0);
  CHECK(is_sane(waiter) >= 1);
}

TEST_CASE(
    "connections within this node: each is counted by its server, or as one whose client was forgotten") {
  const auto probes = attach();
  Heard heard(*probes);
  const Cgroup clients(probes->cgroup_mount());
  const Cgroup servers(probes->cgroup_mount());
  constexpr int kConnections = 400;  // of 4096 places: some 20 meet another's
  const std::uint64_t before = losses_of(*probes).no_detail;
  const Shared<std::atomic<int>> port;
  const Shared<std::atomic<int>> took_ms;
  Child server({&servers}, [&] {
    const FileHandle listener(::socket(AF_INET, SOCK_STREAM, 0));
    const int seconds = 10;
    sockaddr_in address{};
    socklen_t size = sizeof(address);
    address.sin_family = AF_INET;
    // It answers the SYN, and takes a connection only when there is data: all of them wait for their server.
    ::setsockopt(listener.get(), IPPROTO_TCP, TCP_DEFER_ACCEPT, &seconds, sizeof(seconds));
    if (::bind(listener.get(), reinterpret_cast<sockaddr*>(&address), size) != 0 ||
        ::listen(listener.get(), 2 * kConnections) != 0)
      return 1;
    ::getsockname(listener.get(), reinterpret_cast<sockaddr*>(&address), &size);
    port->store(ntohs(address.sin_port));
    for (int i = 0; i < kConnections; ++i) {
      if (!FileHandle(::accept(listener.get(), nullptr, nullptr))) return 2;
    }
    return 0;
  });
  REQUIRE(eventually([&] { return port->load() != 0; }));
  REQUIRE(
      run_in(clients, [&] {
        const auto began = std::chrono::steady_clock::now();
        std::vector<FileHandle> sockets;
        for (int i = 0; i < kConnections; ++i) {
          sockaddr_in address{};
          address.sin_family = AF_INET;
          address.sin_addr.s_addr = htonl(INADDR_LOOPBACK + 256U * static_cast<unsigned>(i + 1));
          sockets.emplace_back(::socket(AF_INET, SOCK_STREAM, 0));
          if (::bind(sockets.back().get(), reinterpret_cast<sockaddr*>(&address), sizeof(address)) != 0)
            return 1;
          address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
          address.sin_port = htons(static_cast<std::uint16_t>(port->load()));
          if (::connect(sockets.back().get(), reinterpret_cast<sockaddr*>(&address), sizeof(address)) != 0)
            return 2;
        }
        for (const FileHandle& socket : sockets) {
          if (::send(socket.get(), "x", 1, MSG_NOSIGNAL) != 1) return 3;
        }
        took_ms->store(static_cast<int>(
            std::chrono::duration_cast<std::chrono::milliseconds>(std::chrono::steady_clock::now() - began)
                .count()));
        return 0;
      }) == 0);
  REQUIRE(server.wait() == 0);
  const std::uint64_t met =
      heard.detail(DETAIL_tcp_connects_by_server, static_cast<std::int32_t>(servers.id()), clients.id());
  const std::uint64_t lost = losses_of(*probes).no_detail - before;
  MESSAGE(met, " met, ", lost, " lost");
  if (took_ms->load() > 200 && met + lost < kConnections)
    VEDETTE_SKIP("too slow here: a client is waited for .25 to 1 s");
  CHECK(met < kConnections);
  CHECK(met + lost >= kConnections);
  CHECK(met + lost <= kConnections + 5);  // others on this machine connect, too
}

TEST_CASE("block requests whose owner was forgotten, for too many were in flight, are told as lost") {
  const LoopFilesystem filesystem;
  if (!filesystem.ready()) VEDETTE_SKIP("no ext4 on a loop device here");
  const std::string image = filesystem.mount_point() + "/image";
  const std::string name = filesystem.mount_point() + "/device";
  if (shell("truncate -s 12M " + image + " && losetup -f --show " + image + " > " + name) != 0)
    VEDETTE_SKIP("no second loop device here");
  const std::string device = read_text(name);
  const std::string queue = "/sys/block" + device.substr(4) + "/queue/";
  constexpr int kWrites = 1200;
  // Beyond the 128 that the device itself takes, a scheduler holds them: three quarters (6.1: of the number
  // that was there before).
  const bool deep = write_text(queue + "scheduler", "mq-deadline") &&
                    write_text(queue + "nr_requests", "2000") && write_text(queue + "nr_requests", "2048");
  if (!deep) {
    shell("losetup -d " + device);
    VEDETTE_SKIP("no mq-deadline in this kernel, or no queue of 2048");
  }
  const auto probes = attach();
  Heard heard(*probes);
  const Cgroup cgroup(probes->cgroup_mount());
  const Losses before = losses_of(*probes);
  REQUIRE(shell("fsfreeze -f " + filesystem.mount_point()) == 0);
  const Shared<std::atomic<int>> submitted;
  Child writer({&cgroup}, [&] { return write_at_once(device, kWrites, *submitted); });
  const bool all = eventually([&] { return submitted->load() == kWrites; }, 10);
  REQUIRE(shell("fsfreeze -u " + filesystem.mount_point()) == 0);
  const int status = writer.wait();
  heard.listen();
  shell("losetup -d " + device);
  REQUIRE(status == 0);
  if (!all) VEDETTE_SKIP("the queue of the scheduler is not as deep here");
  const Losses after = losses_of(*probes);
  const std::uint64_t lost = after.no_start[COUNTER_disk_writes] - before.no_start[COUNTER_disk_writes];
  const std::uint64_t counted = heard.in(cgroup).counters[COUNTER_disk_writes];
  MESSAGE(counted, " counted, ", lost, " lost");
  CHECK(after.no_task_storage - before.no_task_storage >= lost);
  CHECK(counted <= kWrites);  // fewer, where nothing else says whose they are (no io controller in v2)
  CHECK(counted + lost >= kWrites);
  if (lost == 0) VEDETTE_SKIP("no three of them met at one place this time");
}
