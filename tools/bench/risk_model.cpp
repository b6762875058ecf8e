// risk_model MODEL CSV: judges the rows of labelled runs (tools/campaign/label) with a risk model, through
// the agent's own scorer and assessment, and prints how many failures were announced, how early, and how many
// look-alikes were flagged. A run is announced (or flagged) when the agent would say PredictedFailure.
// tools/bench/risk-model calls it.

#include <algorithm>
#include <charconv>
#include <cmath>
#include <cstdio>
#include <fstream>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "agent/assess/assessor.h"
#include "agent/score/risk.h"

namespace {

using vedette::fail;
using vedette::Result;

struct Run {
  std::string kind;
  std::optional<double> failure_t_s;
  std::vector<double> t_s;
  std::vector<std::vector<float>> rows;
};

std::vector<std::string_view> split(std::string_view line) {
  std::vector<std::string_view> fields;
  if (line.ends_with('\r')) line.remove_suffix(1);
  while (true) {
    const std::size_t comma = line.find(',');
    fields.push_back(line.substr(0, comma));
    if (comma == std::string_view::npos) return fields;
    line.remove_prefix(comma + 1);
  }
}

std::optional<double> number(std::string_view field) {
  double value = 0;
  const auto [end, error] = std::from_chars(field.data(), field.data() + field.size(), value);
  if (field.empty() || error != std::errc() || end != field.data() + field.size()) return std::nullopt;
  return value;
}

// Columns of the file that this agent does not have are ignored, those it has and the file has not are
// missing.
Result<std::map<std::string, Run>> read_runs(const std::string& path) {
  std::ifstream file(path);
  std::string line;
  if (!file || !std::getline(file, line)) return fail(path + ": cannot be read, or is empty");
  const std::string head = line;
  const auto names = split(head);
  const auto place = [&](std::string_view name) {
    return static_cast<std::size_t>(std::ranges::find(names, name) - names.begin());
  };
  const std::size_t run = place("run"), kind = place("kind"), t_s = place("t_s"),
                    failure = place("failure_t_s");
  if (std::max({run, kind, t_s, failure}) >= names.size()) {
    return fail(path + ": expected the columns run, kind, t_s and failure_t_s");
  }
  std::vector<std::size_t> columns;
  for (const vedette::FeatureInfo& feature : vedette::feature_columns())
    columns.push_back(place(feature.name));

  std::map<std::string, Run> runs;
  for (std::size_t at = 2; std::getline(file, line); ++at) {
    const auto fields = split(line);
    const auto time = fields.size() == names.size() ? number(fields[t_s]) : std::nullopt;
    if (!time)
      return fail(path + ":" + std::to_string(at) + ": expected " + std::to_string(names.size()) +
                  " fields and a number in t_s");
    Run& mine = runs[std::string(fields[run])];
    mine.kind = fields[kind];
    mine.failure_t_s = number(fields[failure]);
    mine.t_s.push_back(*time);
    std::vector<float> row;
    for (const std::size_t column : columns) {
      const auto value = column < fields.size() ? number(fields[column]) : std::nullopt;
      row.push_back(value ? static_cast<float>(*value) : std::nanf(""));
    }
    mine.rows.push_back(std::move(row));
  }
  return runs;
}

// When the agent first says that this run will fail.
std::optional<double> announced_at(vedette::RiskScorer& scorer, double threshold, vedette::EntityId id,
                                   const Run& run) {
  vedette::AssessOptions options;
  options.risk_threshold = threshold;
  vedette::Assessor assessor(options);
  auto entity = std::make_shared<vedette::Entity>();
  entity->id = id;
  entity->kind = vedette::EntityKind::kUnit;
  entity->name = "unit/run";
  vedette::Observation observation;
  vedette::FeatureTable table;
  observation.entities = table.entities = {entity};
  observation.samples.resize(1);
  for (std::size_t i = 0; i < run.rows.size(); ++i) {
    if (run.failure_t_s && run.t_s[i] >= *run.failure_t_s) break;
    // Any time but 0 will do, for 0 means "never".
    observation.time.monotonic_ns =
        static_cast<vedette::MonotonicNs>((1 + run.t_s[i]) * vedette::kNsPerSecond);
    table.time = observation.time;
    table.values = run.rows[i];
    vedette::Scores scores;
    scores.entities.resize(1);
    scorer.score(table, scores);
    for (const vedette::Condition& condition : assessor.update(observation, table, scores, std::nullopt)) {
      if (condition.evidence == vedette::Evidence::kRisk) return run.t_s[i];
    }
  }
  return std::nullopt;
}

double median(std::vector<double> values) {
  if (values.empty()) return 0;
  std::ranges::sort(values);
  return (values[(values.size() - 1) / 2] + values[values.size() / 2]) / 2;
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 3) {
    std::fprintf(stderr, "usage: risk_model MODEL CSV\n");
    return 2;
  }
  auto scorer = vedette::RiskScorer::make(argv[1], {});
  if (!scorer) {
    std::fprintf(stderr, "risk_model: %s\n", scorer.error().text.c_str());
    return 1;
  }
  const auto runs = read_runs(argv[2]);
  if (!runs) {
    std::fprintf(stderr, "risk_model: %s\n", runs.error().text.c_str());
    return 1;
  }
  const double threshold = (*scorer)->alarm_threshold().value_or(vedette::AssessOptions{}.risk_threshold);
  std::size_t failing = 0, announced = 0, lookalike = 0, flagged = 0;
  std::vector<double> leads_s;
  vedette::EntityId id = 1;
  for (const auto& [name, run] : *runs) {
    const auto at = announced_at(**scorer, threshold, id++, run);
    if (run.failure_t_s) {
      ++failing;
      announced += at ? 1 : 0;
      if (at) leads_s.push_back(*run.failure_t_s - *at);
    } else {
      ++lookalike;
      flagged += at ? 1 : 0;
    }
    std::fprintf(stderr, "run %s %s: %s", name.c_str(), run.kind.c_str(), at ? "announced" : "not announced");
    if (at && run.failure_t_s) std::fprintf(stderr, " %.1f s before its failure", *run.failure_t_s - *at);
    if (at && !run.failure_t_s) std::fprintf(stderr, " at %.1f s, and did not fail", *at);
    std::fprintf(stderr, "\n");
  }
  if (failing == 0 || lookalike == 0) {
    std::fprintf(stderr, "risk_model: %s holds %zu failing and %zu other runs, expected some of both\n",
                 argv[2], failing, lookalike);
    return 1;
  }
  const auto share = [](std::size_t part, std::size_t all) {
    return static_cast<double>(part) / static_cast<double>(all);
  };
  std::printf(
      R"({"name": "risk-announced", "value": %.4f, "unit": "share", "bar": 0.95, "better": "higher", )"
      R"("note": "%zu of %zu failing runs the model never saw"})"
      "\n",
      share(announced, failing), announced, failing);
  std::printf(R"({"name": "risk-lead", "value": %.1f, "unit": "s", "bar": 20, "better": "higher", )"
              R"("note": "median; shortest %.1f s"})"
              "\n",
              median(leads_s), leads_s.empty() ? 0 : *std::ranges::min_element(leads_s));
  std::printf(R"({"name": "risk-flagged", "value": %.4f, "unit": "share", "bar": 0.05, "better": "lower", )"
              R"("note": "%zu of %zu look-alike runs the model never saw"})"
              "\n",
              share(flagged, lookalike), flagged, lookalike);
  return 0;
}
