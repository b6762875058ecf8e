#include "agent/record/journal.h"

#include <algorithm>
#include <chrono>
#include <condition_variable>
#include <deque>
#include <future>
#include <iterator>
#include <mutex>
#include <stop_token>
#include <thread>
#include <utility>

#include <fcntl.h>
#include <spdlog/spdlog.h>
#include <sys/file.h>

#include "agent/act/policy.h"
#include "agent/base/handle.h"
#include "agent/score/baselines.h"

namespace vedette {
namespace {

// The client of the socket waits 5 s, and feedback asks twice.
constexpr std::chrono::seconds kPatience{2};
// After a failure: a full or missing disk comes back when somebody has helped.
constexpr std::chrono::seconds kRetry{10};
// A transaction of so many fits into the tenth of the file that is kept free for it, also where 1 MiB is all.
constexpr std::size_t kTogether = 128;

bool same(const JournalCondition& a, const JournalCondition& b) {
  return a.condition.began_wall_ns == b.condition.began_wall_ns &&
         a.condition.severity == b.condition.severity && a.incident == b.incident && a.rule == b.rule &&
         a.outcome == b.outcome && a.workload == b.workload;
}

bool same(const Incident& a, const Incident& b) {
  return a.severity == b.severity && a.closed_wall_ns == b.closed_wall_ns && a.cause == b.cause &&
         a.cause_why == b.cause_why && a.suspects == b.suspects && a.more == b.more;
}

}  // namespace

struct Journal::Worker {
  struct Task {
    std::function<Status(JournalStore&)> work;
    // Who asked is told after the commit, or that it failed. Empty: an entry, which is tried until it is
    // kept.
    std::function<void(const Status&)> done;
  };

  explicit Worker(JournalOptions given) : options(std::move(given)) {}

  const JournalOptions options;
  Latest<TrackRecord> record;

  mutable std::mutex mutex;
  std::condition_variable_any changed;
  std::deque<Task> queue;       // under mutex
  std::size_t in_hand = 0;      // under mutex: taken out of it, and may come back
  JournalUse use;               // under mutex
  std::vector<Lesson> lessons;  // under mutex

  // The journal's thread only.
  FileHandle lock_file;
  std::unique_ptr<JournalStore> store;
  std::chrono::steady_clock::time_point next_try{};

  std::jthread thread;  // last: it must end before what it uses

  bool add(Task task, std::size_t room);
  // `is_end`: of what was open, and would last for ever without it.
  void write(std::function<Status(JournalStore&)> work, bool is_end = false) {
    add({std::move(work), {}}, is_end ? 2 * options.queue : options.queue);
  }
  template <typename T>
  Result<T> ask(std::function<Result<T>(JournalStore&)> question);
  Status lock_journal();
  Status open();
  Status carry_out(const std::deque<Task>& tasks);
  std::deque<Task> put_back(std::deque<Task> tasks);
  void run(const std::stop_token& stop);
};

bool Journal::Worker::add(Task task, std::size_t room) {
  {
    const std::lock_guard lock(mutex);
    if (queue.size() + in_hand >= room) {
      if (!task.done) ++use.dropped;
      return false;
    }
    queue.push_back(std::move(task));
  }
  changed.notify_one();
  return true;
}

template <typename T>
Result<T> Journal::Worker::ask(std::function<Result<T>(JournalStore&)> question) {
  // Shared: whoever asked may have gone when the disk answers at last.
  struct Answer {
    std::promise<Result<T>> promise;
    Result<T> value = fail("not asked");
  };
  const auto answer = std::make_shared<Answer>();
  std::future<Result<T>> future = answer->promise.get_future();
  const bool queued = add({[answer, question](JournalStore& opened) -> Status {
                             answer->value = question(opened);
                             return answer->value ? Status{} : Status(tl::unexpected(answer->value.error()));
                           },
                           [answer](const Status& committed) {
                             if (!committed) answer->value = tl::unexpected(committed.error());
                             answer->promise.set_value(std::move(answer->value));
                           }},
                          2 * options.queue);
  if (!queued) return fail("journal " + options.path + ": too much waits to be written");
  if (future.wait_for(kPatience) != std::future_status::ready)
    return fail("journal " + options.path + ": its disk has not answered within 2 s");
  return future.get();
}

// Beside the file: closing a second handle of the file itself would end SQLite's own locks.
Status Journal::Worker::lock_journal() {
  const std::string path = options.path + ".lock";
  FileHandle file(::open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600));
  if (!file) return fail_errno("journal " + options.path + ": open " + path);
  if (::flock(file.get(), LOCK_EX | LOCK_NB) != 0)
    return fail("journal " + options.path + ": another agent writes into it");
  lock_file = std::move(file);
  return {};
}

Status Journal::Worker::open() {
  const auto now = std::chrono::steady_clock::now();
  if (now < next_try) {
    const std::lock_guard lock(mutex);
    return fail(use.error);
  }
  next_try = now + kRetry;
  if (!lock_file) {
    if (Status ok = lock_journal(); !ok) return ok;
  }
  auto opened = JournalStore::open(options.path, options.max_bytes, wall_now());
  if (!opened) return tl::unexpected(opened.error());
  store = std::move(*opened);
  if (!store->set_aside().empty()) {
    spdlog::warn("journal {}; a new one begins", store->set_aside());
    const std::lock_guard lock(mutex);
    use.set_aside = store->set_aside();
  }
  auto known = store->record();
  if (known) record.set(std::move(*known));
  return known ? Status{} : tl::unexpected(known.error());
}

// All or nothing. A file that turns out to be damaged is set aside, and the entries go into the next one.
Status Journal::Worker::carry_out(const std::deque<Task>& tasks) {
  Status ok;
  for (int tries = 0; tries < 2; ++tries) {
    ok = store == nullptr ? open() : Status{};
    if (ok) ok = store->prune();
    if (ok) ok = store->begin();
    for (const Task& task : tasks) {
      if (ok) ok = task.work(*store);
    }
    if (ok) ok = store->commit();
    if (ok || store == nullptr) return ok;
    store->rollback();
    if (!store->is_damaged()) return ok;
    store.reset();
    next_try = {};
  }
  return ok;
}

// Entries go back to where they were. Answers those who asked, whom a later try is of no use.
std::deque<Journal::Worker::Task> Journal::Worker::put_back(std::deque<Task> tasks) {
  std::ranges::move(queue, std::back_inserter(tasks));
  queue.clear();
  std::deque<Task> asked;
  for (Task& task : tasks) (task.done ? asked : queue).push_back(std::move(task));
  return asked;
}

void Journal::Worker::run(const std::stop_token& stop) {
  bool first = true;  // an old file's record counts before anything happens
  std::unique_lock lock(mutex);
  for (;;) {
    if (!first) changed.wait(lock, stop, [&] { return !queue.empty(); });
    if (queue.empty() && !std::exchange(first, false)) break;
    std::deque<Task> tasks;
    while (!queue.empty() && tasks.size() < kTogether) {
      tasks.push_back(std::move(queue.front()));
      queue.pop_front();
    }
    in_hand = tasks.size();
    lock.unlock();
    const Status ok = carry_out(tasks);
    std::uint64_t bytes = 0;
    if (ok) {
      bytes = store->bytes();
      if (auto now = store->record(); now && *now != *record.get()) record.set(std::move(*now));
    }
    lock.lock();
    in_hand = 0;
    if (ok) {
      if (!use.error.empty()) spdlog::info("journal {}: entries are kept again", options.path);
      use.error.clear();
      use.written += tasks.size();
      use.bytes = bytes;
    } else {
      if (use.error.empty()) spdlog::warn("{}; the agent goes on and tries again", ok.error().text);
      use.error = ok.error().text;
      tasks = put_back(std::move(tasks));
    }
    lock.unlock();
    for (const Task& task : tasks) {
      if (task.done) task.done(ok);
    }
    lock.lock();
    if (ok) continue;
    if (stop.stop_requested()) break;
    // Whoever asks meanwhile has perhaps helped.
    changed.wait_for(lock, stop, kRetry, [&] {
      return std::ranges::any_of(queue, [](const Task& task) { return task.done != nullptr; });
    });
  }
  if (!queue.empty()) spdlog::warn("journal {}: {} entries are lost", options.path, queue.size());
}

Journal::Journal(JournalOptions options) : worker_(std::make_unique<Worker>(std::move(options))) {
  worker_->use.on = true;
  worker_->record.set(TrackRecord{});
  worker_->thread =
      std::jthread([worker = worker_.get()](const std::stop_token& stop) { worker->run(stop); });
}

Journal::~Journal() = default;

std::shared_ptr<const TrackRecord> Journal::record() const {
  return worker_->record.get();
}

std::vector<Lesson> Journal::take_lessons() {
  const std::lock_guard lock(worker_->mutex);
  return std::exchange(worker_->lessons, {});
}

JournalUse Journal::state() const {
  const std::lock_guard lock(worker_->mutex);
  return worker_->use;
}

Result<std::vector<JournalIncident>> Journal::incidents(WallNs since_wall_ns, std::size_t limit) {
  return worker_->ask<std::vector<JournalIncident>>(
      [=](JournalStore& store) { return store.incidents(since_wall_ns, limit); });
}

Result<std::optional<JournalIncident>> Journal::find(const std::string& id) {
  return worker_->ask<std::optional<JournalIncident>>([=](JournalStore& store) { return store.find(id); });
}

Status Journal::say(const JournalFeedback& feedback) {
  auto lessons = worker_->ask<std::vector<Lesson>>([=](JournalStore& store) -> Result<std::vector<Lesson>> {
    if (Status ok = store.put(feedback); !ok) return tl::unexpected(ok.error());
    return store.lessons(feedback);
  });
  if (!lessons) return tl::unexpected(lessons.error());
  const std::lock_guard lock(worker_->mutex);
  std::ranges::move(*lessons, std::back_inserter(worker_->lessons));
  return {};
}

void Journal::publish(const std::shared_ptr<const Snapshot>& snapshot) {
  note_conditions(*snapshot);
  note_incidents(*snapshot);
  note_actions(*snapshot);
}

void Journal::note_conditions(const Snapshot& snapshot) {
  const auto write = [this](const JournalCondition& entry) {
    worker_->write([entry](JournalStore& store) { return store.put(entry); },
                   entry.condition.ended_wall_ns != 0);
  };
  std::map<Key, JournalCondition> now;
  for (const Condition& condition : snapshot.conditions) {
    JournalCondition& entry = now[Key(condition.reason, condition.entity->id)];
    entry.condition = {condition.reason,
                       condition.entity->name,
                       condition.domain,
                       condition.evidence,
                       condition.severity,
                       condition.since.wall_ns,
                       0,
                       condition.confidence,
                       condition.message,
                       condition.came_true};
    entry.workload = baseline_workload(*condition.entity);
    if (condition.came_true) entry.outcome = Outcome::kConfirmed;
    // Only what the rule could have acted on is its record.
    if (snapshot.decision.policy && condition.entity->kind == EntityKind::kNode) {
      const Policy& policy = *snapshot.decision.policy;
      const std::size_t rule = policy.find(condition);
      if (rule < policy.rules.size() && condition.confidence >= policy.rules[rule].confidence)
        entry.rule = policy.rules[rule].name;
    }
    for (const Incident& incident : snapshot.incidents) {
      const bool inside = std::ranges::any_of(incident.conditions, [&](const IncidentCondition& part) {
        return part.reason == condition.reason && part.entity == condition.entity->name &&
               part.ended_wall_ns == 0;
      });
      if (inside) entry.incident = incident.id;
    }
    const auto known = conditions_.find(Key(condition.reason, condition.entity->id));
    if (known == conditions_.end() || !same(known->second, entry)) write(entry);
  }
  for (auto& [key, entry] : conditions_) {
    if (now.contains(key)) continue;
    entry.condition.ended_wall_ns = snapshot.observation.time.wall_ns;
    // A prediction lasts as long as its horizon after the last time it was made.
    if (entry.condition.evidence == Evidence::kRisk && entry.outcome == Outcome::kUndecided)
      entry.outcome = Outcome::kRefuted;
    write(entry);
  }
  conditions_ = std::move(now);
}

void Journal::note_incidents(const Snapshot& snapshot) {
  std::map<std::string, Incident> now;
  for (const Incident& incident : snapshot.incidents) {
    Incident head = incident;
    head.conditions.clear();
    const auto known = incidents_.find(head.id);
    if (known == incidents_.end() || !same(known->second, head))
      worker_->write([head](JournalStore& store) { return store.put(head); }, head.closed_wall_ns != 0);
    if (head.closed_wall_ns == 0) now[head.id] = std::move(head);
  }
  incidents_ = std::move(now);
}

void Journal::note_actions(const Snapshot& snapshot) {
  const Decision& decision = snapshot.decision;
  const ActState& act = snapshot.act;
  const auto incident_of = [&](const std::string& reason) -> std::string {
    const auto known = conditions_.find(Key(reason, kNodeEntity));
    return known == conditions_.end() ? "" : known->second.incident;
  };
  const auto write = [&](std::string what, const std::string& incident, std::string reason,
                         std::string effect, std::string why) {
    const JournalAction action{snapshot.observation.time.wall_ns,
                               std::move(what),
                               incident,
                               decision.generation,
                               std::move(reason),
                               std::move(effect),
                               std::move(why)};
    worker_->write([action](JournalStore& store) { return store.put(action); });
  };
  const std::string verb = decision.mode == Mode::kEnforce ? "decided_" : "would_";
  if (decision.taint &&
      (!decision_.taint || decision.reason != decision_.reason || decision.effect != decision_.effect)) {
    taint_incident_ = incident_of(decision.reason);
    write(verb + "taint", taint_incident_, decision.reason, decision.effect, decision.message);
  }
  if (!decision.taint && decision_.taint)
    write(verb + "lift", taint_incident_, decision_.reason, decision_.effect, decision.message);
  if (act.known && act_.known && act.tainted != act_.tainted) {
    const ActState& taint = act.tainted ? act : act_;
    write(act.tainted ? "taint_set" : "taint_lifted", taint_incident_, taint.taint_reason, taint.taint_effect,
          "");
  }
  if (act.known && !act_.known && act.tainted)
    write("taint_found", "", act.taint_reason, act.taint_effect, "on the node when the agent started");
  const Advice& advice = decision.advice;
  const Advice& advice_before = decision_.advice;
  if (!advice.effect.empty() &&
      (advice.effect != advice_before.effect || advice.reason != advice_before.reason)) {
    advice_incident_ = incident_of(advice.reason);
    write("advised_taint", advice_incident_, advice.reason, advice.effect, advice.message);
  }
  if (advice.effect.empty() && !advice_before.effect.empty())
    write("advised_lift", advice_incident_, advice_before.reason, advice_before.effect, advice.message);
  if (decision.trusted_wall_ns != decision_.trusted_wall_ns)
    write("trusted", "", decision.trusted_reason, "", decision.trusted);
  for (const auto& [now, before] :
       {std::pair(&decision.held_back, &decision_.held_back), {&act.held_back, &act_.held_back}}) {
    if (now->empty() || substance_of(*now) == substance_of(*before)) continue;
    const std::string reason = now == &act.held_back ? decision.reason : substance_of(*now);
    write("held_back", incident_of(reason), reason, decision.effect, *now);
  }
  decision_ = decision;
  act_ = act;
}

}  // namespace vedette
