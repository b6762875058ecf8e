#include "agent/yaml_section.h"

#include <cerrno>
#include <cmath>
#include <optional>
#include <sstream>
#include <utility>

#include "agent/base/duration.h"
#include "agent/base/kept_text.h"

namespace vedette {
namespace {

// A ConfigMap has 1 MiB at most, a kubeconfig of hundreds of clusters a few.
constexpr std::size_t kMaxYamlBytes = std::size_t{4} << 20;

std::string plain(double value) {
  std::ostringstream text;
  text << value;
  return text.str();
}

}  // namespace

YamlSection::YamlSection(const YAML::Node& node, std::string file, std::string path)
    : node_(node), file_(std::move(file)), path_(std::move(path)) {
  if (node_.IsDefined() && !node_.IsNull() && !node_.IsMap()) {
    const std::string key = path_.empty() ? "" : path_.substr(0, path_.size() - 1);
    reject(node_, key, "a mapping of keys to values");
  }
}

Result<std::string> YamlSection::text_of(const std::string& file) {
  Result<std::optional<std::string>> text = read_kept_text(file, kMaxYamlBytes);
  if (!text) return tl::unexpected(text.error());
  if (!*text) return fail_errno("open " + file, ENOENT);
  return std::move(**text);
}

Result<YamlSection> YamlSection::load(const std::string& file) {
  const Result<std::string> text = text_of(file);
  if (!text) return tl::unexpected(text.error());
  return parse(*text, file);
}

Result<YamlSection> YamlSection::parse(std::string_view text, const std::string& name) {
  try {
    return YamlSection(YAML::Load(std::string(text)), name, "");
  } catch (const YAML::Exception& error) {
    return fail(name + ":" + std::to_string(error.mark.line + 1) + ": not valid YAML: " + error.msg);
  }
}

void YamlSection::reject(const YAML::Node& node, const std::string& key, const std::string& expected) {
  if (!error_.empty()) return;
  error_ = file_ + ":" + std::to_string(node.Mark().line + 1) + ": " + (key.empty() ? "" : key + ": ") +
           "expected " + expected;
  if (node.IsScalar()) error_ += ", found '" + node.Scalar() + "'";
}

YAML::Node YamlSection::scalar(const std::string& key) {
  known_.insert(key);
  if (!error_.empty() || !has(key)) return YAML::Node(YAML::NodeType::Undefined);
  YAML::Node value = node_[key];
  if (!value.IsScalar()) {
    reject(value, path_ + key, "a single value");
    return YAML::Node(YAML::NodeType::Undefined);
  }
  return value;
}

YamlSection& YamlSection::number(const std::string& key, double& target, double min, double max) {
  const YAML::Node value = scalar(key);
  if (!value.IsDefined()) return *this;
  double parsed = 0;
  if (!YAML::convert<double>::decode(value, parsed) || !(parsed >= min && parsed <= max)) {
    reject(value, path_ + key, "a number from " + plain(min) + " to " + plain(max));
  } else {
    target = parsed;
  }
  return *this;
}

void YamlSection::whole(const std::string& key, double& target, double min, double max) {
  double parsed = target;
  number(key, parsed, min, max);
  if (error_.empty() && parsed != std::floor(parsed)) {
    reject(node_[key], path_ + key, "a whole number from " + plain(min) + " to " + plain(max));
  }
  if (error_.empty()) target = parsed;
}

YamlSection& YamlSection::duration(const std::string& key, double& target, double max_s) {
  const YAML::Node value = scalar(key);
  if (!value.IsDefined()) return *this;
  const std::optional<double> seconds = parse_duration(value.Scalar());
  if (!seconds || *seconds > max_s) {
    reject(value, path_ + key, std::string(kDurationForm) + ", at most " + duration_text(max_s));
  } else {
    target = *seconds;
  }
  return *this;
}

YamlSection& YamlSection::text(const std::string& key, std::string& target) {
  const YAML::Node value = scalar(key);
  if (value.IsDefined()) target = value.Scalar();
  return *this;
}

YamlSection& YamlSection::required(const std::string& key, std::string& target) {
  text(key, target);
  if (!has(key)) reject(node_, path_ + key, "a value");
  return *this;
}

YamlSection& YamlSection::refuse(const std::string& key, const std::string& expected) {
  if (has(key)) reject(node_[key], path_ + key, expected);
  return *this;
}

YamlSection& YamlSection::words(const std::string& key, std::vector<std::string>& target) {
  known_.insert(key);
  if (!error_.empty() || !has(key)) return *this;
  std::vector<std::string> parsed;
  for (const YAML::Node& word : node_[key]) {
    if (word.IsScalar()) parsed.push_back(word.Scalar());
  }
  if (!node_[key].IsSequence() || parsed.size() != node_[key].size()) {
    reject(node_[key], path_ + key, "a list of words");
  } else {
    target = std::move(parsed);
  }
  return *this;
}

YamlSection& YamlSection::choice(const std::string& key, std::size_t& target,
                                 std::initializer_list<std::string_view> words) {
  const YAML::Node value = scalar(key);
  if (!value.IsDefined()) return *this;
  std::string expected;
  std::size_t index = 0;
  for (const std::string_view word : words) {
    if (value.Scalar() == word) {
      target = index;
      return *this;
    }
    expected += (index == 0 ? "" : index + 1 == words.size() ? " or " : ", ") + std::string(word);
    ++index;
  }
  reject(value, path_ + key, expected);
  return *this;
}

YamlSection YamlSection::section(const std::string& key) {
  known_.insert(key);
  YAML::Node below;
  if (error_.empty() && has(key)) below = node_[key];
  return {below, file_, path_ + key + "."};
}

std::vector<YamlSection> YamlSection::sections(const std::string& key) {
  known_.insert(key);
  std::vector<YamlSection> list;
  if (!error_.empty() || !has(key) || node_[key].IsNull()) return list;
  if (!node_[key].IsSequence()) reject(node_[key], path_ + key, "a list");
  if (!node_[key].IsSequence()) return list;
  for (const YAML::Node& below : node_[key]) {
    list.push_back({below, file_, path_ + key + "[" + std::to_string(list.size()) + "]."});
  }
  return list;
}

Status YamlSection::finish() {
  if (error_.empty() && node_.IsMap()) {
    for (const auto& entry : node_) {
      const std::string key = entry.first.IsScalar() ? entry.first.Scalar() : "";
      if (known_.contains(key)) continue;
      std::string expected = "one of";
      for (const std::string& name : known_) expected += " " + name;
      reject(entry.first, path_ + key, expected);
      break;
    }
  }
  if (!error_.empty()) return fail(error_);
  return {};
}

}  // namespace vedette
