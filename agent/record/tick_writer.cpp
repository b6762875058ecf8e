#include "agent/record/tick_writer.h"

#include <utility>

#include "agent/record/recording.pb.h"

namespace vedette {

TickWriter::TickWriter(std::string path, RecordingWriter writer)
    : path_(std::move(path)), writer_(std::move(writer)), message_(std::make_unique<recording::Message>()) {}
TickWriter::TickWriter(TickWriter&&) noexcept = default;
TickWriter& TickWriter::operator=(TickWriter&&) noexcept = default;
TickWriter::~TickWriter() = default;

Result<TickWriter> TickWriter::create(const std::string& path, const RecordingHeader& header) {
  auto created = RecordingWriter::create(path);
  if (!created) return tl::unexpected(created.error());
  TickWriter writer(path, std::move(*created));
  encode_header(header, *writer.message_->mutable_header());
  if (auto status = writer.append(); !status) return tl::unexpected(status.error());
  return writer;
}

Status TickWriter::append() {
  bytes_.clear();
  if (!message_->AppendToString(&bytes_) || bytes_.size() > kMaxFrameBytes) {
    return fail("recording " + path_ + ": a message of " + std::to_string(message_->ByteSizeLong()) +
                " bytes is larger than a recording may hold");
  }
  return writer_.append(bytes_);
}

Status TickWriter::write(const Snapshot& snapshot, std::uint64_t dropped_before) {
  message_->Clear();
  encoder_.encode(snapshot, dropped_before, *message_->mutable_tick());
  if (auto status = append(); !status) return status;
  if (snapshot.taught) {  // megabytes, once
    message_ = std::make_unique<recording::Message>();
    std::string().swap(bytes_);
  }
  ++ticks_;
  dropped_ += dropped_before;
  return {};
}

Status TickWriter::end(std::uint64_t dropped, bool full) {
  message_->Clear();
  recording::End& end = *message_->mutable_end();
  end.set_ticks(ticks_);
  end.set_dropped(dropped_ + dropped);
  end.set_full(full);
  if (auto status = append(); !status) return status;
  return writer_.finish();
}

}  // namespace vedette
