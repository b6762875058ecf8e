// /proc/PID/mountinfo as values: what is mounted where. Used by the cgroup and mounts sources; pure.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace vedette {

struct Mount {
  std::uint64_t device = 0;  // major << 20 | minor, as in bpf/events.h
  std::string root;          // the directory of the filesystem that is mounted
  std::string point;         // where, as the process sees it
  std::string type;
  std::string super_options;  // comma-separated; of cgroup v1: its controllers
  bool writable = false;      // neither the mount nor its filesystem is read-only
};

// Lines that are not as proc(5) says are left out. Octal escapes (\040) are resolved.
std::vector<Mount> parse_mountinfo(std::string_view text);

// True if the comma-separated `options` contain `word`.
bool has_option(std::string_view options, std::string_view word);

}  // namespace vedette
