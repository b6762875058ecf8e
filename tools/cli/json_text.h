// How every command writes its JSON: one document, indented; bytes that are no UTF-8 are replaced. Any
// thread.
#pragma once

#include <string>

#include <nlohmann/json.hpp>

namespace vedette {

template <typename Json>
std::string json_text(const Json& document) {
  return document.dump(2, ' ', false, Json::error_handler_t::replace) + "\n";
}

}  // namespace vedette
