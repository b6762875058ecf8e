// Reading small kernel files again and again: one buffer for all, descriptors kept open where they pay.
// Used by the file sources; each object belongs to one thread.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "agent/base/handle.h"

namespace vedette {

// A kept descriptor costs the kernel about 5 kB (file and seq buffer), an open about 6 us against .5 us for a
// pread: so they are kept, but bounded.
class FileBudget {
public:
  explicit FileBudget(std::size_t limit) : left_(limit) {}
  bool take() {
    if (left_ == 0) return false;
    --left_;
    return true;
  }
  void give() { ++left_; }

private:
  std::size_t left_;
};

// Grows to the largest file met and is then reused.
class ReadBuffer {
public:
  // The whole of an open file from its start; empty when it cannot be read (a cgroup that is gone: ENODEV).
  std::optional<std::string_view> read(int fd);
  // Opens, reads and closes; `directory` is a descriptor or AT_FDCWD.
  std::optional<std::string_view> read_path(int directory, const char* path);
  std::optional<std::string_view> read_path(const std::string& path);

private:
  std::vector<char> bytes_ = std::vector<char>(4096);
};

// One file that is read each round. Missing files are tried again at each read: controllers come and go.
class KeptFile {
public:
  KeptFile(std::string path, FileBudget& budget) : path_(std::move(path)), budget_(&budget) {}
  KeptFile(KeptFile&& other) noexcept;
  KeptFile& operator=(KeptFile&& other) noexcept;
  KeptFile(const KeptFile&) = delete;
  KeptFile& operator=(const KeptFile&) = delete;
  ~KeptFile() { close(); }

  // Valid until the next read into `buffer`.
  std::optional<std::string_view> read(ReadBuffer& buffer);
  const std::string& path() const { return path_; }

private:
  void close();

  std::string path_;
  FileBudget* budget_;
  FileHandle file_;
};

// The first decimal number in `text`, after blanks; nothing for "max", "-1" or rubbish.
std::optional<std::uint64_t> parse_number(std::string_view text);
// The number after `key` and blanks at the start of a line: "inactive_file 123", "MemTotal:   123 kB".
std::optional<std::uint64_t> find_number(std::string_view text, std::string_view key);
// The rest of the line that begins with `key`; empty optional if there is none.
std::optional<std::string_view> find_line(std::string_view text, std::string_view key);
// Cuts the first line (without its end) from `text`; false when nothing is left.
bool next_line(std::string_view& text, std::string_view& line);
// Cuts the first word from `text`: words are separated by blanks; empty when nothing is left.
std::string_view next_word(std::string_view& text);

}  // namespace vedette
