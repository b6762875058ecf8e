// What fails between the agent and etcd, in the ways that no clean kill shows.
#include <atomic>
#include <set>

#include "agent/kube/node_watch.h"
#include "tests/kube/http_front.h"
#include "tests/kube/scripted_server.h"
#include "tests/kube/writer.h"
#include "tests/skip.h"

using namespace vedette;
using nlohmann::json;

namespace {

std::string refusal(int status, int retry_after_s) {
  std::string text = ScriptedServer::answer(status, R"({"kind":"Status","message":"not now"})");
  if (retry_after_s > 0)
    text.insert(text.find("\r\n") + 2, "Retry-After: " + std::to_string(retry_after_s) + "\r\n");
  return text;
}

// "PATCH /api/v1/nodes/NAME/status": without the query, and without what differs from try to try.
std::string kind_of(const HttpFront::Request& request) {
  std::string path = request.path.substr(0, request.path.find('?'));
  for (const std::string part : {"/leases", "/events"}) {
    if (const auto at = path.find(part); at != std::string::npos) path.resize(at + part.size());
  }
  return request.method + " " + path;
}

// A server that fails each kind of request once, and again from renew() on.
class Failing {
public:
  Failing(ApiServer& server, const std::string& refused, bool carried_out)
      : front_(server.admin(), [this, refused, carried_out](const HttpFront::Request& request) {
          if (renewed_.exchange(false)) failed_.clear();
          if (!failed_.insert(kind_of(request)).second) return HttpFront::Instead{};
          return HttpFront::Instead{refused, carried_out};
        }) {}
  void renew() { renewed_ = true; }
  const HttpFront& front() const { return front_; }

private:
  std::atomic<bool> renewed_ = false;
  std::set<std::string> failed_;
  HttpFront front_;
};

}  // namespace

TEST_CASE("a server that fails, before or after it has done what was asked, costs time and nothing else") {
  auto* server = ApiServer::shared();
  if (server == nullptr) VEDETTE_SKIP(ApiServer::why());
  struct Run {
    Run(ApiServer& api, int status, bool carried_out)
        : node(api, "failing"),
          failing(api, refusal(status, 0), carried_out),
          writer(impatient(failing.front().client(), node.name)),
          tick(*writer) {
      tick.taint("FilesystemError");
    }
    static std::unique_ptr<NodeWriter> impatient(const KubeClientOptions& client, const std::string& name) {
      NodeWriterOptions options = writer_options(client, name);
      options.first_backoff = options.max_backoff = std::chrono::milliseconds(50);
      return make_writer(options);
    }
    WatchedNode node;
    Failing failing;
    std::unique_ptr<NodeWriter> writer;
    Tick tick;
  };
  std::vector<std::unique_ptr<Run>> runs;  // at the same time: they wait most of it
  for (const bool carried_out : {false, true}) {
    for (const int status : {429, 500, 502, 504})
      runs.push_back(std::make_unique<Run>(*server, status, carried_out));
  }
  for (const auto& run : runs) {
    INFO(run->writer->state()->last_error);
    CHECK(run->tick.acked());
    CHECK(eventually([&] { return run->writer->state()->events_written == 1; }));
    const json now = run->node.now();
    CHECK(taints_of(now).size() == 2);
    CHECK(taints_of(now).at("example.com/dedicated") == kForeign);
    CHECK(taints_of(now).at(kKey)["value"] == "FilesystemError");
    CHECK(condition_of(now, "VedetteStorageHealthy")->at("status") == "False");
    CHECK(now["metadata"]["annotations"]["vedette.dev/taint-times"].get<std::string>().find(' ') ==
          std::string::npos);
    CHECK(run->node.slots() == 1);
    CHECK(run->writer->state()->failures > 4);
    run->failing.renew();
    run->tick.lift();
  }
  for (const auto& run : runs) {
    INFO(run->writer->state()->last_error);
    CHECK(run->tick.acked());
    CHECK(eventually([&] { return run->writer->state()->events_written == 2; }));
    CHECK(taints_of(run->node.now()).count(kKey) == 0);
    CHECK(taints_of(run->node.now()).at("example.com/dedicated") == kForeign);
    CHECK(eventually([&] { return run->node.slots() == 0; }));
    CHECK(events_of(*server, run->node.name).size() == 2);
    CHECK(run->node.history.added == 1);
    CHECK(run->node.history.gaps == 0);
  }
}

TEST_CASE(
    "a taint, or a slot, that is refused for good leaves the conditions and the reason why to be read") {
  auto* server = ApiServer::shared();
  if (server == nullptr) VEDETTE_SKIP(ApiServer::why());
  for (const std::string& refused : {std::string("/leases"), std::string("/api/v1/nodes/refused")}) {
    const std::string node = server->make_node("refused");
    const HttpFront front(server->admin(), [&](const HttpFront::Request& request) {
      const bool hit = request.path.find(refused) != std::string::npos &&
                       request.path.find("/status") == std::string::npos && request.method != "GET";
      return HttpFront::Instead{hit ? refusal(403, 0) : "", false};
    });
    const auto writer = make_writer(front.client(), node);
    Tick tick(*writer);
    tick.taint("FilesystemError");
    CHECK(eventually([&] {
      const auto condition = condition_of(server->node(node), "VedetteStorageHealthy");
      return condition && condition->at("status") == "False";
    }));
    CHECK(taints_of(server->node(node)).count(kKey) == 0);
    CHECK(eventually([&] { return writer->state()->last_error.find("403") != std::string::npos; }));
    CHECK(writer->state()->acked_generation == 0);
  }
}

TEST_CASE(
    "a taint that is refused for now is tried again soon, whatever the server asks for; all else can wait") {
  auto* server = ApiServer::shared();
  if (server == nullptr) VEDETTE_SKIP(ApiServer::why());
  struct Run {
    Run(ApiServer& api, int status, int retry_after_s)
        : node(api.make_node("again")),
          front(api.admin(),
                [this, status, retry_after_s](const HttpFront::Request& request) {
                  if (!refuses) return HttpFront::Instead{};
                  routine += request.path.find("/status") != std::string::npos ? 1U : 0U;
                  return HttpFront::Instead{refusal(status, retry_after_s), false};
                }),
          writer(make_writer(hasty(front.client(), node))),
          tick(*writer) {
      tick.lift();
    }
    // By the usual backoff none of this would end.
    static NodeWriterOptions hasty(const KubeClientOptions& client, const std::string& name) {
      NodeWriterOptions options = writer_options(client, name);
      options.first_backoff = options.max_backoff = std::chrono::hours(1);
      options.max_pending_backoff = options.max_taint_wait = std::chrono::milliseconds(20);
      return options;
    }
    std::string node;
    std::atomic<bool> refuses = false;
    std::atomic<unsigned> routine = 0;
    HttpFront front;
    std::unique_ptr<NodeWriter> writer;
    Tick tick;
  };
  std::vector<std::unique_ptr<Run>> runs;
  for (const int status : {401, 429, 500, 503}) {
    for (const int retry_after_s : {0, 3600})
      runs.push_back(std::make_unique<Run>(*server, status, retry_after_s));
  }
  Run quiet(*server, 500, 0);
  for (const auto& run : runs) REQUIRE(run->tick.acked());
  REQUIRE(quiet.tick.acked());
  for (const auto& run : runs) {
    run->refuses = true;
    run->tick.taint("FilesystemError");
  }
  quiet.refuses = true;
  quiet.tick.verdict("{}");  // a decision, but none about the taint
  for (const auto& run : runs) CHECK(eventually([&] { return run->writer->state()->failures > 10; }));
  CHECK(quiet.writer->state()->failures <= 2);
  for (const auto& run : runs) {
    CHECK(run->routine <= 1);
    run->refuses = false;
  }
  for (const auto& run : runs) {
    INFO(run->writer->state()->last_error);
    CHECK(eventually([&] { return taints_of(server->node(run->node)).count(kKey) == 1; }));
  }
}

TEST_CASE("a taint that is held back hurries nobody, while the server refuses or is away") {
  auto* server = ApiServer::shared();
  if (server == nullptr) VEDETTE_SKIP(ApiServer::why());
  struct Run {
    Run(ApiServer& api, int status, bool held)
        : node(api.make_node("unhurried")), front(api.admin(), [this, status](const HttpFront::Request&) {
            return HttpFront::Instead{refuses ? refusal(status, 0) : "", false};
          }) {
      if (held) {
        const json times = {{"vedette.dev/taint-times", format_time(wall_now())}};
        api.request("PATCH", "/api/v1/nodes/" + node, {{"metadata", {{"annotations", times}}}});
      }
      NodeWriterOptions options = writer_options(front.client(), node);
      options.max_taints_per_hour = 1;
      options.first_backoff = options.max_backoff = std::chrono::hours(1);
      options.max_pending_backoff = std::chrono::milliseconds(20);
      options.watch.watch_seconds = std::chrono::seconds(1);  // its end makes the writer ask
      writer = make_writer(options);
      tick = std::make_unique<Tick>(*writer);
      held ? tick->taint("FilesystemError") : tick->lift();
    }
    std::string node;
    std::atomic<bool> refuses = false;
    HttpFront front;
    std::unique_ptr<NodeWriter> writer;
    std::unique_ptr<Tick> tick;
  };
  for (const int status : {500, 503}) {
    Run held(*server, status, true);
    Run waits(*server, status, false);
    REQUIRE(waits.tick->acked());
    REQUIRE(eventually([&] {
      const auto condition = condition_of(server->node(held.node), "VedetteStorageHealthy");
      return condition && !held.writer->state()->held_back.empty() &&
             held.writer->state()->events_written == 1;
    }));
    held.refuses = waits.refuses = true;
    waits.tick->taint("FilesystemError");
    CHECK(eventually([&] { return held.writer->state()->failures > 0; }));
    const auto before = waits.writer->state()->failures;
    CHECK(eventually([&] { return waits.writer->state()->failures > before + 10; }));
    CHECK(held.writer->state()->failures <= 2);
  }
}

TEST_CASE(
    "what a watch remembers during an outage does not count as its end: the verdict must hold after it") {
  auto* server = ApiServer::shared();
  if (server == nullptr) VEDETTE_SKIP(ApiServer::why());
  const std::string node = server->make_node("survives");
  std::atomic<bool> refuses = false;
  const HttpFront front(server->admin(), [&](const HttpFront::Request& request) {
    const bool hit = refuses && request.path.find("watch=1") == std::string::npos;
    return HttpFront::Instead{hit ? refusal(500, 0) : "", false};
  });
  NodeWriterOptions options = writer_options(front.client(), node);
  options.outage = std::chrono::milliseconds(1);
  options.settle = std::chrono::milliseconds(3000);
  options.max_backoff = options.max_pending_backoff = std::chrono::milliseconds(20);
  const auto writer = make_writer(options);
  Tick tick(*writer);
  tick.lift();
  REQUIRE(tick.acked());
  REQUIRE(eventually([&] {  // the watch stands, and whoever begins to fail has seen it
    const auto requests = front.requests();
    return std::ranges::any_of(requests, [](const HttpFront::Request& request) {
      return request.path.find("watch=1") != std::string::npos;
    });
  }));
  refuses = true;
  tick.taint("FilesystemError");
  CHECK(eventually([&] { return writer->state()->failures > 10; }));
  CHECK(writer->state()->held_back.empty());
  refuses = false;
  CHECK(eventually(
      [&] { return writer->state()->held_back.find("not tainted: the API server was away") == 0; }));
  CHECK(taints_of(server->node(node)).count(kKey) == 0);
  CHECK(tick.acked());
  CHECK(taints_of(server->node(node)).count(kKey) == 1);
}

TEST_CASE("an agent that starts while it is refused, on a node in trouble, asks for that node as often") {
  auto* server = ApiServer::shared();
  if (server == nullptr) VEDETTE_SKIP(ApiServer::why());
  const std::string node = server->make_node("unread");
  std::atomic<bool> refuses = true;
  const HttpFront front(server->admin(), [&](const HttpFront::Request&) {
    return HttpFront::Instead{refuses ? refusal(429, 60) : "", false};
  });
  NodeWriterOptions options = writer_options(front.client(), node);
  options.first_backoff = options.max_backoff = std::chrono::hours(1);
  options.max_pending_backoff = options.max_taint_wait = std::chrono::milliseconds(20);
  const auto writer = make_writer(options);
  const auto quiet = make_writer(options);
  auto snapshot = std::make_shared<Snapshot>();
  snapshot->decision.mode = Mode::kEnforce;
  quiet->publish(snapshot);
  Condition trouble;
  trouble.severity = Severity::kUnhealthy;
  trouble.entity = std::make_shared<const Entity>();
  auto troubled = std::make_shared<Snapshot>();
  troubled->decision.mode = Mode::kEnforce;
  troubled->conditions = {trouble};
  writer->publish(troubled);
  CHECK(eventually([&] { return writer->state()->failures > 10; }));
  CHECK(quiet->state()->failures == 1);
  refuses = false;
  CHECK(eventually([&] { return writer->state()->known; }));
}

TEST_CASE("a server that asks for a pause gets it, whatever there is to say and whatever happens meanwhile") {
  auto* server = ApiServer::shared();
  if (server == nullptr) VEDETTE_SKIP(ApiServer::why());
  const std::string node = server->make_node("pause");
  std::set<std::string> refused;
  std::vector<HttpFront::Request> refusals;
  const HttpFront front(server->admin(), [&](const HttpFront::Request& request) {
    if (request.method == "GET" || !refused.insert(kind_of(request)).second) return HttpFront::Instead{};
    refusals.push_back(request);
    return HttpFront::Instead{refusal(refused.size() % 2 == 0 ? 429 : 503, 1), false};
  });
  const auto writer = make_writer(front.client(), node);
  Tick tick(*writer);
  tick.taint("FilesystemError", "once");
  // News for the tick thread and of the watch.
  CHECK(eventually([&] {
    server->request("PATCH", "/api/v1/nodes/" + node,
                    {{"metadata", {{"labels", {{"news", std::to_string(monotonic_now())}}}}}});
    tick.taint("FilesystemError", std::to_string(monotonic_now()));
    std::this_thread::sleep_for(std::chrono::milliseconds(100));
    return writer->state()->events_written == 1;
  }));
  CHECK(taints_of(server->node(node)).count(kKey) == 1);
  CHECK(refused.size() >= 4);  // lease, taint, conditions, event
  const auto is_event = [](const HttpFront::Request& request) {
    return request.path.find("/events") != std::string::npos;
  };
  for (const HttpFront::Request& request : front.requests()) {
    if (request.method == "GET") continue;  // of the watch, perhaps
    for (const auto& refusal : refusals) {
      if (is_event(refusal) && !is_event(request)) continue;
      INFO(request.method << " " << request.path);
      CHECK((request.at <= refusal.at || request.at >= refusal.at + std::chrono::seconds(1)));
    }
  }
}

TEST_CASE(
    "what is refused to an event, or to a condition, holds back no taint, however long the server asks for") {
  auto* server = ApiServer::shared();
  if (server == nullptr) VEDETTE_SKIP(ApiServer::why());
  struct Run {
    Run(ApiServer& api, const std::string& refused)
        : node(api.make_node("hour")), front(api.admin(), [this, refused](const HttpFront::Request& request) {
            const bool hit =
                refuses && request.method != "GET" && request.path.find(refused) != std::string::npos;
            return HttpFront::Instead{hit ? refusal(429, 3600) : "", false};
          }) {
      NodeWriterOptions options = writer_options(front.client(), node);
      options.max_taint_wait = std::chrono::milliseconds(20);
      writer = make_writer(options);
    }
    std::string node;
    std::atomic<bool> refuses = true;
    HttpFront front;
    std::unique_ptr<NodeWriter> writer;
  };
  Run events(*server, "/events");
  Tick tick(*events.writer);
  tick.taint("FilesystemError");
  CHECK(tick.acked());
  CHECK(eventually(
      [&] { return events.writer->state()->last_error.find("events: HTTP 429") != std::string::npos; }));
  CHECK(events.writer->state()->connected);
  tick.lift();
  CHECK(tick.acked());  // the conditions as well
  CHECK(events.writer->state()->events_written == 0);

  Run conditions(*server, "/status");
  Tick other(*conditions.writer);
  other.lift();
  CHECK(eventually([&] { return conditions.writer->state()->failures > 0; }));
  other.taint("FilesystemError");
  CHECK(eventually([&] { return taints_of(server->node(conditions.node)).count(kKey) == 1; }));
  CHECK_FALSE(condition_of(server->node(conditions.node), "VedetteStorageHealthy"));
}

TEST_CASE(
    "a decision made while etcd was away is carried out once when it is back, whatever became of the first "
    "tries") {
  auto* server = ApiServer::shared();
  if (server == nullptr) VEDETTE_SKIP(ApiServer::why());
  const std::string node = server->make_node("etcd");
  server->set_taints(node, {kForeign});
  KubeClientOptions client = server->admin();
  client.request_timeout = std::chrono::milliseconds(400);
  const auto writer = make_writer(client, node);
  Tick tick(*writer);
  tick.lift();
  REQUIRE(tick.acked());
  REQUIRE(server->run("stop-etcd"));
  tick.taint("FilesystemError");
  CHECK(eventually([&] { return writer->state()->failures > 2; }));
  CHECK_FALSE(writer->state()->last_error.empty());
  REQUIRE(server->run("start-etcd"));
  CHECK(tick.acked());
  const json now = server->node(node);
  CHECK(taints_of(now).size() == 2);
  CHECK(taints_of(now).at("example.com/dedicated") == kForeign);
  CHECK(taints_of(now).at(kKey)["value"] == "FilesystemError");
  CHECK(condition_of(now, "VedetteStorageHealthy")->at("status") == "False");
  CHECK(eventually([&] { return writer->state()->events_written == 1; }));
  CHECK(events_of(*server, node).size() == 1);
  // And what others do is seen again.
  server->set_taints(node, {});
  CHECK(eventually([&] { return taints_of(server->node(node)).count(kKey) == 1; }));
}

TEST_CASE(
    "a watch of the node that is refused as too old, ended or cut in the midst of a line reads the node "
    "anew") {
  auto* server = ApiServer::shared();
  if (server == nullptr) VEDETTE_SKIP(ApiServer::why());
  const std::string node = server->make_node("watched");
  // A change that never was: none of it may be taken for the node.
  const std::string rumour =
      R"({"type":"MODIFIED","object":{"metadata":{"name":")" + node +
      R"(","resourceVersion":"99999999"},"spec":{"taints":[{"key":"vedette.dev/unhealthy","effe)";
  const std::vector<std::string> watches = {
      ScriptedServer::stream(R"({"type":"ERROR","object":{"kind":"Status","code":410,"message":"too old"}})"
                             "\n"),
      ScriptedServer::answer(410, R"({"kind":"Status","code":410})"),
      ScriptedServer::stream(rumour),
      ScriptedServer::stream("rubbish\n"),
      refusal(429, 1),
  };
  std::size_t watched = 0;
  HttpFront front(server->admin(), [&](const HttpFront::Request& request) {
    if (request.path.find("watch=1") == std::string::npos || watched >= watches.size())
      return HttpFront::Instead{};
    return HttpFront::Instead{watches[watched++], false};
  });
  KubeNodeOptions options;
  options.name = node;
  NodeState old;
  old.resource_version = "1";
  const NodeWatchOptions quick{.first_backoff = std::chrono::milliseconds(20),
                               .max_backoff = std::chrono::milliseconds(50)};
  auto made = NodeWatch::make(front.client(), options, quick, old, [] {});
  REQUIRE(made);
  const NodeWatch& watch = **made;
  const auto watch_count = [&] {
    const auto requests = front.requests();
    return static_cast<std::size_t>(std::count_if(requests.begin(), requests.end(), [](const auto& request) {
      return request.path.find("watch=1") != std::string::npos;
    }));
  };
  bool rumoured = false;
  REQUIRE(eventually([&] {
    const auto seen = watch.node();
    rumoured = rumoured || (seen && !seen->our_taints.empty());
    return watch_count() > watches.size();
  }));
  CHECK_FALSE(rumoured);
  server->set_taints(node, {{{"key", kKey}, {"effect", "NoSchedule"}}});
  CHECK(eventually([&] {
    const auto seen = watch.node();
    return seen && seen->our_taints.size() == 1 && !seen->uid.empty();
  }));
  CHECK(watch_count() == watches.size() + 1);
  // Each of the failed ones was followed by a reading.
  const auto requests = front.requests();
  CHECK(requests.size() == 2 * watches.size() + 1);
  for (std::size_t i = 1; i < requests.size(); i += 2)
    CHECK(requests[i].path.find("watch=1") == std::string::npos);
}
