#include "agent/record/feature_dump.h"

#include <algorithm>
#include <cmath>
#include <cstdio>

namespace vedette {

struct FeatureDump::State {
  struct CloseFile {
    void operator()(std::FILE* open_file) const { std::fclose(open_file); }
  };

  FeatureDumpOptions options;
  std::vector<std::size_t> counters;
  std::unique_ptr<std::FILE, CloseFile> file;
  std::string line;

  Status flush_line() {
    line += '\n';
    if (std::fwrite(line.data(), 1, line.size(), file.get()) != line.size()) {
      return fail_errno("write " + options.path);
    }
    line.clear();
    return {};
  }
};

FeatureDump::FeatureDump(std::unique_ptr<State> state) : state_(std::move(state)) {}
FeatureDump::FeatureDump(FeatureDump&&) noexcept = default;
FeatureDump& FeatureDump::operator=(FeatureDump&&) noexcept = default;
FeatureDump::~FeatureDump() = default;

Result<FeatureDump> FeatureDump::open(const FeatureDumpOptions& options) {
  auto state = std::make_unique<State>();
  state->options = options;
  for (const std::string& name : options.counters) {
    const auto place =
        std::ranges::find_if(kCounters, [&](const SignalInfo& info) { return info.name == name; });
    if (place == kCounters.end()) return fail("feature dump: no counter named " + name + " in bpf/signals.h");
    state->counters.push_back(static_cast<std::size_t>(place - kCounters.begin()));
  }
  state->file.reset(std::fopen(options.path.c_str(), "we"));
  if (!state->file) return fail_errno("create " + options.path);
  state->line = "t_s,entity";
  for (const FeatureInfo& column : feature_columns()) state->line += "," + column.name;
  for (const std::string& name : options.counters) state->line += ",count." + name;
  if (auto status = state->flush_line(); !status) return tl::unexpected(status.error());
  return FeatureDump(std::move(state));
}

Status FeatureDump::write(const Observation& observation, const FeatureTable& table) {
  State& state = *state_;
  char number[32];
  for (std::size_t row = 0; row < table.entities.size(); ++row) {
    const Entity& entity = *table.entities[row];
    if (!state.options.entities.empty() &&
        std::ranges::none_of(state.options.entities, [&](const std::string& part) {
          return entity.name.find(part) != std::string::npos;
        })) {
      continue;
    }
    std::snprintf(number, sizeof number, "%.6f", static_cast<double>(table.time.monotonic_ns) / kNsPerSecond);
    state.line = number;
    state.line += ",\"";
    for (const char c : entity.name) {
      if (c == '"') state.line += '"';
      state.line += c;
    }
    state.line += '"';
    for (const float value : table.row(row)) {
      state.line += ',';
      if (std::isnan(value)) continue;
      std::snprintf(number, sizeof number, "%.9g", static_cast<double>(value));
      state.line += number;
    }
    const auto sample =
        std::ranges::find_if(observation.samples, [&](const Sample& s) { return s.entity == entity.id; });
    for (const std::size_t counter : state.counters) {
      state.line += ',';
      if (sample != observation.samples.end()) state.line += std::to_string(sample->counters[counter]);
    }
    if (auto status = state.flush_line(); !status) return status;
  }
  return {};
}

Status FeatureDump::close() {
  std::FILE* file = state_->file.release();
  if (file != nullptr && std::fclose(file) != 0) return fail_errno("write " + state_->options.path);
  return {};
}

}  // namespace vedette
