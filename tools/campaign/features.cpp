// campaign-features RECORDING OUT.csv [PART...]: replays a recording through the agent's feature stage and
// writes one row per tick and entity (of those whose name contains a PART). tools/campaign/label joins it
// with the runs.

#include <cstdio>

#include "agent/features/feature_builder.h"
#include "agent/record/feature_dump.h"
#include "agent/record/replay_source.h"

namespace {

vedette::Status dump(const std::string& recording, const vedette::FeatureDumpOptions& options) {
  auto source = vedette::ReplaySource::open(recording);
  if (!source) return tl::unexpected(source.error());
  auto out = vedette::FeatureDump::open(options);
  if (!out) return tl::unexpected(out.error());

  vedette::FeatureBuilder features{vedette::FeatureOptions{}};
  vedette::Observation observation;
  vedette::FeatureTable table;
  while (true) {
    const auto wait = (*source)->wait();
    if (!wait) return tl::unexpected(wait.error());
    if (*wait == vedette::Source::Wait::kEnd) break;
    if (auto status = (*source)->collect(observation); !status) return status;
    features.update(observation, table);
    if (auto status = out->write(observation, table); !status) return status;
  }
  for (const std::string& note : (*source)->notes())
    std::fprintf(stderr, "%s: %s\n", recording.c_str(), note.c_str());
  std::fprintf(stderr, "%s: %llu ticks\n", recording.c_str(),
               static_cast<unsigned long long>((*source)->ticks()));
  return out->close();
}

}  // namespace

int main(int argc, char** argv) {
  if (argc < 3) {
    std::fprintf(stderr, "usage: campaign-features RECORDING OUT.csv [PART...]\n");
    return 2;
  }
  vedette::FeatureDumpOptions options;
  options.path = argv[2];
  options.entities.assign(argv + 3, argv + argc);
  if (const auto status = dump(argv[1], options); !status) {
    std::fprintf(stderr, "campaign-features: %s\n", status.error().text.c_str());
    return 1;
  }
  return 0;
}
