#include "agent/base/kept_text.h"

#include <filesystem>

#include <doctest/doctest.h>

#include "tests/unit/file_size_limit.h"
#include "tests/unit/temporary_folder.h"

namespace vedette {
namespace {

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
