#include "agent/collect/kept_file.h"

#include <string>

#include <doctest/doctest.h>

#include "tests/unit/collect/file_tree.h"

namespace vedette {
namespace {

TEST_CASE("A file is read whole, however long it became") {
  const FileTree tree;
  tree.write("/short", "12\n");
  std::string text;
  for (int i = 0; i < 20000; ++i) text += std::to_string(i) + "\n";
  tree.write("/long", text);
  ReadBuffer buffer;
  CHECK(buffer.read_path(tree.path("/short")) == "12\n");
  CHECK(buffer.read_path(tree.path("/long")) == text);
  CHECK_FALSE(buffer.read_path(tree.path("/none")).has_value());
}

TEST_CASE("A kept file follows its content, and waits for a file that is not there yet") {
  const FileTree tree;
  FileBudget budget(1);
  ReadBuffer buffer;
  KeptFile file(tree.path("/value"), budget);
  CHECK_FALSE(file.read(buffer).has_value());
  tree.write("/value", "1\n");
  CHECK(file.read(buffer) == "1\n");
  tree.write("/value", "22\n");
  CHECK(file.read(buffer) == "22\n");
}

TEST_CASE("Files beyond the budget are read all the same, and a closed one gives its place back") {
  const FileTree tree;
  tree.write("/a", "a");
  tree.write("/b", "b");
  FileBudget budget(1);
  ReadBuffer buffer;
  {
    KeptFile first(tree.path("/a"), budget);
    KeptFile second(tree.path("/b"), budget);
    CHECK(first.read(buffer) == "a");
    CHECK(second.read(buffer) == "b");
    CHECK_FALSE(budget.take());
    KeptFile moved(std::move(first));
    CHECK(moved.read(buffer) == "a");
    CHECK_FALSE(budget.take());
  }
  CHECK(budget.take());
}

TEST_CASE("Numbers and lines are found by the whole key") {
  const std::string text =
      "total_inactive_file 7\ninactive_file 5\nMemTotal:      16 kB\nfile 3\nempty\nmax max\n";
  CHECK(find_number(text, "inactive_file") == 5U);
  CHECK(find_number(text, "file") == 3U);
  CHECK(find_number(text, "MemTotal:") == 16U);
  CHECK_FALSE(find_number(text, "inactive").has_value());
  CHECK_FALSE(find_number(text, "max").has_value());
  CHECK(find_line(text, "empty") == "");
  CHECK(parse_number("  42\n") == 42U);
  CHECK_FALSE(parse_number("-1").has_value());
  CHECK_FALSE(parse_number("99999999999999999999999").has_value());
}

TEST_CASE("Lines and words are cut in order") {
  std::string_view text = "a b\n\nlast";
  std::string_view line;
  REQUIRE(next_line(text, line));
  CHECK(next_word(line) == "a");
  CHECK(next_word(line) == "b");
  CHECK(next_word(line).empty());
  REQUIRE(next_line(text, line));
  CHECK(line.empty());
  REQUIRE(next_line(text, line));
  CHECK(line == "last");
  CHECK_FALSE(next_line(text, line));
}

}  // namespace
}  // namespace vedette
