// The budget of taints on the real API server. What is counted comes from the server's own history of the
// nodes.
#include "agent/act/taint_budget.h"

#include <algorithm>
#include <random>

#include "agent/act/node_writer.h"
#include "tests/kube/api_server.h"
#include "tests/kube/lossy_proxy.h"
#include "tests/kube/taint_history.h"
#include "tests/skip.h"

using namespace vedette;
using nlohmann::json;

namespace {

constexpr const char* kPoolLabel = "example.com/pool";
const std::string kLeases = "/apis/coordination.k8s.io/v1/namespaces/default/leases";

// A writer that is told what to want of its node.
class Agent {
public:
  Agent(const KubeClientOptions& client, std::string node, double share,
        std::chrono::milliseconds mass_pause = std::chrono::milliseconds(100),
        std::chrono::milliseconds held_back = std::chrono::milliseconds(100))
      : node_(std::move(node)) {
    NodeWriterOptions options;
    options.client = client;
    options.node.name = node_;
    options.node.pool_label = kPoolLabel;
    options.budget.namespace_name = "default";
    options.budget.share = share;
    options.max_taints_per_hour = 1000;
    options.outage = std::chrono::hours(1);
    options.budget.late = std::chrono::milliseconds(500);  // LossyProxy's 400
    options.resync = std::chrono::milliseconds(300);
    options.first_backoff = std::chrono::milliseconds(20);
    options.max_backoff = std::chrono::milliseconds(200);
    options.held_back = options.max_held_back = held_back;
    options.mass_pause = mass_pause;
    auto made = NodeWriter::make(options);
    if (!made) FAIL(made.error().text);
    writer_ = std::move(*made);
    decision_.mode = Mode::kEnforce;
  }

  void want(bool taint) {
    decision_.taint = taint;
    decision_.reason = taint ? "FilesystemError" : "";
    decision_.conditions = {{"VedetteStorageHealthy", !taint, taint ? "FilesystemError" : "Healthy", ""}};
    ++decision_.generation;
    auto snapshot = std::make_shared<Snapshot>();
    snapshot->decision = decision_;
    writer_->publish(snapshot);
  }
  bool wants() const { return decision_.taint; }
  bool acked() const { return writer_->state()->acked_generation == decision_.generation; }
  bool tainted() const { return writer_->state()->tainted; }
  std::string held_back() const { return writer_->state()->held_back; }
  std::string slot() const { return writer_->state()->slot; }
  const std::string& node() const { return node_; }

private:
  std::string node_;
  Decision decision_;
  std::unique_ptr<NodeWriter> writer_;
};

// A new pool of `count` new nodes.
struct Pool {
  Pool(ApiServer& server, const std::string& stem, unsigned count) {
    static unsigned pools = 0;
    const std::string pool = stem + std::to_string(++pools);
    name = pool;
    for (unsigned i = 0; i < count; ++i) {
      nodes.push_back(server.make_node(pool));
      server.request("PATCH", "/api/v1/nodes/" + nodes.back(),
                     {{"metadata", {{"labels", {{kPoolLabel, pool}}}}}});
    }
  }
  std::string selector() const { return std::string(kPoolLabel) + "=" + name; }
  std::string slot(unsigned index) const { return "vedette-" + name + "-" + std::to_string(index); }
  std::string name;
  std::vector<std::string> nodes;
};

std::vector<json> slots_of(ApiServer& server, const std::string& pool) {
  return server.request("GET", kLeases + "?labelSelector=vedette.dev/pool%3D" + pool)["items"];
}

// As if nobody had renewed it for a day.
void expire(ApiServer& server, const std::string& slot) {
  server.request("PATCH", kLeases + "/" + slot, {{"spec", {{"renewTime", "2026-01-02T03:04:05.000000Z"}}}});
}

// Wants taints and lifts in disorder until the history has seen `additions` of them, then lifts all.
void shake(std::vector<std::unique_ptr<Agent>>& agents, TaintHistory& history, unsigned additions) {
  std::minstd_rand random(7);
  for (auto& agent : agents) agent->want(true);
  CHECK(eventually(
      [&] {
        Agent& agent = *agents[random() % agents.size()];
        // A taint that is there is lifted; one that is not, is asked for, whatever became of it before.
        agent.want(!agent.wants() || !agent.tainted());
        return history.added >= additions;
      },
      std::chrono::seconds(120)));
  for (auto& agent : agents) agent->want(false);
}

}  // namespace

TEST_CASE("of 24 nodes in trouble at once a quarter is tainted, never more, and slots go on to the others") {
  auto* server = ApiServer::shared();
  if (server == nullptr) VEDETTE_SKIP(ApiServer::why());
  const Pool pool(*server, "crowded", 24);
  TaintHistory history(server->admin(), pool.selector());
  std::vector<std::unique_ptr<Agent>> agents;
  for (const auto& node : pool.nodes) agents.push_back(std::make_unique<Agent>(server->admin(), node, 0.25));
  for (auto& agent : agents) agent->want(true);
  CHECK(eventually([&] { return history.tainted == 6; }));
  const auto told = [&] {
    return std::count_if(agents.begin(), agents.end(), [&](const auto& agent) {
      return agent->held_back().find("not tainted: all 6 slots of pool " + pool.name +
                                     " are taken, by crowded") == 0;
    });
  };
  CHECK(eventually([&] { return told() == 18; }));
  CHECK(slots_of(*server, pool.name).size() == 6);
  shake(agents, history, 100);
  CHECK(eventually([&] { return slots_of(*server, pool.name).empty(); }));
  CHECK(history.most == 6);
  CHECK(history.tainted == 0);
  CHECK(history.gaps == 0);
}

TEST_CASE("who was part of a mass event adds no taint for a while, even where a slot comes back") {
  auto* server = ApiServer::shared();
  if (server == nullptr) VEDETTE_SKIP(ApiServer::why());
  const Pool pool(*server, "mass", 9);
  TaintHistory history(server->admin(), pool.selector());
  const auto of = [&](const std::string& node) {
    return std::make_unique<Agent>(server->admin(), node, 0.25, std::chrono::hours(1));
  };
  std::vector<std::unique_ptr<Agent>> agents;
  for (unsigned i = 0; i < 8; ++i) agents.push_back(of(pool.nodes[i]));
  for (auto& agent : agents) agent->want(true);
  const auto held = [&] {
    return std::count_if(agents.begin(), agents.end(), [](const auto& agent) {
      return agent->held_back().find("what befalls so many at once is no fault of one node") !=
             std::string::npos;
    });
  };
  CHECK(eventually([&] { return history.tainted == 2 && held() == 6; }));
  const auto tainted =
      std::find_if(agents.begin(), agents.end(), [](const auto& agent) { return agent->tainted(); });
  REQUIRE(tainted != agents.end());
  (*tainted)->want(false);
  CHECK(eventually([&] { return slots_of(*server, pool.name).size() == 1; }));
  std::this_thread::sleep_for(std::chrono::milliseconds(500));  // a few tries, if they tried
  CHECK(history.added == 2);
  // A recovery does not end it, and the next trouble is told of it again.
  const auto part = std::find_if(agents.begin(), agents.end(),
                                 [](const auto& agent) { return !agent->held_back().empty(); });
  REQUIRE(part != agents.end());
  const std::string why = (*part)->held_back();
  (*part)->want(false);
  CHECK(eventually([&] { return (*part)->acked() && (*part)->held_back().empty(); }));
  (*part)->want(true);
  CHECK(eventually([&] { return (*part)->held_back() == why; }));
  CHECK(history.added == 2);
  const auto later = of(pool.nodes[8]);
  later->want(true);
  CHECK(eventually([&] { return later->tainted(); }));
  CHECK(history.most == 2);
}

TEST_CASE("who found no slot and recovered asks at once when it is in trouble again") {
  auto* server = ApiServer::shared();
  if (server == nullptr) VEDETTE_SKIP(ApiServer::why());
  const Pool pool(*server, "again", 2);
  const auto of = [&](const std::string& node) {
    return std::make_unique<Agent>(server->admin(), node, 0.1, std::chrono::hours(1), std::chrono::hours(1));
  };
  const auto first = of(pool.nodes[0]);
  first->want(true);
  REQUIRE(eventually([&] { return first->acked(); }));
  // Taken long ago: no mass event.
  server->request("PATCH", kLeases + "/" + pool.slot(0),
                  {{"spec", {{"acquireTime", "2026-01-02T03:04:05.000000Z"}}}});
  const auto second = of(pool.nodes[1]);
  second->want(true);
  REQUIRE(eventually([&] { return !second->held_back().empty(); }));
  second->want(false);
  first->want(false);
  REQUIRE(eventually([&] { return second->acked() && slots_of(*server, pool.name).empty(); }));
  second->want(true);
  CHECK(eventually([&] { return second->tainted(); }));
}

TEST_CASE("lost answers and requests that land late taint no more than the budget") {
  auto* server = ApiServer::shared();
  if (server == nullptr) VEDETTE_SKIP(ApiServer::why());
  const Pool pool(*server, "lossy", 12);
  TaintHistory history(server->admin(), pool.selector());
  LossyProxy proxy(server->admin().url, 9, 9);
  KubeClientOptions client = server->admin();
  client.url = proxy.url();
  client.request_timeout = std::chrono::milliseconds(1000);
  std::vector<std::unique_ptr<Agent>> agents;
  for (const auto& node : pool.nodes) agents.push_back(std::make_unique<Agent>(client, node, 0.25));
  shake(agents, history, 30);
  CHECK(eventually([&] { return history.tainted == 0; }));
  CHECK(history.most <= 3);
  CHECK(history.most > 1);
  CHECK(history.gaps == 0);
  CHECK(proxy.lost > 20);
  CHECK(proxy.late > 20);
}

TEST_CASE("an API server that dies while many ask gives out no slot twice") {
  auto* server = ApiServer::shared();
  if (server == nullptr) VEDETTE_SKIP(ApiServer::why());
  const Pool pool(*server, "outage", 8);
  TaintHistory history(server->admin(), pool.selector());
  std::vector<std::unique_ptr<Agent>> agents;
  for (const auto& node : pool.nodes) agents.push_back(std::make_unique<Agent>(server->admin(), node, 0.25));
  for (auto& agent : agents) agent->want(false);
  for (auto& agent : agents) CHECK(eventually([&] { return agent->acked(); }));
  for (auto& agent : agents) agent->want(true);
  REQUIRE(server->run("stop"));
  REQUIRE(server->run("start"));
  CHECK(eventually([&] { return history.tainted == 2; }));
  for (auto& agent : agents) CHECK(eventually([&] { return agent->acked() || !agent->held_back().empty(); }));
  CHECK(history.most == 2);
  CHECK(slots_of(*server, pool.name).size() == 2);
}

TEST_CASE("a dead holder's slot stays taken while its node is tainted, and passes on when it is not") {
  auto* server = ApiServer::shared();
  if (server == nullptr) VEDETTE_SKIP(ApiServer::why());
  const Pool pool(*server, "dead", 3);
  TaintHistory history(server->admin(), pool.selector());
  {
    Agent dies(server->admin(), pool.nodes[0], 0.1);
    dies.want(true);
    REQUIRE(eventually([&] { return dies.acked(); }));
    CHECK(dies.slot() == pool.slot(0));
  }
  expire(*server, pool.slot(0));
  Agent next(server->admin(), pool.nodes[1], 0.1);
  next.want(true);
  REQUIRE(eventually([&] { return !next.held_back().empty(); }));
  CHECK(next.held_back().find("by " + pool.nodes[0]) != std::string::npos);
  expire(*server, pool.slot(0));
  std::this_thread::sleep_for(std::chrono::milliseconds(500));  // a few more tries
  CHECK_FALSE(next.tainted());
  const json events = server->request("GET", "/apis/events.k8s.io/v1/namespaces/default/events");
  const auto told = std::ranges::count_if(events["items"], [&](const json& event) {
    return event["regarding"]["name"] == pool.nodes[1] && event["reason"] == "NodeTaintHeldBack" &&
           !event.contains("series") &&
           event["note"].get<std::string>().find("held back: all 1 slots of pool") != std::string::npos;
  });
  CHECK(told == 1);  // of all its tries

  SUBCASE("the taint is removed") {
    server->set_taints(pool.nodes[0], {});
    CHECK(eventually([&] { return next.tainted(); }));
  }
  SUBCASE("the node is removed") {
    server->request("DELETE", "/api/v1/nodes/" + pool.nodes[0]);
    CHECK(eventually([&] { return next.tainted(); }));
  }
  SUBCASE("its agent comes back, keeps the slot, and gives it up when the node is well") {
    Agent back(server->admin(), pool.nodes[0], 0.1);
    back.want(true);
    CHECK(eventually([&] { return back.acked() && back.slot() == pool.slot(0); }));
    CHECK_FALSE(next.tainted());
    back.want(false);
    CHECK(eventually([&] { return next.tainted(); }));
  }
  CHECK(eventually([&] { return next.slot() == pool.slot(0) && next.held_back().empty(); }));
  CHECK(history.most == 1);
}

TEST_CASE("a slot whose holder died before its taint is free only once that taint can no longer come") {
  auto* server = ApiServer::shared();
  if (server == nullptr) VEDETTE_SKIP(ApiServer::why());
  const Pool pool(*server, "fence", 2);
  const std::string version = server->node(pool.nodes[0])["metadata"]["resourceVersion"];
  auto client = KubeClient::make(server->admin());
  REQUIRE(client);
  KubeLeases leases(*client, "default");
  SlotLease slot;
  slot.name = pool.slot(0);
  slot.pool = pool.name;
  slot.holder = pool.nodes[0];
  slot.node_version = version;
  slot.duration = std::chrono::seconds(900);
  REQUIRE(leases.create(slot));
  Agent next(server->admin(), pool.nodes[1], 0.1);
  next.want(true);
  REQUIRE(eventually([&] { return !next.held_back().empty(); }));
  std::this_thread::sleep_for(std::chrono::milliseconds(500));  // a few more tries
  CHECK_FALSE(next.tainted());
  // The holder's patch arrives at last, or its node changes first and the patch can only fail.
  const json late = {{"metadata", {{"resourceVersion", version}}},
                     {"spec", {{"taints", {{{"key", kKey}, {"effect", "NoSchedule"}}}}}}};
  SUBCASE("the patch came first") {
    server->request("PATCH", "/api/v1/nodes/" + pool.nodes[0], late);
    std::this_thread::sleep_for(std::chrono::milliseconds(500));
    CHECK_FALSE(next.tainted());
  }
  SUBCASE("the node changed first") {
    server->request("PATCH", "/api/v1/nodes/" + pool.nodes[0], {{"metadata", {{"labels", {{"a", "b"}}}}}});
    CHECK(eventually([&] { return next.tainted(); }));
    CHECK(ApiServer::try_request(server->admin(), "PATCH", "/api/v1/nodes/" + pool.nodes[0], late).first ==
          409);
  }
}

TEST_CASE(
    "a taint found without a slot stays, takes one when there is one, and is told to be beyond the budget") {
  auto* server = ApiServer::shared();
  if (server == nullptr) VEDETTE_SKIP(ApiServer::why());
  const Pool pool(*server, "legacy", 2);
  const json left = {{"key", kKey}, {"value", "FilesystemError"}, {"effect", "NoSchedule"}};
  for (const auto& node : pool.nodes) server->set_taints(node, {left});
  Agent first(server->admin(), pool.nodes[0], 0.1);
  first.want(true);
  REQUIRE(eventually([&] { return first.slot() == pool.slot(0); }));
  Agent second(server->admin(), pool.nodes[1], 0.1);
  second.want(true);
  REQUIRE(eventually([&] { return !second.held_back().empty(); }));
  CHECK(second.held_back().find("keeps its taint beyond the budget: all 1 slots") == 0);
  CHECK(taints_of(server->node(pool.nodes[1])).count(kKey) == 1);
  first.want(false);
  CHECK(eventually([&] { return second.slot() == pool.slot(0) && second.held_back().empty(); }));
}

TEST_CASE(
    "a tainted node that is moved to another pool takes a slot there, and gives the old one back only then") {
  auto* server = ApiServer::shared();
  if (server == nullptr) VEDETTE_SKIP(ApiServer::why());
  const Pool from(*server, "from", 2);
  const Pool to(*server, "to", 1);
  const auto label = [&](const std::string& node, const std::string& pool) {
    server->request("PATCH", "/api/v1/nodes/" + node, {{"metadata", {{"labels", {{kPoolLabel, pool}}}}}});
  };
  Agent moved(server->admin(), from.nodes[0], 0.1);
  moved.want(true);
  REQUIRE(eventually([&] { return moved.acked() && moved.slot() == from.slot(0); }));
  Agent left(server->admin(), from.nodes[1], 0.1);
  left.want(true);
  REQUIRE(eventually([&] { return !left.held_back().empty(); }));
  const json taint = taints_of(server->node(moved.node())).at(kKey);

  SUBCASE("where one is free") {
    label(moved.node(), to.name);
    CHECK(eventually([&] { return moved.slot() == to.slot(0); }));
    CHECK(eventually([&] { return left.tainted() && left.slot() == from.slot(0); }));
    CHECK(slots_of(*server, from.name)[0]["spec"]["holderIdentity"] == left.node());
  }
  SUBCASE("where none is, it keeps the old one and says so") {
    Agent there(server->admin(), to.nodes[0], 0.1);
    there.want(true);
    REQUIRE(eventually([&] { return there.acked() && there.slot() == to.slot(0); }));
    label(moved.node(), to.name);
    CHECK(eventually([&] {
      return moved.held_back().find("keeps its taint beyond the budget: all 1 slots of pool " + to.name) == 0;
    }));
    CHECK(slots_of(*server, from.name)[0]["spec"]["holderIdentity"] == moved.node());
    CHECK_FALSE(left.tainted());
    there.want(false);
    CHECK(eventually([&] { return moved.slot() == to.slot(0) && moved.held_back().empty(); }));
    CHECK(eventually([&] { return left.tainted(); }));
  }
  SUBCASE("also where its agent starts anew meanwhile") {
    label(moved.node(), to.name);
    Agent again(server->admin(), from.nodes[0], 0.1);
    again.want(true);
    CHECK(eventually([&] { return again.slot() == to.slot(0); }));
    CHECK(eventually([&] { return left.tainted(); }));
  }
  CHECK(taints_of(server->node(moved.node())).at(kKey) == taint);
  moved.want(false);
  left.want(false);
  CHECK(eventually([&] { return slots_of(*server, from.name).empty(); }));
}

TEST_CASE("nodes are counted without their objects, all or those of a pool") {
  auto* server = ApiServer::shared();
  if (server == nullptr) VEDETTE_SKIP(ApiServer::why());
  const Pool pool(*server, "counted", 3);
  auto client = KubeClient::make(server->admin());
  REQUIRE(client);
  const auto all = server->request("GET", "/api/v1/nodes")["items"];
  const auto outside = static_cast<std::size_t>(std::count_if(all.begin(), all.end(), [](const json& node) {
    return !node["metadata"].contains("labels") || !node["metadata"]["labels"].contains(kPoolLabel);
  }));
  CHECK(count_nodes(*client, "", "").value_or(0) == all.size());
  CHECK(count_nodes(*client, kPoolLabel, pool.name).value_or(0) == 3);
  CHECK(count_nodes(*client, kPoolLabel, "").value_or(0) == outside);
  CHECK(count_nodes(*client, kPoolLabel, "none-such").value_or(9) == 0);
}
