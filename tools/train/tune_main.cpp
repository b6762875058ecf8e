// vedette-tune: what the detector's constants owe to the labelled tables they were chosen on.
#include <cstdio>
#include <string>
#include <thread>
#include <vector>

#include <CLI/CLI.hpp>

#include "tools/train/tune.h"

namespace {

using namespace vedette;

Status run(const std::vector<std::string>& folders, const std::vector<double>& rows_a_day,
           const TuneOptions& options) {
  if (folders.size() != rows_a_day.size())
    return fail("--rows-a-day: expected " + std::to_string(folders.size()) + " numbers, one for each set");
  std::vector<LabelledSet> sets;
  for (std::size_t i = 0; i < folders.size(); ++i) {
    Result<LabelledSet> set = read_labelled_set(folders[i], rows_a_day[i]);
    if (!set) return tl::unexpected(set.error());
    sets.push_back(std::move(*set));
  }
  const Result<TuneReport> report = tune(sets, options);
  if (!report) return tl::unexpected(report.error());
  std::printf("%zu of %zu settings are admissible; the better half of them is in the mean\n",
              report->admissible, options.settings);
  const Setting shipped = shipped_setting();
  for (std::size_t i = 0; i < kTuned; ++i) {
    std::printf("  %-22s %10.4g   shipped %10.4g\n", tuned_constants()[i].name, report->chosen[i],
                shipped[i]);
  }
  std::printf("average precision, mean of the tables\n");
  for (const TuneReport::Set& set : report->sets) {
    std::printf(
        "  %s (%zu tables): shipped %.3f, chosen by all %.3f, without the table it is measured on %.3f: %.1f "
        "%% less "
        "than shipped\n",
        set.name.c_str(), set.tables, set.shipped, set.chosen, set.left_out,
        100 * (1 - set.left_out / set.shipped));
  }
  return {};
}

}  // namespace

int main(int argc, char** argv) {
  CLI::App app{
      "Draws settings of the anomaly detector, chooses by labels, and measures leave-one-table-out."};
  std::vector<std::string> folders;
  std::vector<double> rows_a_day;
  TuneOptions options;
  options.threads = std::max(1U, std::thread::hardware_concurrency());
  app.add_option("sets", folders, "Folders with train/ and test/, whose tables have a column label")
      ->required()
      ->check(CLI::ExistingDirectory);
  app.add_option("--rows-a-day", rows_a_day, "How many rows a day has, for each set")
      ->required()
      ->check(CLI::PositiveNumber);
  app.add_option("--settings", options.settings, "How many are drawn")
      ->check(CLI::PositiveNumber)
      ->capture_default_str();
  app.add_option("--seed", options.seed, "Of the draw")->capture_default_str();
  CLI11_PARSE(app, argc, argv);
  const std::size_t all = options.settings;
  options.progress = [all](std::size_t measured) {
    if (measured % 50 == 0) std::fprintf(stderr, "%zu of %zu settings measured\n", measured, all);
  };
  if (const Status status = run(folders, rows_a_day, options); !status) {
    std::fprintf(stderr, "vedette-tune: %s\n", status.error().text.c_str());
    return 1;
  }
  return 0;
}
