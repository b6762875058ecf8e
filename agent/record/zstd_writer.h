// A zstd stream that is written into a new file. Used by the writers of recordings and of baselines; one
// thread.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>

#include "agent/base/handle.h"
#include "agent/base/result.h"

struct ZSTD_CCtx_s;

namespace vedette {

class ZstdWriter {
public:
  // kFlush: what was written so far can be read from the file, also after this process was killed. kEnd:
  // nothing may follow.
  enum class Then : std::uint8_t { kMore, kFlush, kEnd };

  // Creates `path` (mode 0600: command names and addresses are nobody else's) or empties it. Errors call it
  // `name`. `checksum`: one of the whole stream, in its end.
  static Result<ZstdWriter> create(const std::string& path, std::string name, bool checksum);

  Status write(std::string_view bytes, Then then);
  // On disk when it returns.
  Status sync();
  std::uint64_t bytes_written() const { return written_; }

private:
  struct FreeContext {
    void operator()(ZSTD_CCtx_s* context) const;
  };

  ZstdWriter() = default;

  std::string name_;
  FileHandle file_;
  std::unique_ptr<ZSTD_CCtx_s, FreeContext> context_;
  std::string output_;
  std::uint64_t written_ = 0;
};

}  // namespace vedette
