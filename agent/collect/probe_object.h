// One embedded BPF object in the kernel: loaded with the maps all probes share, attached, measured. Used by
// collect/kernel_probes only; made on any thread, then used by one at a time.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <set>
#include <span>
#include <string>
#include <vector>

#include "agent/base/result.h"
#include "agent/collect/observation.h"
#include "bpf/embedded.h"
#include "bpf/events.h"
#include "bpf/signals.h"

struct bpf_link;
struct bpf_object;
struct bpf_program;

namespace vedette {

// Names of the tracepoints whose types the kernel and the modules that are loaded tell; none: it tells
// nothing.
struct Tracepoints {
  std::set<std::string, std::less<>> names;
  // Modules tell theirs too (since 5.11, 36e68442d1af), so what is not here is not on this machine.
  bool complete = false;
};
Tracepoints find_tracepoints();

struct SharedMap {
  std::string name;  // as bpf/totals.bpf.h has it
  int fd;            // stays the caller's
};

class ProbeObject {
public:
  // One sentence that names the program and the kernel's reason. `absent`: this kernel has none of its
  // tracepoints, so the probe has nothing to miss; the CPU has no machine checks, say, or no module drives
  // SCSI.
  struct Failure : Error {
    Failure(Error error, bool is_absent = false) : Error(std::move(error)), absent(is_absent) {}
    bool absent;
  };

  // Loads and attaches every program of `probe`; maps named in `maps` are shared, the others its own. A
  // program NAME_fallback is taken where the tracepoint of NAME is not in `tracepoints`. Programs on packets
  // go to the whole v2 hierarchy, mounted at `cgroup_mount` (empty: nowhere). Takes up to 16 ms per program.
  static tl::expected<ProbeObject, Failure> attach(const EmbeddedProbe& probe,
                                                   std::span<const SharedMap> maps,
                                                   const probe_config& config, const Tracepoints& tracepoints,
                                                   const std::string& cgroup_mount);

  // Stops all its programs (.2 ms each); they stay loaded, what they counted stays counted, and surveys can
  // still be asked.
  void detach();
  // Goes on. Begun waits that its maps named starts* remember are forgotten and its iterators run again, so
  // that the pause is not taken for a wait. An error leaves it detached. Takes up to 16 ms per program.
  Status reattach();

  // Of all its programs since they were loaded. Runs and time grow only while anybody on this machine has the
  // kernel's BPF statistics on.
  struct Cost {
    std::uint64_t runs = 0;
    std::uint64_t run_ns = 0;
  };
  Cost cost() const;
  // Runs that the kernel skipped, since the programs were loaded. None where it does not count them (before
  // 5.12).
  std::optional<std::uint64_t> misses() const;

  // Runs its surveys (programs NAME_survey) and appends what they say. Iterators of other names did their
  // work when it was attached. An error names the program.
  Status survey(std::vector<survey_record>& records) const;
  bool has_surveys() const { return !surveys_.empty(); }
  // Has what it gathers in maps of its own moved into the totals and the details (programs NAME_flush).
  Status flush() const;

  // File descriptors of all its maps (shared ones are duplicates): valid as long as the object.
  std::vector<int> own_map_fds(std::span<const SharedMap> shared) const;

private:
  struct Close {
    void operator()(bpf_object* object) const;
    void operator()(bpf_link* link) const;
  };
  using Link = std::unique_ptr<bpf_link, Close>;
  ProbeObject() = default;
  // What runs whenever it is asked.
  struct Asked {
    std::string name;
    int program = -1;  // is run; or, where there is one, the iterator is read
    Link iterator;
  };
  tl::expected<void, Failure> attach_all();
  // Having run it once.
  Result<Asked> ask(const bpf_program* program) const;
  static Status run(const Asked& asked, std::vector<survey_record>* records);

  std::string cgroup_mount_;
  std::unique_ptr<bpf_object, Close> object_;
  std::vector<Link> links_;  // goes before the object
  std::vector<Asked> surveys_;
  std::vector<Asked> flushes_;
};

}  // namespace vedette
