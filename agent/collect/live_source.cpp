#include "agent/collect/live_source.h"

#include <algorithm>
#include <array>
#include <cerrno>
#include <cmath>
#include <cstring>
#include <iterator>
#include <set>
#include <string_view>
#include <unordered_set>
#include <utility>

#include <poll.h>
#include <sys/timerfd.h>
#include <unistd.h>

namespace vedette {
namespace {

// A scan costs 3 us per cgroup: a hundred births a second may not cost a hundred scans.
constexpr MonotonicNs kScanGapNs = 1'000'000'000;
// Where the kernel does not say that something changed (v1), and in case it did not.
constexpr MonotonicNs kScanAnywayNs = 10'000'000'000;

// A log whose reading failed is opened anew. (One that cannot be opened at the start never will be.)
constexpr MonotonicNs kLogRetryNs = 60'000'000'000;

// Of thousands that these keep at a time one in some hundreds finds no room. Their counts would never be
// known just where much goes on, for the sake of a percent: that they lack something is told (Losses), and
// lowers what is concluded from them (assess/).
bool tells_although_short(std::string_view probe) {
  return probe == "sched" || probe == "disk" || probe == "packets";
}

CgroupMounts cgroup_mounts(const LiveOptions& options) {
  ReadBuffer buffer;
  const auto text = buffer.read_path(options.files.proc + "/self/mountinfo");
  return text ? find_cgroup_mounts(*text, options.cgroup_root) : CgroupMounts();
}

// Faults of devices and filesystems are the node's, whoever's task met them.
bool is_about_node(std::uint32_t type) {
  switch (type) {
    case EVENT_ext4_error:
    case EVENT_hung_task:
    case EVENT_block_error:
    case EVENT_machine_check:
    case EVENT_memory_failure:
    case EVENT_pcie_error:
    case EVENT_scsi_error:
    case EVENT_nvme_error:
      return true;
    default:
      return false;
  }
}

void add_counts(Sample& sample, const CgroupTotals& totals, bool node) {
  for (std::size_t i = 0; i < SLOT_COUNTER_COUNT; ++i) {
    if (node || kCounters[i].scope == Scope::kPod) sample.counters[i] += totals.counters[i];
  }
  for (std::size_t i = 0; i < HISTOGRAM_COUNT; ++i) {
    if (!totals.observed.test(i) || (!node && kHistograms[i].scope != Scope::kPod)) continue;
    for (std::size_t bucket = 0; bucket < HISTOGRAM_BUCKETS; ++bucket) {
      sample.histograms[i][bucket] += totals.histograms[i][bucket];
    }
  }
}

bool has_counts(const CgroupTotals& totals) {
  return std::ranges::any_of(totals.counters, [](auto count) { return count != 0; });
}

template <std::size_t kSize>
std::string_view bounded(const char (&text)[kSize]) {  // NOLINT: C strings of the kernel's records
  return {text, ::strnlen(text, kSize)};
}

}  // namespace

LiveSource::LiveSource(const LiveOptions& options)
    : options_(options),
      table_(options.pod_table),
      tree_(cgroup_mounts(options).primary()),
      files_(options.files, cgroup_mounts(options), tree_.root()),
      urgent_tokens_(options.urgent_ticks_per_second) {
  options_.urgent_ticks_per_second = std::max(1.0, options_.urgent_ticks_per_second);
  node_gauges_.fill(kMissing);
}

LiveSource::~LiveSource() = default;

Result<std::unique_ptr<LiveSource>> LiveSource::make(const LiveOptions& options) {
  std::unique_ptr<LiveSource> source(new LiveSource(options));
  if (auto opened = source->open(); !opened) return tl::unexpected(opened.error());
  return source;
}

Status LiveSource::open() {
  if (::access((options_.files.proc + "/self/mountinfo").c_str(), R_OK) != 0) {
    return fail_errno("read " + options_.files.proc + "/self/mountinfo (procfs must be mounted there)");
  }
  start_probes();
  open_log();
  scan(monotonic_now());

  timer_ = FileHandle(::timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK | TFD_CLOEXEC));
  if (!timer_) return fail_errno("create the tick's timer");
  itimerspec period{};
  period.it_value.tv_nsec = 1;  // at once
  const auto interval = std::chrono::nanoseconds(options_.tick_interval);
  const auto seconds = std::chrono::duration_cast<std::chrono::seconds>(interval);
  period.it_interval.tv_sec = seconds.count();
  period.it_interval.tv_nsec = (interval - seconds).count();
  if (::timerfd_settime(timer_.get(), 0, &period, nullptr) != 0) return fail_errno("start the tick's timer");
  tokens_ns_ = monotonic_now();
  return {};
}

void LiveSource::open_log() {
  if (auto log = LogSource::make(options_.kernel_log, options_.log_rules)) {
    log_ = std::move(*log);
    log_reason_.clear();
  } else {
    log_reason_ = log.error().text;
  }
}

void LiveSource::start_probes() {
  if (!options_.use_kernel_probes) {
    kernel_reason_ = "kernel probes are switched off";
    return;
  }
  auto kernel = KernelProbes::make(options_.kernel);
  if (kernel) {
    kernel_ = std::move(*kernel);
  } else {
    kernel_reason_ = kernel.error().text;
  }
}

BudgetUse LiveSource::budget() const {
  return kernel_ ? kernel_->budget() : BudgetUse{};
}

std::uint64_t LiveSource::bpf_map_bytes() const {
  return kernel_ ? kernel_->map_bytes() : 0;
}

Result<Source::Wait> LiveSource::wait() {
  for (;;) {
    const auto now = monotonic_now();
    urgent_tokens_ =
        std::min(options_.urgent_ticks_per_second,
                 urgent_tokens_ + seconds_between(tokens_ns_, now) * options_.urgent_ticks_per_second);
    tokens_ns_ = now;
    const bool urgent = urgent_tokens_ >= 1;
    int timeout_ms = -1;
    if (!urgent && kernel_) {
      constexpr double kMsPerSecond = 1000;
      timeout_ms =
          1 + static_cast<int>((1 - urgent_tokens_) / options_.urgent_ticks_per_second * kMsPerSecond);
    }
    // poll leaves negative descriptors out.
    std::array<pollfd, 3> files{{{timer_.get(), POLLIN, 0},
                                 {options_.stop_fd, POLLIN, 0},
                                 {kernel_ && urgent ? kernel_->wake_fd() : -1, POLLIN, 0}}};
    const int ready = ::poll(files.data(), files.size(), timeout_ms);
    if (ready < 0) {
      if (errno == EINTR) continue;
      return fail_errno("wait for the next tick");
    }
    if (files[1].revents != 0) return Wait::kEnd;
    if (files[0].revents != 0) {
      std::uint64_t periods = 0;
      if (::read(timer_.get(), &periods, sizeof periods) == sizeof periods && periods > 1) {
        missed_ticks_ += periods - 1;
      }
      return Wait::kTick;
    }
    if (files[2].revents != 0) {
      urgent_tokens_ -= 1;
      return Wait::kTick;
    }
  }
}

void LiveSource::scan(MonotonicNs now) {
  scan_wanted_ = false;
  scanned_ns_ = now;
  population_ = tree_.population();
  if (tree_.root().empty()) return;
  const auto entries = tree_.scan();
  if (entries.empty()) return;  // the mount is gone or unreadable: no proof that all cgroups died
  std::unordered_set<CgroupId> seen;
  for (const auto& entry : entries) {
    seen.insert(entry.id);
    table_.add(entry.id, entry.path, now);
  }
  for (const auto id : table_.living_ids()) {
    if (!seen.contains(id)) table_.remove(id, now);
  }
}

// The kernel announced each cgroup with its parent and name: that names also those that are gone already.
void LiveSource::name_from_kernel(MonotonicNs now) {
  struct Announced {
    std::uint64_t parent_id;
    bool removed;
    std::string name;
  };
  std::unordered_map<std::uint64_t, Announced> announced;
  kernel_->known_cgroups([&](const KnownCgroup& cgroup) {
    announced[cgroup.cgroup_id] = {cgroup.parent_id, cgroup.removed, std::string(cgroup.name)};
  });
  for (const auto& [id, cgroup] : announced) {
    if (id == 0 || cgroup.name.empty() || table_.find(id)) continue;
    std::string path;
    bool complete = false;
    auto at = id;
    // cgroups nest a dozen deep at most in practice; a loop in what the probes say may not hang us.
    constexpr int kDeepest = 64;
    for (int depth = 0; depth < kDeepest; ++depth) {
      if (at == 0) {
        complete = true;
        break;
      }
      if (at != id) {
        if (const auto known = table_.path(at); !known.empty()) {
          if (known != "/") path.insert(0, known);
          complete = true;
          break;
        }
      }
      const auto found = announced.find(at);
      if (found == announced.end() || found->second.name.empty()) break;
      path.insert(0, "/" + found->second.name);
      at = found->second.parent_id;
    }
    if (!complete) continue;
    // Names are cut at 103 bytes: a living one is better read from the tree.
    constexpr std::size_t kCut = 103;
    if (cgroup.name.size() >= kCut && !cgroup.removed) {
      scan_wanted_ = true;
      continue;
    }
    table_.add(id, path, now);
    if (cgroup.removed) table_.remove(id, now);
  }
}

void LiveSource::update_names(MonotonicNs now) {
  if (options_.pods != nullptr) {
    const auto version = options_.pods->version();
    if (version != pods_version_) {
      pods_version_ = version;
      if (const auto list = options_.pods->get()) table_.set_pods(*list);
    }
  }
  if (kernel_) {
    const auto unknown = [&](std::uint64_t id) { return id != 0 && !table_.find(id); };
    const bool strangers =
        std::any_of(totals_.begin(), totals_.end(), [&](const auto& t) { return unknown(t.cgroup_id); }) ||
        std::any_of(raw_events_.begin(), raw_events_.end(),
                    [&](const auto& e) { return unknown(e.cgroup_id); });
    if (strangers) {
      name_from_kernel(now);
      scan_wanted_ = true;
    }
  }
  const auto population = tree_.population();
  if (population != population_) scan_wanted_ = true;
  const auto anyway = population == 0 ? to_ns(options_.files.interval) : kScanAnywayNs;
  if (now >= scanned_ns_ + (scan_wanted_ ? kScanGapNs : anyway)) scan(now);
}

void LiveSource::update_states(MonotonicNs now) {
  table_.expire(now);
  if (living_version_ != table_.version() || living_version_ == 0) {
    living_version_ = table_.version();
    living_ = table_.living();
    for (auto& [id, state] : states_) {
      state.alive = false;
      if (auto entity = table_.entity(id)) state.entity = std::move(entity);
    }
    for (const auto& living : living_) {
      auto [at, fresh] = states_.try_emplace(living.entity->id);
      if (fresh) at->second.gauges.fill(kMissing);
      at->second.entity = living.entity;
      at->second.alive = true;
      at->second.died_ns = 0;
    }
  }
  // Born and dead between two ticks, or long dead and still heard of.
  const auto speak = [&](CgroupId id) {
    const auto entity = table_.find(id);
    if (!entity || entity->id == kNodeEntity) return;
    auto [at, fresh] = states_.try_emplace(entity->id);
    if (fresh) {
      at->second.gauges.fill(kMissing);
      at->second.entity = entity;
      at->second.alive = false;
    }
    at->second.active = true;
  };
  for (const auto& totals : totals_) {
    if (has_counts(totals)) speak(totals.cgroup_id);
  }
  for (const auto& event : raw_events_) speak(event.cgroup_id);

  const auto linger = to_ns(options_.linger);
  for (auto at = states_.begin(); at != states_.end();) {
    auto& state = at->second;
    if (!state.alive && state.died_ns == 0) {
      state.died_ns = now;
      state.gauges.fill(kMissing);  // the dead use nothing; what they used is in the features' past
    }
    if (!state.alive && now > state.died_ns + linger) {
      files_.forget(at->first);
      at = states_.erase(at);
    } else {
      ++at;
    }
  }
}

void LiveSource::find_slotless(const Losses& losses, MonotonicNs now) {
  if (!kernel_) return;
  if (kernel_->cgroup_mount().empty()) {
    // Without a v2 hierarchy the probes count for the node alone.
    for (auto& [id, state] : states_) state.slotless_until_ns = now + 1;
    return;
  }
  const bool homeless = losses.no_slot != no_slot_;
  no_slot_ = losses.no_slot;
  if (!kernel_->is_full() && !homeless) return;
  std::unordered_set<CgroupId> counted;
  kernel_->known_cgroups([&](const KnownCgroup& cgroup) { counted.insert(cgroup.cgroup_id); });
  for (const CgroupId id : table_.living_ids()) {
    const auto entity = counted.contains(id) ? nullptr : table_.find(id);
    const auto state = entity ? states_.find(entity->id) : states_.end();
    // For a while after it has one: until then a rate has a hole.
    if (state != states_.end()) state->second.slotless_until_ns = now + kDoubtNs;
  }
}

// A dead cgroup is heard of for some seconds, by what is written back for it and its sockets' last words:
// while there is room its slot waits for them.
void LiveSource::forget_dead(MonotonicNs now) {
  std::erase_if(forget_at_, [&](const auto& dead) {
    if (now < dead.second && !kernel_->is_crowded()) return false;
    kernel_->forget(dead.first);
    return true;
  });
}

// Whose start it was nobody knows: of all entities.
void LiveSource::find_short(const Losses& losses, double interval_s, MonotonicNs now) {
  if (losses.no_task_storage == 0) return;
  short_.reset();
  for (std::size_t i = 0; i < SLOT_COUNTER_COUNT; ++i) {
    if (tells_although_short(kCounters[i].origin)) continue;
    const auto lost = static_cast<double>(losses.no_start[i] - starts_lost_[i]);
    if (lost > options_.lost_starts_per_s * interval_s) short_until_ns_[i] = now + kDoubtNs;
    starts_lost_[i] = losses.no_start[i];
    short_.set(i, now < short_until_ns_[i]);
  }
}

void LiveSource::read_entity(EntityState& state, const LivingEntity& living, MonotonicNs now) {
  state.gauges.fill(kMissing);
  files_.read(living, now, state.gauges, state.counts);
  if (const auto restarts = table_.restarts(living.entity->id)) {
    // It may say less for a moment, while it has no status.
    const auto added = *restarts - std::min(state.restarts, *restarts);
    state.restarts += added;
    state.counts.add(COUNTER_container_restarts, added);
    node_counts_.add(COUNTER_container_restarts, added);
  }
  state.read = true;
  if (!files_.processes(living.entity->id).empty()) state.active = true;
}

void LiveSource::read_files(MonotonicNs now) {
  const bool round = files_ns_ == 0 || now >= files_ns_ + to_ns(options_.files.interval);
  if (round) {
    const auto began = monotonic_now();
    node_gauges_.fill(kMissing);
    files_.read_node(now, node_gauges_, node_counts_);
    for (const auto& living : living_) read_entity(states_[living.entity->id], living, now);
    if (pods_version_ != 0) node_counts_.add(COUNTER_container_restarts, 0);
    files_.watch_mounts(living_);
    if (kernel_) {
      read_surveys();
      read_details();
    }
    // On the grid of the ticks: half a tick early is the same tick.
    files_ns_ = now - std::min(now, to_ns(options_.tick_interval) / 2);
    file_cost_ = std::chrono::nanoseconds(monotonic_now() - began);
  } else {
    for (const auto& living : living_) {
      auto& state = states_[living.entity->id];
      if (!state.read) read_entity(state, living, now);
    }
  }
}

// Gauges that a probe fills when it is asked: 0 unless it says more, for every entity.
void LiveSource::read_surveys() {
  for (const ProbeHealth& probe : kernel_->health()) {
    if (probe.state != ProbeState::kAttached) continue;
    for (std::size_t i = 0; i < GAUGE_COUNT; ++i) {
      if (kGauges[i].origin != probe.name) continue;
      node_gauges_[i] = 0;
      for (auto& [id, state] : states_) state.gauges[i] = state.alive ? 0 : kMissing;
    }
  }
  kernel_->survey([&](const survey_record& record) {
    node_gauges_[record.gauge] += record.value;
    const auto entity = table_.find(record.cgroup_id);
    if (!entity || entity->id == kNodeEntity) return;
    const auto state = states_.find(entity->id);
    if (state != states_.end()) state->second.gauges[record.gauge] += record.value;
  });
}

void LiveSource::read_details() {
  const auto others = labels_.renew_devices();
  std::erase_if(detail_counts_, [&](const auto& entry) {
    const auto& [id, detail, label] = entry.first;
    return kDetails[detail].label == LABEL_DEVICE && others.contains(label);
  });
  kernel_->read_details([&](const detail_key& key, std::uint64_t added) {
    const auto entity = kDetails[key.detail].scope == Scope::kPod ? table_.find(key.cgroup_id) : nullptr;
    const EntityId id = entity ? entity->id : kNodeEntity;
    std::int32_t label = key.label;
    if (kDetails[key.detail].label == LABEL_SERVER) {
      const auto server = table_.find(static_cast<std::uint32_t>(label));
      if (!server || server->id == kNodeEntity) return;  // accepted outside all pods
      if (server->id == id) return;                      // another of its own containers
      if (id != kNodeEntity) connections_.push_back({id, server->id, added});
      label = static_cast<std::int32_t>(server->id);
    }
    detail_counts_[{id, key.detail, label}] += added;
  });
  auto list = std::make_shared<std::vector<DetailCount>>();
  for (auto at = detail_counts_.begin(); at != detail_counts_.end();) {
    const auto& [id, detail, label] = at->first;
    const auto state = states_.find(id);
    const bool by_server = kDetails[detail].label == LABEL_SERVER;
    const auto server = by_server ? states_.find(static_cast<EntityId>(label)) : states_.end();
    // Another server may come back under the name of a dead one.
    if ((id != kNodeEntity && state == states_.end()) ||
        (by_server && (server == states_.end() || !server->second.alive))) {
      at = detail_counts_.erase(at);
      continue;
    }
    list->push_back(
        {.detail = static_cast<vedette_detail>(detail),
         .entity = id == kNodeEntity ? table_.entity(id) : state->second.entity,
         .label = by_server ? server->second.entity->name : labels_.word(kDetails[detail].label, label),
         .count = at->second});
    ++at;
  }
  details_ = std::move(list);
}

void LiveSource::take_mounts(MonotonicNs now) {
  files_.update_mounts(now);
  files_.take_mounts(kNodeEntity, node_gauges_);
  for (auto& [id, state] : states_) {
    if (state.alive) files_.take_mounts(id, state.gauges);
  }
}

void LiveSource::lay_out(Observation& observation) {
  // A pod of a StatefulSet comes back under the name of the one that just died.
  std::set<std::string_view> living_names;
  if (std::ranges::any_of(states_, [](const auto& entry) { return !entry.second.alive; })) {
    for (const auto& living : living_) living_names.insert(living.entity->name);
  }

  observation.entities.clear();
  observation.entities.push_back(table_.entity(kNodeEntity));
  for (auto& [id, state] : states_) {
    state.row = 0;
    if (!state.active || (!state.alive && living_names.contains(state.entity->name))) continue;
    state.row = observation.entities.size();
    observation.entities.push_back(state.entity);
  }
  observation.samples.resize(observation.entities.size());
  for (auto& sample : observation.samples) {
    sample.counters.fill(0);
    sample.unknown.reset();
    for (auto& histogram : sample.histograms) histogram.fill(0);
  }
  auto& node = observation.samples.front();
  node.entity = kNodeEntity;
  node.gauges = node_gauges_;
  node_counts_.take(node);
  for (auto& [id, state] : states_) {
    if (state.row == 0) continue;
    auto& sample = observation.samples[state.row];
    sample.entity = id;
    sample.gauges = state.gauges;
    state.counts.take(sample);
    const bool slotless = observation.time.monotonic_ns < state.slotless_until_ns;
    for (std::size_t i = 0; slotless && i < SLOT_COUNTER_COUNT; ++i) sample.unknown.set(i);
  }
  for (auto& sample : observation.samples) sample.unknown |= short_;
  observation.details = details_;
  observation.connections.clear();
  observation.connections.swap(connections_);
}

void LiveSource::add_totals(Observation& observation, MonotonicNs now) {
  for (const auto& totals : totals_) {
    add_counts(observation.samples.front(), totals, true);
    const auto entity = table_.find(totals.cgroup_id);
    if (entity && entity->id != kNodeEntity) {
      const auto state = states_.find(entity->id);
      if (state != states_.end() && state->second.row != 0) {
        add_counts(observation.samples[state->second.row], totals, false);
      }
    }
    if (totals.removed) {
      table_.remove(totals.cgroup_id, now);
      forget_at_.try_emplace(totals.cgroup_id, now + to_ns(options_.linger));
    }
  }
  if (kernel_) forget_dead(now);
}

void LiveSource::read_log(MonotonicNs now) {
  log_events_.clear();
  if (!log_ && log_retry_ns_ != 0 && now >= log_retry_ns_) {
    log_retry_ns_ = now + kLogRetryNs;
    open_log();
  }
  if (!log_) return;
  if (const auto read = log_->read(now, log_events_, node_counts_, log_lost_); !read) {
    log_reason_ = read.error().text;
    log_.reset();
    log_retry_ns_ = now + kLogRetryNs;
    for (const vedette_counter counter : log_counters()) {
      node_counts_.forget(counter);
      for (auto& [id, state] : states_) state.counts.forget(counter);
    }
    return;
  }
  for (const vedette_counter counter : log_counters()) {
    if (kCounters[counter].scope != Scope::kPod) continue;
    for (auto& [id, state] : states_) {
      state.counts.add(counter, 0);
      if (log_->doubts(now)) state.counts.doubt(counter);
    }
  }
  for (const LogCount& count : log_->of_cgroups()) {
    const auto entity = table_.find_directory(count.cgroup);
    const auto state = entity ? states_.find(entity->id) : states_.end();
    if (state != states_.end()) state->second.counts.add(count.counter, 1);
    if (entity) continue;
    // Of one of them, for all that is known.
    for (auto& [id, unsure] : states_) unsure.counts.doubt(count.counter);
  }
}

void LiveSource::add_events(Observation& observation) {
  observation.events.clear();
  observation.events.reserve(raw_events_.size());
  for (const auto& raw : raw_events_) {
    KernelEvent event;
    event.type = raw.type;
    event.time_ns = raw.time_ns;
    event.value = raw.value;
    event.extra = raw.extra;
    event.pid = raw.pid;
    event.comm = bounded(raw.comm);
    event.text = bounded(raw.text);
    if (!is_about_node(raw.type)) {
      const auto entity = table_.find(raw.cgroup_id);
      if (entity) event.entity = entity->id;
      event.container = table_.container_name(raw.cgroup_id);
    }
    observation.events.push_back(std::move(event));
  }
  std::ranges::move(log_events_, std::back_inserter(observation.events));
  std::stable_sort(observation.events.begin(), observation.events.end(),
                   [](const KernelEvent& a, const KernelEvent& b) { return a.time_ns < b.time_ns; });
}

void LiveSource::add_health(Observation& observation) const {
  auto& probes = observation.probes;
  probes.clear();
  if (kernel_) {
    probes = kernel_->health();
  } else {
    std::set<std::string_view> names;
    for (const auto& probe : options_.kernel.probes) names.insert(probe.name);
    const auto state = options_.use_kernel_probes ? ProbeState::kDegraded : ProbeState::kOff;
    for (const auto name : names) probes.push_back({std::string(name), state, kernel_reason_, 0, 0});
  }
  files_.add_health(probes);
  if (options_.pods == nullptr) {
    probes.push_back({"pods", ProbeState::kOff, "only the API server tells of restarts", 0, 0});
  } else {
    std::string error = options_.pods_error ? options_.pods_error() : "";
    if (error.empty() && pods_version_ == 0) error = "the API server has told no pods of this node yet";
    const ProbeState state = error.empty() ? ProbeState::kAttached : ProbeState::kDegraded;
    probes.push_back({"pods", state, std::move(error), 0, 0});
  }
  probes.push_back({"log", log_ ? ProbeState::kAttached : ProbeState::kDegraded, log_reason_, 0, 0});
}

Status LiveSource::collect(Observation& observation) {
  observation.time = read_instant();
  const auto now = observation.time.monotonic_ns;
  observation.interval_s = last_ns_ == 0 ? 0 : seconds_between(last_ns_, now);
  last_ns_ = now;

  raw_events_.clear();
  totals_.clear();
  if (kernel_) {
    kernel_->read_events(raw_events_);
    kernel_->read_totals(totals_);
  }
  update_names(now);
  update_states(now);
  observation.losses = {};
  if (kernel_) kernel_->read_losses(observation.losses);
  find_slotless(observation.losses, now);
  read_files(now);
  read_log(now);
  take_mounts(now);
  observation.losses.missed_ticks = missed_ticks_;
  observation.losses.log_lost = log_lost_;
  find_short(observation.losses, observation.interval_s, now);
  lay_out(observation);
  add_totals(observation, now);
  add_events(observation);
  add_health(observation);

  return {};
}

}  // namespace vedette
