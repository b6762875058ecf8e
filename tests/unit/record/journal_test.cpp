#include "agent/record/journal.h"

#include <csignal>
#include <filesystem>
#include <fstream>
#include <functional>
#include <random>

#include <doctest/doctest.h>
#include <sqlite3.h>
#include <sys/wait.h>
#include <unistd.h>

#include "agent/act/policy.h"
#include "agent/record/journal_store.h"
#include "tests/unit/file_size_limit.h"
#include "tests/unit/temporary_folder.h"

using namespace vedette;

namespace {

constexpr std::uint64_t kMaxBytes = std::uint64_t{16} << 20;
constexpr WallNs kNow = 1'700'000'000'000'000'000;

struct Folder : TemporaryFolder {
  std::string journal() const { return file("journal.db"); }
  std::size_t files(const std::string& with) const {
    std::size_t count = 0;
    for (const auto& entry : std::filesystem::directory_iterator(path()))
      count += entry.path().filename().string().find(with) != std::string::npos ? 1U : 0U;
    return count;
  }
};

std::unique_ptr<JournalStore> opened(const std::string& path, std::uint64_t max_bytes = kMaxBytes) {
  auto store = JournalStore::open(path, max_bytes, kNow);
  if (!store) FAIL(store.error().text);
  return std::move(*store);
}

JournalCondition condition(const std::string& incident, WallNs began,
                           const std::string& rule = "hard-evidence") {
  JournalCondition made;
  made.condition.reason = "FilesystemError";
  made.condition.entity = "node";
  made.condition.domain = Domain::kStorage;
  made.condition.severity = Severity::kUnhealthy;
  made.condition.began_wall_ns = began;
  made.condition.message = "ext4 found an error";
  made.incident = incident;
  made.rule = rule;
  return made;
}

Incident incident(const std::string& id, WallNs opened) {
  Incident made;
  made.id = id;
  made.opened_wall_ns = opened;
  made.severity = Severity::kUnhealthy;
  made.cause = "node";
  made.cause_why = "first to change";
  made.suspects = {{"node", 0.75, "used 2 cores"}, {"outside", 0.25, "3 connects failed"}};
  return made;
}

void must(const Status& status) {
  if (!status) FAIL(status.error().text);
}

std::string integrity(const std::string& path) {
  sqlite3* db = nullptr;
  std::string answer;
  if (sqlite3_open(path.c_str(), &db) == SQLITE_OK) {
    sqlite3_exec(
        db, "PRAGMA integrity_check",
        [](void* out, int, char** values, char**) {
          *static_cast<std::string*>(out) += values[0];
          return 0;
        },
        &answer, nullptr);
  }
  sqlite3_close(db);
  return answer;
}

const std::string kId = "20231114-221320-abcdef";

// A node whose filesystem is broken, an incident of its own.
std::shared_ptr<Snapshot> snapshot_of_trouble() {
  auto snapshot = std::make_shared<Snapshot>();
  snapshot->observation.time = {1'000'000'000, kNow};
  Condition trouble;
  trouble.reason = "FilesystemError";
  trouble.severity = Severity::kUnhealthy;
  trouble.entity = std::make_shared<const Entity>();
  trouble.since = snapshot->observation.time;
  trouble.message = "ext4 found an error";
  snapshot->conditions = {trouble};
  Incidents incidents;
  snapshot->incidents = incidents.update(snapshot->observation.time, snapshot->conditions, CauseFinder());
  return snapshot;
}

}  // namespace

TEST_CASE("what is written is read again, and what was open is closed by the next start") {
  const Folder folder;
  {
    const auto store = opened(folder.journal());
    must(store->begin());
    must(store->put(incident(kId, kNow)));
    must(store->put(condition(kId, kNow)));
    must(store->put(
        JournalAction{kNow + 1, "decided_taint", kId, 3, "FilesystemError", "NoSchedule", "it may"}));
    must(store->put(JournalFeedback{kNow + 2, kId, "true", "the disk was dead"}));
    must(store->commit());
  }
  const auto store = opened(folder.journal());
  const auto found = store->find(kId);
  REQUIRE(found);
  REQUIRE(*found);
  const JournalIncident& entry = **found;
  CHECK(entry.cut_short);
  CHECK(entry.incident.closed_wall_ns == kNow);
  CHECK(entry.incident.settled);
  CHECK(entry.incident.suspects == incident(kId, kNow).suspects);
  REQUIRE(entry.incident.conditions.size() == 1);
  CHECK(entry.incident.conditions[0].reason == "FilesystemError");
  CHECK(entry.incident.conditions[0].severity == Severity::kUnhealthy);
  CHECK(entry.incident.conditions[0].message == "ext4 found an error");
  REQUIRE(entry.actions.size() == 1);
  CHECK(entry.actions[0].generation == 3);
  REQUIRE(entry.feedback.size() == 1);
  CHECK(entry.feedback[0].why == "the disk was dead");
  CHECK(store->incidents(kNow + 1, 10)->empty());
  CHECK(store->incidents(kNow, 10)->size() == 1);
  CHECK_FALSE(*store->find("20231114-221320-000000"));
}

TEST_CASE("a verdict counts by what followed it, and by an operator's word before that") {
  const Folder folder;
  const auto store = opened(folder.journal());
  must(store->begin());
  must(store->put(incident(kId, kNow)));
  JournalCondition prediction = condition(kId, kNow, "predictions");
  prediction.outcome = Outcome::kConfirmed;
  JournalCondition evidence = condition(kId, kNow + 1, "hard-evidence");
  must(store->put(prediction));
  must(store->put(evidence));
  must(store->commit());
  CHECK(store->record()->empty());  // neither is over
  prediction.condition.ended_wall_ns = evidence.condition.ended_wall_ns = kNow + 4;
  must(store->begin());
  must(store->put(prediction));
  must(store->put(evidence));
  must(store->commit());
  auto record = *store->record();
  CHECK(record["predictions"] == RuleRecord{1, 0, 0});
  CHECK(record["hard-evidence"] == RuleRecord{0, 0, 1});
  for (const auto& [verdict, confirmed, refuted] :
       {std::tuple("true", 1, 0), {"false", 0, 1}, {"benign", 0, 1}, {"true", 1, 0}}) {
    must(store->begin());
    must(store->put(JournalFeedback{kNow + 5, kId, verdict, "said so"}));
    must(store->commit());
    record = *store->record();
    for (const char* rule : {"predictions", "hard-evidence"}) {
      CHECK(record[rule].confirmed == static_cast<std::uint64_t>(confirmed));
      CHECK(record[rule].refuted == static_cast<std::uint64_t>(refuted));
    }
  }
}

TEST_CASE("a journal of a newer minor version is gone on with, and what is only new in it stays as it was") {
  const Folder folder;
  {
    const auto store = opened(folder.journal());
    JournalCondition over = condition(kId, kNow);
    over.condition.ended_wall_ns = kNow + 1;
    over.outcome = Outcome::kConfirmed;
    must(store->begin());
    must(store->put(incident(kId, kNow)));
    must(store->put(over));
    must(store->commit());
  }
  std::string newer;
  for (const char* table : {"incidents", "conditions", "actions", "feedback", "pruned", "suspects"})
    newer += std::string("ALTER TABLE ") + table + " ADD COLUMN mood TEXT NOT NULL DEFAULT 'calm';";
  newer +=
      "UPDATE incidents SET mood = 'grim'; CREATE TABLE dreams(what TEXT); INSERT INTO dreams "
      "VALUES('sheep');"
      "PRAGMA user_version = 9";
  const auto ask = [&](const std::string& sql) {
    sqlite3* db = nullptr;
    std::string answer;
    REQUIRE(sqlite3_open(folder.journal().c_str(), &db) == SQLITE_OK);
    REQUIRE(sqlite3_exec(
                db, sql.c_str(),
                [](void* out, int, char** values, char**) {
                  *static_cast<std::string*>(out) += values[0];
                  return 0;
                },
                &answer, nullptr) == SQLITE_OK);
    sqlite3_close(db);
    return answer;
  };
  ask(newer);
  {
    const auto store = opened(folder.journal());
    CHECK(store->set_aside().empty());
    CHECK((*store->record())["hard-evidence"].confirmed == 1);
    must(store->begin());
    must(store->put(incident(kId, kNow)));  // again: its own columns alone
    must(store->put(condition(kId, kNow + 2)));
    must(store->put(JournalAction{kNow + 1, "taint_set", kId, 3, "FilesystemError", "NoSchedule", ""}));
    must(store->put(JournalFeedback{kNow + 2, kId, "true", "the disk was dead"}));
    must(store->commit());
    const auto found = store->find(kId);
    REQUIRE(found);
    REQUIRE(*found);
    CHECK((*found)->actions.size() == 1);
    CHECK((*found)->incident.suspects.size() == 2);
  }
  CHECK(ask("PRAGMA user_version") == "9");
  CHECK(ask("SELECT mood FROM incidents") == "grim");
  CHECK(ask("SELECT mood FROM actions") == "calm");
  CHECK(ask("SELECT what FROM dreams") == "sheep");
}

TEST_CASE("a journal of an older version is taken over, whatever it did not know") {
  // Version 2 knew no workloads, version 1 no suspects either.
  std::string older = "ALTER TABLE conditions DROP COLUMN workload; PRAGMA user_version = 2;";
  bool knows_suspects = true;
  SUBCASE("0.2") {}
  SUBCASE("0.1") {
    older += "DROP TABLE suspects; PRAGMA user_version = 1;";
    knows_suspects = false;
  }
  const Folder folder;
  {
    const auto store = opened(folder.journal());
    must(store->begin());
    must(store->put(incident(kId, kNow)));
    must(store->put(condition(kId, kNow)));
    must(store->commit());
  }
  sqlite3* db = nullptr;
  REQUIRE(sqlite3_open(folder.journal().c_str(), &db) == SQLITE_OK);
  REQUIRE(sqlite3_exec(db, older.c_str(), nullptr, nullptr, nullptr) == SQLITE_OK);
  sqlite3_close(db);
  const auto store = opened(folder.journal());
  CHECK(store->set_aside().empty());
  const auto found = store->find(kId);
  REQUIRE(found);
  REQUIRE(*found);
  CHECK((*found)->incident.cause == "node");
  CHECK((*found)->incident.suspects.size() == (knows_suspects ? 2 : 0));
  CHECK((*found)->incident.conditions.size() == 1);
  JournalCondition unusual = condition(kId, kNow + 1);
  unusual.condition.evidence = Evidence::kAnomaly;
  unusual.workload = "node";
  must(store->begin());
  must(store->put(incident(kId, kNow)));
  must(store->put(unusual));
  must(store->commit());
  CHECK((*store->find(kId))->incident.suspects.size() == 2);
  CHECK(store->lessons({kNow, kId, "true", ""}).value() == std::vector<Lesson>{{"node", true, "node"}});
}

TEST_CASE(
    "a journal that is damaged, of another major version or of somebody else is kept beside a fresh one") {
  const auto set_aside = [](const std::function<void(const std::string&)>& spoil) {
    const Folder folder;
    opened(folder.journal());
    spoil(folder.journal());
    const auto store = opened(folder.journal());
    CHECK(folder.files(".damaged-") >= 1);
    must(store->begin());
    must(store->put(incident(kId, kNow)));
    must(store->commit());
    CHECK(store->incidents(0, 10)->size() == 1);
    return store->set_aside();
  };
  CHECK(set_aside([](const std::string& path) {
          std::ofstream(path, std::ios::trunc) << std::string(8192, 'x');
        }).find("damaged") != std::string::npos);
  const auto run = [](const std::string& path, const char* sql) {
    sqlite3* db = nullptr;
    REQUIRE(sqlite3_open(path.c_str(), &db) == SQLITE_OK);
    REQUIRE(sqlite3_exec(db, sql, nullptr, nullptr, nullptr) == SQLITE_OK);
    sqlite3_close(db);
  };
  CHECK(set_aside([&](const std::string& path) {
          run(path, "PRAGMA user_version = 1003");
        }).find("of version 1.3, this agent knows versions 0.x") != std::string::npos);
  CHECK(set_aside([&](const std::string& path) {
          run(path, "PRAGMA application_id = 7");
        }).find("a database of another program") != std::string::npos);
}

TEST_CASE("a journal stays within its bound, and what it drops still counts") {
  const Folder folder;
  constexpr std::uint64_t kBound = 1 << 20;
  const auto store = opened(folder.journal(), kBound);
  constexpr std::uint64_t kIncidents = 2000;
  for (std::uint64_t n = 0; n < kIncidents; ++n) {
    char id[32];
    std::snprintf(id, sizeof id, "20231114-221320-%06x", static_cast<unsigned>(n));
    JournalCondition one = condition(id, kNow + n);
    one.condition.ended_wall_ns = kNow + n + 1;
    one.condition.message.assign(600, 'm');
    one.outcome = Outcome::kConfirmed;
    Incident whole = incident(id, kNow + n);
    whole.closed_wall_ns = kNow + n + 1;
    must(store->prune());
    must(store->begin());
    must(store->put(whole));
    must(store->put(one));
    must(store->commit());
  }
  CHECK(store->bytes() <= kBound);
  const auto kept = store->incidents(0, kIncidents);
  REQUIRE(kept);
  CHECK(kept->size() < kIncidents);
  CHECK(kept->size() > 100);
  CHECK(kept->front().incident.opened_wall_ns == kNow + kIncidents - 1);
  CHECK((*store->record())["hard-evidence"].confirmed == kIncidents);
}

TEST_CASE("a writer that is killed at any moment leaves a journal with all it was told is on disk") {
  const Folder folder;
  std::mt19937 random(20261125);
  std::uint64_t number = 0;
  for (int kill = 0; kill < 5; ++kill) {
    int told[2];
    REQUIRE(::pipe(told) == 0);
    const pid_t child = ::fork();
    REQUIRE(child >= 0);
    if (child == 0) {
      auto store = JournalStore::open(folder.journal(), kMaxBytes, kNow);
      if (!store) ::_exit(1);
      for (std::uint64_t next = number;; ++next) {
        char id[32];
        std::snprintf(id, sizeof id, "20231114-221320-%06x", static_cast<unsigned>(next));
        if (!(*store)->begin() || !(*store)->put(incident(id, kNow + next)) ||
            !(*store)->put(condition(id, kNow + next)) || !(*store)->commit()) {
          ::_exit(2);
        }
        if (::write(told[1], &next, sizeof next) != sizeof next) ::_exit(3);
      }
    }
    ::close(told[1]);
    std::uint64_t last = 0;
    bool any = false;
    const unsigned after = 1 + random() % 40;
    for (unsigned n = 0; n < after && ::read(told[0], &last, sizeof last) == sizeof last; ++n) any = true;
    ::usleep(random() % 3000);
    ::kill(child, SIGKILL);
    int status = 0;
    ::waitpid(child, &status, 0);
    CHECK(WIFSIGNALED(status));
    while (::read(told[0], &last, sizeof last) == sizeof last) {
    }
    ::close(told[0]);
    REQUIRE(any);
    number = last + 1;
    const auto store = opened(folder.journal());
    CHECK(store->set_aside().empty());
    const auto kept = store->incidents(0, 1'000'000);
    REQUIRE(kept);
    CHECK(kept->size() >= number);
    CHECK(kept->front().incident.opened_wall_ns >= kNow + last);
    for (const JournalIncident& entry : *kept) CHECK(entry.incident.conditions.size() == 1);
    number = kept->front().incident.opened_wall_ns - kNow + 1;
  }
  CHECK(integrity(folder.journal()) == "ok");
}

TEST_CASE(
    "snapshots become incidents, conditions and actions; a word of an operator is on disk when it is "
    "answered") {
  const Folder folder;
  Journal journal({.path = folder.journal()});
  const auto snapshot = snapshot_of_trouble();
  snapshot->decision.policy = Policy::builtin();
  snapshot->decision.taint = true;
  snapshot->decision.reason = "FilesystemError";
  snapshot->decision.effect = "NoSchedule";
  journal.publish(snapshot);
  const std::string id = snapshot->incidents.at(0).id;
  must(journal.say({kNow + 1, id, "false", "a drill"}));
  const auto found = journal.find(id);
  REQUIRE(found);
  REQUIRE(*found);
  CHECK((*found)->incident.conditions.size() == 1);
  REQUIRE((*found)->actions.size() == 1);
  CHECK((*found)->actions[0].what == "would_taint");
  REQUIRE((*found)->feedback.size() == 1);
  CHECK(journal.record()->at("hard-evidence") == RuleRecord{0, 1, 0});
  CHECK(journal.state().on);
  CHECK(journal.state().error.empty());
}

TEST_CASE("what is said of an incident is a lesson for the workloads whose anomaly it told, once for each") {
  const Folder folder;
  Journal journal({.path = folder.journal()});
  const auto snapshot = snapshot_of_trouble();
  const auto tell_anomaly = [&](EntityId id, const std::string& name, const std::string& workload) {
    const auto pod = std::make_shared<Entity>();
    pod->id = id;
    pod->kind = EntityKind::kPod;
    pod->name = "shop/" + name;
    pod->namespace_name = "shop";
    pod->workload = workload;
    Condition unusual = snapshot->conditions.front();
    unusual.reason = "Anomaly";
    unusual.evidence = Evidence::kAnomaly;
    unusual.entity = pod;
    snapshot->conditions.push_back(unusual);
  };
  tell_anomaly(7, "api-1", "Deployment/api");
  tell_anomaly(8, "api-2", "Deployment/api");
  tell_anomaly(9, "nobody", "");
  Incidents incidents;
  snapshot->incidents = incidents.update(snapshot->observation.time, snapshot->conditions, CauseFinder());
  journal.publish(snapshot);
  const std::string id = snapshot->incidents.at(0).id;
  CHECK(journal.take_lessons().empty());
  must(journal.say({kNow + 1, id, "benign", "a nightly job"}));
  must(journal.say({kNow + 2, id, "true", "no, it was trouble"}));
  const std::string workload = "pod/shop/Deployment/api";
  CHECK(journal.take_lessons() == std::vector<Lesson>{{"shop/api-1", false, workload},
                                                      {"shop/nobody", false, ""},
                                                      {"shop/api-1", true, workload},
                                                      {"shop/nobody", true, ""}});
  CHECK(journal.take_lessons().empty());
  must(journal.say({kNow + 3, "20200101-000000-000000", "false", "of no incident"}));
  CHECK(journal.take_lessons().empty());
}

TEST_CASE("advice, its end, and that the node is trusted again are actions of the incident") {
  const Folder folder;
  Journal journal({.path = folder.journal()});
  const auto snapshot = snapshot_of_trouble();
  const std::string id = snapshot->incidents.at(0).id;
  snapshot->decision.advice = {"NoSchedule", "FilesystemError", "ext4 found an error"};
  journal.publish(snapshot);
  journal.publish(snapshot);
  snapshot->conditions.clear();
  snapshot->incidents.clear();
  snapshot->decision.advice = {"", "", "recovered"};
  journal.publish(snapshot);
  snapshot->decision.trusted_wall_ns = kNow + 7;
  snapshot->decision.trusted_reason = "FilesystemError";
  snapshot->decision.trusted = "recovered from FilesystemError yesterday";
  journal.publish(snapshot);
  journal.publish(snapshot);
  const auto found = journal.find(id);
  REQUIRE(found);
  REQUIRE(*found);
  std::vector<std::string> told;
  for (const JournalAction& action : (*found)->actions)
    told.push_back(action.what + " " + action.reason + " " + action.effect + ": " + action.why);
  CHECK(told ==
        std::vector<std::string>{"advised_taint FilesystemError NoSchedule: ext4 found an error",
                                 "advised_lift FilesystemError NoSchedule: recovered",
                                 "trusted FilesystemError : recovered from FilesystemError yesterday"});
}

TEST_CASE("a journal that cannot be written says so and stops nobody") {
  Journal journal({.path = "/proc/no/journal.db"});
  journal.publish(std::make_shared<Snapshot>());
  const auto read = journal.incidents(0, 10);
  REQUIRE_FALSE(read);
  CHECK(read.error().text.find("/proc/no/journal.db") != std::string::npos);
  CHECK_FALSE(journal.state().error.empty());
}

TEST_CASE(
    "what happens while the disk is full is on it once it takes more, in order and once; ends have room") {
  const Folder folder;
  Journal journal({.path = folder.journal(), .queue = 3});
  const auto snapshot = snapshot_of_trouble();
  const std::string id = snapshot->incidents.at(0).id;
  REQUIRE(journal.find(id));
  {
    const FileSizeLimit full(0);
    snapshot->decision.taint = true;
    snapshot->decision.reason = "FilesystemError";
    snapshot->decision.effect = "NoSchedule";
    journal.publish(snapshot);
    const auto refused = journal.find(id);
    REQUIRE_FALSE(refused);
    CHECK(refused.error().text.starts_with("journal " + folder.journal() + ": "));
    CHECK(journal.state().error == refused.error().text);
    CHECK_FALSE(journal.say({kNow + 1, id, "true", "nobody wrote this down"}));
    CHECK(journal.state().dropped == 0);

    snapshot->observation.time.wall_ns = kNow + 5;
    snapshot->conditions.clear();
    snapshot->incidents[0].closed_wall_ns = kNow + 5;
    snapshot->decision.taint = false;  // more than there is room for
    journal.publish(snapshot);
    CHECK_FALSE(journal.find(id));
    CHECK(journal.state().dropped == 1);
  }
  const auto found = journal.find(id);
  REQUIRE(found);
  REQUIRE(*found);
  CHECK_FALSE((*found)->cut_short);
  CHECK((*found)->incident.closed_wall_ns == kNow + 5);
  REQUIRE((*found)->incident.conditions.size() == 1);
  CHECK((*found)->incident.conditions[0].ended_wall_ns == kNow + 5);
  REQUIRE((*found)->actions.size() == 1);
  CHECK((*found)->actions[0].what == "would_taint");
  CHECK((*found)->feedback.empty());
  CHECK(journal.state().error.empty());
  CHECK(journal.state().dropped == 1);
}

TEST_CASE("a journal whose disk stays full ends with the agent") {
  const Folder folder;
  const FileSizeLimit full(0);
  Journal journal({.path = folder.journal()});
  journal.publish(snapshot_of_trouble());
}

TEST_CASE("an agent that finds the journal another one's leaves it alone and says so") {
  const Folder folder;
  const auto snapshot = snapshot_of_trouble();
  const std::string id = snapshot->incidents.at(0).id;
  auto first = std::make_unique<Journal>(JournalOptions{.path = folder.journal()});
  first->publish(snapshot);
  REQUIRE(first->find(id));
  Journal second({.path = folder.journal()});
  CHECK(second.find(id).error().text == "journal " + folder.journal() + ": another agent writes into it");
  CHECK(second.state().error == "journal " + folder.journal() + ": another agent writes into it");
  CHECK((*first->find(id))->incident.closed_wall_ns == 0);
  first.reset();
  Journal third({.path = folder.journal()});
  CHECK((*third.find(id))->cut_short);
}
