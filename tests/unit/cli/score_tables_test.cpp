#include "tools/cli/score_tables.h"

#include <filesystem>
#include <fstream>
#include <sstream>
#include <string>

#include <doctest/doctest.h>
#include <zlib.h>

#include "agent/score/exact_math.h"
#include "tests/unit/temporary_folder.h"

namespace {

namespace fs = std::filesystem;
using namespace vedette;

void write(const fs::path& path, const std::string& text) {
  fs::create_directories(path.parent_path());
  std::ofstream(path) << text;
}

void write_compressed(const fs::path& path, const std::string& text) {
  fs::create_directories(path.parent_path());
  gzFile file = ::gzopen(path.c_str(), "wb");
  REQUIRE(::gzwrite(file, text.data(), static_cast<unsigned>(text.size())) == static_cast<int>(text.size()));
  ::gzclose(file);
}

std::string read(const fs::path& path) {
  std::ostringstream text;
  text << std::ifstream(path).rdbuf();
  return text.str();
}

// Two noisy columns, of which one jumps in row `odd`.
std::string rows(int count, int odd, const std::string& ending = "") {
  RandomBits random(7);
  std::string text;
  for (int i = 0; i < count; ++i) {
    const float a = random.uniform() + (i == odd ? 4.F : 0.F);
    text += std::to_string(a) + "," + (i % 50 == 9 ? "" : std::to_string(random.uniform())) + ending + "\n";
  }
  return text;
}

std::string error_of(const fs::path& folder) {
  std::ostringstream told;
  const Status scored = score_tables({folder / "set", folder / "out"}, told);
  return scored ? "" : scored.error().text;
}

}  // namespace

TEST_CASE("a table is judged row by row: one line for each row, an alarm where it jumps, compressed or not") {
  const TemporaryFolder folder;
  const fs::path set = folder.path() / "set";
  write(set / "train" / "a.csv", "x,y\n" + rows(2000, -1));
  write(set / "test" / "a.csv", "x,y,label\n" + rows(300, 200, ",0"));
  write_compressed(set / "train" / "b.csv.gz", "x,y\n" + rows(2000, -1));
  write_compressed(set / "test" / "b.csv.gz", "x,y,label\r\n" + rows(300, 200, ",1\r"));
  CHECK(error_of(folder.path()).empty());
  const std::string a = read(folder.path() / "out" / "a.csv");
  CHECK(a == read(folder.path() / "out" / "b.csv"));  // the labels differ, the scores do not
  std::istringstream lines(a);
  std::string line;
  std::getline(lines, line);
  CHECK(line == "score,alarm");
  int row = 0;
  for (; std::getline(lines, line); ++row) {
    if (row < 200) CHECK(line.ends_with(",0"));
    if (row == 201) CHECK(line.ends_with(",1"));
  }
  CHECK(row == 300);
}

TEST_CASE("a table that cannot be read is refused with its file, line and what was expected") {
  const TemporaryFolder folder;
  const fs::path set = folder.path() / "set";
  CHECK(error_of(folder.path()).find((set / "test").string()) == 0);
  fs::create_directories(set / "test");
  CHECK(error_of(folder.path()).find("expected tables named *.csv or *.csv.gz") != std::string::npos);
  write(set / "test" / "a.csv", "x,y\n1,2\n");
  CHECK(error_of(folder.path()).find("train/a.csv") != std::string::npos);
  write(set / "train" / "a.csv", "");
  CHECK(error_of(folder.path()).find("expected a header") != std::string::npos);
  write(set / "train" / "a.csv", "x,z\n1,2\n");
  CHECK(error_of(folder.path()).find("expected the columns of") != std::string::npos);
  write(set / "train" / "a.csv", "x,y\n1,2\n1\n");
  CHECK(error_of(folder.path()).find("train/a.csv:3: expected 2 cells, found 1") != std::string::npos);
  write(set / "train" / "a.csv", "x,y\n1,2x\n");
  CHECK(error_of(folder.path()).find("train/a.csv:2: y: expected a number or nothing, found \"2x\"") !=
        std::string::npos);
  write(set / "train" / "a.csv", "x,y\n1,2\n");
  std::string broken = "x,y\n" + rows(5000, -1);
  write_compressed(set / "train" / "a.csv.gz", broken);
  fs::resize_file(set / "train" / "a.csv.gz", fs::file_size(set / "train" / "a.csv.gz") / 2);
  CHECK(error_of(folder.path()).find("train/a.csv.gz") != std::string::npos);
}
