#include "agent/base/kept_text.h"

#include <cstdio>

#include <fcntl.h>
#include <unistd.h>

#include "agent/base/handle.h"
#include "agent/base/write_all.h"

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
  text.shrink_to_fit();  // it may be kept, and `most` be much
  return text;
}

Status replace_kept_text(const std::string& file, std::string_view text) {
  const std::string fresh = file + ".new";
  const FileHandle handle(::open(fresh.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600));
  if (!handle) return fail_errno("open " + fresh);
  const auto failed = [&] {
    auto error = fail_errno("write " + fresh);
    ::unlink(fresh.c_str());
    return error;
  };
  if (write_all(handle.get(), text) < text.size() || ::fsync(handle.get()) != 0) return failed();
  return replace_kept_file(file, fresh);
}

Status replace_kept_file(const std::string& file, const std::string& fresh) {
  if (std::rename(fresh.c_str(), file.c_str()) != 0) {
    auto error = fail_errno("rename " + fresh + " to " + file);
    ::unlink(fresh.c_str());
    return error;
  }
  // Else a crash may bring the old one back.
  const std::string folder = file.substr(0, file.rfind('/') + 1);
  const FileHandle directory(
      ::open(folder.empty() ? "." : folder.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (!directory || ::fsync(directory.get()) != 0) return fail_errno("write the directory of " + file);
  return {};
}

}  // namespace vedette
