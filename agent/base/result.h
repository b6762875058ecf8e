// Errors as values: Result<T> is a T or one sentence that says what went wrong and where.
// Used by every folder; immutable once made, so any thread may pass it on.
#pragma once

#include <cerrno>
#include <cstring>
#include <string>
#include <string_view>
#include <utility>

#include <tl/expected.hpp>

namespace vedette {

struct Error {
  std::string text;
};

template <typename T>
using Result = tl::expected<T, Error>;
using Status = Result<void>;

inline tl::unexpected<Error> fail(std::string text) {
  return tl::unexpected<Error>(Error{std::move(text)});
}

// `what` names the call and its object ("open /proc/stat"); the text of `error_number` (errno) follows.
inline tl::unexpected<Error> fail_errno(std::string_view what, int error_number = errno) {
  return fail(std::string(what) + ": " + std::strerror(error_number));
}

}  // namespace vedette
