#include "agent/collect/detail_labels.h"

#include <csignal>

#include <doctest/doctest.h>

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

}  // namespace
}  // namespace vedette
