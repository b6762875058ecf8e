// vedette-train: from labelled feature rows to a model, its metrics and its card.
#include <chrono>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <string>
#include <vector>

#include <CLI/CLI.hpp>

#include "tools/train/dataset.h"
#include "tools/train/report.h"
#include "tools/train/trainer.h"

namespace {

using namespace vedette;

std::string today() {
  const std::chrono::year_month_day date(
      std::chrono::floor<std::chrono::days>(std::chrono::system_clock::now()));
  char text[16];
  std::snprintf(text, sizeof text, "%04d-%02u-%02u", static_cast<int>(date.year()),
                static_cast<unsigned>(date.month()), static_cast<unsigned>(date.day()));
  return text;
}

Status write(const std::filesystem::path& path, const std::string& bytes) {
  std::ofstream file(path, std::ios::binary | std::ios::trunc);
  if (!file.write(bytes.data(), static_cast<std::streamsize>(bytes.size())) || !file.flush()) {
    return fail_errno("write " + path.string());
  }
  return {};
}

Status run(const std::vector<std::filesystem::path>& files, const std::filesystem::path& directory,
           const TrainOptions& options, const ReportContext& context) {
  const Result<Dataset> data = read_dataset(files);
  if (!data) return tl::unexpected(data.error());
  const Result<Trained> trained = train(*data, options);
  if (!trained) return tl::unexpected(trained.error());
  std::error_code error;
  std::filesystem::create_directories(directory, error);
  if (error) return fail("create " + directory.string() + ": " + error.message());
  const std::string card = model_card(*data, options, *trained, context);
  for (const auto& [name, bytes] : {std::pair<const char*, std::string>{"risk.ubj", trained->model},
                                    {"metrics.json", metrics_json(*data, options, *trained, context)},
                                    {"MODEL_CARD.md", card}}) {
    if (Status status = write(directory / name, bytes); !status) return status;
  }
  std::fputs(card.c_str(), stdout);
  return {};
}

}  // namespace

int main(int argc, char** argv) {
  CLI::App app{
      "Trains the failure-risk model on labelled feature rows and measures it on runs it never saw."};
  std::vector<std::filesystem::path> files;
  std::filesystem::path directory;
  TrainOptions options;
  ReportContext context{today(), "The agent's own recordings of tools/campaign."};
  app.add_option("data", files, "CSV: run, kind, t_s, label, failure_t_s and the features by name")
      ->required()
      ->check(CLI::ExistingFile);
  app.add_option("--out", directory, "Directory for risk.ubj, metrics.json and MODEL_CARD.md")->required();
  app.add_option("--seed", options.seed, "Of the split and of the training")->capture_default_str();
  app.add_option("--date", context.date, "Shown in the card")->capture_default_str();
  app.add_option("--sources", context.sources, "One sentence on the data, shown in the card");
  app.add_option("--hold", options.hold_s, "Seconds a risk must hold; keep it at the agent's risk_hold_s")
      ->capture_default_str();
  CLI11_PARSE(app, argc, argv);
  if (const Status status = run(files, directory, options, context); !status) {
    std::fprintf(stderr, "vedette-train: %s\n", status.error().text.c_str());
    return 1;
  }
  return 0;
}
