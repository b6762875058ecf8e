#include "agent/base/kept_text.h"

#include <fcntl.h>
#include <unistd.h>

#include "agent/base/handle.h"

namespace vedette {

Result<std::optional<std::string>> read_kept_text(const std::string& file, std::size_t most) {
  const FileHandle handle(::open(file.c_str(), O_RDONLY | O_CLOEXEC));
  if (!handle) {
    if (errno == ENOENT) return std::optional<std::string>();
    return fail_errno("open " + file);
  }
  std::string text(most + 1, '\0');
  std::size_t size = 0;
  while (size < text.size()) {
    const ssize_t count = ::read(handle.get(), text.data() + size, text.size() - size);
    if (count < 0 && errno == EINTR) continue;
    if (count < 0) return fail_errno("read " + file);
    if (count == 0) break;
    size += static_cast<std::size_t>(count);
  }
  if (size > most) return fail(file + ": expected at most " + std::to_string(most) + " bytes");
  text.resize(size);
  return text;
}

Status replace_kept_text(const std::string& file, std::string_view text) {
  const std::string fresh = file + ".new";
  {
    const FileHandle handle(::open(fresh.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600));
    if (!handle) return fail_errno("open " + fresh);
    if (::write(handle.get(), text.data(), text.size()) != static_cast<ssize_t>(text.size()) ||
        ::fsync(handle.get()) != 0) {
      return fail_errno("write " + fresh);
    }
  }
  if (::rename(fresh.c_str(), file.c_str()) != 0) return fail_errno("rename " + fresh + " to " + file);
  return {};
}

}  // namespace vedette
