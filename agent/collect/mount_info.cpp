#include "agent/collect/mount_info.h"

#include <cstddef>

#include "agent/collect/kept_file.h"

namespace vedette {
namespace {

bool is_octal(char c) {
  return c >= '0' && c <= '7';
}

std::string unescape(std::string_view text) {
  std::string plain;
  plain.reserve(text.size());
  for (std::size_t i = 0; i < text.size(); ++i) {
    if (text[i] == '\\' && i + 3 < text.size() && is_octal(text[i + 1]) && is_octal(text[i + 2]) &&
        is_octal(text[i + 3])) {
      plain.push_back(
          static_cast<char>((text[i + 1] - '0') * 64 + (text[i + 2] - '0') * 8 + (text[i + 3] - '0')));
      i += 3;
    } else {
      plain.push_back(text[i]);
    }
  }
  return plain;
}

}  // namespace

bool has_option(std::string_view options, std::string_view word) {
  while (!options.empty()) {
    const auto comma = options.find(',');
    if (options.substr(0, comma) == word) return true;
    if (comma == std::string_view::npos) break;
    options.remove_prefix(comma + 1);
  }
  return false;
}

std::vector<Mount> parse_mountinfo(std::string_view text) {
  std::vector<Mount> mounts;
  std::string_view line;
  while (next_line(text, line)) {
    next_word(line);  // mount id
    next_word(line);  // parent id
    const auto device = next_word(line);
    const auto root = next_word(line);
    const auto point = next_word(line);
    const auto options = next_word(line);
    auto field = next_word(line);
    while (!field.empty() && field != "-") field = next_word(line);  // optional fields
    if (field.empty()) continue;
    const auto type = next_word(line);
    next_word(line);  // source
    const auto super_options = next_word(line);
    const auto colon = device.find(':');
    if (colon == std::string_view::npos) continue;
    const auto major = parse_number(device.substr(0, colon));
    const auto minor = parse_number(device.substr(colon + 1));
    if (!major || !minor || super_options.empty()) continue;
    Mount mount;
    mount.device = *major << 20 | *minor;
    mount.root = unescape(root);
    mount.point = unescape(point);
    mount.type = type;
    mount.super_options = super_options;
    mount.writable = has_option(options, "rw") && has_option(super_options, "rw");
    mounts.push_back(std::move(mount));
  }
  return mounts;
}

}  // namespace vedette
