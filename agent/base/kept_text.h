// Small files: read whole; those that the agent keeps, replaced whole. Any thread, one for each file.
#pragma once

#include <cstddef>
#include <optional>
#include <string>
#include <string_view>

#include "agent/base/result.h"

namespace vedette {

// Nothing: there is no such file. Errors: it cannot be read, or has more than `most` bytes.
Result<std::optional<std::string>> read_kept_text(const std::string& file, std::size_t most);

// For the owner alone, and on disk when it returns. A reader, and whoever starts after a crash, finds the old
// file or the new one, whole.
Status replace_kept_text(const std::string& file, std::string_view text);

// The same of what is in `fresh` already, on disk, in the same directory. `fresh` is gone afterwards.
Status replace_kept_file(const std::string& file, const std::string& fresh);

}  // namespace vedette
