#include <memory>

#include <doctest/doctest.h>

#include "exporter/answers.h"
#include "exporter/api.pb.h"
#include "exporter/wire.h"
#include "tests/unit/exporter/example_snapshot.h"

using namespace vedette;

TEST_CASE("status says which vetoed reason of an annotation is none, and what it may have meant") {
  auto snapshot = std::make_shared<Snapshot>(*example::snapshot());
  snapshot->act.annotated.vetoes = {{"DiskEror", kForever}, {"TaskHung", kForever}};
  snapshot->act.annotated.error = "annotation vedette.dev/healthy: expected a time";
  const History history;
  api::Request request;
  request.set_version(kApiVersion);
  request.mutable_status();
  const api::Response response = answer(request, AnswerContext{snapshot, history, "worker-3"});
  REQUIRE(response.status().said_size() == 1);
  const api::OperatorSay& said = response.status().said(0);
  CHECK(said.vetoes_size() == 2);
  CHECK(said.error().starts_with(
      "annotation vedette.dev/healthy: expected a time; no condition has the reason 'DiskEror'"));
  CHECK(said.error().find("DiskError") != std::string::npos);
  CHECK(said.error().find("TaskHung") == std::string::npos);
}
