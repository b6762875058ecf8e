#include "agent/record/flight_folder.h"

#include <algorithm>
#include <charconv>
#include <filesystem>

#include "agent/assess/incidents.h"

namespace vedette {
namespace {

template <typename Wanted>
std::vector<std::string> names_in(const std::string& folder, const Wanted& wanted) {
  std::vector<std::string> names;
  std::error_code error;
  for (std::filesystem::directory_iterator entry(folder, error), end; !error && entry != end;
       entry.increment(error)) {
    std::string name = entry->path().filename().string();
    if (wanted(name)) names.push_back(std::move(name));
  }
  std::ranges::sort(names);
  return names;
}

}  // namespace

std::uint64_t segment_number(std::string_view name) {
  std::uint64_t number = 0;
  const auto [end, error] = std::from_chars(name.data(), name.data() + name.size(), number);
  const bool is_one =
      error == std::errc() && name.substr(0, 9).ends_with('-') && name.ends_with(kSegmentEnding);
  return is_one ? number : 0;
}

std::vector<std::string> segments_in(const std::string& folder) {
  return names_in(folder, [](const std::string& name) { return segment_number(name) > 0; });
}

std::uint64_t newest_segment(const std::string& folder) {
  const std::vector<std::string> segments = segments_in(folder);
  return segments.empty() ? 0 : segment_number(segments.back());
}

std::vector<std::string> slices_in(const std::string& folder) {
  return names_in(folder, [](const std::string& name) { return is_incident_id(name); });
}

std::uint64_t recorded_bytes(const std::filesystem::path& path) {
  std::error_code error;
  if (std::filesystem::is_directory(path, error)) {
    std::uint64_t bytes = 0;
    for (const std::string& segment : segments_in(path)) bytes += recorded_bytes(path / segment);
    return bytes;
  }
  const std::uintmax_t bytes = std::filesystem::file_size(path, error);
  return error ? 0 : bytes;
}

}  // namespace vedette
