#include "agent/record/zstd_writer.h"

#include <utility>

#include <fcntl.h>
#include <unistd.h>
#include <zstd.h>

#include "agent/base/write_all.h"

namespace vedette {
namespace {

// Ticks are deltas and baselines floats: higher levels gain some 5 % and cost several times the CPU.
constexpr int kCompressionLevel = 1;
// 256 KiB of history hold hundreds of ticks, and the compressor stays below 2 MiB of memory.
constexpr int kWindowLog = 18;

}  // namespace

void ZstdWriter::FreeContext::operator()(ZSTD_CCtx_s* context) const {
  ZSTD_freeCCtx(context);
}

Result<ZstdWriter> ZstdWriter::create(const std::string& path, std::string name, bool checksum) {
  ZstdWriter writer;
  writer.name_ = std::move(name);
  writer.context_.reset(ZSTD_createCCtx());
  if (!writer.context_) return fail(writer.name_ + ": no memory for the compressor");
  writer.file_ = FileHandle(::open(path.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600));
  if (!writer.file_) return fail_errno("create " + writer.name_);
  ZSTD_CCtx_setParameter(writer.context_.get(), ZSTD_c_compressionLevel, kCompressionLevel);
  ZSTD_CCtx_setParameter(writer.context_.get(), ZSTD_c_windowLog, kWindowLog);
  ZSTD_CCtx_setParameter(writer.context_.get(), ZSTD_c_checksumFlag, checksum ? 1 : 0);
  writer.output_.resize(ZSTD_CStreamOutSize());
  return writer;
}

Status ZstdWriter::write(std::string_view bytes, Then then) {
  const ZSTD_EndDirective directive = then == Then::kMore    ? ZSTD_e_continue
                                      : then == Then::kFlush ? ZSTD_e_flush
                                                             : ZSTD_e_end;
  ZSTD_inBuffer in{bytes.data(), bytes.size(), 0};
  for (;;) {
    ZSTD_outBuffer out{output_.data(), output_.size(), 0};
    const std::size_t left = ZSTD_compressStream2(context_.get(), &out, &in, directive);
    if (ZSTD_isError(left) != 0) return fail(name_ + ": " + ZSTD_getErrorName(left));
    const std::size_t wrote = write_all(file_.get(), {output_.data(), out.pos});
    written_ += wrote;
    if (wrote < out.pos) return fail_errno("write " + name_);
    if (then == Then::kMore ? in.pos == in.size : left == 0) return {};
  }
}

Status ZstdWriter::sync() {
  if (::fsync(file_.get()) != 0) return fail_errno("write " + name_);
  return {};
}

}  // namespace vedette
