// vedette-agent: builds the graph of stages by hand and runs it. Everything is read from here downwards.
#include <algorithm>
#include <cstdio>
#include <fstream>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include <CLI/CLI.hpp>
#include <link.h>
#include <malloc.h>
#include <signal.h>
#include <spdlog/spdlog.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <sys/utsname.h>
#include <unistd.h>

#include "agent/act/evacuator.h"
#include "agent/act/node_writer.h"
#include "agent/act/operator_store.h"
#include "agent/base/clock.h"
#include "agent/base/handle.h"
#include "agent/collect/live_source.h"
#include "agent/config.h"
#include "agent/kube/pod_watch.h"
#include "agent/pipeline.h"
#include "agent/policy_watch.h"
#include "agent/record/baseline_store.h"
#include "agent/record/recorder.h"
#include "agent/snapshot_pool.h"
#include "exporter/exporter.h"
#include "exporter/log.h"

namespace vedette {
namespace {

struct Arguments {
  std::string config_file;
  bool standalone = false;
  bool check_config = false;
  std::optional<std::string> listen, socket, record, flight, journal, baselines, model;
};

class SelfMeter {
public:
  SelfUse measure(MonotonicNs begin, MonotonicNs collected, MonotonicNs judged) {
    SelfUse use;
    use.collect_ms = 1e3 * seconds_between(begin, collected);
    use.tick_ms = 1e3 * seconds_between(collected, judged);
    use.ticks = ++ticks_;
    rusage usage{};
    ::getrusage(RUSAGE_SELF, &usage);
    const auto cpu_s = [](const timeval& time) {
      return static_cast<double>(time.tv_sec) + 1e-6 * static_cast<double>(time.tv_usec);
    };
    const double cpu = cpu_s(usage.ru_utime) + cpu_s(usage.ru_stime);
    if (ticks_ == 1) {  // what the start cost says nothing about the rest
      begun_ns_ = judged;
      begun_cpu_s_ = cpu;
    } else {
      use.cpu_share = (cpu - begun_cpu_s_) / seconds_between(begun_ns_, judged);
    }
    long pages = 0;
    long resident = 0;
    if (std::ifstream statm("/proc/self/statm"); statm >> pages >> resident) {
      use.rss_bytes =
          static_cast<std::uint64_t>(resident) * static_cast<std::uint64_t>(::sysconf(_SC_PAGESIZE));
    }
    return use;
  }

private:
  MonotonicNs begun_ns_ = 0;
  double begun_cpu_s_ = 0;
  std::uint64_t ticks_ = 0;
};

// Gives back what was used once. Start-up and containers that came and went leave holes in the heap, which
// glibc keeps for ever unless told; and start-up leaves the code that it ran, most of it other people's
// libraries: what runs again comes back from the page cache.
class MemoryTrimmer {
public:
  void tick(MonotonicNs now) {
    if (now < next_ns_) return;
    next_ns_ = now + kPeriodNs;
    ::malloc_trim(0);
    ::dl_iterate_phdr(&unmap_code, nullptr);
  }

private:
  static constexpr MonotonicNs kPeriodNs = 30'000'000'000;

  // Only what was never written to: such pages are the file's.
  static int unmap_code(dl_phdr_info* object, std::size_t /*size*/, void* /*unused*/) {
    const auto page = static_cast<std::uintptr_t>(::sysconf(_SC_PAGESIZE));
    for (const ElfW(Phdr) & part : std::span(object->dlpi_phdr, object->dlpi_phnum)) {
      if (part.p_type != PT_LOAD || (part.p_flags & PF_X) == 0 || (part.p_flags & PF_W) != 0) continue;
      const std::uintptr_t begin = (object->dlpi_addr + part.p_vaddr) / page * page;
      const std::uintptr_t end = object->dlpi_addr + part.p_vaddr + part.p_memsz;
      // NOLINTNEXTLINE(performance-no-int-to-ptr): the loader tells addresses as numbers.
      ::madvise(reinterpret_cast<void*>(begin), end - begin, MADV_DONTNEED);
    }
    return 0;
  }

  MonotonicNs next_ns_ = 0;
};

RecorderOptions recorder_options(const Config& config) {
  RecorderOptions options;
  options.path = config.record_file;
  options.max_bytes = config.record_mib << 20;
  options.flight = config.flight;
  options.header.agent_version = VEDETTE_VERSION;
  utsname kernel{};
  if (::uname(&kernel) == 0) options.header.kernel_release = kernel.release;
  options.header.node = config.node_name;
  options.header.started_wall_ns = wall_now();
  options.header.settings = {config.assess, config.decide.mode, config.decide.max_taints_per_hour,
                             config.model, config.anomaly.false_alarms_per_week};
  return options;
}

// The files of each cgroup are kept open between ticks: the usual soft limit of 1024 is the limit of a shell,
// not of a daemon. 4096 are 200 pods; where it cannot be had, files are opened anew each time.
void raise_file_limit() {
  constexpr rlim_t kEnough = 4096;
  rlimit limit{};
  if (::getrlimit(RLIMIT_NOFILE, &limit) != 0 || limit.rlim_cur >= kEnough) return;
  limit.rlim_cur = std::min(limit.rlim_max, kEnough);
  ::setrlimit(RLIMIT_NOFILE, &limit);
}

Status run_live(Config config, const Arguments& arguments) {
  raise_file_limit();
  auto anomaly_scorer = std::make_unique<AnomalyScorer>(config.anomaly);
  const AnomalyScorer& anomaly = *anomaly_scorer;  // the pipeline's
  Result<std::vector<std::unique_ptr<Scorer>>> scorers =
      make_scorers(std::move(anomaly_scorer), config.model, RiskOptions{}, config.assess);
  if (!scorers) return tl::unexpected(scorers.error());
  Pipeline pipeline(FeatureOptions{}, std::move(*scorers), config.assess, config.decide);

  // SIGTERM and SIGINT end the wait for the next tick; threads started from here on inherit the mask.
  sigset_t stop_signals;
  sigemptyset(&stop_signals);
  sigaddset(&stop_signals, SIGTERM);
  sigaddset(&stop_signals, SIGINT);
  sigset_t blocked = stop_signals;
  sigaddset(&blocked, SIGHUP);  // the policy watch's
  pthread_sigmask(SIG_BLOCK, &blocked, nullptr);
  const FileHandle stop(::signalfd(-1, &stop_signals, SFD_CLOEXEC | SFD_NONBLOCK));
  ::signal(SIGPIPE, SIG_IGN);

  std::unique_ptr<PodWatch> pod_watch;
  std::unique_ptr<NodeWriter> writer;
  std::unique_ptr<Evacuator> evacuator;
  if (config.kubernetes) {
    PodWatchOptions watch;
    watch.client = config.kube;
    watch.node_name = config.node_name;
    watch.start_spread = config.start_spread;
    Result<std::unique_ptr<PodWatch>> watching = PodWatch::make(std::move(watch));
    if (!watching) return tl::unexpected(watching.error());
    pod_watch = std::move(*watching);
    config.live.pods = &pod_watch->pods();
    config.live.pods_error = [watch = pod_watch.get()] { return watch->error(); };

    NodeWriterOptions writes;
    writes.client = config.kube;
    writes.node.name = config.node_name;
    writes.node.pool_label = config.pool_label;
    writes.budget = config.taint_budget;
    writes.start_spread = config.start_spread;
    writes.max_taints_per_hour = config.decide.max_taints_per_hour;
    Result<std::unique_ptr<NodeWriter>> writing = NodeWriter::make(std::move(writes));
    if (!writing) return tl::unexpected(writing.error());
    writer = std::move(*writing);

    EvacuatorOptions evacuates;
    evacuates.client = config.kube;
    evacuates.node_name = config.node_name;
    // Without a socket nobody asks for plans.
    if (!config.exporter.socket_path.empty())
      evacuates.plans_file = config.exporter.socket_path + ".plans.json";
    Result<std::unique_ptr<Evacuator>> evacuating = Evacuator::make(std::move(evacuates));
    if (!evacuating) return tl::unexpected(evacuating.error());
    evacuator = std::move(*evacuating);
  }
  Result<std::unique_ptr<PolicyWatch>> policy_watch =
      PolicyWatch::make(arguments.config_file.empty() ? kDefaultConfigFile : arguments.config_file,
                        arguments.standalone, config.decide.policy, config.text);
  if (!policy_watch) return tl::unexpected(policy_watch.error());
  std::unique_ptr<OperatorStore> operator_store;
  if (!config.exporter.socket_path.empty())
    operator_store = std::make_unique<OperatorStore>(config.exporter.socket_path + ".operator.json");
  std::unique_ptr<Journal> journal;
  if (!config.journal.path.empty()) journal = std::make_unique<Journal>(config.journal);
  config.baselines.agent_version = VEDETTE_VERSION;
  utsname machine{};
  ::uname(&machine);
  config.baselines.node = config.node_name.empty() ? machine.nodename : config.node_name;
  Result<std::unique_ptr<BaselineStore>> baselines = BaselineStore::make(config.baselines);
  if (!baselines) return tl::unexpected(baselines.error());
  Result<std::unique_ptr<Exporter>> exporter =
      Exporter::make(config.exporter, {operator_store.get(), evacuator.get(), journal.get(), baselines->get(),
                                       config.assess.log_rules.get()});
  if (!exporter) return tl::unexpected(exporter.error());
  std::unique_ptr<Recorder> recorder;
  if (!config.record_file.empty() || !config.flight.folder.empty()) {
    Result<std::unique_ptr<Recorder>> made = Recorder::make(recorder_options(config));
    if (!made) return tl::unexpected(made.error());
    recorder = std::move(*made);
  }
  LogSink log;

  // The writer comes first: it is what somebody waits for.
  std::vector<Sink*> sinks;
  if (writer) sinks.push_back(writer.get());
  sinks.push_back(exporter->get());
  if (recorder) sinks.push_back(recorder.get());
  if (journal) sinks.push_back(journal.get());
  sinks.push_back(&log);

  config.live.stop_fd = stop.get();
  Result<std::unique_ptr<LiveSource>> source = LiveSource::make(config.live);
  if (!source) return tl::unexpected(source.error());
  spdlog::info("vedette-agent {} runs: mode {}, {}", VEDETTE_VERSION, to_string(config.decide.mode),
               config.kubernetes ? "node " + config.node_name : "without Kubernetes");

  SnapshotPool snapshots;
  SelfMeter self;
  MemoryTrimmer memory;
  for (;;) {
    const Result<Source::Wait> wait = (*source)->wait();
    if (!wait) return tl::unexpected(wait.error());
    if (*wait == Source::Wait::kEnd) break;

    const std::shared_ptr<Snapshot> snapshot = snapshots.take();
    const MonotonicNs begin = monotonic_now();
    if (Status ok = (*source)->collect(snapshot->observation); !ok) return ok;
    if (writer) snapshot->act = *writer->state();
    if (operator_store) snapshot->act.local = *operator_store->get();
    if (journal) snapshot->act.record = *journal->record();
    snapshot->lessons = journal ? journal->take_lessons() : std::vector<Lesson>{};
    snapshot->taught = (*baselines)->take();
    const std::shared_ptr<const ReloadedPolicy> reloaded = (*policy_watch)->get();
    pipeline.set_policy(reloaded->policy);
    const MonotonicNs collected = monotonic_now();
    pipeline.tick(*snapshot);
    snapshot->self = self.measure(begin, collected, monotonic_now());
    snapshot->self.bpf_map_bytes = (*source)->bpf_map_bytes();
    snapshot->self.budget = (*source)->budget();
    if (journal) snapshot->self.journal = journal->state();
    if (recorder) snapshot->self.flight = recorder->flight();
    snapshot->self.baselines = (*baselines)->state();
    snapshot->self.policy_error = reloaded->error;
    snapshot->self.restart_for = reloaded->restart_for;
    for (Sink* sink : sinks) sink->publish(snapshot);
    (*baselines)->tick(begin, anomaly);
    memory.tick(begin);
  }
  (*baselines)->save(anomaly);
  spdlog::info("vedette-agent ends");
  return {};
}

// Those that a configuration names and an agent needs as it starts.
Status check_files(Config config) {
  if (auto scorers = make_scorers(std::make_unique<AnomalyScorer>(config.anomaly), config.model,
                                  RiskOptions{}, config.assess);
      !scorers) {
    return tl::unexpected(scorers.error());
  }
  config.baselines.path.clear();
  if (auto seeded = BaselineStore::make(config.baselines); !seeded) return tl::unexpected(seeded.error());
  return {};
}

int run(int argc, char** argv) {
  // One heap for all threads: none allocates often, and what one of them frees the others can use, or the
  // kernel gets back. Before the first thread.
  ::mallopt(M_ARENA_MAX, 1);
  Arguments arguments;
  CLI::App app("Vedette's agent: watches this node with eBPF, judges, explains, exports and acts.",
               "vedette-agent");
  app.set_version_flag("--version", std::string(VEDETTE_VERSION));
  app.add_option("--config", arguments.config_file,
                 "YAML file (default: /etc/vedette/agent.yaml if it exists)");
  app.add_flag("--check-config", arguments.check_config,
               "Read the configuration and the files it names, say what is wrong, and end");
  app.add_flag("--standalone", arguments.standalone, "Without Kubernetes, even inside a pod");
  app.add_option("--listen", arguments.listen, "Address of /metrics, HOST:PORT; empty: none");
  app.add_option("--socket", arguments.socket, "Path of the local socket");
  app.add_option("--model", arguments.model, "Risk model: builtin, off, or a file");
  app.add_option("--record", arguments.record, "Write a recording to this file");
  app.add_option("--flight", arguments.flight,
                 "Keep the last minutes, and those around incidents, in this folder; empty: keep none");
  app.add_option("--journal", arguments.journal, "Keep the journal in this file; empty: keep none");
  app.add_option("--baselines", arguments.baselines,
                 "Keep what is usual for each workload in this file; empty: keep nothing");
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    return app.exit(error) == 0 ? 0 : 2;
  }

  const auto end = [](const Error& error) {
    std::fprintf(stderr, "vedette-agent: %s\n", error.text.c_str());
    return 2;
  };
  Result<Config> config = load_config(arguments.config_file, arguments.standalone);
  if (!config) return end(config.error());
  if (arguments.listen) config->exporter.listen = *arguments.listen;
  if (arguments.socket) config->exporter.socket_path = *arguments.socket;
  if (arguments.record) config->record_file = *arguments.record;
  if (arguments.flight) config->flight.folder = *arguments.flight;
  if (arguments.journal) config->journal.path = *arguments.journal;
  if (arguments.baselines) config->baselines.path = *arguments.baselines;
  if (arguments.model) config->model = *arguments.model;
  if (arguments.check_config) {
    if (Status ok = check_files(std::move(*config)); !ok) return end(ok.error());
    std::puts("the configuration is valid");
    return 0;
  }
  const Status ok = run_live(std::move(*config), arguments);
  return ok ? 0 : end(ok.error());
}

}  // namespace
}  // namespace vedette

int main(int argc, char** argv) {
  return vedette::run(argc, argv);
}
