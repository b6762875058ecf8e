// A directory that stands for /proc or a cgroup hierarchy: written by a test, removed with it.
#pragma once

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <string>

#include <doctest/doctest.h>

namespace vedette {

class FileTree {
public:
  FileTree() {
    std::string name = (std::filesystem::temp_directory_path() / "vedette-test-XXXXXX").string();
    REQUIRE(::mkdtemp(name.data()) != nullptr);
    root_ = name;
  }
  FileTree(const FileTree&) = delete;
  FileTree& operator=(const FileTree&) = delete;
  ~FileTree() { std::filesystem::remove_all(root_); }

  std::string path(const std::string& relative = "") const { return root_ + relative; }
  void write(const std::string& relative, const std::string& text) const {
    const std::filesystem::path file = root_ + relative;
    std::filesystem::create_directories(file.parent_path());
    std::ofstream(file, std::ios::trunc) << text;
  }
  void remove(const std::string& relative) const { std::filesystem::remove_all(root_ + relative); }

private:
  std::string root_;
};

}  // namespace vedette
