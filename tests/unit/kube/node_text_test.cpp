#include <doctest/doctest.h>

#include "agent/kube/node.h"

using namespace vedette;

TEST_CASE("times go to RFC 3339 and back") {
  const WallNs time = 1'767'323'045ULL * 1'000'000'000ULL + 123'456'789ULL;
  CHECK(format_time(time) == "2026-01-02T03:04:05Z");
  CHECK(format_time(time, true) == "2026-01-02T03:04:05.123456Z");
  CHECK(parse_time("2026-01-02T03:04:05Z") == 1'767'323'045ULL * 1'000'000'000ULL);
  CHECK(parse_time("2026-01-02T03:04:05.123456Z") == time / 1000 * 1000);
  for (const char* text :
       {"", "yesterday", "2026-01-02", "2026-01-02T03:04:05", "2026-01-02T03:04:05+01:00"}) {
    CHECK(parse_time(text) == 0);
  }
}

TEST_CASE("a text is cut between characters") {
  CHECK(cut_text("abc", 3) == "abc");
  CHECK(cut_text("abcd", 3) == "abc");
  CHECK(cut_text("ab\xc3\xa4", 3) == "ab");
  CHECK(cut_text("\xe2\x82\xac", 2).empty());
}

TEST_CASE("names are percent-encoded for a path or query") {
  CHECK(url_encode("spec.nodeName=n-1/x y") == "spec.nodeName%3Dn-1%2Fx%20y");
}

TEST_CASE("a refusal is explained by the server's own sentence, or by the start of what came") {
  CHECK(explain({.status = 403, .body = R"({"kind":"Status","message":"nodes is forbidden"})"}) ==
        "HTTP 403: nodes is forbidden");
  CHECK(explain({.status = 502, .body = "<html>\nbad"}) == "HTTP 502: <html> bad");
  CHECK(explain({.status = 500, .body = ""}) == "HTTP 500");
}
