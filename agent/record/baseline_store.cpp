#include "agent/record/baseline_store.h"

#include <algorithm>
#include <condition_variable>
#include <cstdio>
#include <deque>
#include <mutex>
#include <optional>
#include <stop_token>
#include <thread>
#include <utility>

#include <spdlog/spdlog.h>
#include <unistd.h>

#include "agent/record/baseline_file.h"

namespace vedette {
namespace {

// Copies of some 30 kB that wait for the disk.
constexpr std::size_t kMaxWaiting = 4;

// Imports that wait for a tick: there are several ticks a second.
constexpr std::size_t kMaxImports = 4;

std::shared_ptr<const Baselines> of_any_node(Baselines baselines, const std::string& node) {
  baselines.of_other_node = baselines.node != node;
  return std::make_shared<const Baselines>(std::move(baselines));
}

}  // namespace

struct BaselineStore::Worker {
  struct Step {
    std::optional<Baseline> baseline;  // none: a round begins or ends
    bool ends = false;
  };

  explicit Worker(const BaselineStoreOptions& given) : options(given) {}

  const BaselineStoreOptions options;

  mutable std::mutex mutex;
  std::condition_variable_any changed;
  std::deque<Step> steps;                                 // under mutex
  std::deque<std::shared_ptr<const Baselines>> to_teach;  // under mutex
  BaselineUse use;                                        // under mutex

  // The store's thread only.
  std::optional<BaselineWriter> writer;
  std::size_t written = 0;
  WallNs began_wall_ns = 0;

  std::jthread thread;  // last: it must end before what it uses

  void add(Step step) {
    {
      const std::lock_guard lock(mutex);
      steps.push_back(std::move(step));
    }
    changed.notify_one();
  }
  std::size_t waiting() const {
    const std::lock_guard lock(mutex);
    return steps.size();
  }
  Status carry_out(const Step& step);
  void run(const std::stop_token& stop);
};

Status BaselineStore::Worker::carry_out(const Step& step) {
  if (step.baseline) {
    if (!writer) return {};  // the round has failed and said so
    ++written;
    return writer->append(*step.baseline);
  }
  if (!step.ends) {
    written = 0;
    began_wall_ns = wall_now();
    writer.reset();
    Result<BaselineWriter> made = BaselineWriter::create(
        options.path, {{}, options.node, options.agent_version, began_wall_ns, false, {}, {}});
    if (!made) return tl::unexpected(made.error());
    writer.emplace(std::move(*made));
    return {};
  }
  if (!writer) return {};
  const Result<std::uint64_t> bytes = std::exchange(writer, std::nullopt)->finish();
  if (!bytes) return tl::unexpected(bytes.error());
  const std::lock_guard lock(mutex);
  use.workloads = written;
  use.bytes = *bytes;
  use.saved_wall_ns = began_wall_ns;
  use.error.clear();
  return {};
}

void BaselineStore::Worker::run(const std::stop_token& stop) {
  for (;;) {
    std::optional<Step> step;
    {
      std::unique_lock lock(mutex);
      changed.wait(lock, stop, [&] { return !steps.empty(); });
      if (steps.empty()) return;
      step = std::move(steps.front());
      steps.pop_front();
    }
    if (Status ok = carry_out(*step); !ok) {
      writer.reset();
      const std::lock_guard lock(mutex);
      if (use.error != ok.error().text) spdlog::warn("baselines are not saved: {}", ok.error().text);
      use.error = ok.error().text;
    }
  }
}

BaselineStore::BaselineStore(BaselineStoreOptions options)
    : options_(std::move(options)), worker_(std::make_unique<Worker>(options_)) {}

Result<std::unique_ptr<BaselineStore>> BaselineStore::make(BaselineStoreOptions options) {
  std::unique_ptr<BaselineStore> store(new BaselineStore(std::move(options)));
  Worker& worker = *store->worker_;
  const BaselineStoreOptions& with = store->options_;
  if (!with.seed.empty()) {
    Result<Baselines> seed = load_baselines(with.seed);
    if (!seed) return fail("score.baselines_seed: " + seed.error().text);
    for (const std::string& left_out : seed->left_out)
      spdlog::warn("baselines: {}: {}; it is left out", with.seed, left_out);
    worker.to_teach.push_back(of_any_node(std::move(*seed), with.node));
  }
  if (with.path.empty()) return store;
  worker.use.on = true;
  if (::access(with.path.c_str(), F_OK) == 0) {
    Result<std::string> bytes = read_baseline_file(with.path);
    if (!bytes) {
      worker.use.error = bytes.error().text + "; nothing is saved over it";
      spdlog::warn("baselines: {}", worker.use.error);
      return store;
    }
    Result<Baselines> own = parse_baselines(std::move(*bytes), with.path);
    if (own) {
      for (const std::string& left_out : own->left_out)
        spdlog::warn("baselines: {}: {}; it is learnt anew", with.path, left_out);
      worker.use.workloads = own->list.size();
      worker.use.bytes = own->file.size();
      worker.use.saved_wall_ns = own->saved_wall_ns;
      // Before the seed.
      worker.to_teach.push_front(of_any_node(std::move(*own), with.node));
    } else {
      const std::string aside = with.path + ".damaged";
      if (std::rename(with.path.c_str(), aside.c_str()) != 0) {
        worker.use.error = own.error().text + "; " + fail_errno("rename it to " + aside).value().text;
        spdlog::warn("baselines: {}", worker.use.error);
        return store;
      }
      worker.use.set_aside = own.error().text + ", kept as " + aside;
      spdlog::warn("baselines: {}; all is learnt anew", worker.use.set_aside);
    }
  }
  worker.thread = std::jthread([&worker](const std::stop_token& stop) { worker.run(stop); });
  return store;
}

BaselineStore::~BaselineStore() = default;

std::shared_ptr<const Baselines> BaselineStore::take() {
  const std::lock_guard lock(worker_->mutex);
  if (worker_->to_teach.empty()) return nullptr;
  std::shared_ptr<const Baselines> next = std::move(worker_->to_teach.front());
  worker_->to_teach.pop_front();
  return next;
}

void BaselineStore::begin_round(const AnomalyScorer& scorer) {
  round_ = scorer.workloads();
  {
    const std::lock_guard lock(worker_->mutex);
    worker_->use.left_out = round_.size() - std::min(round_.size(), kMaxBaselines);
  }
  if (round_.size() > kMaxBaselines) round_.resize(kMaxBaselines);
  std::ranges::reverse(round_);
  if (!round_.empty()) worker_->add({});
}

void BaselineStore::tick(MonotonicNs now, const AnomalyScorer& scorer) {
  if (!worker_->thread.joinable()) return;
  if (round_.empty()) {
    if (next_round_ns_ == 0 || now >= next_round_ns_) {
      const bool first = next_round_ns_ == 0;
      next_round_ns_ = now + static_cast<MonotonicNs>(options_.save_every_s * kNsPerSecond);
      if (!first) begin_round(scorer);
    }
    return;
  }
  while (!round_.empty() && worker_->waiting() < kMaxWaiting) {
    std::optional<Baseline> next = scorer.baseline(round_.back());
    round_.pop_back();
    if (next) worker_->add({std::move(next), false});
  }
  if (round_.empty()) worker_->add({std::nullopt, true});
}

void BaselineStore::save(const AnomalyScorer& scorer) {
  if (!worker_->thread.joinable()) return;
  begin_round(scorer);
  if (round_.empty()) return;
  for (; !round_.empty(); round_.pop_back()) worker_->add({scorer.baseline(round_.back()), false});
  worker_->add({std::nullopt, true});
  worker_->thread.request_stop();
  worker_->thread.join();
}

Result<std::size_t> BaselineStore::import(std::string bytes) {
  Result<Baselines> given = parse_baselines(std::move(bytes), "the file");
  if (!given) return tl::unexpected(given.error());
  const std::size_t count = given->list.size();
  const std::lock_guard lock(worker_->mutex);
  if (worker_->to_teach.size() >= kMaxImports)
    return fail("others are imported already: try again in a moment");
  worker_->to_teach.push_back(of_any_node(std::move(*given), options_.node));
  return count;
}

Result<std::string> BaselineStore::exported() const {
  if (options_.path.empty()) return fail("the agent keeps no baselines: set score.baselines");
  if (state().saved_wall_ns == 0)
    return fail("no baseline is saved yet: they are known after some minutes, and saved every ten");
  return read_baseline_file(options_.path);
}

BaselineUse BaselineStore::state() const {
  const std::lock_guard lock(worker_->mutex);
  return worker_->use;
}

}  // namespace vedette
