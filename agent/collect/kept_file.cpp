#include "agent/collect/kept_file.h"

#include <cerrno>
#include <charconv>
#include <utility>

#include <fcntl.h>
#include <unistd.h>

namespace vedette {

std::optional<std::string_view> ReadBuffer::read(int fd) {
  std::size_t used = 0;
  for (;;) {
    if (used == bytes_.size()) bytes_.resize(bytes_.size() * 2);
    const auto got = ::pread(fd, bytes_.data() + used, bytes_.size() - used, static_cast<off_t>(used));
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) return std::nullopt;
    if (got == 0) return std::string_view(bytes_.data(), used);
    used += static_cast<std::size_t>(got);
    // A kernel file hands out less than asked only at its end, or at a boundary of its records: only files
    // that may span several pages need the second look.
    constexpr std::size_t kOneRecord = 2048;
    if (used < kOneRecord) return std::string_view(bytes_.data(), used);
  }
}

std::optional<std::string_view> ReadBuffer::read_path(int directory, const char* path) {
  const FileHandle file(::openat(directory, path, O_RDONLY | O_CLOEXEC | O_NONBLOCK));
  if (!file) return std::nullopt;
  return read(file.get());
}

std::optional<std::string_view> ReadBuffer::read_path(const std::string& path) {
  return read_path(AT_FDCWD, path.c_str());
}

KeptFile::KeptFile(KeptFile&& other) noexcept
    : path_(std::move(other.path_)), budget_(other.budget_), file_(std::move(other.file_)) {}

KeptFile& KeptFile::operator=(KeptFile&& other) noexcept {
  if (this != &other) {
    close();
    path_ = std::move(other.path_);
    budget_ = other.budget_;
    file_ = std::move(other.file_);
  }
  return *this;
}

void KeptFile::close() {
  if (!file_) return;
  file_.reset();
  budget_->give();
}

std::optional<std::string_view> KeptFile::read(ReadBuffer& buffer) {
  if (file_) {
    if (const auto text = buffer.read(file_.get())) return text;
    close();  // of a directory that was removed; one of the same name may stand there now
  }
  if (!budget_->take()) return buffer.read_path(path_);
  file_ = FileHandle(::open(path_.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK));
  if (!file_) {
    budget_->give();
    return std::nullopt;
  }
  const auto text = buffer.read(file_.get());
  if (!text) close();
  return text;
}

std::optional<std::uint64_t> parse_number(std::string_view text) {
  while (!text.empty() && (text.front() == ' ' || text.front() == '\t')) text.remove_prefix(1);
  std::uint64_t number = 0;
  const auto parsed = std::from_chars(text.data(), text.data() + text.size(), number);
  if (parsed.ec != std::errc()) return std::nullopt;
  return number;
}

std::optional<std::string_view> find_line(std::string_view text, std::string_view key) {
  for (std::size_t at = text.find(key); at != std::string_view::npos; at = text.find(key, at + 1)) {
    if (at != 0 && text[at - 1] != '\n') continue;
    const auto rest = text.substr(at + key.size());
    if (!rest.empty() && rest.front() != ' ' && rest.front() != '\t' && rest.front() != '\n' &&
        key.back() != ':') {
      continue;
    }
    return rest.substr(0, rest.find('\n'));
  }
  return std::nullopt;
}

std::optional<std::uint64_t> find_number(std::string_view text, std::string_view key) {
  const auto line = find_line(text, key);
  return line ? parse_number(*line) : std::nullopt;
}

bool next_line(std::string_view& text, std::string_view& line) {
  if (text.empty()) return false;
  const auto end = text.find('\n');
  line = text.substr(0, end);
  text.remove_prefix(end == std::string_view::npos ? text.size() : end + 1);
  return true;
}

std::string_view next_word(std::string_view& text) {
  const auto begin = text.find_first_not_of(" \t");
  if (begin == std::string_view::npos) {
    text = {};
    return {};
  }
  text.remove_prefix(begin);
  const auto end = text.find_first_of(" \t");
  const auto word = text.substr(0, end);
  text.remove_prefix(end == std::string_view::npos ? text.size() : end);
  return word;
}

}  // namespace vedette
