#include "agent/act/node_writer.h"

#include <set>

#include "tests/kube/foreign_writers.h"
#include "tests/kube/scripted_server.h"
#include "tests/kube/writer.h"
#include "tests/skip.h"

using namespace vedette;
using nlohmann::json;

TEST_CASE("a taint comes with a condition and an event, and all that was there before stays as it was") {
  auto* server = ApiServer::shared();
  if (server == nullptr) VEDETTE_SKIP(ApiServer::why());
  const std::string node = server->make_node("whole");
  server->set_taints(node, {kForeign});
  const json ready = *condition_of(server->node(node), "Ready");
  const auto writer = make_writer(server->admin(), node);
  Tick tick(*writer);
  tick.taint("FilesystemError", "ext4 error on loop0: bad byte \xff", monotonic_now());
  REQUIRE(tick.acked());

  json now = server->node(node);
  auto taints = taints_of(now);
  CHECK(taints.size() == 2);
  CHECK(taints.at("example.com/dedicated") == kForeign);
  CHECK(taints.at(kKey)["value"] == "FilesystemError");
  CHECK(taints.at(kKey)["effect"] == "NoSchedule");
  CHECK(parse_time(taints.at(kKey)["timeAdded"].get<std::string>()) != 0);
  CHECK(*condition_of(now, "Ready") == ready);
  const json sick = *condition_of(now, "VedetteStorageHealthy");
  CHECK(sick["status"] == "False");
  CHECK(sick["reason"] == "FilesystemError");
  CHECK(sick["message"].get<std::string>().starts_with("ext4 error on loop0"));
  REQUIRE(eventually([&] { return writer->state()->events_written == 1; }));
  auto events = events_of(*server, node);
  REQUIRE(events.size() == 1);
  CHECK(events[0]["type"] == "Warning");
  CHECK(events[0]["reason"] == "NodeTainted");
  CHECK(events[0]["note"].get<std::string>().find("ext4 error on loop0") != std::string::npos);
  const auto state = writer->state();
  CHECK(state->tainted);
  CHECK_FALSE(state->adopted);
  CHECK(state->connected);
  CHECK(state->taint_reason == "FilesystemError");
  REQUIRE(state->evidence_to_ack_s.size() == 1);
  CHECK(state->evidence_to_ack_s[0] > 0);
  CHECK(state->last_evidence_to_ack_s == state->evidence_to_ack_s[0]);

  SUBCASE("and it is lifted with them") {
    tick.lift();
    REQUIRE(tick.acked());
    now = server->node(node);
    taints = taints_of(now);
    CHECK(taints.size() == 1);
    CHECK(taints.at("example.com/dedicated") == kForeign);
    CHECK(*condition_of(now, "Ready") == ready);
    CHECK(condition_of(now, "VedetteStorageHealthy")->at("status") == "True");
    REQUIRE(eventually([&] { return writer->state()->events_written == 2; }));
    CHECK(events_of(*server, node).size() == 2);
    CHECK_FALSE(writer->state()->tainted);
    CHECK(writer->state()->evidence_to_ack_s.size() == 1);
  }
  SUBCASE("and a new reason is neither a new taint nor a new transition") {
    tick.taint("DiskFull");
    REQUIRE(tick.acked());
    now = server->node(node);
    CHECK(taints_of(now).at(kKey)["value"] == "DiskFull");
    CHECK(taints_of(now).at(kKey)["timeAdded"] == taints.at(kKey)["timeAdded"]);
    CHECK(condition_of(now, "VedetteStorageHealthy")->at("reason") == "DiskFull");
    CHECK(condition_of(now, "VedetteStorageHealthy")->at("lastTransitionTime") == sick["lastTransitionTime"]);
    CHECK(events_of(*server, node).size() == 1);
    CHECK(writer->state()->evidence_to_ack_s.size() == 1);
  }
}

TEST_CASE(
    "a condition's transition time changes on its own transition only, and one patch carries all with the "
    "verdict") {
  auto* server = ApiServer::shared();
  if (server == nullptr) VEDETTE_SKIP(ApiServer::why());
  const std::string node = server->make_node("domains");
  const std::string old = "2026-01-02T03:04:05Z";
  const auto condition = [&](const std::string& type) {
    return json{{"type", type},     {"status", "True"},         {"reason", "Healthy"},
                {"message", "old"}, {"lastHeartbeatTime", old}, {"lastTransitionTime", old}};
  };
  server->request(
      "PATCH", "/api/v1/nodes/" + node + "/status",
      {{"status",
        {{"conditions", {condition("VedetteKernelHealthy"), condition("VedetteStorageHealthy")}}}}});
  const auto writer = make_writer(server->admin(), node, std::chrono::milliseconds(30));
  Tick tick(*writer);
  tick.lift();
  REQUIRE(tick.acked());
  CHECK(writer->state()->patches == 1);  // both heartbeats
  tick.verdict(R"({"effect":"None"})");
  REQUIRE(tick.acked());
  CHECK(writer->state()->patches == 2);
  tick.taint("DiskError");
  REQUIRE(tick.acked());
  CHECK(writer->state()->patches == 4);  // the taint, and the status
  json now = server->node(node);
  CHECK(condition_of(now, "VedetteKernelHealthy")->at("lastTransitionTime") == old);
  CHECK(condition_of(now, "VedetteKernelHealthy")->at("message") == "no evidence of trouble");
  CHECK(condition_of(now, "VedetteStorageHealthy")->at("status") == "False");
  CHECK(condition_of(now, "VedetteStorageHealthy")->at("lastTransitionTime") != old);
  CHECK(now["metadata"]["annotations"]["vedette.dev/verdict"] == R"({"effect":"None"})");
  const std::string version = now["metadata"]["resourceVersion"];
  tick.publish();  // a new generation that wants nothing else
  REQUIRE(tick.acked());
  std::this_thread::sleep_for(std::chrono::milliseconds(200));  // several looks at the node
  CHECK(server->node(node)["metadata"]["resourceVersion"] == version);
}

TEST_CASE("what an operator annotates is known at the next look, and a pause keeps hands off the taint") {
  auto* server = ApiServer::shared();
  if (server == nullptr) VEDETTE_SKIP(ApiServer::why());
  const std::string node = server->make_node("operator");
  const auto annotate = [&](const json& annotations) {
    server->request("PATCH", "/api/v1/nodes/" + node, {{"metadata", {{"annotations", annotations}}}});
  };
  annotate({{"vedette.dev/pause", "true"}, {"vedette.dev/veto", "DiskError"}});
  const auto writer = make_writer(server->admin(), node, std::chrono::milliseconds(30));
  REQUIRE(eventually([&] { return writer->state()->known; }));
  CHECK(writer->state()->annotated.paused_until_wall_ns == kForever);
  CHECK(writer->state()->annotated.vetoes.contains("DiskError"));

  Tick tick(*writer);
  tick.pause(true);
  tick.taint("TaskHung");
  REQUIRE(tick.acked());
  CHECK(taints_of(server->node(node)).count(kKey) == 0);
  CHECK(condition_of(server->node(node), "VedetteStorageHealthy")->at("status") == "False");
  CHECK(writer->state()->events_written == 0);

  annotate({{"vedette.dev/pause", nullptr}, {"vedette.dev/healthy", "2026-01-02T03:04:05Z"}});
  REQUIRE(eventually([&] { return writer->state()->annotated.paused_until_wall_ns == 0; }));
  CHECK(writer->state()->annotated.healthy_wall_ns == parse_time("2026-01-02T03:04:05Z"));
  tick.pause(false);
  tick.taint("TaskHung");
  REQUIRE(tick.acked());
  CHECK(taints_of(server->node(node)).count(kKey) == 1);
}

TEST_CASE("when nothing is judged any more, nothing is renewed; when it is again, all is put right") {
  auto* server = ApiServer::shared();
  if (server == nullptr) VEDETTE_SKIP(ApiServer::why());
  const std::string node = server->make_node("stuck");
  NodeWriterOptions options = writer_options(server->admin(), node);
  options.stuck = std::chrono::milliseconds(1500);
  options.heartbeat = std::chrono::milliseconds(200);
  const auto writer = make_writer(options);
  Tick tick(*writer);
  tick.taint("TaskHung");
  REQUIRE(tick.acked());
  REQUIRE(eventually(
      [&] { return writer->state()->last_error.find("nothing was judged for") != std::string::npos; }));
  server->set_taints(node, json::array());
  const auto patches = writer->state()->patches;
  REQUIRE(eventually([&] { return writer->state()->last_error.find("for 4 s") != std::string::npos; }));
  CHECK(writer->state()->patches == patches);
  CHECK(taints_of(server->node(node)).count(kKey) == 0);
  CHECK(eventually([&] {
    tick.republish();
    return taints_of(server->node(node)).count(kKey) == 1;
  }));
  CHECK(eventually([&] {
    tick.republish();
    return writer->state()->last_error.empty();
  }));
}

TEST_CASE("a taint that was wanted before an annotation was heard waits for who has heard it") {
  auto* server = ApiServer::shared();
  if (server == nullptr) VEDETTE_SKIP(ApiServer::why());
  const std::string node = server->make_node("unheard");
  server->request("PATCH", "/api/v1/nodes/" + node,
                  {{"metadata", {{"annotations", {{"vedette.dev/pause", "true"}}}}}});
  const auto writer = make_writer(server->admin(), node);
  REQUIRE(eventually([&] { return writer->state()->known; }));
  Tick tick(*writer);
  tick.hear(false);
  tick.taint("TaskHung");
  // The rest of what it says is written in the same round, after the taint would have been.
  REQUIRE(eventually([&] {
    const auto condition = condition_of(server->node(node), "VedetteStorageHealthy");
    return condition && condition->at("status") == "False";
  }));
  CHECK(taints_of(server->node(node)).count(kKey) == 0);
  tick.hear(true);
  tick.republish();
  REQUIRE(tick.acked());
  CHECK(taints_of(server->node(node)).count(kKey) == 1);
}

TEST_CASE("the same taint again is a series of one event, or a new event where the first is gone") {
  auto* server = ApiServer::shared();
  if (server == nullptr) VEDETTE_SKIP(ApiServer::why());
  const std::string node = server->make_node("series");
  const auto writer = make_writer(server->admin(), node);
  Tick tick(*writer);
  const auto flap = [&](std::uint64_t events) {
    tick.taint("DiskError");
    REQUIRE(tick.acked());
    tick.lift();
    REQUIRE(tick.acked());
    REQUIRE(eventually([&] { return writer->state()->events_written == events; }));
  };
  flap(2);
  flap(4);
  flap(6);
  auto events = events_of(*server, node);
  REQUIRE(events.size() == 2);
  for (const json& event : events) {
    CHECK(event["series"]["count"] == 3);
    CHECK(parse_time(event["series"]["lastObservedTime"]) > parse_time(event["eventTime"]));
    server->request("DELETE", "/apis/events.k8s.io/v1/namespaces/default/events/" +
                                  event["metadata"]["name"].get<std::string>());
  }
  flap(8);
  CHECK(events_of(*server, node).size() == 2);
  tick.taint("TaskHung");
  REQUIRE(tick.acked());
  REQUIRE(eventually([&] { return writer->state()->events_written == 9; }));
  CHECK(events_of(*server, node).size() == 3);
  CHECK(writer->state()->failures == 0);
}

TEST_CASE(
    "a taint that is held back is told once for each reason and cause, however often it comes and goes") {
  auto* server = ApiServer::shared();
  if (server == nullptr) VEDETTE_SKIP(ApiServer::why());
  const std::string node = server->make_node("heldback");
  const auto writer = make_writer(server->admin(), node, std::chrono::milliseconds(20));
  Tick tick(*writer);
  tick.lift();
  REQUIRE(tick.acked());
  const auto told = [&](std::uint64_t events) {
    return eventually([&] { return writer->state()->events_written == events; });
  };
  tick.hold(Hold::kPersistence, "DiskError: evidence for 9 s, it takes 10s");
  tick.hold(Hold::kConfidence, "DiskError: confidence 0.60 is below 0.80");
  REQUIRE(told(1));
  for (int i = 0; i < 20; ++i) {  // as in a flapping probe, each seen by the writer
    tick.hold(Hold::kNone, "");
    std::this_thread::sleep_for(std::chrono::milliseconds(10));
    tick.hold(Hold::kConfidence, "DiskError: confidence 0.6" + std::to_string(i % 10) + " is below 0.80");
    std::this_thread::sleep_for(std::chrono::milliseconds(10));
  }
  tick.hold(Hold::kVeto, "DiskError: vetoed");
  REQUIRE(told(2));
  tick.hold(Hold::kVeto, "TaskHung: vetoed");
  REQUIRE(told(3));
  std::this_thread::sleep_for(std::chrono::milliseconds(200));
  std::set<std::string> notes;
  for (const json& event : events_of(*server, node)) {
    CHECK(event["reason"] == "NodeTaintHeldBack");
    CHECK(event["type"] == "Warning");
    CHECK_FALSE(event.contains("series"));
    notes.insert(event["note"]);
  }
  CHECK(notes ==
        std::set<std::string>{"vedette.dev/unhealthy=DiskError held back: confidence 0.60 is below 0.80",
                              "vedette.dev/unhealthy=DiskError held back: vetoed",
                              "vedette.dev/unhealthy=TaskHung held back: vetoed"});
}

TEST_CASE("where nothing would be tainted, nothing is held back") {
  auto* server = ApiServer::shared();
  if (server == nullptr) VEDETTE_SKIP(ApiServer::why());
  const std::string node = server->make_node("unheld");
  const auto writer = make_writer(server->admin(), node, std::chrono::milliseconds(20));
  Tick tick(*writer, Mode::kAdvise);
  tick.lift();
  REQUIRE(tick.acked());
  tick.hold(Hold::kConfidence, "DiskError: confidence 0.60 is below 0.80");
  std::this_thread::sleep_for(std::chrono::milliseconds(200));
  CHECK(writer->state()->events_written == 0);
}

TEST_CASE("a rule that must earn it is told as in advise mode, until it may taint") {
  auto* server = ApiServer::shared();
  if (server == nullptr) VEDETTE_SKIP(ApiServer::why());
  const std::string node = server->make_node("unearned");
  const auto writer = make_writer(server->admin(), node);
  Tick tick(*writer);
  tick.lift();
  REQUIRE(tick.acked());
  const auto told = [&](std::uint64_t events) {
    return eventually([&] { return writer->state()->events_written == events; });
  };
  tick.advise("NoSchedule", "because of a test");
  REQUIRE(told(1));
  CHECK(taints_of(server->node(node)).count(kKey) == 0);
  auto events = events_of(*server, node);
  REQUIRE(events.size() == 1);
  CHECK(events[0]["reason"] == "NodeWouldBeTainted");
  CHECK(events[0]["note"] == "vedette.dev/unhealthy=TaskHung:NoSchedule advised: because of a test");
  tick.advise("", "recovered");
  REQUIRE(told(2));
  tick.advise("NoSchedule", "again");
  REQUIRE(told(3));
  events = events_of(*server, node);
  REQUIRE(events.size() == 2);  // the third continues the first
  // Earned: the taint says it, the advice ends without a word.
  tick.taint("TaskHung");
  REQUIRE(tick.acked());
  tick.advise("", "recovered");
  std::this_thread::sleep_for(std::chrono::milliseconds(200));
  CHECK(writer->state()->events_written == 4);
  std::multiset<std::string> reasons;
  for (const json& event : events_of(*server, node)) reasons.insert(event["reason"]);
  CHECK(reasons == std::multiset<std::string>{"NodeTainted", "NodeWouldBeTainted", "NodeWouldBeUntainted"});
}

TEST_CASE("that the node is trusted again is told once") {
  auto* server = ApiServer::shared();
  if (server == nullptr) VEDETTE_SKIP(ApiServer::why());
  const std::string node = server->make_node("trusted");
  const auto writer = make_writer(server->admin(), node, std::chrono::milliseconds(20));
  Tick tick(*writer);
  tick.trust(77, "recovered from DiskError yesterday");
  REQUIRE(tick.acked());
  tick.publish();
  REQUIRE(tick.acked());
  REQUIRE(eventually([&] { return writer->state()->events_written == 1; }));
  const auto events = events_of(*server, node);
  REQUIRE(events.size() == 1);
  CHECK(events[0]["type"] == "Normal");
  CHECK(events[0]["reason"] == "NodeTrusted");
  CHECK(events[0]["note"] == "trusted again: recovered from DiskError yesterday");
}

TEST_CASE("a stronger effect is written, told by an event of its own, and counts from its own time") {
  auto* server = ApiServer::shared();
  if (server == nullptr) VEDETTE_SKIP(ApiServer::why());
  const std::string node = server->make_node("escalates");
  const auto writer = make_writer(server->admin(), node);
  Tick tick(*writer);
  tick.taint("DiskError");
  REQUIRE(tick.acked());
  tick.effect("NoExecute");
  tick.taint("DiskError");
  REQUIRE(tick.acked());
  CHECK(taints_of(server->node(node)).at(kKey)["effect"] == "NoExecute");
  REQUIRE(eventually([&] { return writer->state()->events_written == 2; }));
  std::set<std::string> notes;
  for (const json& event : events_of(*server, node)) notes.insert(event["note"]);
  CHECK(notes == std::set<std::string>{"vedette.dev/unhealthy=DiskError:NoSchedule set: because of a test",
                                       "vedette.dev/unhealthy=DiskError:NoExecute set: because of a test"});
}

TEST_CASE("a healthy node gets its condition and no taint") {
  auto* server = ApiServer::shared();
  if (server == nullptr) VEDETTE_SKIP(ApiServer::why());
  const std::string node = server->make_node("healthy");
  const auto before = taints_of(server->node(node));
  const auto writer = make_writer(server->admin(), node);
  Tick tick(*writer);
  tick.lift();
  REQUIRE(tick.acked());
  const json now = server->node(node);
  CHECK(taints_of(now) == before);
  CHECK(condition_of(now, "VedetteStorageHealthy")->at("status") == "True");
  CHECK(writer->state()->events_written == 0);
}

TEST_CASE(
    "a taint found at start is adopted: said before anything is written, kept with its time, then lifted") {
  auto* server = ApiServer::shared();
  if (server == nullptr) VEDETTE_SKIP(ApiServer::why());
  const std::string node = server->make_node("adopt");
  const json left = {
      {"key", kKey}, {"value", "HungTask"}, {"effect", "NoSchedule"}, {"timeAdded", "2026-02-03T04:05:06Z"}};
  server->set_taints(node, {left, kForeign});
  const auto writer = make_writer(server->admin(), node);
  REQUIRE(eventually([&] { return writer->state()->known; }));
  CHECK(writer->state()->adopted);
  CHECK(writer->state()->tainted);
  CHECK(writer->state()->taint_reason == "HungTask");
  CHECK(writer->state()->tainted_since_wall_ns == parse_time("2026-02-03T04:05:06Z"));
  CHECK(writer->state()->patches == 0);

  Tick tick(*writer);
  tick.taint("HungTask", "set before this agent started", monotonic_now());
  REQUIRE(tick.acked());
  CHECK(taints_of(server->node(node)).at(kKey) == left);
  CHECK(writer->state()->evidence_to_ack_s.empty());
  CHECK(writer->state()->events_written == 0);
  tick.lift();
  REQUIRE(tick.acked());
  CHECK(taints_of(server->node(node)).count(kKey) == 0);
  CHECK(taints_of(server->node(node)).at("example.com/dedicated") == kForeign);
  CHECK_FALSE(writer->state()->adopted);
}

TEST_CASE("what an earlier process wrote is found at start, and a condition that stands keeps its time") {
  auto* server = ApiServer::shared();
  if (server == nullptr) VEDETTE_SKIP(ApiServer::why());
  const std::string node = server->make_node("restart");
  std::string since;
  {
    const auto writer = make_writer(server->admin(), node);
    Tick tick(*writer);
    tick.taint("FilesystemError");
    REQUIRE(tick.acked());
    since = condition_of(server->node(node), "VedetteStorageHealthy")->at("lastTransitionTime");
  }
  std::this_thread::sleep_for(std::chrono::milliseconds(1100));  // times are told in seconds
  const auto writer = make_writer(server->admin(), node);
  REQUIRE(eventually([&] { return writer->state()->known; }));
  const auto found = writer->state();
  REQUIRE(found->found_conditions.size() == 1);
  CHECK(found->found_conditions[0].type == "VedetteStorageHealthy");
  CHECK(found->found_conditions[0].reason == "FilesystemError");
  CHECK_FALSE(found->found_conditions[0].healthy);
  Tick tick(*writer);
  tick.taint("FilesystemError");
  REQUIRE(tick.acked());
  CHECK(condition_of(server->node(node), "VedetteStorageHealthy")->at("lastTransitionTime") == since);
}

TEST_CASE(
    "a taint whose agent was killed before it told is told by the next one, and no taint is told twice") {
  auto* server = ApiServer::shared();
  if (server == nullptr) VEDETTE_SKIP(ApiServer::why());
  const std::string told = server->make_node("told");
  {
    const auto writer = make_writer(server->admin(), told);
    Tick tick(*writer);
    tick.taint("FilesystemError");
    REQUIRE(tick.acked());
    REQUIRE(eventually([&] { return writer->state()->events_written == 1; }));
  }
  const std::string untold = server->make_node("untold");
  server->set_taints(untold, {{{"key", kKey},
                               {"value", "FilesystemError"},
                               {"effect", "NoSchedule"},
                               {"timeAdded", format_time(wall_now())}}});
  for (const std::string& node : {told, untold}) {
    for (int start = 0; start < 2; ++start) {
      const auto writer = make_writer(server->admin(), node);
      Tick tick(*writer);
      tick.taint("FilesystemError");
      REQUIRE(tick.acked());
      REQUIRE(eventually([&] { return writer->state()->events_written == 1; }));
    }
    const auto events = events_of(*server, node);
    REQUIRE(events.size() == 1);
    CHECK(events[0]["reason"] == "NodeTainted");
    CHECK_FALSE(events[0].contains("series"));
    CHECK(events[0]["note"].get<std::string>().find(
              "vedette.dev/unhealthy=FilesystemError:NoSchedule set: ") == 0);
  }
}

TEST_CASE("two taints of ours become one, with the older time") {
  auto* server = ApiServer::shared();
  if (server == nullptr) VEDETTE_SKIP(ApiServer::why());
  const std::string node = server->make_node("double");
  server->set_taints(
      node,
      {{{"key", kKey}, {"value", "A"}, {"effect", "NoExecute"}, {"timeAdded", "2026-02-03T04:05:06Z"}},
       {{"key", kKey}, {"value", "B"}, {"effect", "NoSchedule"}, {"timeAdded", "2026-02-03T04:05:09Z"}}});
  const auto writer = make_writer(server->admin(), node);
  Tick tick(*writer);
  tick.effect("NoExecute");
  tick.taint("B");
  REQUIRE(tick.acked());
  const auto taints = taints_of(server->node(node));
  REQUIRE(taints.size() == 1);
  CHECK(taints.at(kKey)["effect"] == "NoExecute");
  CHECK(taints.at(kKey)["timeAdded"] == "2026-02-03T04:05:06Z");
}

TEST_CASE("in observe mode the node is read and never written") {
  auto* server = ApiServer::shared();
  if (server == nullptr) VEDETTE_SKIP(ApiServer::why());
  const std::string node = server->make_node("observe");
  const json left = {{"key", kKey}, {"value", "HungTask"}, {"effect", "NoSchedule"}};
  server->set_taints(node, {left});
  const json before = server->node(node);
  const auto writer = make_writer(server->admin(), node, std::chrono::milliseconds(20));
  Tick tick(*writer, Mode::kObserve);
  tick.taint("FilesystemError");
  tick.lift();
  REQUIRE(eventually([&] { return writer->state()->known; }));
  std::this_thread::sleep_for(std::chrono::milliseconds(300));  // a dozen looks at the node
  CHECK(server->node(node) == before);
  CHECK(writer->state()->tainted);
  CHECK(writer->state()->patches == 0);
  CHECK(writer->state()->acked_generation == 0);
}

TEST_CASE("in advise mode conditions and events say what would be done, and no taint is touched") {
  auto* server = ApiServer::shared();
  if (server == nullptr) VEDETTE_SKIP(ApiServer::why());
  const std::string node = server->make_node("advise");
  server->set_taints(node, {kForeign});
  const auto before = taints_of(server->node(node));
  const auto writer = make_writer(server->admin(), node, std::chrono::milliseconds(20));
  Tick tick(*writer, Mode::kAdvise);
  tick.taint("FilesystemError");
  REQUIRE(tick.acked());
  CHECK(condition_of(server->node(node), "VedetteStorageHealthy")->at("status") == "False");
  REQUIRE(eventually([&] { return writer->state()->events_written == 1; }));
  tick.lift();
  REQUIRE(tick.acked());
  REQUIRE(eventually([&] { return writer->state()->events_written == 2; }));
  std::this_thread::sleep_for(std::chrono::milliseconds(200));  // several looks at the node
  CHECK(taints_of(server->node(node)) == before);
  std::set<std::string> reasons;
  for (const json& event : events_of(*server, node)) reasons.insert(event["reason"]);
  CHECK(reasons == std::set<std::string>{"NodeWouldBeTainted", "NodeWouldBeUntainted"});
}

TEST_CASE(
    "an advising agent changes no taint that an enforcing one left, and takes it away when it is over") {
  auto* server = ApiServer::shared();
  if (server == nullptr) VEDETTE_SKIP(ApiServer::why());
  const std::string node = server->make_node("stepback");
  const json left = {
      {"key", kKey}, {"value", "HungTask"}, {"effect", "NoSchedule"}, {"timeAdded", "2026-02-03T04:05:06Z"}};
  server->set_taints(node, {left, kForeign});
  const auto writer = make_writer(server->admin(), node);
  REQUIRE(eventually([&] { return writer->state()->known; }));
  Tick tick(*writer, Mode::kAdvise);
  tick.taint("FilesystemError");
  REQUIRE(tick.acked());
  CHECK(taints_of(server->node(node)).at(kKey) == left);
  tick.lift();
  REQUIRE(tick.acked());
  CHECK(eventually([&] { return taints_of(server->node(node)).count(kKey) == 0; }));
  CHECK(taints_of(server->node(node)).at("example.com/dedicated") == kForeign);
  CHECK(eventually([&] {
    const std::vector<json> told = events_of(*server, node);
    return std::ranges::any_of(told, [](const json& event) { return event["reason"] == "NodeUntainted"; });
  }));
}

TEST_CASE(
    "a taint of ours that somebody sets by hand is taken away and told, but for a pause or observe mode") {
  auto* server = ApiServer::shared();
  if (server == nullptr) VEDETTE_SKIP(ApiServer::why());
  const json by_hand = {{"key", kKey}, {"value", "Evacuation"}, {"effect", "NoSchedule"}};
  for (const Mode mode : {Mode::kAdvise, Mode::kEnforce}) {
    const std::string node = server->make_node("byhand");
    const auto writer = make_writer(server->admin(), node);
    Tick tick(*writer, mode);
    tick.lift();
    REQUIRE(tick.acked());
    server->set_taints(node, {by_hand, kForeign});
    CHECK(eventually([&] { return taints_of(server->node(node)).count(kKey) == 0; }));
    REQUIRE(eventually([&] { return writer->state()->events_written == 1; }));
    const auto events = events_of(*server, node);
    REQUIRE(events.size() == 1);
    CHECK(events[0]["reason"] == "NodeUntainted");
    CHECK(events[0]["note"].get<std::string>().find(
              "vedette.dev/unhealthy=Evacuation:NoSchedule taken away") == 0);

    tick.pause(true);
    tick.publish();
    REQUIRE(tick.acked());
    server->set_taints(node, {by_hand, kForeign});
    REQUIRE(eventually([&] { return writer->state()->tainted; }));
    tick.publish();
    REQUIRE(tick.acked());
    CHECK(taints_of(server->node(node)).count(kKey) == 1);
    tick.pause(false);
    tick.publish();
    CHECK(eventually([&] { return taints_of(server->node(node)).count(kKey) == 0; }));
  }
}

TEST_CASE("no decision yet asks for nothing") {
  auto* server = ApiServer::shared();
  if (server == nullptr) VEDETTE_SKIP(ApiServer::why());
  const std::string node = server->make_node("undecided");
  server->set_taints(node, {{{"key", kKey}, {"effect", "NoSchedule"}}});
  const json before = server->node(node);
  const auto writer = make_writer(server->admin(), node, std::chrono::milliseconds(20));
  auto snapshot = std::make_shared<Snapshot>();
  snapshot->decision.mode = Mode::kEnforce;  // generation 0, taint false
  writer->publish(snapshot);
  REQUIRE(eventually([&] { return writer->state()->known; }));
  std::this_thread::sleep_for(std::chrono::milliseconds(300));
  CHECK(server->node(node) == before);
}

TEST_CASE("what somebody else takes away or changes comes back, without a second event") {
  auto* server = ApiServer::shared();
  if (server == nullptr) VEDETTE_SKIP(ApiServer::why());
  const std::string node = server->make_node("level");
  const auto writer = make_writer(server->admin(), node);  // it asks once a minute: the watch tells
  Tick tick(*writer);
  tick.taint("FilesystemError", "once", monotonic_now());
  REQUIRE(tick.acked());
  server->set_taints(node, {kForeign});
  CHECK(eventually([&] { return taints_of(server->node(node)).size() == 2; }));
  server->set_taints(node, {kForeign, {{"key", kKey}, {"value", "Other"}, {"effect", "NoSchedule"}}});
  CHECK(eventually([&] { return taints_of(server->node(node)).at(kKey)["value"] == "FilesystemError"; }));
  CHECK(events_of(*server, node).size() == 1);
  CHECK(writer->state()->evidence_to_ack_s.size() == 1);
}

TEST_CASE("a condition that somebody takes away, or its time, comes back at once, then by the brake") {
  auto* server = ApiServer::shared();
  if (server == nullptr) VEDETTE_SKIP(ApiServer::why());
  for (const bool whole : {true, false}) {
    const std::string node = server->make_node("bare");
    NodeWriterOptions options = writer_options(server->admin(), node);
    options.first_correction = options.max_correction = std::chrono::hours(1);
    const auto writer = make_writer(options);
    Tick tick(*writer);
    tick.lift();
    REQUIRE(tick.acked());
    const auto take_away = [&] {
      json condition = {{"type", "VedetteStorageHealthy"}};
      condition[whole ? "$patch" : "lastHeartbeatTime"] = whole ? json("delete") : json(nullptr);
      server->request("PATCH", "/api/v1/nodes/" + node + "/status",
                      {{"status", {{"conditions", json::array({condition})}}}});
    };
    const auto is_there = [&] {
      const auto condition = condition_of(server->node(node), "VedetteStorageHealthy");
      return condition && condition->contains("lastHeartbeatTime") &&
             condition->at("lastHeartbeatTime").is_string();
    };
    // The server shows a patch before the writer, which has yet to read the answer, counts it.
    const auto patches = writer->state()->patches + 1;
    take_away();
    CHECK(eventually([&] { return is_there() && writer->state()->patches == patches; }));
    take_away();
    // Whoever has seen the second of these is done with what came before the first.
    for (const char* reason : {"DiskError", "TaskHung"}) {
      server->request("PATCH", "/api/v1/nodes/" + node,
                      {{"metadata", {{"annotations", {{"vedette.dev/veto", reason}}}}}});
      CHECK(eventually([&] { return writer->state()->annotated.vetoes.contains(reason); }));
    }
    CHECK_FALSE(is_there());
    CHECK(writer->state()->patches == patches);
    tick.publish();
    CHECK(eventually(is_there));
  }
}

TEST_CASE("eight other writers of taints lose nothing, and neither do we") {
  auto* server = ApiServer::shared();
  if (server == nullptr) VEDETTE_SKIP(ApiServer::why());
  constexpr unsigned kRounds = 15;  // the bench taint-writers does 500
  const std::string node = server->make_node("crowd");
  server->set_taints(node, {kForeign});
  const auto writer = make_writer(server->admin(), node);
  Tick tick(*writer);
  ForeignCounts counts;
  {
    std::vector<std::jthread> threads;
    for (unsigned index = 0; index < 8; ++index) {
      auto client = KubeClient::make(server->admin());
      REQUIRE(client);
      threads.emplace_back([&, index, own = std::move(*client)]() mutable {
        write_foreign_taint(std::move(own), "/api/v1/nodes/" + node, index, kRounds, counts);
      });
    }
    for (unsigned round = 0; round < kRounds; ++round) {
      tick.taint("FilesystemError");
      CHECK(tick.acked());
      tick.lift();
      CHECK(tick.acked());
    }
    tick.taint("FilesystemError");
    CHECK(tick.acked());
  }
  CHECK(counts.writes == 8 * kRounds);
  CHECK(counts.damaged == 0);
  CHECK(counts.errors == 0);
  const auto taints = taints_of(server->node(node));
  CHECK(taints.size() == 10);
  CHECK(taints.at("example.com/dedicated") == kForeign);
  CHECK(taints.count(kKey) == 1);
}

TEST_CASE(
    "a decision made while the API server was away is carried out when it is back, the newest one only") {
  auto* server = ApiServer::shared();
  if (server == nullptr) VEDETTE_SKIP(ApiServer::why());
  const std::string node = server->make_node("outage");
  const auto writer = make_writer(server->admin(), node);
  Tick tick(*writer);
  tick.lift();
  REQUIRE(tick.acked());
  REQUIRE(server->run("stop"));
  tick.taint("DiskFull", "first", monotonic_now());
  REQUIRE(eventually([&] { return writer->state()->failures > 0; }));
  CHECK_FALSE(writer->state()->connected);
  CHECK(writer->state()->last_error.find("connect") != std::string::npos);
  tick.lift();
  tick.taint("FilesystemError", "second", monotonic_now());
  REQUIRE(server->run("start"));
  REQUIRE(tick.acked());
  CHECK(taints_of(server->node(node)).at(kKey)["value"] == "FilesystemError");
  CHECK(writer->state()->last_error.empty());
  REQUIRE(eventually([&] { return writer->state()->events_written == 1; }));
  CHECK(events_of(*server, node).size() == 1);
}

TEST_CASE(
    "only who has something to say asks often whether the API server is back, and only while it is away") {
  const auto make = [](const std::string& url) {
    NodeWriterOptions options;
    options.client.url = url;
    options.node.name = "away";
    options.first_backoff = options.max_backoff = std::chrono::hours(1);
    options.max_pending_backoff = std::chrono::milliseconds(20);
    auto writer = NodeWriter::make(options);
    REQUIRE(writer);
    return std::move(*writer);
  };
  const std::string nowhere = "http://127.0.0.1:1";
  const ScriptedServer refusing({ScriptedServer::answer(403, "{}")});
  const ScriptedServer behind_a_proxy({ScriptedServer::answer(503, "{}")});
  const auto quiet = make(nowhere);
  const auto refused = make(refusing.url());
  REQUIRE(eventually([&] { return quiet->state()->failures == 1; }));
  Tick say(*refused);
  say.taint("DiskFull");
  for (const std::string& url : {nowhere, behind_a_proxy.url()}) {
    const auto pending = make(url);
    Tick tick(*pending);
    tick.taint("DiskFull");
    CHECK(eventually([&] { return pending->state()->failures > 20; }));
  }
  CHECK(quiet->state()->failures == 1);
  CHECK(refused->state()->failures <= 2);  // the second: woken by the decision
}

TEST_CASE("the limit of taints an hour is kept on the node, so that a restart forgets nothing") {
  auto* server = ApiServer::shared();
  if (server == nullptr) VEDETTE_SKIP(ApiServer::why());
  const std::string node = server->make_node("limit");
  NodeWriterOptions options;
  options.client = server->admin();
  options.node.name = node;
  options.budget = {.namespace_name = "default", .share = 1};
  options.max_taints_per_hour = 2;
  const std::string expected = "not tainted: already tainted 2 times within the hour";
  for (unsigned process = 0; process < 3; ++process) {
    const auto writer = NodeWriter::make(options);
    REQUIRE(writer);
    Tick tick(**writer);
    tick.taint("FilesystemError");
    if (process < 2) {
      REQUIRE(tick.acked());
      tick.lift();
      REQUIRE(tick.acked());
      continue;
    }
    REQUIRE(eventually([&] { return (*writer)->state()->held_back == expected; }));
    REQUIRE(eventually([&] { return (*writer)->state()->events_written == 1; }));
    const std::vector<json> told = events_of(*server, node);
    CHECK(std::ranges::count_if(told, [](const json& event) {
            return event["note"] ==
                   "vedette.dev/unhealthy=FilesystemError held back: already tainted 2 times within the hour";
          }) == 1);
    CHECK(taints_of(server->node(node)).count(kKey) == 0);
    CHECK(condition_of(server->node(node), "VedetteStorageHealthy")->at("status") == "False");
  }
  server->request(
      "PATCH", "/api/v1/nodes/" + node,
      {{"metadata", {{"annotations", {{"vedette.dev/taint-times", "2026-01-02T03:04:05Z rubbish"}}}}}});
  const auto writer = NodeWriter::make(options);
  REQUIRE(writer);
  Tick tick(**writer);
  tick.taint("FilesystemError");
  CHECK(tick.acked());
  const std::string times = server->node(node)["metadata"]["annotations"]["vedette.dev/taint-times"];
  CHECK(times.size() == std::string("2026-01-02T03:04:05Z 2026-01-02T03:04:05Z").size());
}

TEST_CASE("after a long outage a verdict must hold for a while before it taints") {
  auto* server = ApiServer::shared();
  if (server == nullptr) VEDETTE_SKIP(ApiServer::why());
  const std::string node = server->make_node("settle");
  NodeWriterOptions options;
  options.client = server->admin();
  options.node.name = node;
  options.budget = {.namespace_name = "default", .share = 1};
  options.outage = std::chrono::milliseconds(1);
  options.settle = std::chrono::milliseconds(6000);  // the server is ready some seconds after it answers
  options.max_backoff = std::chrono::milliseconds(200);
  const auto writer = NodeWriter::make(options);
  REQUIRE(writer);
  Tick tick(**writer);
  tick.lift();
  REQUIRE(tick.acked());
  REQUIRE(server->run("stop"));
  tick.taint("PacketLoss");
  REQUIRE(eventually([&] { return (*writer)->state()->failures > 1; }));
  REQUIRE(server->run("start"));
  CHECK(eventually(
      [&] { return (*writer)->state()->held_back.find("not tainted: the API server was away") == 0; }));
  CHECK(tick.acked());
  CHECK((*writer)->state()->held_back.empty());
  CHECK(taints_of(server->node(node)).count(kKey) == 1);
}

TEST_CASE("a server that hangs costs a timeout, not the taint") {
  auto* server = ApiServer::shared();
  if (server == nullptr) VEDETTE_SKIP(ApiServer::why());
  const std::string node = server->make_node("hang");
  KubeClientOptions client = server->admin();
  client.request_timeout = std::chrono::milliseconds(400);
  const auto writer = make_writer(client, node);
  Tick tick(*writer);
  tick.lift();
  REQUIRE(tick.acked());
  server->signal(SIGSTOP);
  tick.taint("HungTask", "while the server hangs", monotonic_now());
  const bool failed = eventually([&] { return writer->state()->failures > 0; });
  const std::string error = writer->state()->last_error;
  server->signal(SIGCONT);
  CHECK(failed);
  CHECK(error.find("timed out") != std::string::npos);
  REQUIRE(tick.acked());
  CHECK(taints_of(server->node(node)).count(kKey) == 1);
  REQUIRE(eventually([&] { return writer->state()->events_written == 1; }));
  CHECK(events_of(*server, node).size() == 1);
}

TEST_CASE("a refused token and a node that does not exist are said in one sentence") {
  auto* server = ApiServer::shared();
  if (server == nullptr) VEDETTE_SKIP(ApiServer::why());
  KubeClientOptions client = server->admin();
  const auto lost = make_writer(client, "no-such-node");
  CHECK(eventually(
      [&] { return lost->state()->last_error.find("\"no-such-node\" not found") != std::string::npos; }));
  client.token_file = server->dir() + "/wrong.token";
  std::ofstream(client.token_file) << "wrong";
  const auto refused = make_writer(client, server->make_node("refused"));
  CHECK(eventually([&] { return refused->state()->last_error.find("HTTP 401") != std::string::npos; }));
  CHECK_FALSE(refused->state()->known);
}

TEST_CASE("answers that are no Node never lead to a write") {
  for (const std::string& answer :
       {ScriptedServer::answer(200, "<html>welcome</html>"), ScriptedServer::answer(200, "{}"),
        ScriptedServer::answer(200, R"({"metadata":{"name":"other"}})"), ScriptedServer::answer(500, "oops"),
        std::string("rubbish")}) {
    const ScriptedServer rubbish({answer});
    KubeClientOptions client;
    client.url = rubbish.url();
    const auto writer = make_writer(client, "n1");
    Tick tick(*writer);
    tick.taint("FilesystemError");
    REQUIRE(eventually([&] { return writer->state()->failures > 1; }));
    CHECK_FALSE(writer->state()->last_error.empty());
    CHECK_FALSE(writer->state()->known);
    for (const std::string& request : rubbish.requests()) CHECK(request.starts_with("GET "));
  }
}
