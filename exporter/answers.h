// From a request and the newest snapshot to what the client reads. Pure but for the history's lock and what
// an operator says, which it stores; called by the socket thread.
#pragma once

#include <memory>
#include <string>

#include "agent/snapshot.h"
#include "exporter/history.h"
#include "exporter/services.h"

namespace vedette {

namespace api {
class Request;
class Response;
}  // namespace api

struct AnswerContext {
  std::shared_ptr<const Snapshot> snapshot;  // null before the first tick
  const History& history;
  std::string node;            // this node's name
  MonotonicNs started_ns = 0;  // when the agent started
  MonotonicNs now_ns = 0;
  WallNs now_wall_ns = 0;
  bool trusted = false;  // the client may say something, or have something done
  Services services{};
};

// Always an answer: an Error where the request cannot be met.
api::Response answer(const api::Request& request, const AnswerContext& context);

}  // namespace vedette
