// A directory that stands for /proc or a cgroup hierarchy: written by a test, removed with it.
#pragma once

#include <filesystem>
#include <fstream>
#include <string>

#include "tests/unit/temporary_folder.h"

namespace vedette {

class FileTree {
public:
  std::string path(const std::string& relative = "") const { return folder_.path().string() + relative; }
  void write(const std::string& relative, const std::string& text) const {
    const std::filesystem::path file = path(relative);
    std::filesystem::create_directories(file.parent_path());
    std::ofstream(file, std::ios::trunc) << text;
  }
  void remove(const std::string& relative) const { std::filesystem::remove_all(path(relative)); }

private:
  TemporaryFolder folder_;
};

}  // namespace vedette
