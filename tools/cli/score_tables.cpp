#include "tools/cli/score_tables.h"

#include <cstddef>
#include <filesystem>
#include <fstream>
#include <iomanip>
#include <ostream>
#include <system_error>
#include <vector>

#include "agent/score/exact_math.h"
#include "tools/cli/table.h"

namespace vedette {
namespace {

namespace fs = std::filesystem;

Status score_entity(const ScoreTablesOptions& options, const std::string& entity, std::ostream& told) {
  Result<EntityTables> tables = open_tables(options.set, entity);
  if (!tables) return tl::unexpected(tables.error());
  const fs::path out_path = fs::path(options.out) / (entity + ".csv");
  std::ofstream out(out_path);
  out << "score,alarm\n" << std::setprecision(7);

  TableScorer scorer(tables->train.names().size(), {});
  const float alarm_at = -exact_log10(static_cast<float>(options.false_alarms));
  std::vector<float> row;
  std::size_t rows = 0;
  std::size_t alarms = 0;
  for (Table* table : {&tables->train, &tables->test}) {
    for (;;) {
      const Result<bool> more = table->next(row);
      if (!more) return tl::unexpected(more.error());
      if (!*more) break;
      const float rarity = scorer.judge(row);
      if (table == &tables->train) continue;
      const bool alarm = rarity > alarm_at;
      out << rarity << (alarm ? ",1\n" : ",0\n");
      ++rows;
      alarms += alarm ? 1 : 0;
    }
  }
  if (!out.flush()) return fail_errno("write " + out_path.string());
  told << out_path.string() << ": " << rows << " rows, " << alarms << " alarms\n";
  return {};
}

}  // namespace

Status score_tables(const ScoreTablesOptions& options, std::ostream& told) {
  const Result<std::vector<std::string>> entities = entities_of(options.set);
  if (!entities) return tl::unexpected(entities.error());
  std::error_code error;
  fs::create_directories(options.out, error);
  if (error) return fail(options.out + ": " + error.message());
  for (const std::string& entity : *entities) {
    Status scored = score_entity(options, entity, told);
    if (!scored) return scored;
  }
  return {};
}

}  // namespace vedette
