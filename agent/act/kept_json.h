// One object of a JSON file that the agent keeps: each read names the field that is missing or of another
// kind, the first of them alone. Fields that nobody asks for are those of a newer agent, and left aside. One
// thread.
#pragma once

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include <nlohmann/json.hpp>

namespace vedette {

class KeptJson {
public:
  // `where` names it in the error ("plans[2]."), which must outlive this, as `object` must.
  KeptJson(const nlohmann::json& object, std::string where, std::string& error)
      : object_(object), where_(std::move(where)), error_(error) {
    if (!object.is_object())
      expect(false, where_.empty() ? "" : where_.substr(0, where_.size() - 1), "a JSON object");
  }

  std::uint64_t number(const std::string& key) const {
    const nlohmann::json& value = at(key);
    return expect(value.is_number_unsigned(), where_ + key, "a whole number") ? value.get<std::uint64_t>()
                                                                              : 0;
  }
  bool flag(const std::string& key) const {
    const nlohmann::json& value = at(key);
    return expect(value.is_boolean(), where_ + key, "true or false") && value.get<bool>();
  }
  std::string text(const std::string& key) const {
    const nlohmann::json& value = at(key);
    return expect(value.is_string(), where_ + key, "a text") ? value.get<std::string>() : std::string();
  }
  KeptJson object(const std::string& key) const { return {at(key), where_ + key + ".", error_}; }
  std::vector<KeptJson> list(const std::string& key) const {
    std::vector<KeptJson> items;
    const nlohmann::json& value = at(key);
    if (!expect(value.is_array(), where_ + key, "a list")) return items;
    for (const nlohmann::json& item : value)
      items.emplace_back(item, where_ + key + "[" + std::to_string(items.size()) + "].", error_);
    return items;
  }
  std::vector<std::string> keys() const {
    std::vector<std::string> names;
    if (!object_.is_object()) return names;
    for (const auto& entry : object_.items()) names.push_back(entry.key());
    return names;
  }
  bool has(const std::string& key) const { return object_.is_object() && object_.contains(key); }
  bool expect(bool holds, const std::string& field, const std::string& what) const {
    if (!holds && error_.empty()) error_ = (field.empty() ? "" : field + ": ") + "expected " + what;
    return holds;
  }

private:
  const nlohmann::json& at(const std::string& key) const {
    static const nlohmann::json none;
    return has(key) ? object_[key] : none;
  }

  const nlohmann::json& object_;
  std::string where_;
  std::string& error_;
};

}  // namespace vedette
