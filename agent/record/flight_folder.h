// The names in a flight recorder's folder: segments, and below it the slices of incidents. Used by who writes
// it (flight) and by who reads it; pure but for reading directories, any thread.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <string_view>
#include <vector>

namespace vedette {

inline constexpr const char* kSegmentEnding = ".rec";

// "00000042-20261127-023131.rec": 42; 0: it is no segment's name.
std::uint64_t segment_number(std::string_view name);

// Their names, oldest first; none where `folder` cannot be read.
std::vector<std::string> segments_in(const std::string& folder);
// The number of the last of them; 0 where there is none.
std::uint64_t newest_segment(const std::string& folder);
// The incidents that have a slice, by their names: oldest first, unless the clock went back.
std::vector<std::string> slices_in(const std::string& folder);

// Of a file, or of the segments in a folder; 0 where it cannot be told.
std::uint64_t recorded_bytes(const std::filesystem::path& path);

}  // namespace vedette
