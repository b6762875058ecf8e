#include "agent/collect/probe_set.h"

#include <algorithm>
#include <atomic>
#include <chrono>
#include <filesystem>
#include <system_error>
#include <utility>

#include <malloc.h>

namespace vedette {
namespace {

// libbpf keeps the kernel's whole BTF (some 10 MB) while it loads an object: two at a time use both the wait
// for RCU and the second core, and start-up stays below the memory limit.
constexpr int kLoaders = 2;

// libbpf reads the kernel's types (some 10 MB) anew for every object. While many are loaded the blocks are
// used again instead of going back to the kernel each time, which halves the kernel's part of the start;
// afterwards they do go back, from the one heap that main() asks for. (Heaps of threads would keep them.)
class LoadingMemory {
public:
  LoadingMemory() {
    ::mallopt(M_MMAP_THRESHOLD, 32 << 20);
    ::mallopt(M_TRIM_THRESHOLD, 64 << 20);
  }
  ~LoadingMemory() {
    ::mallopt(M_MMAP_THRESHOLD, 256 << 10);
    ::mallopt(M_TRIM_THRESHOLD, 128 << 10);
    ::malloc_trim(0);
  }
  LoadingMemory(const LoadingMemory&) = delete;
  LoadingMemory& operator=(const LoadingMemory&) = delete;
};

std::set<std::string> list_modules(const std::string& directory) {
  std::set<std::string> names;
  std::error_code ignored;
  for (std::filesystem::directory_iterator at(directory, ignored), end; at != end; at.increment(ignored)) {
    names.insert(at->path().filename());
    if (ignored) break;
  }
  return names;
}

}  // namespace

bool ProbeSet::Entry::waits() const {
  return object && health.state != ProbeState::kDegraded && wanted != (since_ns != 0);
}

ProbeSet::ProbeSet(ProbeSetOptions options)
    : options_(std::move(options)), modules_(list_modules(options_.modules)) {
  for (const EmbeddedProbe& probe : options_.probes) {
    Entry& entry = entries_[std::string(probe.name)];
    entry.probe = &probe;
    entry.health.name = probe.name;
    if (std::ranges::find(options_.off, probe.name) != options_.off.end())
      entry.health.reason = "switched off in the configuration";
  }
}

ProbeSet::~ProbeSet() = default;

void ProbeSet::attach(Entry& entry, const Tracepoints& tracepoints) {
  auto attached =
      ProbeObject::attach(*entry.probe, options_.maps, options_.config, tracepoints, options_.cgroup_mount);
  const std::lock_guard lock(mutex_);
  if (attached) {
    entry.object.emplace(std::move(*attached));
    entry.since_ns = monotonic_now();
    entry.health.state = ProbeState::kAttached;
    entry.health.reason.clear();
    entry.absent = false;
  } else {
    entry.absent = attached.error().absent;
    entry.health.state = entry.absent ? ProbeState::kOff : ProbeState::kDegraded;
    entry.health.reason = attached.error().text;
  }
}

void ProbeSet::load(std::string_view first, const std::function<void()>& then) {
  const LoadingMemory memory;
  const Tracepoints tracepoints = find_tracepoints();
  std::vector<Entry*> rest;
  for (auto& [name, entry] : entries_) {
    if (!entry.health.reason.empty()) continue;  // off
    if (name == first) {
      attach(entry, tracepoints);
    } else {
      rest.push_back(&entry);
    }
  }
  then();
  std::atomic<std::size_t> next{0};
  {
    std::vector<std::jthread> loaders;
    loaders.reserve(kLoaders);
    for (int i = 0; i < kLoaders; ++i) {
      loaders.emplace_back([&] {
        for (std::size_t at = next++; at < rest.size(); at = next++) attach(*rest[at], tracepoints);
      });
    }
  }
  refresh(monotonic_now());
  worker_ = std::jthread([this](const std::stop_token& stop) { work(stop); });
}

void ProbeSet::work(const std::stop_token& stop) {
  const auto waiting = [this] {
    return std::ranges::find_if(entries_, [](const auto& entry) { return entry.second.waits(); });
  };
  auto retry_at = std::chrono::steady_clock::now() + options_.modules_period;
  std::unique_lock lock(mutex_);
  while (!stop.stop_requested()) {
    if (const auto next = waiting(); next != entries_.end()) {
      move(next->second, lock);
    } else if (std::chrono::steady_clock::now() >= retry_at) {
      retry(lock);
      retry_at = std::chrono::steady_clock::now() + options_.modules_period;
    } else {
      wanted_.wait_until(lock, stop, retry_at, [&] { return waiting() != entries_.end(); });
    }
  }
}

void ProbeSet::move(Entry& entry, std::unique_lock<std::mutex>& lock) {
  if (!entry.wanted) {
    const MonotonicNs now = monotonic_now();
    entry.health.watched_ns += now - entry.since_ns;
    entry.since_ns = 0;
    entry.health.state = ProbeState::kShed;
    entry.health.reason = shed_reason_;
    lock.unlock();
    entry.object->detach();
    lock.lock();
    return;
  }
  lock.unlock();
  const Status attached = entry.object->reattach();
  lock.lock();
  entry.health.state = attached ? ProbeState::kAttached : ProbeState::kDegraded;
  entry.health.reason = attached ? std::string() : attached.error().text;
  if (attached) entry.since_ns = monotonic_now();
}

void ProbeSet::retry(std::unique_lock<std::mutex>& lock) {
  std::set<std::string> modules = list_modules(options_.modules);
  const bool new_modules = modules != modules_;
  modules_ = std::move(modules);
  Tracepoints tracepoints;  // for the first that needs them
  for (auto& [name, entry] : entries_) {
    if (entry.health.state != ProbeState::kDegraded && !entry.absent) continue;
    if (entry.object) {
      entry.health.state = ProbeState::kShed;  // it loaded, but could not be attached again: once more
    } else if (new_modules) {
      lock.unlock();
      if (tracepoints.names.empty()) tracepoints = find_tracepoints();
      attach(entry, tracepoints);
      lock.lock();
    }
  }
}

void ProbeSet::shed(const std::function<bool(std::string_view)>& is_shed, const std::string& reason) {
  bool any = false;
  {
    const std::lock_guard lock(mutex_);
    shed_reason_ = reason;
    for (auto& [name, entry] : entries_) {
      entry.wanted = !is_shed(name);
      any = any || entry.waits();
    }
  }
  if (any) wanted_.notify_one();
}

void ProbeSet::refresh(MonotonicNs now) {
  const std::lock_guard lock(mutex_);
  health_.resize(entries_.size());
  auto told = health_.begin();
  for (const auto& [name, entry] : entries_) {
    ProbeHealth is = entry.health;
    const bool attached = is.state == ProbeState::kAttached;
    if (attached && entry.since_ns < now) is.watched_ns += now - entry.since_ns;
    if (attached && health_ns_ != 0 && entry.since_ns > health_ns_) {
      const bool was = told->state == ProbeState::kAttached;
      is.state = was ? ProbeState::kShed : told->state;
      is.reason = was ? shed_reason_ : told->reason;
    } else if (attached && !(entry.survey_error.empty() && entry.flush_error.empty())) {
      is.state = ProbeState::kDegraded;
      is.reason = entry.survey_error.empty() ? entry.flush_error : entry.survey_error;
    }
    is.since_ns = is.state == told->state ? told->since_ns : now;
    if (health_ns_ == 0) is.since_ns = 0;
    *told++ = std::move(is);
  }
  health_ns_ = now;
}

void ProbeSet::flush() {
  const std::lock_guard lock(mutex_);
  for (auto& [name, entry] : entries_) {
    if (!entry.object) continue;
    const Status ran = entry.object->flush();
    entry.flush_error = ran ? std::string() : "its flush failed: " + ran.error().text;
  }
}

void ProbeSet::survey(const std::function<void(const survey_record&)>& visit) {
  const std::lock_guard lock(mutex_);
  auto told = health_.begin();
  for (auto& [name, entry] : entries_) {
    ProbeHealth& health = *told++;
    if (entry.object) entry.health.misses = entry.object->misses();
    health.misses = entry.health.misses;
    if (!entry.object || !entry.object->has_surveys() || entry.since_ns == 0) continue;
    records_.clear();
    const Status read = entry.object->survey(records_);
    entry.survey_error = read ? std::string() : "its survey failed: " + read.error().text;
    if (!read) {
      health.state = ProbeState::kDegraded;
      health.reason = entry.survey_error;
    } else if (health.state == ProbeState::kDegraded) {
      health.state = ProbeState::kAttached;
      health.reason.clear();
    }
    for (const survey_record& record : records_) {
      if (record.gauge < GAUGE_COUNT) visit(record);
    }
  }
}

void ProbeSet::begin_cost(MonotonicNs now) {
  const std::lock_guard lock(mutex_);
  for (auto& [name, entry] : entries_) {
    if (entry.object) entry.begin = entry.object->cost();
  }
  cost_began_ns_ = now;
}

std::map<std::string, double, std::less<>> ProbeSet::end_cost(MonotonicNs now) {
  const std::lock_guard lock(mutex_);
  std::map<std::string, double, std::less<>> shares;
  const MonotonicNs sampled_ns = now - cost_began_ns_;
  for (auto& [name, entry] : entries_) {
    if (!entry.object) continue;
    // Only what was added meanwhile: another program may have had the statistics on before.
    const ProbeObject::Cost end = entry.object->cost();
    entry.health.runs += end.runs - entry.begin.runs;
    entry.health.run_ns += end.run_ns - entry.begin.run_ns;
    entry.health.sampled_ns += sampled_ns;
    if (sampled_ns > 0)
      shares[name] = static_cast<double>(end.run_ns - entry.begin.run_ns) / static_cast<double>(sampled_ns);
  }
  return shares;
}

std::vector<int> ProbeSet::own_map_fds() const {
  const std::lock_guard lock(mutex_);
  std::vector<int> all;
  for (const auto& [name, entry] : entries_) {
    if (!entry.object) continue;
    const std::vector<int> fds = entry.object->own_map_fds(options_.maps);
    all.insert(all.end(), fds.begin(), fds.end());
  }
  return all;
}

}  // namespace vedette
