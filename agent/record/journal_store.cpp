#include "agent/record/journal_store.h"

#include <algorithm>
#include <array>
#include <cstdio>
#include <utility>

#include <sqlite3.h>

#include "agent/base/duration.h"

namespace vedette {
namespace {

// The schema's version is 1000 * major + minor. The rule: a new minor adds tables, indices, or columns that
// have a default, and nothing else; an agent reads and writes each file of its major, leaves alone what it
// does not know, and lowers no version, so that one that is rolled back goes on with the track record.
// Whatever an older agent would misread or break (a column with another meaning, a rule that its rows do not
// keep) is a new major: that it sets aside.
constexpr int kMajor = 0;
constexpr int kMinor = 3;
constexpr int kVersion = 1000 * kMajor + kMinor;
constexpr int kApplicationId = 0x56656465;  // "Vede"
constexpr std::int64_t kPageBytes = 4096;
// Of the bound, before the oldest is dropped: a transaction must still fit.
constexpr double kNearlyFull = 0.9;

constexpr const char* kSchema = R"(
CREATE TABLE incidents(id TEXT PRIMARY KEY, opened_ns INTEGER NOT NULL, closed_ns INTEGER NOT NULL,
  severity INTEGER NOT NULL, more INTEGER NOT NULL, cause TEXT NOT NULL, cause_why TEXT NOT NULL,
  cut_short INTEGER NOT NULL DEFAULT 0) WITHOUT ROWID;
CREATE INDEX incidents_by_time ON incidents(opened_ns);
CREATE TABLE conditions(began_ns INTEGER NOT NULL, reason TEXT NOT NULL, entity TEXT NOT NULL,
  ended_ns INTEGER NOT NULL, incident TEXT NOT NULL, rule TEXT NOT NULL, domain INTEGER NOT NULL,
  evidence INTEGER NOT NULL, severity INTEGER NOT NULL, confidence REAL NOT NULL, message TEXT NOT NULL,
  outcome INTEGER NOT NULL, PRIMARY KEY(began_ns, reason, entity)) WITHOUT ROWID;
CREATE INDEX conditions_by_incident ON conditions(incident);
CREATE TABLE actions(wall_ns INTEGER NOT NULL, what TEXT NOT NULL, incident TEXT NOT NULL,
  generation INTEGER NOT NULL, reason TEXT NOT NULL, effect TEXT NOT NULL, why TEXT NOT NULL);
CREATE INDEX actions_by_incident ON actions(incident);
CREATE TABLE feedback(wall_ns INTEGER NOT NULL, incident TEXT NOT NULL, verdict TEXT NOT NULL, why TEXT NOT NULL);
CREATE INDEX feedback_by_incident ON feedback(incident);
CREATE TABLE pruned(rule TEXT PRIMARY KEY, confirmed INTEGER NOT NULL, refuted INTEGER NOT NULL,
  undecided INTEGER NOT NULL) WITHOUT ROWID;
)";

// Since version 0.2: who may be the cause of an incident.
constexpr const char* kSuspects = R"(
CREATE TABLE suspects(incident TEXT NOT NULL, place INTEGER NOT NULL, entity TEXT NOT NULL, score REAL NOT NULL,
  why TEXT NOT NULL, PRIMARY KEY(incident, place)) WITHOUT ROWID;
)";

// Since version 0.3: of whom an operator's word teaches, also when its pod has gone.
constexpr const char* kWorkloads = R"(
ALTER TABLE conditions ADD COLUMN workload TEXT NOT NULL DEFAULT '';
)";

// What makes each minor version of the one before.
constexpr std::array<const char*, kMinor> kSteps{kSchema, kSuspects, kWorkloads};

// What each verdict is worth: the newest word of an operator, else what followed. One that lasts and that
// nobody spoke about is none yet. 0 undecided, 1 confirmed, 2 refuted.
constexpr const char* kVerdicts = R"(
WITH said AS (SELECT incident, verdict FROM feedback WHERE rowid IN (SELECT max(rowid) FROM feedback GROUP BY incident)),
verdicts AS (SELECT c.rule AS rule, c.began_ns AS began_ns, c.ended_ns AS ended_ns,
    CASE said.verdict WHEN 'true' THEN 1 WHEN 'false' THEN 2 WHEN 'benign' THEN 2 ELSE c.outcome END AS worth
  FROM conditions c LEFT JOIN said ON said.incident = c.incident AND c.incident <> ''
  WHERE c.rule <> '' AND (c.ended_ns <> 0 OR said.verdict IS NOT NULL))
)";

constexpr const char* kIncidents =
    "SELECT id, opened_ns, closed_ns, severity, more, cause, cause_why, cut_short FROM incidents WHERE ";

}  // namespace

// One prepared statement, bound in the order of its question marks.
class JournalStore::Statement {
public:
  Statement(sqlite3* db, const std::string& sql) {
    code_ = ::sqlite3_prepare_v2(db, sql.c_str(), -1, &statement_, nullptr);
  }
  ~Statement() { ::sqlite3_finalize(statement_); }
  Statement(const Statement&) = delete;
  Statement& operator=(const Statement&) = delete;

  template <typename... Values>
  Statement& bind(const Values&... values) {
    int place = 0;
    (put(++place, values), ...);
    return *this;
  }
  // True: there is a row. False: no more, or an error.
  bool step() {
    if (code_ != SQLITE_OK && code_ != SQLITE_ROW) return false;
    code_ = ::sqlite3_step(statement_);
    return code_ == SQLITE_ROW;
  }
  bool is_done() const { return code_ == SQLITE_DONE; }

  std::int64_t number(int column) const { return ::sqlite3_column_int64(statement_, column); }
  std::uint64_t time(int column) const { return static_cast<std::uint64_t>(number(column)); }
  // Whatever somebody may have written there.
  template <typename Enum>
  Enum word(int column, Enum last) const {
    return static_cast<Enum>(std::min(time(column), static_cast<std::uint64_t>(last)));
  }
  double real(int column) const { return ::sqlite3_column_double(statement_, column); }
  std::string text(int column) const {
    const unsigned char* bytes = ::sqlite3_column_text(statement_, column);
    return bytes == nullptr ? "" : reinterpret_cast<const char*>(bytes);
  }

private:
  void put(int place, const std::string& text) {
    ::sqlite3_bind_text(statement_, place, text.data(), static_cast<int>(text.size()), SQLITE_TRANSIENT);
  }
  void put(int place, double value) { ::sqlite3_bind_double(statement_, place, value); }
  void put(int place, std::uint64_t value) {
    ::sqlite3_bind_int64(statement_, place, static_cast<std::int64_t>(value));
  }

  sqlite3_stmt* statement_ = nullptr;
  int code_;
};

Result<std::unique_ptr<JournalStore>> JournalStore::open(const std::string& path, std::uint64_t max_bytes,
                                                         WallNs now_wall_ns) {
  std::string unusable;
  auto opened = open_once(path, max_bytes, now_wall_ns, unusable);
  if (unusable.empty()) return opened;
  const std::string aside = path + ".damaged-" + utc_stamp(now_wall_ns);
  // The log first: left alone, it would be taken for that of the fresh file.
  for (const char* part : {"-wal", "-shm"}) std::rename((path + part).c_str(), (aside + part).c_str());
  if (std::rename(path.c_str(), aside.c_str()) != 0)
    return fail_errno("journal " + path + ": " + unusable + "; rename it to " + aside);
  opened = open_once(path, max_bytes, now_wall_ns, unusable);
  if (opened) (*opened)->set_aside_ = path + ": " + unusable + ", kept as " + aside;
  return opened;
}

Result<std::unique_ptr<JournalStore>> JournalStore::open_once(const std::string& path,
                                                              std::uint64_t max_bytes, WallNs now_wall_ns,
                                                              std::string& unusable) {
  sqlite3* db = nullptr;
  const int code = ::sqlite3_open_v2(
      path.c_str(), &db, SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE | SQLITE_OPEN_NOMUTEX, nullptr);
  std::unique_ptr<JournalStore> store(new JournalStore(path, db));
  if (code != SQLITE_OK) return store->failure();
  store->max_pages_ = static_cast<std::int64_t>(max_bytes) / kPageBytes;
  // Another process that reads it (sqlite3, a backup) may hold it for a moment.
  ::sqlite3_busy_timeout(db, 2000);

  const auto refuse = [&](std::string why) {
    unusable = std::move(why);
    return fail("journal " + path + ": " + unusable);
  };
  const auto version = store->number("PRAGMA user_version");
  const auto application = store->number("PRAGMA application_id");
  const auto tables = store->number("SELECT count(*) FROM sqlite_master");
  if (!version || !application || !tables) {
    const Error& error = !version ? version.error() : !application ? application.error() : tables.error();
    return store->damaged_ ? refuse("damaged") : tl::unexpected(error);
  }
  if (*tables > 0 && *application != kApplicationId) return refuse("a database of another program");
  if (*version < 0 || *version / 1000 != kMajor)
    return refuse("of version " + std::to_string(*version / 1000) + "." + std::to_string(*version % 1000) +
                  ", this agent knows versions " + std::to_string(kMajor) + ".x");
  {
    Statement check(db, "PRAGMA quick_check(1)");
    const bool answered = check.step();
    if (!answered || check.text(0) != "ok") {
      const auto error = store->failure();
      return answered || store->damaged_ ? refuse("damaged") : error;
    }
  }
  // FULL: an entry is there after a power cut too; a node that fails is what the journal is for, and entries
  // are few. The log is folded into the file at 1 MiB, so the two are little more than the bound.
  for (const std::string& setting :
       {std::string("PRAGMA journal_mode = WAL"), std::string("PRAGMA synchronous = FULL"),
        std::string("PRAGMA wal_autocheckpoint = 256"), std::string("PRAGMA journal_size_limit = 1048576"),
        "PRAGMA max_page_count = " + std::to_string(store->max_pages_)}) {
    if (Status ok = store->run(setting.c_str()); !ok) {
      if (store->damaged_) return refuse("damaged");
      return tl::unexpected(ok.error());
    }
  }
  if (Status ok = store->begin(); !ok) return tl::unexpected(ok.error());
  if (*version < kVersion) {
    std::string made = "PRAGMA user_version = " + std::to_string(kVersion) +
                       "; PRAGMA application_id = " + std::to_string(kApplicationId) + ";";
    for (auto minor = static_cast<std::size_t>(*version); minor < kSteps.size(); ++minor)
      made += kSteps[minor];
    if (Status ok = store->run(made.c_str()); !ok) return tl::unexpected(ok.error());
  }
  for (const char* sql : {"UPDATE conditions SET ended_ns = ? WHERE ended_ns = 0",
                          "UPDATE incidents SET closed_ns = ?, cut_short = 1 WHERE closed_ns = 0"}) {
    Statement close(db, sql);
    close.bind(now_wall_ns).step();
    if (Status ok = store->done(close); !ok) {
      if (store->damaged_) return refuse("damaged");
      return tl::unexpected(ok.error());
    }
  }
  if (Status ok = store->commit(); !ok) return tl::unexpected(ok.error());
  return store;
}

JournalStore::~JournalStore() {
  ::sqlite3_close(db_);
}

tl::unexpected<Error> JournalStore::failure() {
  const int code = ::sqlite3_errcode(db_) & 0xff;
  damaged_ = damaged_ || code == SQLITE_CORRUPT || code == SQLITE_NOTADB;
  return fail("journal " + path_ + ": " + ::sqlite3_errmsg(db_));
}

Status JournalStore::done(Statement& statement) {
  return statement.is_done() ? Status{} : failure();
}

Status JournalStore::run(const char* sql) {
  return ::sqlite3_exec(db_, sql, nullptr, nullptr, nullptr) == SQLITE_OK ? Status{} : failure();
}

Result<std::int64_t> JournalStore::number(const char* sql) {
  Statement statement(db_, sql);
  if (!statement.step()) return failure();
  return statement.number(0);
}

Status JournalStore::begin() {
  return run("BEGIN IMMEDIATE");
}
Status JournalStore::commit() {
  return run("COMMIT");
}
void JournalStore::rollback() {
  ::sqlite3_exec(db_, "ROLLBACK", nullptr, nullptr, nullptr);
}

Status JournalStore::put(const JournalCondition& entry) {
  const IncidentCondition& condition = entry.condition;
  Statement statement(
      db_,
      "INSERT INTO conditions(began_ns, reason, entity, ended_ns, incident, rule, domain, evidence, "
      "severity, confidence, message, outcome, workload) VALUES(?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?) "
      "ON CONFLICT DO UPDATE SET ended_ns = excluded.ended_ns, incident = excluded.incident, "
      "rule = excluded.rule, severity = excluded.severity, confidence = excluded.confidence, "
      "message = excluded.message, outcome = excluded.outcome, workload = excluded.workload");
  statement
      .bind(condition.began_wall_ns, condition.reason, condition.entity, condition.ended_wall_ns,
            entry.incident, entry.rule, std::uint64_t(condition.domain), std::uint64_t(condition.evidence),
            std::uint64_t(condition.severity), condition.confidence, condition.message,
            std::uint64_t(entry.outcome), entry.workload)
      .step();
  return done(statement);
}

Status JournalStore::put(const Incident& incident) {
  Statement statement(
      db_,
      "INSERT INTO incidents(id, opened_ns, closed_ns, severity, more, cause, cause_why, cut_short) "
      "VALUES(?, ?, ?, ?, ?, ?, ?, 0) "
      "ON CONFLICT DO UPDATE SET closed_ns = excluded.closed_ns, severity = "
      "excluded.severity, more = excluded.more, cause = excluded.cause, cause_why = "
      "excluded.cause_why, cut_short = 0");
  statement
      .bind(incident.id, incident.opened_wall_ns, incident.closed_wall_ns, std::uint64_t(incident.severity),
            std::uint64_t{incident.more}, incident.cause, incident.cause_why)
      .step();
  if (Status ok = done(statement); !ok) return ok;
  Statement old(db_, "DELETE FROM suspects WHERE incident = ?");
  old.bind(incident.id).step();
  if (Status ok = done(old); !ok) return ok;
  std::uint64_t place = 0;
  for (const Suspect& suspect : incident.suspects) {
    Statement insert(db_, "INSERT INTO suspects(incident, place, entity, score, why) VALUES(?, ?, ?, ?, ?)");
    insert.bind(incident.id, place++, suspect.entity, suspect.score, suspect.why).step();
    if (Status ok = done(insert); !ok) return ok;
  }
  return {};
}

Status JournalStore::put(const JournalAction& action) {
  std::string incident = action.incident;
  if (action.what == "trusted") {
    // A day after the last recovery, be it of an earlier process.
    Statement last(
        db_, "SELECT incident FROM actions WHERE reason = ? AND incident <> '' ORDER BY rowid DESC LIMIT 1");
    if (last.bind(action.reason).step()) incident = last.text(0);
  }
  Statement statement(db_,
                      "INSERT INTO actions(wall_ns, what, incident, generation, reason, effect, why) "
                      "VALUES(?, ?, ?, ?, ?, ?, ?)");
  statement
      .bind(action.wall_ns, action.what, incident, action.generation, action.reason, action.effect,
            action.why)
      .step();
  return done(statement);
}

Status JournalStore::put(const JournalFeedback& feedback) {
  Statement statement(db_, "INSERT INTO feedback(wall_ns, incident, verdict, why) VALUES(?, ?, ?, ?)");
  statement.bind(feedback.wall_ns, feedback.incident, feedback.verdict, feedback.why).step();
  return done(statement);
}

Status JournalStore::prune() {
  for (int round = 0; round < 40; ++round) {
    const auto pages = number("PRAGMA page_count");
    const auto free = number("PRAGMA freelist_count");
    if (!pages || !free) return tl::unexpected(!pages ? pages.error() : free.error());
    if (static_cast<double>(*pages - *free) < kNearlyFull * static_cast<double>(max_pages_)) return {};
    const auto oldest = number(
        "SELECT coalesce((SELECT began_ns FROM conditions WHERE ended_ns <> 0 ORDER BY began_ns LIMIT 1 "
        "OFFSET (SELECT count(*) / 10 FROM conditions WHERE ended_ns <> 0)), 0)");
    if (!oldest) return tl::unexpected(oldest.error());
    const auto cutoff = static_cast<std::uint64_t>(*oldest);
    const std::string dropped =
        std::string(kVerdicts) +
        "INSERT INTO pruned(rule, confirmed, refuted, undecided) SELECT rule, sum(worth = 1), sum(worth = "
        "2), sum(worth = 0) FROM "
        "verdicts WHERE ended_ns <> 0 AND began_ns <= ? GROUP BY rule ON CONFLICT DO UPDATE SET "
        "confirmed = confirmed + excluded.confirmed, refuted = refuted + excluded.refuted, "
        "undecided = undecided + excluded.undecided";
    if (Status ok = begin(); !ok) return ok;
    for (const std::string& sql :
         {dropped, std::string("DELETE FROM conditions WHERE ended_ns <> 0 AND began_ns <= ?")}) {
      Statement statement(db_, sql);
      statement.bind(cutoff).step();
      if (Status ok = done(statement); !ok) {
        rollback();
        return ok;
      }
    }
    const Status rest =
        run("DELETE FROM actions WHERE rowid IN (SELECT rowid FROM actions ORDER BY rowid LIMIT "
            "(SELECT count(*) / 10 + 1 FROM actions));"
            "DELETE FROM incidents WHERE closed_ns <> 0 AND NOT EXISTS "
            "(SELECT 1 FROM conditions WHERE incident = incidents.id);"
            "DELETE FROM suspects WHERE NOT EXISTS (SELECT 1 FROM incidents WHERE id = suspects.incident);"
            "DELETE FROM feedback WHERE NOT EXISTS (SELECT 1 FROM incidents WHERE id = feedback.incident) OR "
            "rowid NOT IN (SELECT max(rowid) FROM feedback GROUP BY incident);");
    if (Status ok = rest ? commit() : rest; !ok) {
      rollback();
      return ok;
    }
  }
  return {};
}

Result<std::vector<JournalIncident>> JournalStore::incidents(WallNs since_wall_ns, std::size_t limit) {
  Statement statement(
      db_, std::string(kIncidents) + "opened_ns >= ? OR closed_ns = 0 ORDER BY opened_ns DESC LIMIT ?");
  return read(statement.bind(since_wall_ns, std::uint64_t{limit}));
}

Result<std::optional<JournalIncident>> JournalStore::find(const std::string& id) {
  Statement statement(db_, std::string(kIncidents) + "id = ?");
  auto list = read(statement.bind(id));
  if (!list) return tl::unexpected(list.error());
  return list->empty() ? std::nullopt : std::optional(std::move(list->front()));
}

Result<std::vector<JournalIncident>> JournalStore::read(Statement& statement) {
  std::vector<JournalIncident> list;
  while (statement.step()) {
    JournalIncident& entry = list.emplace_back();
    entry.incident.id = statement.text(0);
    entry.incident.opened_wall_ns = statement.time(1);
    entry.incident.closed_wall_ns = statement.time(2);
    entry.incident.severity = statement.word(3, Severity::kUnhealthy);
    entry.incident.more = statement.time(4);
    entry.incident.cause = statement.text(5);
    entry.incident.cause_why = statement.text(6);
    entry.incident.settled = true;  // an open one is told as it is now
    entry.cut_short = statement.number(7) != 0;
  }
  if (!statement.is_done()) return failure();
  for (JournalIncident& entry : list) {
    if (Status ok = read_rest(entry); !ok) return tl::unexpected(ok.error());
  }
  return list;
}

Status JournalStore::read_rest(JournalIncident& entry) {
  const std::string& id = entry.incident.id;
  Statement conditions(db_,
                       "SELECT reason, entity, domain, evidence, severity, began_ns, ended_ns, confidence, "
                       "message, outcome FROM conditions WHERE incident = ? ORDER BY began_ns, reason");
  conditions.bind(id);
  while (conditions.step()) {
    IncidentCondition& condition = entry.incident.conditions.emplace_back();
    condition.reason = conditions.text(0);
    condition.entity = conditions.text(1);
    condition.domain = conditions.word(2, Domain::kRuntime);
    condition.evidence = conditions.word(3, Evidence::kAnomaly);
    condition.severity = conditions.word(4, Severity::kUnhealthy);
    condition.began_wall_ns = conditions.time(5);
    condition.ended_wall_ns = conditions.time(6);
    condition.confidence = conditions.real(7);
    condition.message = conditions.text(8);
    condition.came_true = conditions.word(9, Outcome::kRefuted) == Outcome::kConfirmed;
  }
  if (!conditions.is_done()) return failure();
  Statement suspects(db_, "SELECT entity, score, why FROM suspects WHERE incident = ? ORDER BY place");
  suspects.bind(id);
  while (suspects.step())
    entry.incident.suspects.push_back({suspects.text(0), suspects.real(1), suspects.text(2)});
  if (!suspects.is_done()) return failure();
  Statement actions(
      db_,
      "SELECT wall_ns, what, generation, reason, effect, why FROM actions WHERE incident = ? ORDER BY rowid");
  actions.bind(id);
  while (actions.step()) {
    entry.actions.push_back({actions.time(0), actions.text(1), id, actions.time(2), actions.text(3),
                             actions.text(4), actions.text(5)});
  }
  if (!actions.is_done()) return failure();
  Statement feedback(db_, "SELECT wall_ns, verdict, why FROM feedback WHERE incident = ? ORDER BY rowid");
  feedback.bind(id);
  while (feedback.step())
    entry.feedback.push_back({feedback.time(0), id, feedback.text(1), feedback.text(2)});
  return done(feedback);
}

Result<std::vector<Lesson>> JournalStore::lessons(const JournalFeedback& feedback) {
  // A workload may become known while its condition lasts.
  Statement of(db_,
               "SELECT min(entity), workload FROM (SELECT entity, max(workload) AS workload FROM conditions "
               "WHERE incident = ? AND evidence = ? GROUP BY entity) "
               "GROUP BY CASE workload WHEN '' THEN entity ELSE workload END, workload = '' ORDER BY 1");
  of.bind(feedback.incident, std::uint64_t(Evidence::kAnomaly));
  std::vector<Lesson> lessons;
  while (of.step()) lessons.push_back({of.text(0), feedback.verdict == "true", of.text(1)});
  if (!of.is_done()) return failure();
  return lessons;
}

Result<TrackRecord> JournalStore::record() {
  TrackRecord record;
  for (const std::string& sql :
       {std::string(kVerdicts) +
            "SELECT rule, sum(worth = 1), sum(worth = 2), sum(worth = 0) FROM verdicts GROUP BY rule",
        std::string("SELECT rule, confirmed, refuted, undecided FROM pruned")}) {
    Statement statement(db_, sql);
    while (statement.step()) {
      RuleRecord& rule = record[statement.text(0)];
      rule.confirmed += statement.time(1);
      rule.refuted += statement.time(2);
      rule.undecided += statement.time(3);
    }
    if (!statement.is_done()) return failure();
  }
  return record;
}

std::uint64_t JournalStore::bytes() const {
  Statement pages(db_, "PRAGMA page_count");
  return pages.step() ? pages.time(0) * kPageBytes : 0;
}

}  // namespace vedette
