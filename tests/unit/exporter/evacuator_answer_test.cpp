#include <cmath>

#include <doctest/doctest.h>

#include "agent/act/evacuator.h"
#include "exporter/answers.h"
#include "exporter/api.pb.h"
#include "exporter/wire.h"
#include "tests/unit/exporter/example_snapshot.h"

using namespace vedette;

namespace {

api::Response ask(const api::Request& request, bool trusted, Evacuator* evacuator) {
  const History history;
  api::Request versioned = request;
  versioned.set_version(kApiVersion);
  AnswerContext context{example::snapshot(), history, "worker-3"};
  context.trusted = trusted;
  context.services.evacuator = evacuator;
  return answer(versioned, context);
}

}  // namespace

TEST_CASE("without Kubernetes nothing is planned or evicted, and only root may have pods evicted") {
  api::Request plan;
  plan.mutable_plan();
  CHECK(ask(plan, true, nullptr).error().code() == api::Error::FAILED);
  CHECK(ask(plan, true, nullptr).error().text().find("without Kubernetes") != std::string::npos);

  EvacuatorOptions options;
  options.client.url = "http://127.0.0.1:1";  // nobody listens there
  options.node_name = "worker-3";
  const auto evacuator = Evacuator::make(options);
  REQUIRE(evacuator);
  api::Request evacuate;
  evacuate.mutable_evacuate()->set_plan("0123456789abcdef");
  CHECK(ask(evacuate, false, evacuator->get()).error().code() == api::Error::FORBIDDEN);
  evacuate.mutable_evacuate()->clear_plan();
  CHECK(ask(evacuate, true, evacuator->get()).error().code() == api::Error::BAD_REQUEST);

  // Whoever may connect may ask for a plan; what the API server does not answer is one sentence.
  api::Response response = ask(plan, false, evacuator->get());
  while (response.has_pending()) {
    plan.mutable_plan()->set_ticket(response.pending().ticket());
    response = ask(plan, false, evacuator->get());
  }
  CHECK(response.error().code() == api::Error::FAILED);
  CHECK(response.error().text().find("http://127.0.0.1:1") != std::string::npos);
  // An answer is given once. (The first may have come at once, without a ticket; then that is one nobody
  // has.)
  if (plan.plan().ticket() == 0) plan.mutable_plan()->set_ticket(1);
  CHECK(ask(plan, false, evacuator->get()).error().text().find("ask again") != std::string::npos);
}

TEST_CASE("a pod's danger is its worst condition and its risk, and a missing risk is none") {
  Snapshot snapshot;
  const auto pod = [](EntityId id, const std::string& uid, EntityKind kind = EntityKind::kPod) {
    return std::make_shared<const Entity>(Entity{id, kind, uid, "shop", uid, uid, ""});
  };
  snapshot.features.entities = {pod(1, "a"), pod(2, "b"), pod(3, "unit", EntityKind::kUnit)};
  snapshot.scores.entities.resize(3);
  snapshot.scores.entities[0].risk = 0.7;
  snapshot.scores.entities[2].risk = 0.9;
  CHECK(std::isnan(snapshot.scores.entities[1].risk));
  for (const auto& [reason, severity] :
       {std::pair{"Worse", Severity::kUnhealthy}, {"Bad", Severity::kInfo}}) {
    Condition condition;
    condition.reason = reason;
    condition.severity = severity;
    condition.entity = snapshot.features.entities[0];
    snapshot.conditions.push_back(condition);
  }
  const auto dangers = pod_dangers(snapshot);
  REQUIRE(dangers.size() == 1);
  CHECK(dangers.at("a").risk == 0.7);
  CHECK(dangers.at("a").reason == "Worse");
  CHECK(dangers.at("a").severity == Severity::kUnhealthy);
}
