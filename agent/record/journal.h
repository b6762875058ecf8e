// What happened on this node, on disk: incidents, the beginning and end of conditions, what was decided and
// done, what people said of it. The tick thread publishes, the socket's thread asks and waits a little; one
// thread of the journal's own does all that touches the disk.
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "agent/base/latest.h"
#include "agent/base/result.h"
#include "agent/record/journal_store.h"
#include "agent/snapshot.h"

namespace vedette {

// Where the journal is unless the configuration names another place; only where its directory can be written.
inline constexpr const char* kDefaultJournal = "/var/lib/vedette/journal.db";

struct JournalOptions {
  std::string path;
  // The oldest is dropped beyond it. An incident with ten conditions takes some 4 kB: 64 MiB are years of a
  // troubled node, and nobody misses them on its disk.
  std::uint64_t max_bytes = std::uint64_t{64} << 20;
  // Entries that wait for a disk that is slow, full or away: a node in the worst trouble makes some hundred
  // at once. The ends of conditions and incidents have as much room again.
  std::size_t queue = 4096;
};

class Journal final : public Sink {
public:
  // Always: a file or disk that cannot be used, or that another agent writes, is told by state(), and tried
  // again; entries wait for it.
  explicit Journal(JournalOptions options);
  // Writes what waits, as far as the disk takes it.
  ~Journal() override;

  void publish(const std::shared_ptr<const Snapshot>& snapshot) override;  // tick thread

  // Any thread. Never null.
  std::shared_ptr<const TrackRecord> record() const;
  // What was said since the last call, as far as scores can learn from it.
  std::vector<Lesson> take_lessons();
  JournalUse state() const;

  // The socket's thread; each waits for the disk, but not for long: then it is an error. What was published
  // before is in the answer.
  Result<std::vector<JournalIncident>> incidents(WallNs since_wall_ns, std::size_t limit);
  Result<std::optional<JournalIncident>> find(const std::string& id);
  // On disk when it returns.
  Status say(const JournalFeedback& feedback);

private:
  struct Worker;
  using Key = std::pair<std::string, EntityId>;

  void note_conditions(const Snapshot& snapshot);
  void note_incidents(const Snapshot& snapshot);
  void note_actions(const Snapshot& snapshot);

  std::unique_ptr<Worker> worker_;
  // Of the tick thread: what was told last.
  std::map<Key, JournalCondition> conditions_;
  std::map<std::string, Incident> incidents_;  // without their conditions
  Decision decision_;
  ActState act_;
  std::string taint_incident_, advice_incident_;
};

}  // namespace vedette
