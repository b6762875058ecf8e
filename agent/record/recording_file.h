// The container of a recording: a zstd stream of checksummed frames of bytes, readable up to the last flushed
// frame after a SIGKILL. Used by the recorder's thread and by replay; not shared between threads.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "agent/base/handle.h"
#include "agent/base/result.h"
#include "agent/record/zstd_writer.h"

struct ZSTD_DCtx_s;

namespace vedette {

// The first tick of a large node is the largest message: 8192 entities of about 2 kB each. More is damage.
constexpr std::uint32_t kMaxFrameBytes = 32U << 20;

// CRC-32C (Castagnoli).
std::uint32_t crc32c(std::string_view bytes);

class RecordingWriter {
public:
  // Creates `path` or empties it.
  static Result<RecordingWriter> create(const std::string& path);

  // Appends one frame and hands it to the kernel: it survives the death of this process.
  Status append(std::string_view message);
  // Ends the zstd stream; nothing may follow.
  Status finish();
  std::uint64_t bytes_written() const { return stream_.bytes_written(); }

private:
  explicit RecordingWriter(ZstdWriter stream) : stream_(std::move(stream)) {}

  ZstdWriter stream_;
  std::string frame_;
};

class RecordingReader {
public:
  static Result<RecordingReader> open(const std::string& path);
  RecordingReader(RecordingReader&&) noexcept = default;
  RecordingReader& operator=(RecordingReader&&) noexcept = default;
  ~RecordingReader() = default;

  // kTruncated: the file ends inside a frame or inside the zstd stream; all before was intact.
  enum class Read : std::uint8_t { kFrame, kEnd, kTruncated };
  // Fills `message` with the next frame. An error names the file and the offset of the damage in it.
  Result<Read> next(std::string& message);

  const std::string& path() const { return path_; }
  // Bytes of the file read so far, for messages.
  std::uint64_t offset() const { return file_offset_ - (input_size_ - input_position_); }

private:
  struct FreeContext {
    void operator()(ZSTD_DCtx_s* context) const;
  };
  enum class Fill : std::uint8_t { kDone, kEnd, kTruncated };

  RecordingReader() = default;
  // Makes at least `bytes` decompressed bytes available at the front of plain_.
  Result<Fill> fill(std::size_t bytes);
  tl::unexpected<Error> damaged(std::string_view what) const;

  std::string path_;
  FileHandle file_;
  std::unique_ptr<ZSTD_DCtx_s, FreeContext> context_;
  std::vector<char> input_;
  std::size_t input_size_ = 0, input_position_ = 0;
  std::uint64_t file_offset_ = 0;
  bool file_ended_ = false;
  bool stream_ended_ = false;
  std::string plain_;
  std::size_t plain_position_ = 0;
};

}  // namespace vedette
