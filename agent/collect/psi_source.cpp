#include "agent/collect/psi_source.h"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <utility>

namespace vedette {
namespace {

std::optional<double> find_value(std::string_view line, std::string_view key) {
  const auto at = line.find(key);
  if (at == std::string_view::npos) return std::nullopt;
  const auto text = line.substr(at + key.size());
  double value = 0;
  if (std::from_chars(text.data(), text.data() + text.size(), value).ec != std::errc()) return std::nullopt;
  return value;
}

}  // namespace

std::optional<PressureTotals> parse_pressure(std::string_view text) {
  const auto some = find_line(text, "some");
  if (!some) return std::nullopt;
  const auto some_us = find_value(*some, "total=");
  if (!some_us) return std::nullopt;
  PressureTotals totals;
  totals.some_us = *some_us;
  totals.some_avg10 = find_value(*some, "avg10=").value_or(0);
  if (const auto full = find_line(text, "full")) {
    totals.full_us = find_value(*full, "total=").value_or(0);
    totals.full_avg10 = find_value(*full, "avg10=").value_or(0);
  }
  return totals;
}

PsiSource::PsiSource(const std::string& pressure, std::string unified, FileBudget& budget)
    : unified_(std::move(unified)),
      budget_(budget),
      node_{File(pressure + "/cpu", budget), File(pressure + "/memory", budget),
            File(pressure + "/io", budget)} {}

PsiSource::Directory PsiSource::open(const std::string& path) {
  return {File(path + "/cpu.pressure", budget_), File(path + "/memory.pressure", budget_),
          File(path + "/io.pressure", budget_)};
}

bool PsiSource::read_file(File& file, MonotonicNs now, double* some, double* full) {
  const auto text = file.file.read(buffer_);
  const auto totals = text ? parse_pressure(*text) : std::nullopt;
  if (!totals) {
    file.last_ns = 0;
    return false;
  }
  constexpr double kPercent = 100;
  double some_share = totals->some_avg10 / kPercent;
  double full_share = totals->full_avg10 / kPercent;
  const double passed_us = seconds_between(file.last_ns, now) * kUsPerSecond;
  // A total below the last one is another cgroup of the same name.
  if (file.last_ns != 0 && passed_us > 0 && totals->some_us >= file.last.some_us) {
    some_share = (totals->some_us - file.last.some_us) / passed_us;
    full_share = std::max(0.0, totals->full_us - file.last.full_us) / passed_us;
  }
  file.last = *totals;
  file.last_ns = now;
  // The kernel folds in running stalls up to the read, a little after `now`.
  if (some != nullptr) raise_gauge(*some, std::min(1.0, some_share));
  if (full != nullptr) raise_gauge(*full, std::min(1.0, full_share));
  return true;
}

bool PsiSource::read_directory(Directory& directory, MonotonicNs now, Gauges& gauges) {
  const bool cpu = read_file(directory.cpu, now, &gauges[GAUGE_pressure_cpu], nullptr);
  const bool memory =
      read_file(directory.memory, now, &gauges[GAUGE_pressure_memory], &gauges[GAUGE_pressure_memory_full]);
  const bool io = read_file(directory.io, now, &gauges[GAUGE_pressure_io], &gauges[GAUGE_pressure_io_full]);
  return cpu || memory || io;
}

bool PsiSource::read_node(MonotonicNs now, Gauges& gauges) {
  return read_directory(node_, now, gauges);
}

void PsiSource::read(const LivingEntity& entity, MonotonicNs now, Gauges& gauges) {
  if (unified_.empty()) return;
  auto& watched = entities_[entity.entity->id];
  if (watched.roots != entity.roots) {
    watched.roots = entity.roots;
    watched.directories.clear();
    for (const auto& root : entity.roots) watched.directories.push_back(open(unified_ + root));
  }
  for (auto& directory : watched.directories) read_directory(directory, now, gauges);
}

}  // namespace vedette
