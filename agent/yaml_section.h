// Reads one mapping of a YAML file into typed options: every key is known, typed and within its bounds, or
// one sentence names the file, line, field and what was expected. Used by config.cpp; one thread.
#pragma once

#include <chrono>
#include <concepts>
#include <cstdint>
#include <initializer_list>
#include <set>
#include <string>
#include <string_view>

#include <yaml-cpp/yaml.h>

#include "agent/base/result.h"

namespace vedette {

class YamlSection {
public:
  // The whole of `file`. An empty file is an empty mapping. Fails where the text is not YAML.
  static Result<YamlSection> load(const std::string& file);

  // Each read leaves `target` as it is where the key is absent. After the first error the rest does nothing.
  YamlSection& number(const std::string& key, double& target, double min, double max);
  YamlSection& text(const std::string& key, std::string& target);
  // As above; `expected` says in words what `is_valid` takes.
  template <typename Valid>
  YamlSection& text(const std::string& key, std::string& target, const Valid& is_valid,
                    const std::string& expected) {
    std::string found = target;
    text(key, found);
    if (found == target) return *this;
    if (is_valid(found)) {
      target = std::move(found);
    } else {
      reject(node_[key], path_ + key, expected);
    }
    return *this;
  }
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
  // The mapping below `key` (empty where absent), to be read and finished by itself.
  YamlSection section(const std::string& key);

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
