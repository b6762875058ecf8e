// What an operator says the agent is to do, and the baselines that root takes out or puts in.
#include <algorithm>
#include <set>
#include <utility>

#include "agent/act/operator_store.h"
#include "agent/act/policy.h"
#include "agent/assess/reasons.h"
#include "agent/base/clean_text.h"
#include "agent/record/baseline_store.h"
#include "exporter/answer_parts.h"

namespace vedette {
namespace {

constexpr double kMaxSayS = 365 * 86'400.0;  // longer is what "until resumed" is for
constexpr std::size_t kMaxReason = 63;       // of a taint's value
constexpr std::size_t kSuggestions = 3;

}  // namespace

void fill(const OperatorSay& say, const char* by, api::OperatorSay& out) {
  out.set_by(by);
  out.set_paused_until_wall_ns(say.paused_until_wall_ns);
  for (const auto& [reason, until] : say.vetoes) {
    api::Veto& veto = *out.add_vetoes();
    veto.set_reason(clean_text(reason));
    veto.set_until_wall_ns(until);
  }
  out.set_healthy_wall_ns(say.healthy_wall_ns);
  out.set_error(clean_text(say.error));
}

OperatorSay in_force(OperatorSay say, WallNs now_wall_ns) {
  if (say.paused_until_wall_ns <= now_wall_ns) say.paused_until_wall_ns = 0;
  std::erase_if(say.vetoes, [&](const auto& veto) { return veto.second <= now_wall_ns; });
  return say;
}

std::string unknown_reason(const std::string& reason, const AnswerContext& context) {
  std::set<std::string> known = known_reasons(
      context.services.log_rules != nullptr ? *context.services.log_rules : *LogRules::builtin());
  // A rule may be about a reason that a log rule is still to bring.
  if (context.snapshot != nullptr && context.snapshot->decision.policy) {
    for (const PolicyRule& rule : context.snapshot->decision.policy->rules) known.insert(rule.reason);
  }
  known.erase("");
  if (known.contains(reason)) return "";
  std::string text = "no condition has the reason '" + clean_text(reason) + "', expected one like";
  for (const std::string& name : nearest_names(reason, known, kSuggestions)) text += " " + name + ",";
  text.back() = ';';
  return text + " agent/assess/README.md lists all that are built in";
}

void answer_say(const api::OperatorRequest& request, const AnswerContext& context, api::Response& response) {
  if (context.services.operator_store == nullptr || !context.trusted) {
    set_error(response, api::Error::FORBIDDEN, "only root may say what the agent does: use sudo");
    return;
  }
  const bool names_reason =
      request.word() == api::OperatorRequest::VETO || request.word() == api::OperatorRequest::LIFT_VETO;
  if (!(request.seconds() >= 0) || request.seconds() > kMaxSayS || request.reason().empty() == names_reason ||
      request.reason().size() > kMaxReason) {
    set_error(response, api::Error::BAD_REQUEST,
              "expected up to 365 days, and for a veto a reason as `vedette status` prints it");
    return;
  }
  if (request.word() == api::OperatorRequest::VETO) {
    if (std::string why = unknown_reason(request.reason(), context); !why.empty()) {
      set_error(response, api::Error::FAILED, std::move(why));
      return;
    }
  }
  const WallNs until = request.seconds() > 0
                           ? context.now_wall_ns + static_cast<WallNs>(request.seconds() * kNsPerSecond)
                           : kForever;
  OperatorSay say = in_force(*context.services.operator_store->get(), context.now_wall_ns);
  switch (request.word()) {
    case api::OperatorRequest::PAUSE:
      say.paused_until_wall_ns = until;
      break;
    case api::OperatorRequest::RESUME:
      say.paused_until_wall_ns = 0;
      break;
    case api::OperatorRequest::VETO:
      say.vetoes[clean_text(request.reason())] = until;
      break;
    case api::OperatorRequest::LIFT_VETO:
      say.vetoes.erase(clean_text(request.reason()));
      break;
    case api::OperatorRequest::HEALTHY:
      say.healthy_wall_ns = context.now_wall_ns;
      break;
    default:
      set_error(response, api::Error::BAD_REQUEST, "expected pause, resume, veto or healthy");
      return;
  }
  if (Status ok = context.services.operator_store->set(say); !ok) {
    set_error(response, api::Error::FAILED, ok.error().text);
    return;
  }
  fill(*context.services.operator_store->get(), "local", *response.mutable_said());
}

void answer_baselines(const api::BaselinesRequest& request, const AnswerContext& context,
                      api::Response& response) {
  BaselineStore* const store = context.services.baselines;
  if (!context.trusted) {
    set_error(response, api::Error::FORBIDDEN, "only root may export or import baselines: use sudo");
    return;
  }
  if (store == nullptr) {
    set_error(response, api::Error::FAILED, "the agent keeps no baselines: set score.baselines");
    return;
  }
  api::Baselines& out = *response.mutable_baselines();
  if (!request.file().empty()) {
    const auto imported = store->import(request.file());
    if (imported) {
      out.set_imported(static_cast<std::uint32_t>(*imported));
    } else {
      set_error(response, api::Error::FAILED, clean_text(imported.error().text));
    }
    return;
  }
  auto file = store->exported();
  if (file) {
    out.set_file(std::move(*file));
  } else {
    set_error(response, api::Error::FAILED, clean_text(file.error().text));
  }
}

}  // namespace vedette
