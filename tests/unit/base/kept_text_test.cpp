#include "agent/base/kept_text.h"

#include <csignal>
#include <filesystem>

#include <doctest/doctest.h>
#include <sys/resource.h>

#include "tests/unit/temporary_folder.h"

namespace vedette {
namespace {

// Files of this process end at so many bytes, as on a full disk: what fits is written, then nothing is.
class FileSizeLimit {
public:
  explicit FileSizeLimit(rlim_t bytes) : signal_(std::signal(SIGXFSZ, SIG_IGN)) {
    REQUIRE(::getrlimit(RLIMIT_FSIZE, &before_) == 0);
    const rlimit limit{bytes, before_.rlim_max};
    REQUIRE(::setrlimit(RLIMIT_FSIZE, &limit) == 0);
  }
  FileSizeLimit(const FileSizeLimit&) = delete;
  FileSizeLimit& operator=(const FileSizeLimit&) = delete;
  ~FileSizeLimit() {
    ::setrlimit(RLIMIT_FSIZE, &before_);
    std::signal(SIGXFSZ, signal_);
  }

private:
  rlimit before_{};
  void (*signal_)(int);
};

TEST_CASE("a kept file is the old one or the new one, also where the new one does not fit") {
  const TemporaryFolder folder;
  const std::string file = folder.file("said.json");
  CHECK_FALSE(read_kept_text(file, 100).value());
  REQUIRE(replace_kept_text(file, "old"));
  CHECK(read_kept_text(file, 100).value() == "old");
  CHECK(std::filesystem::status(file).permissions() ==
        (std::filesystem::perms::owner_read | std::filesystem::perms::owner_write));
  {
    const FileSizeLimit limit(1000);
    const Status status = replace_kept_text(file, std::string(5000, 'x'));
    REQUIRE_FALSE(status);
    CHECK(status.error().text == "write " + file + ".new: File too large");
  }
  CHECK(read_kept_text(file, 100).value() == "old");
  CHECK_FALSE(std::filesystem::exists(file + ".new"));
  REQUIRE(replace_kept_text(file, std::string(5000, 'x')));
  CHECK(read_kept_text(file, 5000).value() == std::string(5000, 'x'));
  CHECK(read_kept_text(file, 4999).error().text == file + ": expected at most 4999 bytes");
}

TEST_CASE("a kept file that cannot take its name says which") {
  const TemporaryFolder folder;
  const std::string file = folder.file("said.json");
  std::filesystem::create_directories(folder.path() / "said.json" / "full");
  const Status status = replace_kept_text(file, "text");
  REQUIRE_FALSE(status);
  CHECK(status.error().text == "rename " + file + ".new to " + file + ": Is a directory");
  CHECK_FALSE(std::filesystem::exists(file + ".new"));
  CHECK_FALSE(replace_kept_text(folder.file("nowhere/said.json"), "text"));
}

}  // namespace
}  // namespace vedette
