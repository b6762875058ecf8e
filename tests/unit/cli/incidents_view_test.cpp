#include <doctest/doctest.h>

#include "exporter/api.pb.h"
#include "tools/cli/format.h"
#include "tools/cli/views.h"

using namespace vedette;

namespace {

constexpr std::uint64_t kNow = 1'700'000'000'000'000'000;

api::Response example_incident() {
  api::Response response;
  response.mutable_agent()->set_wall_ns(kNow);
  api::Incident& incident = *response.mutable_incident();
  incident.set_id("20231114-221310-abcdef");
  incident.set_opened_wall_ns(kNow - 4'000'000'000);
  incident.set_severity("info");
  incident.set_cause("unit/hog");
  incident.set_cause_why("used 1.8 cores, usually 0.2");
  for (const char* name : {"unit/hog", "outside"}) {
    api::Suspect& suspect = *incident.add_suspects();
    suspect.set_entity(name);
    suspect.set_score(suspect.entity() == "unit/hog" ? 0.83 : 0.12);
    suspect.set_why(suspect.entity() == "unit/hog" ? "used 1.8 cores, usually 0.2"
                                                   : "2 connects a second failed");
  }
  for (int i = 0; i < 10; ++i) incident.add_victims("unit/victim-" + std::to_string(i));
  return response;
}

bool tells(const std::string& text, const char* part) {
  return text.find(part) != std::string::npos;
}

}  // namespace

TEST_CASE("an incident is told with its cause, who suffers, and who else it may be") {
  const std::string text = incident_view(example_incident(), {});
  for (const char* part : {"It is put down to unit/hog: used 1.8 cores, usually 0.2.", "may still change",
                           "Suffering: unit/victim-0,", "and 2 more", "83 %  unit/hog", "12 %  outside",
                           "2 connects a second failed"}) {
    INFO(part << "\n" << text);
    CHECK(tells(text, part));
  }
}

TEST_CASE("a settled cause is told without a reserve, and nobody suffers where none is named") {
  api::Response response = example_incident();
  response.mutable_incident()->set_settled(true);
  response.mutable_incident()->clear_victims();
  const std::string text = incident_view(response, {});
  CHECK_FALSE(tells(text, "may still change"));
  CHECK_FALSE(tells(text, "Suffering"));
}
