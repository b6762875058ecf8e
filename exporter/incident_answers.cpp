// Incidents, open and past, and what is said of them.
#include <algorithm>
#include <utility>
#include <vector>

#include <unistd.h>

#include "agent/base/clean_text.h"
#include "agent/record/journal.h"
#include "exporter/answer_parts.h"

namespace vedette {
namespace {

// 30 kB each at the worst (200 conditions), 1 kB as a rule: below the wire's bound.
constexpr std::size_t kMaxIncidents = 200;
constexpr std::size_t kMaxWhy = 500;

void fill(const JournalIncident& entry, const FlightUse& flight, api::Incident& out) {
  const Incident& incident = entry.incident;
  const std::string slice = flight.folder + "/" + incident.id;
  if (flight.on && ::access(slice.c_str(), F_OK) == 0) out.set_slice(clean_text(slice));
  out.set_id(clean_text(incident.id));
  out.set_opened_wall_ns(incident.opened_wall_ns);
  out.set_closed_wall_ns(incident.closed_wall_ns);
  out.set_severity(std::string(to_string(incident.severity)));
  out.set_more(static_cast<std::uint32_t>(incident.more));
  out.set_cause(clean_text(incident.cause));
  out.set_cause_why(clean_text(incident.cause_why));
  out.set_settled(incident.settled);
  for (const Suspect& suspect : incident.suspects) {
    api::Suspect& line = *out.add_suspects();
    line.set_entity(clean_text(suspect.entity));
    line.set_score(suspect.score);
    line.set_why(clean_text(suspect.why));
  }
  for (const std::string& name : victims(incident)) out.add_victims(clean_text(name));
  out.set_cut_short(entry.cut_short);
  for (const IncidentCondition& condition : incident.conditions) {
    api::IncidentCondition& line = *out.add_conditions();
    line.set_reason(clean_text(condition.reason));
    line.set_entity(clean_text(condition.entity));
    line.set_domain(std::string(to_string(condition.domain)));
    line.set_evidence(std::string(to_string(condition.evidence)));
    line.set_severity(std::string(to_string(condition.severity)));
    line.set_began_wall_ns(condition.began_wall_ns);
    line.set_ended_wall_ns(condition.ended_wall_ns);
    line.set_confidence(condition.confidence);
    line.set_message(clean_text(condition.message));
    line.set_came_true(condition.came_true);
  }
  for (const JournalAction& action : entry.actions) {
    api::IncidentAction& line = *out.add_actions();
    line.set_wall_ns(action.wall_ns);
    line.set_what(clean_text(action.what));
    line.set_generation(action.generation);
    line.set_reason(clean_text(action.reason));
    line.set_effect(clean_text(action.effect));
    line.set_why(clean_text(action.why));
  }
  for (const JournalFeedback& feedback : entry.feedback) {
    api::Feedback& line = *out.add_feedback();
    line.set_wall_ns(feedback.wall_ns);
    line.set_verdict(clean_text(feedback.verdict));
    line.set_why(clean_text(feedback.why));
  }
}

// What the journal has, with the open incidents as they are now. Without a journal: those alone.
std::vector<JournalIncident> with_open(std::vector<JournalIncident> kept, const Snapshot& snapshot) {
  for (const Incident& incident : snapshot.incidents) {
    const auto known = std::ranges::find_if(
        kept, [&](const JournalIncident& entry) { return entry.incident.id == incident.id; });
    JournalIncident& entry = known == kept.end() ? *kept.emplace(kept.begin()) : *known;
    entry.incident = incident;
  }
  return kept;
}

}  // namespace

void answer_incidents(const api::IncidentsRequest& request, const AnswerContext& context,
                      api::Response& response) {
  if (!(request.since_s() >= 0)) {
    set_error(response, api::Error::BAD_REQUEST, "expected a time since when, or none");
    return;
  }
  std::vector<JournalIncident> kept;
  api::Incidents& out = *response.mutable_incidents();
  if (context.services.journal == nullptr) {
    out.set_notice("no journal is kept (record.journal), so only what is open is known");
  } else {
    const double since_ns = request.since_s() == 0
                                ? 0
                                : static_cast<double>(context.now_wall_ns) - request.since_s() * kNsPerSecond;
    auto read =
        context.services.journal->incidents(static_cast<WallNs>(std::max(0.0, since_ns)), kMaxIncidents + 1);
    if (!read) {
      out.set_notice(clean_text(read.error().text));
    } else {
      kept = std::move(*read);
      if (kept.size() > kMaxIncidents) {
        kept.resize(kMaxIncidents);
        out.set_notice("there are more: these are the newest " + std::to_string(kMaxIncidents));
      }
    }
  }
  for (const JournalIncident& entry : with_open(std::move(kept), *context.snapshot))
    fill(entry, context.snapshot->self.flight, *out.add_list());
}

void answer_incident(const std::string& id, const JournalFeedback* said, const AnswerContext& context,
                     api::Response& response) {
  std::vector<JournalIncident> found;
  if (context.services.journal != nullptr) {
    auto kept = context.services.journal->find(id);
    if (!kept && said != nullptr) {
      set_error(response, api::Error::FAILED, clean_text(kept.error().text));
      return;
    }
    if (kept && *kept) found.push_back(std::move(**kept));
  }
  for (JournalIncident& entry : with_open(std::move(found), *context.snapshot)) {
    if (entry.incident.id != id) continue;
    if (said != nullptr && context.services.journal != nullptr) {
      if (Status ok = context.services.journal->say(*said); !ok) {
        set_error(response, api::Error::FAILED, clean_text(ok.error().text));
        return;
      }
      entry.feedback.push_back(*said);
    }
    fill(entry, context.snapshot->self.flight, *response.mutable_incident());
    return;
  }
  set_error(response, api::Error::UNKNOWN_ENTITY,
            "no incident is named " + id +
                (context.services.journal == nullptr ? ", and no journal is kept (record.journal)" : "") +
                ": `vedette incidents --all` lists them");
}

void answer_feedback(const api::FeedbackRequest& request, const AnswerContext& context,
                     api::Response& response) {
  if (!context.trusted) {
    set_error(response, api::Error::FORBIDDEN, "only root may say whether the agent was right: use sudo");
    return;
  }
  if (context.services.journal == nullptr) {
    set_error(response, api::Error::FAILED,
              "the agent keeps no journal, so nothing can be said of it: set record.journal");
    return;
  }
  const std::string& verdict = request.verdict();
  if (verdict != "true" && verdict != "false" && verdict != "benign") {
    set_error(response, api::Error::BAD_REQUEST,
              "expected true, false or benign, found '" + clean_text(verdict) + "'");
    return;
  }
  if (!is_incident_id(request.incident()) || request.why().empty() || request.why().size() > kMaxWhy) {
    set_error(response, api::Error::BAD_REQUEST,
              "expected an incident's id as `vedette incidents` prints it, and why in 1 to " +
                  std::to_string(kMaxWhy) + " bytes");
    return;
  }
  const JournalFeedback said{context.now_wall_ns, request.incident(), verdict, clean_text(request.why())};
  answer_incident(said.incident, &said, context, response);
}

}  // namespace vedette
