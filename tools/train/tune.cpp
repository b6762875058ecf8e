#include "tools/train/tune.h"

#include <algorithm>
#include <atomic>
#include <cmath>
#include <optional>
#include <span>
#include <thread>
#include <type_traits>
#include <utility>

#include "agent/score/exact_math.h"
#include "tools/train/trainer.h"

namespace vedette {
namespace {

// As many false alarms must be wanted for half and twice of them to say something.
constexpr double kTellingAlarms = 10;
constexpr double kLeastOfWanted = 0.5;
constexpr double kMostOfWanted = 2;
constexpr double kTenMinutesADay = 144;

// Results of one setting, by set and table.
using Results = std::vector<std::vector<TableResult>>;
struct LeftOut {
  std::size_t set = 0;
  std::size_t table = 0;
};

// With each: its name, the guess it is drawn around, its place.
template <typename Visit>
void visit_constants(TableOptions& options, Visit visit) {
  DetectorOptions& detector = options.detector;
  visit("slow_half_life_rows", 20'000, detector.slow_half_life_rows);
  visit("step_half_life_rows", 1'000, detector.step_half_life_rows);
  visit("short_half_life_rows", 20, detector.short_half_life_rows);
  visit("smooth_half_life_rows", 3, detector.smooth_half_life_rows);
  visit("tail.half_life_rows", 5'000, detector.tail.half_life_rows);
  visit("bend", 3, detector.bend);
  visit("learn_clip", 8, detector.learn_clip);
  visit("moves", 0.5, detector.moves);
  visit("ridge", 0.02, detector.ridge);
  visit("calm", 30, detector.calm);
  visit("energy_weight", 0.2, detector.energy_weight);
  visit("incident_rarity", 1.4, detector.incident_rarity);
  visit("incident_rows", 7, detector.incident_rows);
  visit("incident_weight", 0.01, detector.incident_weight);
  visit("floor_of_range", 0.02, options.floor_of_range);
}

TableOptions options_of(const Setting& setting) {
  TableOptions options;
  std::size_t i = 0;
  visit_constants(options, [&](const char*, double, auto& place) {
    place = static_cast<std::remove_reference_t<decltype(place)>>(setting[i++]);
  });
  return options;
}

Setting draw(RandomBits& random) {
  Setting setting;
  for (std::size_t i = 0; i < kTuned; ++i)
    setting[i] = tuned_constants()[i].guess * static_cast<double>(exact_exp2(2 * random.uniform() - 1));
  return setting;
}

// Calls `work` with every number below `count`, from several threads.
void for_each(std::size_t count, unsigned threads, const std::function<void(std::size_t)>& work) {
  std::atomic<std::size_t> next{0};
  const auto loop = [&] {
    for (std::size_t i = next++; i < count; i = next++) work(i);
  };
  std::vector<std::jthread> others;
  for (unsigned i = 1; i < threads; ++i) others.emplace_back(loop);
  loop();
}

// The sum of the sets' mean average precision; nothing where a set raises too many false alarms, or too few.
std::optional<double> merit(const Results& results, const std::optional<LeftOut>& without) {
  double sum = 0;
  for (std::size_t set = 0; set < results.size(); ++set) {
    double precision = 0;
    double tables = 0;
    double rows = 0;
    std::array<double, kBudgets.size()> alarms{};
    for (std::size_t table = 0; table < results[set].size(); ++table) {
      if (without && without->set == set && without->table == table) continue;
      const TableResult& each = results[set][table];
      precision += each.precision;
      tables += 1;
      rows += each.calm_rows;
      for (std::size_t i = 0; i < kBudgets.size(); ++i) alarms[i] += each.alarms[i];
    }
    for (std::size_t i = 0; i < kBudgets.size(); ++i) {
      const double wanted = kBudgets[i] * rows;
      if (wanted < kTellingAlarms) continue;
      if (alarms[i] < kLeastOfWanted * wanted || alarms[i] > kMostOfWanted * wanted) return std::nullopt;
    }
    if (tables > 0) sum += precision / tables;
  }
  return sum;
}

struct Choice {
  Setting setting{};
  std::size_t admissible = 0;
};

Result<Choice> choose(const std::vector<Setting>& settings, const std::vector<Results>& results,
                      const std::optional<LeftOut>& without) {
  std::vector<std::pair<double, std::size_t>> ranked;
  for (std::size_t i = 0; i < settings.size(); ++i) {
    if (const auto found = merit(results[i], without)) ranked.emplace_back(*found, i);
  }
  if (ranked.empty()) {
    return fail("none of " + std::to_string(settings.size()) +
                " settings raised half to twice of the false alarms that are wanted: draw more");
  }
  std::ranges::sort(ranked, std::ranges::greater{});
  const std::size_t better = (ranked.size() + 1) / 2;
  Choice choice{.admissible = ranked.size()};
  for (std::size_t i = 0; i < kTuned; ++i) {
    double logarithms = 0;
    for (std::size_t k = 0; k < better; ++k) logarithms += std::log(settings[ranked[k].second][i]);
    choice.setting[i] = std::exp(logarithms / static_cast<double>(better));
  }
  return choice;
}

}  // namespace

const std::array<TunedConstant, kTuned>& tuned_constants() {
  static const std::array<TunedConstant, kTuned> constants = [] {
    std::array<TunedConstant, kTuned> list;
    TableOptions options;
    std::size_t i = 0;
    visit_constants(options, [&](const char* name, double guess, const auto&) { list[i++] = {name, guess}; });
    return list;
  }();
  return constants;
}

Setting shipped_setting() {
  Setting setting;
  TableOptions options;
  std::size_t i = 0;
  visit_constants(options,
                  [&](const char*, double, const auto& place) { setting[i++] = static_cast<double>(place); });
  return setting;
}

Result<LabelledSet> read_labelled_set(const std::string& folder, double rows_a_day) {
  LabelledSet set{.name = folder, .rows_a_day = rows_a_day, .tables = {}};
  const auto entities = entities_of(folder);
  if (!entities) return tl::unexpected(entities.error());
  for (const std::string& entity : *entities) {
    Result<EntityTables> tables = open_tables(folder, entity);
    if (!tables) return tl::unexpected(tables.error());
    LabelledTable out{.columns = tables->train.names().size(), .train = {}, .test = {}, .labels = {}};
    std::vector<float> row;
    for (Table* table : {&tables->train, &tables->test}) {
      std::vector<float>& rows = table == &tables->train ? out.train : out.test;
      for (;;) {
        const Result<bool> more = table->next(row);
        if (!more) return tl::unexpected(more.error());
        if (!*more) break;
        rows.insert(rows.end(), row.begin(), row.end());
        if (table == &tables->train) continue;
        const Result<bool> label = table->label();
        if (!label) return tl::unexpected(label.error());
        out.labels.push_back(*label ? 1.F : 0.F);
      }
    }
    if (std::ranges::count(out.labels, 1.F) == 0 || std::ranges::count(out.labels, 0.F) == 0)
      return fail(tables->test.path().string() +
                  ": label: expected rows that are anomalous and rows that are not");
    set.tables.push_back(std::move(out));
  }
  return set;
}

TableResult measure(const LabelledSet& set, const LabelledTable& table, const Setting& setting) {
  TableScorer scorer(table.columns, options_of(setting));
  for (std::size_t at = 0; at < table.train.size(); at += table.columns)
    scorer.judge(std::span(table.train).subspan(at, table.columns));
  std::vector<float> scores;
  scores.reserve(table.labels.size());
  for (std::size_t at = 0; at < table.test.size(); at += table.columns)
    scores.push_back(scorer.judge(std::span(table.test).subspan(at, table.columns)));

  TableResult result;
  result.precision = average_precision(scores, table.labels);
  const auto slack = static_cast<std::ptrdiff_t>(std::max(1.0, std::round(set.rows_a_day / kTenMinutesADay)));
  std::vector<bool> near(scores.size());
  const auto rows = std::ranges::ssize(near);
  for (std::ptrdiff_t i = 0; i < rows; ++i) {
    if (table.labels[static_cast<std::size_t>(i)] == 0) continue;
    const std::ptrdiff_t first = std::max<std::ptrdiff_t>(0, i - slack);
    std::fill(near.begin() + first, near.begin() + std::min(rows, i + slack + 1), true);
  }
  for (std::size_t row = 0; row < scores.size(); ++row) {
    if (near[row]) continue;
    result.calm_rows += 1;
    for (std::size_t i = 0; i < kBudgets.size(); ++i) {
      if (scores[row] > -exact_log10(static_cast<float>(kBudgets[i]))) result.alarms[i] += 1;
    }
  }
  return result;
}

Result<TuneReport> tune(const std::vector<LabelledSet>& sets, const TuneOptions& options) {
  RandomBits random(options.seed);
  std::vector<Setting> settings(options.settings);
  for (Setting& setting : settings) setting = draw(random);

  std::vector<Results> results(settings.size());
  std::atomic<std::size_t> measured{0};
  for_each(settings.size(), options.threads, [&](std::size_t i) {
    for (const LabelledSet& set : sets) {
      std::vector<TableResult>& of_set = results[i].emplace_back();
      for (const LabelledTable& table : set.tables) of_set.push_back(measure(set, table, settings[i]));
    }
    options.progress(++measured);
  });

  const Result<Choice> by_all = choose(settings, results, std::nullopt);
  if (!by_all) return tl::unexpected(by_all.error());
  TuneReport report{.admissible = by_all->admissible, .chosen = by_all->setting, .sets = {}};
  for (std::size_t set = 0; set < sets.size(); ++set) {
    const std::vector<LabelledTable>& tables = sets[set].tables;
    std::vector<Setting> without;
    for (std::size_t table = 0; table < tables.size(); ++table) {
      const Result<Choice> choice = choose(settings, results, LeftOut{set, table});
      if (!choice) return tl::unexpected(choice.error());
      without.push_back(choice->setting);
    }
    struct Precisions {
      double shipped, chosen, left_out;
    };
    std::vector<Precisions> of(tables.size());
    for_each(tables.size(), options.threads, [&](std::size_t i) {
      const auto precision = [&](const Setting& setting) {
        return measure(sets[set], tables[i], setting).precision;
      };
      of[i] = {precision(shipped_setting()), precision(by_all->setting), precision(without[i])};
    });
    TuneReport::Set& told = report.sets.emplace_back();
    told.name = sets[set].name;
    told.tables = tables.size();
    for (const Precisions& each : of) {
      told.shipped += each.shipped / static_cast<double>(tables.size());
      told.chosen += each.chosen / static_cast<double>(tables.size());
      told.left_out += each.left_out / static_cast<double>(tables.size());
    }
  }
  return report;
}

}  // namespace vedette
