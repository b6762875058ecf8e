// All probes, each an object of its own that may fail, be detached and come back by itself. Loading,
// attaching and detaching wait for the kernel (some 10 ms per program): at the start they run on short-lived
// threads, and afterwards on a worker of this class. Used by collect/kernel_probes; public members: tick
// thread only.
#pragma once

#include <condition_variable>
#include <cstdint>
#include <functional>
#include <map>
#include <mutex>
#include <optional>
#include <set>
#include <span>
#include <stop_token>
#include <string>
#include <string_view>
#include <thread>
#include <vector>

#include "agent/base/clock.h"
#include "agent/collect/observation.h"
#include "agent/collect/probe_object.h"

namespace vedette {

struct ProbeSetOptions {
  std::span<const EmbeddedProbe> probes;
  std::vector<std::string> off;  // not to be loaded
  std::vector<SharedMap> maps;
  probe_config config{};
  std::string cgroup_mount;  // of the v2 hierarchy; empty: none
  // What cannot load for want of a tracepoint may be able to once a module is loaded: this directory, which
  // has an entry for each module, is looked at so often.
  std::string modules = "/sys/module";
  std::chrono::milliseconds modules_period{60'000};
};

class ProbeSet {
public:
  explicit ProbeSet(ProbeSetOptions options);
  ~ProbeSet();  // detaches: .2 ms per program
  ProbeSet(const ProbeSet&) = delete;
  ProbeSet& operator=(const ProbeSet&) = delete;

  // Loads and attaches the probe `first`, calls `then`, goes on with all others and starts the worker.
  // Blocks.
  void load(std::string_view first, const std::function<void()>& then);

  // Detaches the probes that `is_shed` names and attaches the others again, soon: it does not wait.
  void shed(const std::function<bool(std::string_view)>& is_shed, const std::string& reason);

  // Brings health() up to the tick that ends at `now`.
  void refresh(MonotonicNs now);
  // One per probe, by name. A probe that was off for a part of the tick is not attached yet.
  const std::vector<ProbeHealth>& health() const { return health_; }

  // Before totals and details are read: those who gather in maps of their own hand it over.
  void flush();
  // Reads the surveys of all attached probes; one whose survey fails is degraded until one succeeds. Also
  // where health() learns what runs were missed: a system call for each program, too dear for each tick.
  void survey(const std::function<void(const survey_record&)>& visit);

  // What the kernel measured between begin and end goes into health(); the answer of end is the share of one
  // CPU's time by probe.
  void begin_cost(MonotonicNs now);
  std::map<std::string, double, std::less<>> end_cost(MonotonicNs now);

  std::vector<int> own_map_fds() const;

private:
  struct Entry {
    const EmbeddedProbe* probe = nullptr;
    std::optional<ProbeObject> object;  // none: off, or it could not load
    ProbeHealth health;                 // as of now, where health_ is as of the tick
    bool absent = false;                // nothing here for it to watch, as far as the kernel knows now
    std::string survey_error, flush_error;
    ProbeObject::Cost begin;   // of the sample that is being taken
    bool wanted = true;        // attached, that is
    MonotonicNs since_ns = 0;  // attached since then; 0: it is not

    bool waits() const;  // for the worker to attach or detach it
  };

  void attach(Entry& entry, const Tracepoints& tracepoints);
  void work(const std::stop_token& stop);
  void move(Entry& entry, std::unique_lock<std::mutex>& lock);
  void retry(std::unique_lock<std::mutex>& lock);

  const ProbeSetOptions options_;
  // Guards entries_, but not the links of a ProbeObject, which are the worker's. Never held while the kernel
  // is waited for.
  mutable std::mutex mutex_;
  std::condition_variable_any wanted_;
  std::map<std::string, Entry, std::less<>> entries_;
  std::set<std::string> modules_;  // as of the newest retry; the worker's
  std::string shed_reason_;
  std::vector<ProbeHealth> health_;
  MonotonicNs cost_began_ns_ = 0;
  MonotonicNs health_ns_ = 0;
  std::vector<survey_record> records_;
  std::jthread worker_;  // ends first
};

}  // namespace vedette
