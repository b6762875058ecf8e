// Reading and writing JSON of the API server without exceptions: what is absent or of another type is empty.
// Pure functions, for the parsers of this folder.
#pragma once

#include <string>

#include <nlohmann/json.hpp>

namespace vedette {

inline const nlohmann::json& child(const nlohmann::json& object, const char* key) {
  static const nlohmann::json nothing;
  if (!object.is_object()) return nothing;
  const auto found = object.find(key);
  return found == object.end() ? nothing : *found;
}

inline std::string text_at(const nlohmann::json& object, const char* key) {
  const nlohmann::json& value = child(object, key);
  return value.is_string() ? value.get<std::string>() : std::string();
}

inline bool true_at(const nlohmann::json& object, const char* key) {
  const nlohmann::json& value = child(object, key);
  return value.is_boolean() && value.get<bool>();
}

// Text of ours may hold bytes of a kernel message that are not UTF-8; dump() would throw at them. What the
// server sent was validated by the parser and stays as it is.
inline std::string to_text(const nlohmann::json& value) {
  return value.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace);
}

}  // namespace vedette
