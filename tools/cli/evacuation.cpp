#include "tools/cli/evacuation.h"

#include <algorithm>
#include <chrono>
#include <ostream>
#include <thread>

#include "exporter/api.pb.h"
#include "tools/cli/views.h"

namespace vedette {
namespace {

// The agent lists this node's pods for every step.
constexpr std::chrono::milliseconds kStepPause{1000};
// Where a budget has no room: a pod that starts elsewhere takes seconds. As `kubectl drain`.
constexpr std::chrono::milliseconds kBudgetPause{5000};
// The agent hangs up on a client that is silent for 30 s.
constexpr std::chrono::milliseconds kLongestPause{20'000};
constexpr std::chrono::milliseconds kAnswerPause{50};

std::chrono::milliseconds pause_after(const api::Evacuation& step) {
  if (step.waiting_size() == 0) return kStepPause;
  const std::chrono::milliseconds asked(static_cast<long>(step.retry_after_s() * 1000));
  return asked.count() > 0 ? std::min(asked, kLongestPause) : kBudgetPause;
}

}  // namespace

Result<api::Response> ask_patiently(AgentClient& client, api::Request request) {
  for (;;) {
    Result<api::Response> response = client.ask(request);
    if (!response || !response->has_pending()) return response;
    const std::uint64_t ticket = response->pending().ticket();
    if (request.has_plan()) {
      request.mutable_plan()->set_ticket(ticket);
    } else {
      request.mutable_evacuate()->set_ticket(ticket);
    }
    std::this_thread::sleep_for(kAnswerPause);
  }
}

Result<api::Response> run_evacuation(AgentClient& client, const std::string& plan, const CliStreams& streams,
                                     bool quiet) {
  std::string told;
  for (;;) {
    api::Request request;
    request.mutable_evacuate()->set_plan(plan);
    Result<api::Response> response = ask_patiently(client, std::move(request));
    if (!response || !response->has_evacuation()) return response;
    const api::Evacuation& step = response->evacuation();
    if (!quiet) {
      std::string text = evacuation_view(*response, streams.screen);
      if (text != told) streams.out << text << std::flush;
      told = std::move(text);
    }
    const bool moves = step.evicted_size() + step.ending_size() + step.waiting_size() > 0;
    if (step.wave() == 0 || (!moves && step.refused_size() > 0)) return response;
    std::this_thread::sleep_for(pause_after(step));
  }
}

}  // namespace vedette
