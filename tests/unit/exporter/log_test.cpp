#include "exporter/log.h"

#include <sstream>

#include <doctest/doctest.h>
#include <spdlog/sinks/ostream_sink.h>
#include <spdlog/spdlog.h>

#include "tests/unit/exporter/example_snapshot.h"

namespace vedette {
namespace {

// What the log gets while it lives.
class LogText {
public:
  LogText() {
    spdlog::set_default_logger(
        std::make_shared<spdlog::logger>("test", std::make_shared<spdlog::sinks::ostream_sink_st>(text_)));
  }
  LogText(const LogText&) = delete;
  LogText& operator=(const LogText&) = delete;
  ~LogText() { spdlog::set_default_logger(before_); }

  std::string text() const { return text_.str(); }

private:
  std::ostringstream text_;
  const std::shared_ptr<spdlog::logger> before_ = spdlog::default_logger();
};

TEST_CASE("what a pod named reaches the log without control characters") {
  const LogText log;
  Snapshot snapshot = *example::snapshot();
  snapshot.conditions[0].entity = example::entity(1, EntityKind::kPod, "pod/\x1b[2J");
  snapshot.conditions[0].message = "the kernel says: \x1b[2J killed\n[1] all is well";
  snapshot.decision.generation = 1;
  snapshot.decision.taint = true;
  snapshot.decision.message = "\x1b[2J fails";
  LogSink sink;
  sink.publish(std::make_shared<const Snapshot>(snapshot));
  snapshot.conditions.clear();
  sink.publish(std::make_shared<const Snapshot>(snapshot));
  CAPTURE(log.text());
  for (const char* part : {"pod/?[2J MemoryExhaustion: unhealthy", "?[2J killed?[1] all is well",
                           "would taint the node:  ?[2J fails", "pod/?[2J MemoryExhaustion: over"})
    CHECK(log.text().find(part) != std::string::npos);
  CHECK(log.text().find('\x1b') == std::string::npos);
}

TEST_CASE("what was lost is named, and again once it is more than twice as much") {
  Snapshot snapshot = *example::snapshot();
  Observation& observation = snapshot.observation;
  observation.losses = {};
  for (ProbeHealth& probe : observation.probes) probe.misses.reset();
  LogSink sink;
  const auto logged = [&] {
    const LogText log;
    sink.publish(std::make_shared<const Snapshot>(snapshot));
    return log.text();
  };
  CHECK(logged().find("telemetry:") == std::string::npos);

  observation.losses.lost[EVENT_exec] = 12;
  observation.losses.no_slot = 3;
  observation.probes[0].misses = 0;
  observation.probes[1].misses = 7;
  CHECK(logged().find("telemetry: lost so far: 12 exec records, 7 runs of probe " +
                      observation.probes[1].name + ", 3 counts without a slot; see `vedette probes`") !=
        std::string::npos);

  observation.probes[1].misses = 29;
  CHECK(logged().find("telemetry:") == std::string::npos);
  observation.probes[1].misses = 30;
  CHECK(logged().find("30 runs of probe") != std::string::npos);
}

}  // namespace
}  // namespace vedette
