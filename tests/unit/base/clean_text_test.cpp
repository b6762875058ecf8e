#include "agent/base/clean_text.h"

#include <doctest/doctest.h>

TEST_CASE("text from outside leaves as valid UTF-8 without control characters") {
  using vedette::clean_text;
  CHECK(clean_text("pod/a → b ✓ 𝛼") == "pod/a → b ✓ 𝛼");
  CHECK(clean_text("\xff\xfe") == "??");
  CHECK(clean_text("a\xc3") == "a?");
  CHECK(clean_text("\xc0\xaf") == "??");
  CHECK(clean_text("\xed\xa0\x80") == "???");
  CHECK(clean_text("\x1b[2Jx\n\x7f") == "?[2Jx??");
  CHECK(clean_text("\xc2\x9b") == "?");
  CHECK(clean_text("") == "");
}

TEST_CASE("is_utf8 takes control characters, and no byte outside of a sequence") {
  CHECK(vedette::is_utf8("pod/a → b\n\x1b"));
  CHECK(vedette::is_utf8(""));
  for (const char* text : {"\xff", "a\xc3", "\xc0\xaf", "\xed\xa0\x80"}) CHECK_FALSE(vedette::is_utf8(text));
}
