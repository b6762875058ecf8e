// All of some bytes into a file, however often the kernel takes only a part. Used by who keeps files; any
// thread.
#pragma once

#include <cerrno>
#include <cstddef>
#include <string_view>

#include <unistd.h>

namespace vedette {

// How many bytes the kernel took: with fewer than given, errno says why it takes no more.
inline std::size_t write_all(int file, std::string_view bytes) {
  std::size_t done = 0;
  while (done < bytes.size()) {
    const ssize_t wrote = ::write(file, bytes.data() + done, bytes.size() - done);
    if (wrote < 0 && errno == EINTR) continue;
    if (wrote < 0) break;
    done += static_cast<std::size_t>(wrote);
  }
  return done;
}

}  // namespace vedette
