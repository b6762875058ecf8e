#include "agent/collect/kernel_probes.h"

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <ctime>
#include <fstream>
#include <unordered_map>
#include <utility>

#include <arpa/inet.h>
#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <dirent.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/utsname.h>
#include <unistd.h>

#include "agent/base/handle.h"
#include "agent/collect/kept_file.h"
#include "agent/collect/mount_info.h"
#include "agent/collect/probe_set.h"

namespace vedette {
namespace {

// Programs that were about to count in a slot when it was taken away are done long before: they run for
// microseconds, mostly without being interrupted by tasks. (On 7.x a system call's may be, for longer: then
// one call of the dead is counted as one of whoever has the slot next.)
constexpr std::uint64_t kReleaseGraceNs = 10'000'000;
// Walking 500 directories takes milliseconds of the tick, and cgroups are announced as they are made: this is
// for what slipped through.
constexpr std::uint64_t kRescanPeriodNs = 10'000'000'000;
// Deeper than any cgroup tree (systemd's nested slices: 8); keeps a walk from running away.
constexpr int kMaxDepth = 32;
constexpr std::uint64_t kRootCgroup = 1;  // inode of the root of every kernfs
// From the end of a sample to the next where the budget wants to know more: two rounds of reading files, so
// that the agent's own share is an average.
constexpr std::uint64_t kHurryNs = 4'000'000'000;

// Another CPU writes it at any time.
template <typename Integer>
Integer load(const Integer& place) {
  return __atomic_load_n(&place, __ATOMIC_RELAXED);
}

struct Sums {
  std::uint64_t observations = 0;
  std::array<std::uint64_t, SLOT_COUNTER_COUNT> counters{};
  std::array<std::array<std::uint32_t, HISTOGRAM_BUCKETS>, HISTOGRAM_COUNT> histograms{};
};

struct DetailKey : detail_key {
  bool operator==(const DetailKey& other) const {
    return detail == other.detail && label == other.label && cgroup_id == other.cgroup_id;
  }
};
struct HashDetailKey {
  std::size_t operator()(const DetailKey& key) const {
    const std::uint64_t label = static_cast<std::uint32_t>(key.label);
    return std::hash<std::uint64_t>()(key.cgroup_id * 31 + label * 7 + key.detail);
  }
};

Result<unsigned> possible_cpus() {
  constexpr const char* kFile = "/sys/devices/system/cpu/possible";
  std::ifstream file(kFile);
  std::string list;
  if (!std::getline(file, list)) return fail(std::string("cannot read ") + kFile);
  // "0-3" or "0,2-5": programs index by CPU number, so what counts is the highest.
  const std::size_t last = list.find_last_of(",-");
  const std::string number = last == std::string::npos ? list : list.substr(last + 1);
  unsigned highest = 0;
  if (std::sscanf(number.c_str(), "%u", &highest) != 1)
    return fail(std::string(kFile) + ": expected a list of CPUs, found \"" + list + "\"");
  return highest + 1;
}

// Mount point of the v2 hierarchy; empty: not mounted here (then all is counted in the root cgroup).
std::string find_cgroup_mount() {
  ReadBuffer buffer;
  const auto text = buffer.read_path("/proc/self/mountinfo");
  std::string best;
  if (!text) return best;
  for (Mount& mount : parse_mountinfo(*text)) {
    if (mount.type != "cgroup2") continue;
    if (mount.root == "/")
      return mount.point;  // the whole tree; another root is a container's own part of it
    if (best.empty()) best = std::move(mount.point);
  }
  return best;
}

std::uint64_t map_memory(int fd) {
  std::ifstream file("/proc/self/fdinfo/" + std::to_string(fd));
  std::string line;
  std::uint64_t bytes = 0;
  while (std::getline(file, line)) {
    unsigned long long value = 0;
    if (std::sscanf(line.c_str(), "memlock: %llu", &value) == 1) bytes = value;
  }
  return bytes;
}

void make_printable(char* text, std::size_t size) {
  text[size - 1] = '\0';
  for (; *text != '\0'; ++text) {
    if (*text < 0x20 || *text > 0x7e) *text = '?';
  }
}

void print_address(::event& event) {
  raw_address address{};
  std::memcpy(&address, event.text, sizeof(address));
  std::memset(event.text, 0, sizeof(event.text));
  ::inet_ntop(address.family == 6 ? AF_INET6 : AF_INET, address.bytes, event.text, sizeof(event.text));
}

bool always_measured() {
  std::ifstream file("/proc/sys/kernel/bpf_stats_enabled");
  return file.get() == '1';
}

// "\3www\7example\0", cut where the record ends, as "www.example".
void print_name(::event& event) {
  std::string name;
  std::size_t left = 0;  // of the label
  for (const char raw : event.text) {
    const auto byte = static_cast<unsigned char>(raw);
    if (left > 0) {
      --left;
      name += byte >= 'A' && byte <= 'Z' ? static_cast<char>(byte - 'A' + 'a') : raw;
      continue;
    }
    constexpr unsigned kLongestLabel = 63;
    if (byte == 0 || byte > kLongestLabel) break;
    left = byte;
    if (!name.empty()) name += '.';
  }
  if (name.empty()) name = ".";
  std::memset(event.text, 0, sizeof(event.text));
  std::memcpy(event.text, name.data(), std::min(name.size(), sizeof(event.text) - 1));
}

struct CloseRing {
  void operator()(ring_buffer* ring) const { ring_buffer__free(ring); }
};

// The coarse clock moves once in a jiffy (KTIME_LOW_RES).
std::uint64_t jiffy_ns() {
  timespec step{};
  ::clock_getres(CLOCK_MONOTONIC_COARSE, &step);
  return static_cast<std::uint64_t>(step.tv_nsec);
}

// Its softirqs are tasks, which others of their CPU may interrupt. The file is that of the patches
// before 6.12.
bool is_preempt_rt() {
  utsname name{};
  return ::access("/sys/kernel/realtime", F_OK) == 0 ||
         (::uname(&name) == 0 && std::string_view(name.version).find("PREEMPT_RT") != std::string_view::npos);
}

}  // namespace

struct KernelProbes::State {
  KernelOptions options;
  unsigned cpus = 1;
  std::uint32_t lanes = 1;
  std::string cgroup_mount;

  // Maps first, probes after them: a probe must be gone before what it writes to.
  std::vector<FileHandle> map_fds;
  std::vector<SharedMap> maps;
  MappedMemory totals_memory;
  MappedMemory owners_memory;
  MappedMemory losses_memory;
  MappedMemory controls_memory;
  std::unique_ptr<ring_buffer, CloseRing> ring;
  std::unique_ptr<ProbeSet> probes;
  Budget budget{{}};
  unsigned applied_step = 0;
  std::string maps_reduced;  // why; empty: they are as configured

  std::vector<Sums> sums;                // by slot: as of the last read
  std::vector<std::uint64_t> releasing;  // by slot: since when; 0: it is not
  std::uint32_t free_slots = 0;
  std::uint64_t no_slot_seen = 0;
  std::uint64_t rescanned_ns = 0;
  std::uint64_t received = 0;
  std::vector<RawEvent>* events = nullptr;                              // during read_events()
  std::unordered_map<DetailKey, std::uint64_t, HashDetailKey> details;  // as of the last read

  bool measuring = false;
  FileHandle cost_stats;             // open while the kernel measures for us
  std::string unmeasured;            // why it does not
  std::uint64_t cost_began_ns = 0;   // the newest sample
  std::uint64_t cost_due_ns = 0;     // the next one
  std::uint64_t agent_since_ns = 0;  // the agent's own share is measured from one sample's end to the next's
  std::uint64_t agent_cpu_ns = 0;
  std::uint64_t map_bytes = 0;

  totals* rows(std::uint32_t slot) {
    return static_cast<totals*>(totals_memory.get()) + std::size_t{slot} * lanes;
  }
  slot_owner& owner(std::uint32_t slot) const { return static_cast<slot_owner*>(owners_memory.get())[slot]; }
  const probe_losses& losses(unsigned cpu) const {
    return static_cast<const probe_losses*>(losses_memory.get())[cpu];
  }
  int map_fd(std::string_view name) const { return std::ranges::find(maps, name, &SharedMap::name)->fd; }

  Status make_map(const char* name, bpf_map_type type, std::uint32_t key, std::uint32_t value,
                  std::uint32_t entries, std::uint32_t flags = 0);
  Result<MappedMemory> map_array(std::string_view name, std::size_t bytes) const;
  Status make_maps();
  void fit_budget();
  void load_all();

  void give_slot(std::uint64_t cgroup_id, std::uint64_t parent_id, const char* name);
  void walk(int directory, std::uint64_t parent_id, int depth);
  void scan_cgroups();

  bool add_up(std::uint32_t slot, CgroupTotals& delta);
  void clear_rows(std::uint32_t slot);
  std::uint64_t no_slot() const;
  void sample_cost(std::uint64_t now_ns);
  void apply_budget(std::uint64_t now_ns);
  probe_controls& controls() { return *static_cast<probe_controls*>(controls_memory.get()); }
  void add_up_map_bytes();
};

Status KernelProbes::State::make_map(const char* name, bpf_map_type type, std::uint32_t key,
                                     std::uint32_t value, std::uint32_t entries, std::uint32_t flags) {
  LIBBPF_OPTS(bpf_map_create_opts, create, .map_flags = flags);
  const int fd = bpf_map_create(type, name, key, value, entries, &create);
  if (fd < 0) {
    const int error = -fd;
    std::string text = std::string("cannot create the BPF map ") + name + ": " + std::strerror(error);
    if (error == EPERM)
      text += "; the agent needs root, or CAP_BPF and CAP_PERFMON, before Linux 5.11 also CAP_SYS_RESOURCE";
    return fail(std::move(text));
  }
  map_fds.emplace_back(fd);
  maps.push_back({name, fd});
  return {};
}

Result<MappedMemory> KernelProbes::State::map_array(std::string_view name, std::size_t bytes) const {
  const auto page = static_cast<std::size_t>(::sysconf(_SC_PAGESIZE));
  bytes = (bytes + page - 1) / page * page;
  void* address = ::mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, map_fd(name), 0);
  if (address == MAP_FAILED) return fail_errno("map the BPF array " + std::string(name) + " into memory");
  return MappedMemory(address, bytes);
}

Status KernelProbes::State::make_maps() {
  const std::uint32_t rows_count = options.slots * lanes;
  const auto key = static_cast<std::uint32_t>(sizeof(std::uint32_t));
  for (const Status& made :
       {make_map("totals", BPF_MAP_TYPE_ARRAY, key, sizeof(::totals), rows_count, BPF_F_MMAPABLE),
        make_map("losses", BPF_MAP_TYPE_ARRAY, key, sizeof(probe_losses), cpus, BPF_F_MMAPABLE),
        make_map("owners", BPF_MAP_TYPE_ARRAY, key, sizeof(slot_owner), options.slots, BPF_F_MMAPABLE),
        make_map("memos", BPF_MAP_TYPE_ARRAY, key, sizeof(cpu_memo), cpus, BPF_F_MMAPABLE),
        make_map("controls", BPF_MAP_TYPE_ARRAY, key, sizeof(probe_controls), 1, BPF_F_MMAPABLE),
        make_map("details", BPF_MAP_TYPE_HASH, sizeof(detail_key), sizeof(std::uint64_t), options.details),
        make_map("slots", BPF_MAP_TYPE_HASH, sizeof(std::uint64_t), key, options.slots),
        make_map("free_slots", BPF_MAP_TYPE_STACK, 0, key, options.slots),
        make_map("events", BPF_MAP_TYPE_RINGBUF, 0, 0, options.ring_bytes)}) {
    if (!made) return made;
  }
  auto totals_mapped = map_array("totals", std::size_t{rows_count} * sizeof(::totals));
  if (!totals_mapped) return tl::unexpected(totals_mapped.error());
  totals_memory = std::move(*totals_mapped);
  auto losses_mapped = map_array("losses", cpus * sizeof(probe_losses));
  if (!losses_mapped) return tl::unexpected(losses_mapped.error());
  losses_memory = std::move(*losses_mapped);
  auto owners_mapped = map_array("owners", options.slots * sizeof(slot_owner));
  if (!owners_mapped) return tl::unexpected(owners_mapped.error());
  owners_memory = std::move(*owners_mapped);
  auto controls_mapped = map_array("controls", sizeof(probe_controls));
  if (!controls_mapped) return tl::unexpected(controls_mapped.error());
  controls_memory = std::move(*controls_mapped);
  controls().gap_mask = budget.gap_mask();

  // Slot 0 is nobody's. Low slots go first, so that few pages are touched.
  for (std::uint32_t slot = options.slots - 1; slot > 0; --slot) {
    if (bpf_map_update_elem(map_fd("free_slots"), nullptr, &slot, BPF_ANY) != 0)
      return fail_errno("fill the stack of free slots");
  }
  sums.resize(options.slots);
  releasing.resize(options.slots);

  ring.reset(ring_buffer__new(
      map_fd("events"),
      [](void* context, void* data, std::size_t size) {
        auto* state = static_cast<State*>(context);
        if (size < sizeof(::event)) return 0;
        ++state->received;
        RawEvent& event = state->events->emplace_back();
        std::memcpy(&event, data, sizeof(event));
        if (event.type == EVENT_connect_failed || event.type == EVENT_new_destination) print_address(event);
        if (event.type == EVENT_dns_failed) print_name(event);
        make_printable(event.comm, sizeof(event.comm));
        make_printable(event.text, sizeof(event.text));
        return 0;
      },
      this, nullptr));
  if (!ring) return fail_errno("map the BPF ring buffer into memory");
  return {};
}

// The maps within the budget, or as near as they come; never silently.
void KernelProbes::State::fit_budget() {
  const MapSizes wanted{
      .slots = options.slots, .lanes = lanes, .ring_bytes = options.ring_bytes, .cpus = cpus};
  const MapSizes fit = fit_maps(wanted, options.budget.map_mib);
  if (fit.slots == wanted.slots && fit.lanes == wanted.lanes) return;
  const auto words = [](const MapSizes& sizes) {
    return std::to_string(sizes.slots) + " slots of " + std::to_string(sizes.lanes) + " lanes (" +
           std::to_string(sizes.bytes() >> 20) + " MiB)";
  };
  maps_reduced = "budget.map_mib is " + std::to_string(options.budget.map_mib) + ": " + words(fit) +
                 " instead of " + words(wanted);
  options.slots = fit.slots;
  lanes = fit.lanes;
}

void KernelProbes::State::load_all() {
  const bool shared = lanes < cpus || is_preempt_rt();
  probes = std::make_unique<ProbeSet>(ProbeSetOptions{.probes = options.probes,
                                                      .off = options.off,
                                                      .maps = maps,
                                                      .config = {.cpus = cpus,
                                                                 .lanes = lanes,
                                                                 .shared = shared ? 1U : 0U,
                                                                 .ring_bytes = options.ring_bytes,
                                                                 .slow_call_ns = to_ns(options.slow_call),
                                                                 .jiffy_ns = jiffy_ns()},
                                                      .cgroup_mount = cgroup_mount,
                                                      .modules = options.modules,
                                                      .modules_period = options.modules_period});
  // The one that hands out slots goes first, then the walk: from there on every cgroup has one.
  probes->load("cgroups", [this] { scan_cgroups(); });
}

void KernelProbes::State::give_slot(std::uint64_t cgroup_id, std::uint64_t parent_id, const char* name) {
  std::uint32_t slot = 0;
  if (bpf_map_lookup_elem(map_fd("slots"), &cgroup_id, &slot) == 0) return;
  if (bpf_map_lookup_and_delete_elem(map_fd("free_slots"), nullptr, &slot) != 0) return;
  slot_owner& place = owner(slot);
  place.parent_id = parent_id;
  place.removed = 0;
  std::snprintf(place.name, sizeof(place.name), "%s", name);
  if (bpf_map_update_elem(map_fd("slots"), &cgroup_id, &slot, BPF_NOEXIST) != 0) {
    bpf_map_update_elem(map_fd("free_slots"), nullptr, &slot, BPF_ANY);  // the kernel was first
    return;
  }
  __atomic_store_n(&place.cgroup_id, cgroup_id, __ATOMIC_RELEASE);
}

// Takes `directory`.
void KernelProbes::State::walk(int directory, std::uint64_t parent_id, int depth) {
  DIR* stream = ::fdopendir(directory);
  if (stream == nullptr) {
    ::close(directory);
    return;
  }
  while (const dirent* entry = ::readdir(stream)) {
    if (entry->d_type != DT_DIR || entry->d_name[0] == '.') continue;
    const int child = ::openat(directory, entry->d_name, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (child < 0) continue;  // removed meanwhile
    struct stat status {};
    if (::fstat(child, &status) != 0 || depth >= kMaxDepth) {
      ::close(child);
      continue;
    }
    give_slot(status.st_ino, parent_id, entry->d_name);
    walk(child, status.st_ino, depth + 1);
  }
  ::closedir(stream);
}

void KernelProbes::State::scan_cgroups() {
  rescanned_ns = monotonic_now();
  std::uint64_t root_id = kRootCgroup;
  const int root =
      cgroup_mount.empty() ? -1 : ::open(cgroup_mount.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (root >= 0) {
    struct stat status {};
    if (::fstat(root, &status) == 0) root_id = status.st_ino;
  }
  give_slot(kRootCgroup, 0, "/");
  if (root_id != kRootCgroup) give_slot(root_id, kRootCgroup, "/");
  if (root >= 0) walk(root, root_id, 0);
}

// Adds to `delta` what the slot gained since the last call; false: nothing.
bool KernelProbes::State::add_up(std::uint32_t slot, CgroupTotals& delta) {
  const ::totals* row = rows(slot);
  Sums& last = sums[slot];
  std::uint64_t observations = 0;
  std::array<std::uint64_t, SLOT_COUNTER_COUNT> counters{};
  for (std::uint32_t lane = 0; lane < lanes; ++lane) {
    observations += vedette::load(row[lane].observations);
    for (std::size_t i = 0; i < SLOT_COUNTER_COUNT; ++i) counters[i] += vedette::load(row[lane].counter[i]);
  }
  bool changed = counters != last.counters;
  if (changed) {
    for (std::size_t i = 0; i < SLOT_COUNTER_COUNT; ++i) delta.counters[i] += counters[i] - last.counters[i];
    last.counters = counters;
  }
  // Without an observation the buckets, four fifths of a row, are not even looked at.
  if (observations != last.observations) {
    changed = true;
    last.observations = observations;
    for (std::size_t h = 0; h < HISTOGRAM_COUNT; ++h) {
      std::uint32_t any = 0;
      for (std::size_t b = 0; b < HISTOGRAM_BUCKETS; ++b) {
        std::uint32_t count = 0;
        for (std::uint32_t lane = 0; lane < lanes; ++lane) count += vedette::load(row[lane].histogram[h][b]);
        const auto added = static_cast<std::uint32_t>(count - last.histograms[h][b]);  // may wrap
        any |= added;
        delta.histograms[h][b] += added;
        last.histograms[h][b] = count;
      }
      if (any != 0) delta.observed.set(h);
    }
  }
  return changed;
}

// A CPU whose memo points here must look the cgroup up again.
void KernelProbes::State::clear_rows(std::uint32_t slot) {
  for (std::uint32_t lane = 0; lane < lanes; ++lane)
    __atomic_store_n(&rows(slot)[lane].cgroup_id, 0, __ATOMIC_RELAXED);
}

std::uint64_t KernelProbes::State::no_slot() const {
  std::uint64_t sum = 0;
  for (unsigned cpu = 0; cpu < cpus; ++cpu) sum += vedette::load(losses(cpu).no_slot);
  return sum;
}

void KernelProbes::State::sample_cost(std::uint64_t now_ns) {
  if (options.cost_sample.count() == 0) return;
  if (!measuring) {
    if (now_ns < cost_due_ns) return;
    cost_began_ns = now_ns;
    cost_stats = FileHandle(bpf_enable_stats(BPF_STATS_RUN_TIME));
    if (!cost_stats && !always_measured()) {
      unmeasured =
          "not measured, for the kernel times programs for CAP_SYS_ADMIN only, or where sysctl "
          "kernel.bpf_stats_enabled is 1";
      cost_due_ns = now_ns + to_ns(options.cost_period);
      return;
    }
    unmeasured.clear();
    measuring = true;
    probes->begin_cost(now_ns);
    return;
  }
  // What is watched in turns is measured over a whole turn.
  const auto sample = budget.in_time() ? options.budget.period : options.cost_sample;
  if (now_ns - cost_began_ns < to_ns(sample)) return;
  measuring = false;
  cost_stats.reset();
  CostSample cost{.agent = 0, .probes = probes->end_cost(now_ns)};
  const auto online = static_cast<double>(std::max(1L, ::sysconf(_SC_NPROCESSORS_ONLN)));
  for (auto& [probe, share] : cost.probes) share /= online;
  const std::uint64_t cpu_ns = read_clock_ns(CLOCK_PROCESS_CPUTIME_ID);
  cost.agent =
      static_cast<double>(cpu_ns - agent_cpu_ns) / static_cast<double>(now_ns - agent_since_ns) / online;
  agent_cpu_ns = cpu_ns;
  agent_since_ns = now_ns;
  add_up_map_bytes();

  budget.update(now_ns, cost);
  cost_due_ns = budget.hurries() ? now_ns + kHurryNs : cost_began_ns + to_ns(options.cost_period);
}

void KernelProbes::State::apply_budget(std::uint64_t now_ns) {
  __atomic_store_n(&controls().gap_mask, budget.gap_mask(), __ATOMIC_RELAXED);
  if (budget.step() == 0 && applied_step == 0) return;
  applied_step = budget.step();
  probes->shed([&](std::string_view probe) { return budget.sheds(probe, now_ns); },
               "over the CPU budget, step " + std::to_string(budget.step()));
}

void KernelProbes::State::add_up_map_bytes() {
  map_bytes = 0;
  for (const SharedMap& shared : maps) map_bytes += map_memory(shared.fd);
  for (const int fd : probes->own_map_fds()) map_bytes += map_memory(fd);
}

Result<std::unique_ptr<KernelProbes>> KernelProbes::make(const KernelOptions& options) {
  auto state = std::make_unique<State>();
  state->options = options;
  if (options.slots < 2) return fail("slots is " + std::to_string(options.slots) + ", expected at least 2");
  const Result<unsigned> cpus = possible_cpus();
  if (!cpus) return tl::unexpected(cpus.error());
  state->cpus = *cpus;
  state->lanes = std::min(state->cpus, options.lanes == 0 ? kMaxLanes : options.lanes);
  state->cgroup_mount = find_cgroup_mount();
  state->budget = Budget(options.budget);
  state->fit_budget();
  if (const Status made = state->make_maps(); !made) return tl::unexpected(made.error());
  state->load_all();
  state->add_up_map_bytes();
  state->agent_cpu_ns = read_clock_ns(CLOCK_PROCESS_CPUTIME_ID);
  state->agent_since_ns = monotonic_now();
  return std::unique_ptr<KernelProbes>(new KernelProbes(std::move(state)));
}

KernelProbes::KernelProbes(std::unique_ptr<State> state) : state_(std::move(state)) {}
KernelProbes::~KernelProbes() = default;

int KernelProbes::wake_fd() const {
  return ring_buffer__epoll_fd(state_->ring.get());
}

void KernelProbes::read_totals(std::vector<CgroupTotals>& changed) {
  State& state = *state_;
  state.probes->flush();
  const std::uint64_t now = monotonic_now();
  changed.clear();
  changed.emplace_back();  // slot 0
  state.free_slots = 0;
  for (std::uint32_t slot = 1; slot < state.options.slots; ++slot) {
    slot_owner& owner = state.owner(slot);
    const std::uint64_t id = __atomic_load_n(&owner.cgroup_id, __ATOMIC_ACQUIRE);
    if (id == 0) {
      ++state.free_slots;
      continue;
    }
    if (state.releasing[slot] != 0) {
      if (now - state.releasing[slot] < kReleaseGraceNs) continue;
      // Whatever came after forget() is nobody's, but the node's sum is right, and the next owner starts at
      // 0.
      state.clear_rows(slot);
      state.add_up(slot, changed.front());
      state.releasing[slot] = 0;
      std::memset(&owner, 0, sizeof(owner));
      bpf_map_update_elem(state.map_fd("free_slots"), nullptr, &slot, BPF_ANY);
      continue;
    }
    changed.emplace_back();
    changed.back().cgroup_id = id;
    changed.back().removed = __atomic_load_n(&owner.removed, __ATOMIC_RELAXED) != 0;
    if (!state.add_up(slot, changed.back()) && !changed.back().removed) changed.pop_back();
  }
  state.add_up(0, changed.front());
  const CgroupTotals& nobody = changed.front();
  if (nobody.counters == CgroupTotals{}.counters && nobody.observed.none()) changed.erase(changed.begin());

  const std::uint64_t no_slot = state.no_slot();
  if (no_slot != state.no_slot_seen && state.free_slots > 0 && now - state.rescanned_ns >= kRescanPeriodNs) {
    state.no_slot_seen = no_slot;
    state.scan_cgroups();
  }
  state.probes->refresh(now);
  state.sample_cost(now);
  state.apply_budget(now);
}

void KernelProbes::read_events(std::vector<RawEvent>& events) {
  state_->events = &events;
  ring_buffer__consume(state_->ring.get());
  state_->events = nullptr;
}

void KernelProbes::survey(const std::function<void(const survey_record&)>& visit) {
  state_->probes->survey(visit);
}

void KernelProbes::read_details(const std::function<void(const detail_key&, std::uint64_t)>& visit) {
  State& state = *state_;
  state.probes->flush();
  const int map = state.map_fd("details");
  std::vector<DetailKey> gone;
  DetailKey key{};
  const void* before = nullptr;
  while (bpf_map_get_next_key(map, before, &key) == 0) {
    before = &key;
    std::uint64_t count = 0;
    if (key.detail >= DETAIL_COUNT || bpf_map_lookup_elem(map, &key, &count) != 0) continue;
    std::uint64_t& seen = state.details[key];
    if (count != seen) visit(key, count - seen);
    seen = count;
    const auto lives = [&](std::uint64_t cgroup_id) {
      std::uint32_t slot = 0;
      return bpf_map_lookup_elem(state.map_fd("slots"), &cgroup_id, &slot) == 0;
    };
    const bool by_server = kDetails[key.detail].label == LABEL_SERVER;
    if ((key.cgroup_id != 0 && !lives(key.cgroup_id)) ||
        (by_server && !lives(static_cast<std::uint32_t>(key.label))))
      gone.push_back(key);
  }
  // Not while the map is walked: the walk would begin anew.
  for (const DetailKey& dead : gone) {
    bpf_map_delete_elem(map, &dead);
    state.details.erase(dead);
  }
}

void KernelProbes::forget(std::uint64_t cgroup_id) {
  State& state = *state_;
  for (std::uint32_t slot = 1; slot < state.options.slots; ++slot) {
    if (state.owner(slot).cgroup_id != cgroup_id || state.releasing[slot] != 0) continue;
    bpf_map_delete_elem(state.map_fd("slots"), &cgroup_id);
    state.clear_rows(slot);
    state.releasing[slot] = monotonic_now();
  }
}

void KernelProbes::known_cgroups(const std::function<void(const KnownCgroup&)>& visit) const {
  for (std::uint32_t slot = 1; slot < state_->options.slots; ++slot) {
    const slot_owner& owner = state_->owner(slot);
    const std::uint64_t id = __atomic_load_n(&owner.cgroup_id, __ATOMIC_ACQUIRE);
    if (id == 0 || state_->releasing[slot] != 0) continue;
    visit({.cgroup_id = id,
           .parent_id = owner.parent_id,
           .removed = owner.removed != 0,
           .name = std::string_view(owner.name, ::strnlen(owner.name, sizeof(owner.name)))});
  }
}

bool KernelProbes::is_full() const {
  return state_->free_slots == 0;
}

bool KernelProbes::is_crowded() const {
  return state_->free_slots < state_->options.slots / 2;
}

void KernelProbes::read_losses(Losses& losses) const {
  const State& state = *state_;
  losses.produced.fill(0);
  losses.lost.fill(0);
  losses.no_slot = state.no_slot();
  losses.no_task_storage = 0;
  losses.no_start.fill(0);
  losses.no_detail = 0;
  losses.received = state.received;
  for (unsigned cpu = 0; cpu < state.cpus; ++cpu) {
    const probe_losses& row = state.losses(cpu);
    for (std::size_t i = 0; i < EVENT_COUNT; ++i) {
      losses.produced[i] += vedette::load(row.produced[i]);
      losses.lost[i] += vedette::load(row.lost[i]);
    }
    losses.no_task_storage += vedette::load(row.no_task_storage);
    losses.no_detail += vedette::load(row.no_detail);
  }
  if (losses.no_task_storage == 0) return;
  for (unsigned cpu = 0; cpu < state.cpus; ++cpu) {
    const probe_losses& row = state.losses(cpu);
    for (std::size_t i = 0; i < SLOT_COUNTER_COUNT; ++i) losses.no_start[i] += vedette::load(row.no_start[i]);
  }
}

const std::vector<ProbeHealth>& KernelProbes::health() const {
  return state_->probes->health();
}

BudgetUse KernelProbes::budget() const {
  const Budget& budget = state_->budget;
  BudgetUse use{.known = true,
                .step = budget.step(),
                .fixed = budget.options().step.has_value(),
                .exhausted = budget.exhausted(),
                .cpu_share = budget.options().cpu_share,
                .agent_share = budget.newest().agent,
                .unmeasured = state_->unmeasured,
                .maps = state_->maps_reduced};
  if (!budget.newest().probes.empty()) use.kernel_share = budget.newest().kernel();
  return use;
}

std::uint64_t KernelProbes::map_bytes() const {
  return state_->map_bytes;
}

const std::string& KernelProbes::cgroup_mount() const {
  return state_->cgroup_mount;
}

}  // namespace vedette
