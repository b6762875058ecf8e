#include "tools/train/report.h"

#include <cstdarg>
#include <cstdio>
#include <set>

#include <nlohmann/json.hpp>

namespace vedette {
namespace {

using Json = nlohmann::ordered_json;

__attribute__((format(printf, 1, 2))) std::string format(const char* pattern, ...) {
  char text[512];
  va_list arguments;
  va_start(arguments, pattern);
  std::vsnprintf(text, sizeof text, pattern, arguments);  // NOLINT(clang-analyzer-valist.*): clang 14 errs
  va_end(arguments);
  return text;
}

std::string fingerprint(const Dataset& data) {
  return format("%016llx", static_cast<unsigned long long>(data.fingerprint));
}

Json to_json(const Announcements& found) {
  return {{"failing_runs", found.failing},
          {"announced", found.announced},
          {"announced_share", found.announced_share()},
          {"announced_over_120_s_before", found.early},
          {"median_lead_s", found.median_lead_s()},
          {"lookalike_runs", found.lookalike},
          {"flagged", found.flagged},
          {"flagged_share", found.flagged_share()}};
}

std::string sentence(const Announcements& found) {
  return format(
      "%zu of %zu failures announced (%.1f %%), median lead %.1f s (%zu more than 120 s before); "
      "%zu of %zu runs that did not fail flagged (%.1f %%)",
      found.announced, found.failing, 100 * found.announced_share(), found.median_lead_s(), found.early,
      found.flagged, found.lookalike, 100 * found.flagged_share());
}

}  // namespace

std::string metrics_json(const Dataset& data, const TrainOptions& options, const Trained& trained,
                         const ReportContext& context) {
  Json kinds;
  for (const auto& [kind, part] : trained.split) {
    std::size_t failing = 0;
    for (const Run& run : data.runs) failing += run.kind == kind && run.fails() ? 1 : 0;
    kinds[kind] = {{"runs", part.train + part.validation + part.test},
                   {"failing", failing},
                   {"train", part.train},
                   {"validation", part.validation},
                   {"test", part.test}};
  }
  Json columns;
  for (const RiskColumn& column : kRiskColumns) columns.push_back(column.name);
  Json calibration;
  for (const CalibrationBin& bin : trained.test.calibration) {
    calibration.push_back({{"from", bin.from},
                           {"to", bin.to},
                           {"rows", bin.rows},
                           {"predicted", bin.predicted},
                           {"observed", bin.observed}});
  }
  Json per_kind;
  for (const auto& [kind, found] : trained.test.kinds) per_kind[kind] = to_json(found);
  const Json all = {
      {"date", context.date},
      {"data",
       {{"sources", context.sources},
        {"fingerprint", fingerprint(data)},
        {"runs", data.runs.size()},
        {"rows", data.rows()},
        {"kinds", kinds}}},
      {"seed", options.seed},
      {"rounds", trained.rounds},
      {"max_depth", options.max_depth},
      {"columns", columns},
      {"alarm", {{"threshold", trained.threshold}, {"hold_s", options.hold_s}}},
      {"out_of_fold", to_json(trained.out_of_fold)},
      {"test",
       {{"runs", to_json(trained.test.runs)},
        {"names", trained.test_runs},
        {"kinds", per_kind},
        {"rows", trained.test.rows},
        {"base_rate", trained.test.base_rate},
        {"average_precision", trained.test.average_precision},
        {"brier", trained.test.brier},
        {"calibration", calibration}}},
      {"eta_rule_on_test", to_json(trained.test.eta_rule)},
  };
  return all.dump(2) + "\n";
}

std::string model_card(const Dataset& data, const TrainOptions& options, const Trained& trained,
                       const ReportContext& context) {
  std::string card = "# Failure risk model\n\n";
  card += "Written by `vedette-train`; do not edit. The numbers are in `metrics.json` too.\n\n";
  card +=
      "**What it answers.** The probability that a pod (or unit, or container) meets its first OOM kill, "
      "EMFILE or "
      "ENOSPC within 60 s, from one row of its features.\n\n";
  card += "**Model.** XGBoost, binary:logistic, " + std::to_string(trained.rounds) +
          " trees of depth at most " + std::to_string(options.max_depth) +
          ", monotone in what physics orders (a fuller resource is never safer). `risk.ubj` carries its "
          "column names "
          "and its alarm threshold.\n\n";
  card += format("**Announcement.** Risk at or above %.2f for %.0f s without a break.\n\n", trained.threshold,
                 options.hold_s);

  card += "## Data\n\n";
  card += context.sources + "\n\n";
  card += format(
      "%zu runs, %zu rows (about one a second), date %s, FNV-1a of the files %s, seed %llu. Split by run, "
      "stratified by kind, so that no run is on two sides. A label is an observed failure, never an "
      "injection; rows from the failure on are left out.\n\n",
      data.runs.size(), data.rows(), context.date.c_str(), fingerprint(data).c_str(),
      static_cast<unsigned long long>(options.seed));
  card += "| kind | runs that fail | training | validation | test |\n|---|---|---|---|---|\n";
  for (const auto& [kind, part] : trained.split) {
    std::size_t failing = 0;
    for (const Run& run : data.runs) failing += run.kind == kind && run.fails() ? 1 : 0;
    card += format("| %s | %zu of %zu | %zu | %zu | %zu |\n", kind.c_str(), failing,
                   part.train + part.validation + part.test, part.train, part.validation, part.test);
  }

  card += "\n## How good it is\n\n";
  card += "- Test runs, never seen: " + sentence(trained.test.runs) + ".\n";
  card +=
      "- Training and validation runs, each judged by a model without it: " + sentence(trained.out_of_fold) +
      ". The threshold was chosen on these: the most announcements among thresholds that flag at most " +
      format("%.1f", 100 * options.flagged_share) +
      " % (or the fewest there are), the middle one of equals. The number of trees was found by early "
      "stopping on "
      "the validation runs.\n";
  card += "- For comparison, the rule \"any eta at or below 60 s\" on the test runs: " +
          sentence(trained.test.eta_rule) + ".\n";
  card += format("- Test rows: average precision %.3f (base rate %.3f), Brier score %.4f.\n\n",
                 trained.test.average_precision, trained.test.base_rate, trained.test.brier);
  card += "| test kind | announced | median lead | flagged |\n|---|---|---|---|\n";
  for (const auto& [kind, found] : trained.test.kinds) {
    card += format("| %s | %zu of %zu | %.1f s | %zu of %zu |\n", kind.c_str(), found.announced,
                   found.failing, found.median_lead_s(), found.flagged, found.lookalike);
  }
  card += "\n| predicted | rows | mean prediction | observed |\n|---|---|---|---|\n";
  for (const CalibrationBin& bin : trained.test.calibration) {
    if (bin.rows == 0) continue;
    card += format("| %.1f to %.1f | %zu | %.3f | %.3f |\n", bin.from, bin.to, bin.rows, bin.predicted,
                   bin.observed);
  }

  card += "\n## Columns\n\nUsed, by total gain: ";
  std::set<std::string> used;
  for (const auto& [name, gain] : trained.gain) {
    card += (used.empty() ? "" : ", ") + name + format(" (%.0f)", gain);
    used.insert(name);
  }
  card += ".\n\nOffered and never split on: ";
  bool first = true;
  for (const RiskColumn& column : kRiskColumns) {
    if (used.contains(std::string(column.name))) continue;
    card += (first ? "" : ", ") + std::string(column.name);
    first = false;
  }
  card += first ? "none.\n" : ".\n";

  card +=
      "\n## What it does not cover\n\n"
      "- Failures other than these three: hung tasks, I/O errors, network and hardware faults, crashes of a "
      "program. The node itself is not judged, only what runs on it.\n"
      "- Resources without a limit: a use that is missing stays missing, and so does its risk.\n"
      "- What kills within seconds: slopes need 3 s, an announcement holds 2 s more.\n"
      "- Growth unlike the campaign's: one machine, one kernel, synthetic workloads, one resource at a time, "
      "minutes not days. Leaks over hours look calm until their last minutes.\n"
      "- A workload that lives near its limit by design may be flagged; the look-alikes here are caches that "
      "stop, bursts that close and logs that rotate.\n";
  return card;
}

}  // namespace vedette
