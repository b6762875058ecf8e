// The journal's database: incidents, conditions, actions and feedback in SQLite. Every change belongs between
// begin() and commit(). Used by the journal's thread alone.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "agent/act/track_record.h"
#include "agent/assess/incidents.h"
#include "agent/base/result.h"
#include "agent/score/scorer.h"

struct sqlite3;

namespace vedette {

// How a verdict turned out, by what followed. An operator's word goes before it.
enum class Outcome : std::uint8_t { kUndecided, kConfirmed, kRefuted };

struct JournalCondition {
  IncidentCondition condition;
  std::string incident;  // empty: it belongs to none
  std::string rule;      // of the policy that is about it
  std::string workload;  // baseline_workload() of its entity
  Outcome outcome = Outcome::kUndecided;
};

struct JournalAction {
  WallNs wall_ns = 0;
  // would_, decided_ or advised_ (by a rule that has not earned it) taint or lift; taint_ set, lifted or
  // found; held_back; trusted (again)
  std::string what;
  std::string incident;  // that it was done for; empty: not known
  std::uint64_t generation = 0;
  std::string reason, effect, why;
};

struct JournalFeedback {
  WallNs wall_ns = 0;
  std::string incident;
  std::string verdict;  // true, false, benign
  std::string why;
};

// An incident as it is told, with all that belongs to it.
struct JournalIncident {
  Incident incident;
  bool cut_short = false;  // the agent ended before the incident did
  std::vector<JournalAction> actions;
  std::vector<JournalFeedback> feedback;
};

class JournalStore {
public:
  // Opens or makes the file. One that is damaged, of another major version or not ours is renamed to
  // PATH.damaged-TIME first (set_aside() then names it). What an earlier agent left open is closed at `now`.
  static Result<std::unique_ptr<JournalStore>> open(const std::string& path, std::uint64_t max_bytes,
                                                    WallNs now_wall_ns);
  ~JournalStore();
  JournalStore(const JournalStore&) = delete;
  JournalStore& operator=(const JournalStore&) = delete;

  const std::string& set_aside() const { return set_aside_; }

  // commit() ends when the disk has it. Without it nothing since begin() has happened.
  Status begin();
  Status commit();
  void rollback();
  // The file itself is broken: open() will set it aside.
  bool is_damaged() const { return damaged_; }

  Status put(const JournalCondition& condition);  // new, or what is known of it now
  Status put(const Incident& incident);           // without its conditions
  Status put(const JournalAction& action);  // that the node is trusted belongs to what it recovered from
  Status put(const JournalFeedback& feedback);
  // Drops the oldest tenth, again and again, where the file is nearly full; their verdicts still count.
  Status prune();

  // Newest first. Those that opened at `since` or later, or are open.
  Result<std::vector<JournalIncident>> incidents(WallNs since_wall_ns, std::size_t limit);
  Result<std::optional<JournalIncident>> find(const std::string& id);
  // What a word about an incident teaches of those whose anomaly it told, once for each workload.
  Result<std::vector<Lesson>> lessons(const JournalFeedback& feedback);
  Result<TrackRecord> record();
  std::uint64_t bytes() const;

private:
  class Statement;

  JournalStore(std::string path, sqlite3* db) : path_(std::move(path)), db_(db) {}
  static Result<std::unique_ptr<JournalStore>> open_once(const std::string& path, std::uint64_t max_bytes,
                                                         WallNs now_wall_ns, std::string& unusable);
  Status run(const char* sql);
  Status done(Statement& statement);
  tl::unexpected<Error> failure();
  Result<std::int64_t> number(const char* sql);
  Result<std::vector<JournalIncident>> read(Statement& statement);
  Status read_rest(JournalIncident& incident);

  std::string path_;
  sqlite3* db_;
  std::string set_aside_;
  std::int64_t max_pages_ = 0;
  bool damaged_ = false;
};

}  // namespace vedette
