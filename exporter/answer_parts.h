// What answer() consists of: the questions that have a file of their own, and what those share. Each writes
// its answer, or an Error, into `response`. Called by answer() alone, on the socket thread.
#pragma once

#include <string>

#include "exporter/answers.h"
#include "exporter/api.pb.h"

namespace vedette {

struct JournalFeedback;
struct OperatorSay;

void set_error(api::Response& response, api::Error::Code code, std::string text);

// operator_answers.cpp
void answer_say(const api::OperatorRequest& request, const AnswerContext& context, api::Response& response);
void answer_baselines(const api::BaselinesRequest& request, const AnswerContext& context,
                      api::Response& response);
// Without what is over: that is not worth a line.
OperatorSay in_force(OperatorSay say, WallNs now_wall_ns);
void fill(const OperatorSay& say, const char* by, api::OperatorSay& out);
// A veto of a reason that nothing has would veto nothing. Why it is none; empty: it is one.
std::string unknown_reason(const std::string& reason, const AnswerContext& context);

// incident_answers.cpp; these and the plan need a snapshot.
void answer_incidents(const api::IncidentsRequest& request, const AnswerContext& context,
                      api::Response& response);
// One incident, after `said` was kept about it; null: nothing is said.
void answer_incident(const std::string& id, const JournalFeedback* said, const AnswerContext& context,
                     api::Response& response);
void answer_feedback(const api::FeedbackRequest& request, const AnswerContext& context,
                     api::Response& response);

// plan_answers.cpp: plan and evacuate. The first request makes a task of the evacuator's thread, those with
// its ticket ask whether it is done.
void answer_evacuator(const api::Request& request, const AnswerContext& context, api::Response& response);

}  // namespace vedette
