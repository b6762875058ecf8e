#include "agent/collect/detail_labels.h"

#include <csignal>
#include <filesystem>
#include <set>
#include <string>

#include <doctest/doctest.h>

#include "tests/unit/collect/file_tree.h"

namespace vedette {
namespace {

TEST_CASE("A label's number is told as a word where there is one") {
  DetailLabels labels;
  CHECK(labels.word(LABEL_SIGNAL, SIGKILL) == "SIGKILL");
  CHECK(labels.word(LABEL_SIGNAL, SIGSEGV) == "SIGSEGV");
  CHECK(labels.word(LABEL_SIGNAL, 40) == "signal 40");
  CHECK(labels.word(LABEL_CODE, 137) == "137");
  CHECK(labels.word(LABEL_DEVICE, 4095 << 20) == "4095:0");
}

TEST_CASE("A device number that another device has now is told, and one that is gone keeps its name") {
  const FileTree tree;
  const auto link = [&](const std::string& device) {
    tree.remove("/dev/block/259:1");
    std::filesystem::create_directories(tree.path("/dev/block"));
    std::filesystem::create_symlink("../../devices/pci/nvme/" + device, tree.path("/dev/block/259:1"));
  };
  constexpr std::int32_t kDevice = 259 << 20 | 1;
  DetailLabels labels(tree.path());
  link("nvme0n1");
  CHECK(labels.word(LABEL_DEVICE, kDevice) == "nvme0n1");
  CHECK(labels.word(LABEL_CODE, kDevice) == std::to_string(kDevice));
  CHECK(labels.renew_devices().empty());
  tree.remove("/dev/block/259:1");
  CHECK(labels.renew_devices().empty());
  CHECK(labels.word(LABEL_DEVICE, kDevice) == "nvme0n1");
  link("nvme1n1");
  CHECK(labels.renew_devices() == std::set<std::int32_t>{kDevice});
  CHECK(labels.word(LABEL_DEVICE, kDevice) == "nvme1n1");
  CHECK(labels.renew_devices().empty());
}

}  // namespace
}  // namespace vedette
