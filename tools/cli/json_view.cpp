#include <nlohmann/json.hpp>

#include "exporter/api.pb.h"
#include "tools/cli/json_text.h"
#include "tools/cli/views.h"

namespace vedette {
namespace {

using Json = nlohmann::ordered_json;

// nlohmann writes NaN as null, which is what a missing number is.
Json json_of(const api::Reason& reason) {
  return {{"column", reason.column()},
          {"value", reason.value()},
          {"usual", reason.usual()},
          {"weight", reason.weight()},
          {"unit", reason.unit()}};
}

Json json_of(const api::Value& value);
Json json_of(const api::Condition& condition);
Json json_of(const api::Probe& probe);
Json json_of(const api::TopRow& row);
Json json_of(const api::Forecast& forecast);
Json json_of(const api::Event& event);
Json json_of(const api::OperatorSay& said);
Json json_of(const api::PlannedPod& pod);
Json json_of(const api::PodNote& note);

Json json_of(const api::IncidentCondition& condition);
Json json_of(const api::IncidentAction& action);
Json json_of(const api::Feedback& feedback);
Json json_of(const api::Suspect& suspect);
Json json_of(const api::Incident& incident);

template <typename List>
Json json_list(const List& list) {
  Json array = Json::array();
  for (const auto& item : list) array.push_back(json_of(item));
  return array;
}

Json json_of(const api::Value& value) {
  return {{"column", value.column()}, {"value", value.value()}, {"unit", value.unit()}};
}

Json json_of(const api::Condition& condition) {
  return {{"entity", condition.entity()},
          {"reason", condition.reason()},
          {"domain", condition.domain()},
          {"evidence", condition.evidence()},
          {"severity", condition.severity()},
          {"confidence", condition.confidence()},
          {"since_wall_ns", condition.since_wall_ns()},
          {"active_s", condition.active_s()},
          {"evidence_age_s", condition.evidence_age_s()},
          {"count", condition.count()},
          {"recovering", condition.recovering()},
          {"recovers_in_s", condition.recovers_in_s()},
          {"message", condition.message()},
          {"details", std::vector<std::string>(condition.details().begin(), condition.details().end())},
          {"reasons", json_list(condition.reasons())}};
}

Json json_of(const api::Probe& probe) {
  return {{"name", probe.name()},
          {"state", probe.state()},
          {"reason", probe.reason()},
          {"runs", probe.runs()},
          {"run_ns", probe.run_ns()},
          {"sampled_ns", probe.sampled_ns()},
          {"misses", probe.has_misses() ? Json(probe.misses()) : Json()},
          {"watched_ns", probe.watched_ns()},
          {"state_age_s", probe.state_age_s()},
          {"signals", std::vector<std::string>(probe.signals().begin(), probe.signals().end())}};
}

Json json_of(const api::Budget& budget) {
  const Json missing;
  return {{"step", budget.step()},
          {"steps", budget.steps()},
          {"does", budget.does()},
          {"fixed", budget.fixed()},
          {"exhausted", budget.exhausted()},
          {"cpu_share", budget.cpu_share()},
          {"kernel_share", budget.measured() ? Json(budget.kernel_share()) : missing},
          {"agent_share", budget.measured() ? Json(budget.agent_share()) : missing},
          {"unmeasured", budget.unmeasured()},
          {"maps", budget.maps()}};
}

Json json_of(const api::Losses& losses) {
  Json events = Json::object();
  for (const api::EventLoss& event : losses.events()) {
    events[event.type()] = {{"produced", event.produced()}, {"lost", event.lost()}};
  }
  Json lacking = Json::object();
  for (const auto& [signal, count] : losses.no_start()) lacking[signal] = count;
  return {{"produced", losses.produced()},
          {"received", losses.received()},
          {"lost", losses.lost()},
          {"no_slot", losses.no_slot()},
          {"misses", losses.misses()},
          {"no_task_storage", losses.no_task_storage()},
          {"no_start", lacking},
          {"missed_ticks", losses.missed_ticks()},
          {"log_lost", losses.log_lost()},
          {"no_detail", losses.no_detail()},
          {"events", events}};
}

Json json_of(const api::TopRow& row) {
  Json trails = Json::object();
  for (const api::Trail& trail : row.trails()) {
    trails[trail.column()] = std::vector<float>(trail.points().begin(), trail.points().end());
  }
  return {{"entity", row.entity().name()},
          {"kind", row.entity().kind()},
          {"namespace", row.entity().namespace_()},
          {"pod", row.entity().pod()},
          {"workload", row.entity().workload()},
          {"severity", row.severity()},
          {"reason", row.reason()},
          {"anomaly", row.anomaly()},
          {"anomaly_threshold", row.anomaly_threshold()},
          {"anomalous", row.anomalous()},
          {"warming_up", row.warming_up()},
          {"learning", row.learning()},
          {"risk", row.risk()},
          {"trails", trails}};
}

Json json_of(const api::Forecast& forecast) {
  return {{"signal", forecast.signal()},
          {"value", forecast.value()},
          {"slope_per_s", forecast.slope_per_s()},
          {"eta_s", forecast.eta_s()}};
}

Json json_of(const api::Event& event) {
  return {{"wall_ns", event.wall_ns()},     {"age_s", event.age_s()}, {"type", event.type()},
          {"count", event.count()},         {"pid", event.pid()},     {"comm", event.comm()},
          {"container", event.container()}, {"text", event.text()}};
}

Json json_of(const api::OperatorSay& said) {
  Json vetoes = Json::object();
  for (const api::Veto& veto : said.vetoes()) vetoes[veto.reason()] = veto.until_wall_ns();
  return {{"by", said.by()},
          {"paused_until_wall_ns", said.paused_until_wall_ns()},
          {"vetoes", vetoes},
          {"healthy_wall_ns", said.healthy_wall_ns()},
          {"error", said.error()}};
}

Json json_of(const api::PlannedPod& pod) {
  return {{"namespace", pod.namespace_()},
          {"name", pod.name()},
          {"workload", pod.workload()},
          {"priority", pod.priority()},
          {"critical", pod.critical()},
          {"grace_s", pod.grace_s()},
          {"severity", pod.severity()},
          {"reason", pod.reason()},
          {"risk", pod.risk()},
          {"budget", pod.budget()},
          {"wave", pod.wave()},
          {"fits", pod.fits()},
          {"blocks", std::vector<std::string>(pod.blocks().begin(), pod.blocks().end())},
          {"notes", std::vector<std::string>(pod.notes().begin(), pod.notes().end())}};
}

Json json_of(const api::PodNote& note) {
  return {{"pod", note.pod()}, {"text", note.text()}};
}

Json json_of(const api::IncidentCondition& condition) {
  Json json;
  json["reason"] = condition.reason();
  json["entity"] = condition.entity();
  json["domain"] = condition.domain();
  json["evidence"] = condition.evidence();
  json["severity"] = condition.severity();
  json["began_wall_ns"] = condition.began_wall_ns();
  json["ended_wall_ns"] = condition.ended_wall_ns();
  json["confidence"] = condition.confidence();
  json["message"] = condition.message();
  json["came_true"] = condition.came_true();
  return json;
}

Json json_of(const api::IncidentAction& action) {
  Json json;
  json["wall_ns"] = action.wall_ns();
  json["what"] = action.what();
  json["generation"] = action.generation();
  json["reason"] = action.reason();
  json["effect"] = action.effect();
  json["why"] = action.why();
  return json;
}

Json json_of(const api::Feedback& feedback) {
  Json json;
  json["wall_ns"] = feedback.wall_ns();
  json["verdict"] = feedback.verdict();
  json["why"] = feedback.why();
  return json;
}

Json json_of(const api::Suspect& suspect) {
  Json json;
  json["entity"] = suspect.entity();
  json["score"] = suspect.score();
  json["why"] = suspect.why();
  return json;
}

Json json_of(const api::Incident& incident) {
  Json json;
  json["id"] = incident.id();
  json["opened_wall_ns"] = incident.opened_wall_ns();
  json["closed_wall_ns"] = incident.closed_wall_ns();
  json["severity"] = incident.severity();
  json["cause"] = incident.cause();
  json["cause_why"] = incident.cause_why();
  json["settled"] = incident.settled();
  json["suspects"] = json_list(incident.suspects());
  json["victims"] = incident.victims();
  json["cut_short"] = incident.cut_short();
  json["slice"] = incident.slice();
  json["conditions"] = json_list(incident.conditions());
  json["more"] = incident.more();
  json["actions"] = json_list(incident.actions());
  json["feedback"] = json_list(incident.feedback());
  return json;
}

void add_status(const api::Status& status, Json& json) {
  const api::Decision& decision = status.decision();
  const api::Act& act = status.act();
  const api::SelfUse& self = status.self();
  json["overall"] = status.overall();
  json["conditions"] = json_list(status.conditions());
  json["decision"] = {{"mode", decision.mode()},           {"taint", decision.taint()},
                      {"effect", decision.effect()},       {"reason", decision.reason()},
                      {"message", decision.message()},     {"since_wall_ns", decision.since_wall_ns()},
                      {"held_back", decision.held_back()}, {"next", decision.next()}};
  json["act"] = {{"connected", act.connected()},
                 {"known", act.known()},
                 {"tainted", act.tainted()},
                 {"adopted", act.adopted()},
                 {"tainted_since_wall_ns", act.tainted_since_wall_ns()},
                 {"taint_reason", act.taint_reason()},
                 {"acked", act.acked()},
                 {"patches", act.patches()},
                 {"conflicts", act.conflicts()},
                 {"failures", act.failures()},
                 {"events_written", act.events_written()},
                 {"last_evidence_to_ack_s", act.last_evidence_to_ack_s()},
                 {"last_error", act.last_error()},
                 {"slot", act.slot()},
                 {"held_back", act.held_back()}};
  Json& journal = json["journal"];
  journal["on"] = status.journal().on();
  journal["written"] = status.journal().written();
  journal["dropped"] = status.journal().dropped();
  journal["bytes"] = status.journal().bytes();
  journal["error"] = status.journal().error();
  journal["set_aside"] = status.journal().set_aside();
  Json& flight = json["flight"];
  flight["on"] = status.flight().on();
  flight["folder"] = status.flight().folder();
  flight["dropped"] = status.flight().dropped();
  flight["bytes"] = status.flight().bytes();
  flight["slices"] = status.flight().slices();
  flight["slice_bytes"] = status.flight().slice_bytes();
  flight["error"] = status.flight().error();
  flight["slice_error"] = status.flight().slice_error();
  const api::Kept& kept = status.kept();
  json["baselines"] = {{"on", kept.on()},
                       {"workloads", kept.workloads()},
                       {"bytes", kept.bytes()},
                       {"saved_wall_ns", kept.saved_wall_ns()},
                       {"left_out", kept.left_out()},
                       {"error", kept.error()},
                       {"set_aside", kept.set_aside()}};
  json["policy_error"] = status.policy_error();
  json["restart_for"] = status.restart_for();
  json["operator"] = json_list(status.said());
  json["telemetry"] = {{"probes", status.probes()},
                       {"probes_off", status.probes_off()},
                       {"troubled_probes", json_list(status.troubled_probes())},
                       {"losses", json_of(status.losses())}};
  json["self"] = {{"tick_ms", self.tick_ms()},
                  {"collect_ms", self.collect_ms()},
                  {"cpu_share", self.cpu_share()},
                  {"rss_bytes", self.rss_bytes()},
                  {"bpf_map_bytes", self.bpf_map_bytes()}};
  if (status.has_budget()) json["budget"] = json_of(status.budget());
  json["load"] = json_list(status.load());
  json["entities"] = {
      {"pods", status.pods()}, {"others", status.others()}, {"warming_up", status.warming_up()}};
}

const char* code_name(api::Error::Code code) {
  switch (code) {
    case api::Error::BAD_REQUEST:
      return "bad_request";
    case api::Error::NOT_READY:
      return "not_ready";
    case api::Error::TOO_MANY:
      return "too_many";
    case api::Error::UNKNOWN_ENTITY:
      return "unknown_entity";
    case api::Error::AMBIGUOUS:
      return "ambiguous";
    case api::Error::FORBIDDEN:
      return "forbidden";
    case api::Error::FAILED:
      return "failed";
    default:
      return "unspecified";
  }
}

}  // namespace

std::string json_view(const api::Response& response) {
  const api::Agent& agent = response.agent();
  Json json{{"version", response.version()},
            {"agent",
             {{"version", agent.version()},
              {"node", agent.node()},
              {"wall_ns", agent.wall_ns()},
              {"age_s", agent.age_s()},
              {"uptime_s", agent.uptime_s()},
              {"ticks", agent.ticks()}}}};
  switch (response.answer_case()) {
    case api::Response::kError:
      json["error"] = {{"code", code_name(response.error().code())},
                       {"text", response.error().text()},
                       {"candidates", std::vector<std::string>(response.error().candidates().begin(),
                                                               response.error().candidates().end())}};
      break;
    case api::Response::kStatus:
      add_status(response.status(), json);
      break;
    case api::Response::kTop:
      json["overall"] = response.top().overall();
      json["rows"] = json_list(response.top().rows());
      json["hidden"] = response.top().hidden();
      break;
    case api::Response::kExplain: {
      const api::Explain& explain = response.explain();
      json["row"] = json_of(explain.row());
      json["conditions"] = json_list(explain.conditions());
      json["anomaly_reasons"] = json_list(explain.anomaly_reasons());
      json["risk_reasons"] = json_list(explain.risk_reasons());
      json["forecasts"] = json_list(explain.forecasts());
      json["events"] = json_list(explain.events());
      json["values"] = json_list(explain.values());
      break;
    }
    case api::Response::kProbes:
      json["probes"] = json_list(response.probes().probes());
      json["losses"] = json_of(response.probes().losses());
      if (response.probes().has_budget()) json["budget"] = json_of(response.probes().budget());
      break;
    case api::Response::kPolicy: {
      const api::Policy& policy = response.policy();
      Json rules = Json::array();
      for (const api::PolicyRule& rule : policy.rules()) {
        Json& line = rules.emplace_back();
        line["name"] = rule.name();
        line["about"] = rule.about();
        line["when"] = rule.when();
        line["does"] = rule.does();
        line["confirmed"] = rule.confirmed();
        line["refuted"] = rule.refuted();
        line["undecided"] = rule.undecided();
        line["verdicts"] = rule.confirmed() + rule.refuted();
        line["precision"] = rule.confirmed() + rule.refuted() == 0
                                ? Json()
                                : Json(static_cast<double>(rule.confirmed()) /
                                       static_cast<double>(rule.confirmed() + rule.refuted()));
        line["needs_verdicts"] = rule.needs_verdicts();
        line["needs_precision"] = rule.needs_precision();
        line["lacks"] = rule.lacks();
      }
      Json judgements = Json::array();
      for (const api::Judgement& judgement : policy.judgements()) {
        judgements.push_back({{"reason", judgement.reason()},
                              {"entity", judgement.entity()},
                              {"rule", judgement.rule()},
                              {"acts", judgement.acts()},
                              {"why", judgement.why()}});
      }
      json["policy"] = {
          {"origin", policy.origin()},
          {"rules", rules},
          {"critical", std::vector<std::string>(policy.critical().begin(), policy.critical().end())},
          {"relapse_doublings", policy.relapse_doublings()},
          {"judgements", judgements},
          {"reload_error", policy.reload_error()},
          {"restart_for", policy.restart_for()}};
      break;
    }
    case api::Response::kSaid:
      json["operator"] = json_of(response.said());
      break;
    case api::Response::kPlan:
      json["plan"] = response.plan().id();
      json["pods"] = json_list(response.plan().pods());
      json["left_out"] = json_list(response.plan().left_out());
      json["waves"] = response.plan().waves();
      json["longest_s"] = response.plan().longest_s();
      break;
    case api::Response::kEvacuation: {
      const api::Evacuation& step = response.evacuation();
      json["plan"] = step.plan();
      json["wave"] = step.wave();
      json["waves"] = step.waves();
      json["evicted"] = json_list(step.evicted());
      json["ending"] = json_list(step.ending());
      json["waiting"] = json_list(step.waiting());
      json["refused"] = json_list(step.refused());
      json["staying"] = json_list(step.staying());
      json["left"] = step.left();
      break;
    }
    case api::Response::kIncidents:
      json["incidents"] = json_list(response.incidents().list());
      json["notice"] = response.incidents().notice();
      break;
    case api::Response::kIncident:
      json["incident"] = json_of(response.incident());
      break;
    case api::Response::kPending:
    case api::Response::kBaselines:  // told by its own command
    case api::Response::ANSWER_NOT_SET:
      break;
  }
  return json_text(json);
}

}  // namespace vedette
