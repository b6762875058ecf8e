// Reads one mapping of a YAML file into typed options: every key is known, typed and within its bounds, or
// one sentence names the file, line, field and what was expected. Used by config.cpp and where options are
// lists of their own (collect/log_rules.cpp); one thread.
#pragma once

#include <chrono>
#include <concepts>
#include <cstdint>
#include <initializer_list>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include <yaml-cpp/yaml.h>

#include "agent/base/result.h"

namespace vedette {

class YamlSection {
public:
  // What `file` says, whole. Fails where it cannot be read.
  static Result<std::string> text_of(const std::string& file);
  // The whole of `file`. An empty file is an empty mapping. Fails where the text is not YAML.
  static Result<YamlSection> load(const std::string& file);
  // The same of a text; errors call it `name`.
  static Result<YamlSection> parse(std::string_view text, const std::string& name);

  // Each read leaves `target` as it is where the key is absent. After the first error the rest does nothing.
  YamlSection& number(const std::string& key, double& target, double min, double max);
  YamlSection& text(const std::string& key, std::string& target);
  // As above, but the key must be there.
  YamlSection& required(const std::string& key, std::string& target);
  // A value that was read is not what was `expected`.
  YamlSection& refuse(const std::string& key, const std::string& expected);
  YamlSection& words(const std::string& key, std::vector<std::string>& target);  // a list
  // Index of the word found in `words`, or unchanged.
  YamlSection& choice(const std::string& key, std::size_t& target,
                      std::initializer_list<std::string_view> words);
  template <std::unsigned_integral T>
  YamlSection& count(const std::string& key, T& target, T min, T max) {
    auto value = static_cast<double>(target);
    whole(key, value, static_cast<double>(min), static_cast<double>(max));
    target = static_cast<T>(value);
    return *this;
  }
  template <typename Rep, typename Period>
  YamlSection& milliseconds(const std::string& key, std::chrono::duration<Rep, Period>& target, double min,
                            double max) {
    double value = std::chrono::duration<double, std::milli>(target).count();
    whole(key, value, min, max);
    target = std::chrono::duration_cast<std::chrono::duration<Rep, Period>>(
        std::chrono::duration<double, std::milli>(value));
    return *this;
  }
  // A time as base/duration.h reads it, in seconds, up to `max_s`.
  YamlSection& duration(const std::string& key, double& target, double max_s);
  bool has(const std::string& key) const { return node_.IsMap() && node_[key].IsDefined(); }
  // The mapping below `key` (empty where absent), to be read and finished by itself.
  YamlSection section(const std::string& key);
  // Those of the list at `key` (none where absent), likewise.
  std::vector<YamlSection> sections(const std::string& key);

  // The first error of this section, unknown keys included.
  Status finish();

private:
  YamlSection(const YAML::Node& node, std::string file, std::string path);
  // The scalar at `key`, or an undefined node; notes that the key is known.
  YAML::Node scalar(const std::string& key);
  void whole(const std::string& key, double& target, double min, double max);
  void reject(const YAML::Node& node, const std::string& key, const std::string& expected);

  YAML::Node node_;
  std::string file_;
  std::string path_;  // "act." for the keys below act
  std::set<std::string> known_;
  std::string error_;
};

}  // namespace vedette
