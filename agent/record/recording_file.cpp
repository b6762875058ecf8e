#include "agent/record/recording_file.h"

#include <array>
#include <cerrno>
#include <cstring>

#include <fcntl.h>
#include <zstd.h>

namespace vedette {
namespace {

// A file that asks for more than 8 MiB of history is not ours.
constexpr int kMaxWindowLog = 23;
constexpr std::size_t kFrameHead = 8;
constexpr std::size_t kInputBytes = 64U << 10;

constexpr std::array<std::uint32_t, 256> make_crc_table() {
  std::array<std::uint32_t, 256> table{};
  for (std::uint32_t i = 0; i < 256; ++i) {
    std::uint32_t crc = i;
    for (int bit = 0; bit < 8; ++bit) crc = (crc >> 1) ^ ((crc & 1U) != 0 ? 0x82F63B78U : 0U);
    table[i] = crc;
  }
  return table;
}
constexpr std::array<std::uint32_t, 256> kCrcTable = make_crc_table();

void put_u32(std::string& out, std::uint32_t value) {
  for (int shift = 0; shift < 32; shift += 8) out.push_back(static_cast<char>((value >> shift) & 0xFFU));
}
std::uint32_t get_u32(const char* bytes) {
  std::uint32_t value = 0;
  for (unsigned i = 0; i < 4; ++i) value |= std::uint32_t{static_cast<unsigned char>(bytes[i])} << (8 * i);
  return value;
}

}  // namespace

std::uint32_t crc32c(std::string_view bytes) {
  std::uint32_t crc = ~0U;
  for (const char byte : bytes)
    crc = (crc >> 8) ^ kCrcTable[(crc ^ static_cast<unsigned char>(byte)) & 0xFFU];
  return ~crc;
}

Result<RecordingWriter> RecordingWriter::create(const std::string& path) {
  Result<ZstdWriter> stream = ZstdWriter::create(path, "recording " + path, false);
  if (!stream) return tl::unexpected(stream.error());
  return RecordingWriter(std::move(*stream));
}

Status RecordingWriter::append(std::string_view message) {
  frame_.clear();
  put_u32(frame_, static_cast<std::uint32_t>(message.size()));
  put_u32(frame_, crc32c(message));
  frame_.append(message);
  Status ok = stream_.write(frame_, ZstdWriter::Then::kFlush);
  constexpr std::size_t kLarge = std::size_t{1} << 20;  // baselines, once in a run
  if (frame_.capacity() > kLarge) std::string().swap(frame_);
  return ok;
}

Status RecordingWriter::finish() {
  return stream_.write({}, ZstdWriter::Then::kEnd);
}

void RecordingReader::FreeContext::operator()(ZSTD_DCtx_s* context) const {
  ZSTD_freeDCtx(context);
}

Result<RecordingReader> RecordingReader::open(const std::string& path) {
  RecordingReader reader;
  reader.path_ = path;
  reader.file_ = FileHandle(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
  if (!reader.file_) return fail_errno("open recording " + path);
  char magic[4] = {};
  const ssize_t got = ::pread(reader.file_.get(), magic, sizeof magic, 0);
  if (got < 0) return fail_errno("read recording " + path);
  if (got == 0) return fail("recording " + path + ": empty file, expected a zstd stream");
  if (got == 4 && get_u32(magic) != ZSTD_MAGICNUMBER) {
    return fail("recording " + path + ": not a recording, expected a zstd stream at byte 0");
  }
  reader.context_.reset(ZSTD_createDCtx());
  if (!reader.context_) return fail("recording " + path + ": no memory for the decompressor");
  ZSTD_DCtx_setParameter(reader.context_.get(), ZSTD_d_windowLogMax, kMaxWindowLog);
  reader.input_.resize(kInputBytes);
  return reader;
}

tl::unexpected<Error> RecordingReader::damaged(std::string_view what) const {
  return fail("recording " + path_ + ": damaged at byte " + std::to_string(offset()) + ": " +
              std::string(what));
}

Result<RecordingReader::Fill> RecordingReader::fill(std::size_t bytes) {
  if (plain_position_ > 0 && plain_.size() - plain_position_ < bytes) {
    plain_.erase(0, plain_position_);
    plain_position_ = 0;
  }
  char chunk[16384];
  while (plain_.size() - plain_position_ < bytes) {
    if (stream_ended_) {
      if (plain_.size() != plain_position_) return damaged("the stream ends inside a message");
      char byte = 0;
      if (input_position_ < input_size_ || ::read(file_.get(), &byte, 1) == 1) {
        return damaged("bytes after the end of the stream");
      }
      return Fill::kEnd;
    }
    if (input_position_ == input_size_ && !file_ended_) {
      ssize_t got = 0;
      do {
        got = ::read(file_.get(), input_.data(), input_.size());
      } while (got < 0 && errno == EINTR);
      if (got < 0) return fail_errno("read recording " + path_);
      file_ended_ = got == 0;
      input_position_ = 0;
      input_size_ = static_cast<std::size_t>(got);
      file_offset_ += input_size_;
    }
    ZSTD_inBuffer in{input_.data(), input_size_, input_position_};
    ZSTD_outBuffer out{chunk, sizeof chunk, 0};
    const std::size_t left = ZSTD_decompressStream(context_.get(), &out, &in);
    const bool stuck = in.pos == input_position_ && out.pos == 0;
    input_position_ = in.pos;
    if (ZSTD_isError(left) != 0) return damaged(ZSTD_getErrorName(left));
    plain_.append(chunk, out.pos);
    if (left == 0) {
      stream_ended_ = true;
    } else if (stuck && file_ended_) {
      return Fill::kTruncated;
    }
  }
  return Fill::kDone;
}

Result<RecordingReader::Read> RecordingReader::next(std::string& message) {
  auto filled = fill(kFrameHead);
  if (!filled) return tl::unexpected(filled.error());
  if (*filled == Fill::kEnd) return Read::kEnd;
  if (*filled == Fill::kTruncated) return Read::kTruncated;
  const std::uint32_t size = get_u32(plain_.data() + plain_position_);
  const std::uint32_t crc = get_u32(plain_.data() + plain_position_ + 4);
  if (size > kMaxFrameBytes) return damaged("a message of " + std::to_string(size) + " bytes");
  filled = fill(kFrameHead + size);
  if (!filled) return tl::unexpected(filled.error());
  if (*filled != Fill::kDone) return Read::kTruncated;
  message.assign(plain_, plain_position_ + kFrameHead, size);
  plain_position_ += kFrameHead + size;
  if (crc32c(message) != crc) return damaged("the checksum of a message differs");
  return Read::kFrame;
}

}  // namespace vedette
