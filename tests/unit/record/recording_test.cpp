#include <bit>
#include <cmath>
#include <csignal>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <limits>
#include <random>
#include <thread>

#include <doctest/doctest.h>
#include <sys/wait.h>
#include <unistd.h>

#include "agent/record/feature_dump.h"
#include "agent/record/recorder.h"
#include "agent/record/recording.pb.h"
#include "agent/record/recording_file.h"
#include "agent/record/replay_source.h"
#include "agent/record/tick_decoder.h"
#include "agent/record/tick_encoder.h"
#include "tests/unit/temporary_folder.h"

namespace vedette {
namespace {

std::string read_bytes(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), {}};
}
void write_bytes(const std::string& path, const std::string& bytes) {
  std::ofstream(path, std::ios::binary | std::ios::trunc) << bytes;
}

// A run of ticks in which everything that can change does: entities come, go, come back and are renamed,
// gauges become missing and known again, probes degrade, the writer acknowledges.
std::vector<std::shared_ptr<const Snapshot>> make_run(std::size_t ticks, bool with_policy = false,
                                                      unsigned seed = 1) {
  std::mt19937_64 random(seed);
  const auto draw = [&](std::uint64_t below) { return random() % below; };
  const auto draw_double = [&]() -> double {
    switch (draw(12)) {
      case 0:
        return kMissing;
      case 1:
        return -0.0;
      case 2:
        return std::numeric_limits<double>::infinity();
      case 3:
        return std::numeric_limits<double>::denorm_min();
      case 4:
        return 0;
      default:
        return std::ldexp(static_cast<double>(random()), -static_cast<int>(draw(80)));
    }
  };
  const auto make_entity = [&](EntityId id, const std::string& name) {
    auto entity = std::make_shared<Entity>();
    entity->id = id;
    entity->kind = id == 0 ? EntityKind::kNode : EntityKind::kPod;
    entity->name = name;
    entity->pod_name = name + "\xff";  // a name need not be UTF-8
    entity->workload = "Deployment/api";
    entity->revision = "6d4cf56db6";
    return entity;
  };

  auto other = *Policy::builtin();
  other.critical = {"kube-system/*"};
  other.origin = "/etc/vedette/agent.yaml";
  const auto policy = std::make_shared<const Policy>(other);
  std::vector<std::shared_ptr<const Snapshot>> run;
  std::vector<EntityPtr> living{make_entity(0, "node")};
  EntityId next_id = 1;
  for (std::size_t t = 0; t < ticks; ++t) {
    auto snapshot = std::make_shared<Snapshot>();
    Observation& observation = snapshot->observation;
    observation.time = {1000 + t * 250'000'000, 5000 + t * 250'000'001};
    observation.interval_s = 0.3 * static_cast<double>(t);
    if (draw(3) == 0) {
      living.push_back(make_entity(next_id, "pod/default/a" + std::to_string(next_id)));
      ++next_id;
    }
    if (draw(5) == 0 && living.size() > 2)
      living.erase(living.begin() + 1 + static_cast<long>(draw(living.size() - 1)));
    if (draw(6) == 0 && living.size() > 1) living[1] = make_entity(living[1]->id, living[1]->name + "'");
    if (draw(6) == 0 && living.size() > 2) std::swap(living[1], living.back());
    observation.entities = living;
    for (const EntityPtr& entity : living) {
      Sample sample;
      sample.entity = entity->id;
      if (draw(4) != 0) {
        for (auto& counter : sample.counters) counter = draw(3) == 0 ? random() >> draw(64) : 0;
        for (auto& histogram : sample.histograms) histogram[draw(HISTOGRAM_BUCKETS)] = draw(100);
        for (auto& gauge : sample.gauges) gauge = draw_double();
        for (std::size_t i = SLOT_COUNTER_COUNT; i < COUNTER_COUNT; ++i) sample.unknown.set(i, draw(2) == 0);
      }
      observation.samples.push_back(sample);
    }
    for (std::uint64_t i = draw(4); i > 0; --i) {
      KernelEvent event;
      event.type = draw(5) == 0 ? KernelEvent::kLogEvent : static_cast<std::uint32_t>(draw(EVENT_COUNT));
      event.entity = living.back()->id;
      event.time_ns = random();
      event.value = static_cast<std::int64_t>(random());
      event.extra = -1;
      event.pid = static_cast<std::uint32_t>(random());
      event.comm = std::string("a\0b\xfe", 4);
      event.text = "text";
      event.container = draw(2) == 0 ? "" : "init/migrate";
      observation.events.push_back(event);
    }
    if (draw(3) == 0) observation.connections = {{living.front()->id, living.back()->id, draw(1000)}};
    observation.probes.resize(3);
    observation.probes[1].name = "sched";
    observation.probes[1].state =
        std::array{ProbeState::kAttached, ProbeState::kDegraded, ProbeState::kShed}[draw(3)];
    observation.probes[1].reason =
        observation.probes[1].state == ProbeState::kAttached ? "" : "no tracepoint";
    observation.probes[2].runs = t / 3;
    observation.losses.produced[2] = t / 4;
    observation.losses.missed_ticks = t / 5;
    if (t % 3 == 1) observation.probes[0].misses = t / 4;
    observation.losses.no_start[COUNTER_lock_wait_ns] = t / 6;

    snapshot->act.connected = t % 7 > 2;
    snapshot->act.acked_generation = t / 6;
    snapshot->act.found_verdict = t % 7 > 2 ? "{}" : "";
    snapshot->act.found_conditions.assign(t % 3, {"VedetteCPUHealthy", false, "CpuBusy", "since then"});
    snapshot->act.last_error = t % 7 > 2 ? "" : "connection refused";
    snapshot->act.last_evidence_to_ack_s = draw_double();

    snapshot->features.time = observation.time;
    snapshot->features.entities = living;
    snapshot->features.values.assign(living.size() * feature_columns().size(), 0.1F);
    snapshot->scores.entities.resize(living.size());
    for (EntityScore& score : snapshot->scores.entities) {
      if (draw(2) == 0) continue;
      score.anomaly = draw_double();
      score.anomaly_threshold = draw_double();
      score.risk = draw_double();
      score.anomalous = draw(2) == 0;
      score.learning = static_cast<Learning>(draw(static_cast<unsigned>(kLearningNames.size())));
      for (std::uint32_t i = 0; i < 3; ++i) {
        score.anomaly_reasons.push_back({static_cast<std::uint32_t>(draw(feature_columns().size())),
                                         static_cast<float>(draw_double()), static_cast<float>(draw_double()),
                                         static_cast<float>(draw_double())});
      }
    }
    if (with_policy) snapshot->decision.policy = t < ticks / 2 ? Policy::builtin() : policy;
    if (t % 4 != 0) {
      Condition condition;
      condition.reason = "MemoryExhaustion";
      condition.entity = living.back();
      condition.severity = t % 3 == 0 ? Severity::kUnhealthy : Severity::kDegraded;
      condition.since.monotonic_ns = t / 4;
      condition.confidence = 0.1 * static_cast<double>(t);
      condition.count = static_cast<std::uint32_t>(t);
      snapshot->conditions.push_back(condition);
    }
    snapshot->decision.generation = t / 5;
    snapshot->decision.taint = t % 10 > 5;
    snapshot->decision.reason = snapshot->decision.taint ? "FilesystemError" : "";
    snapshot->decision.held_back = t % 3 == 0 ? "confidence 0.4 is below 0.8" : "";
    run.push_back(std::move(snapshot));
  }
  return run;
}

void record(const std::string& path, const std::vector<std::shared_ptr<const Snapshot>>& run) {
  RecorderOptions options;
  options.path = path;
  options.queue_ticks = run.size();
  options.header.node = "worker-1";
  auto recorder = Recorder::make(options);
  REQUIRE(recorder.has_value());
  for (const auto& snapshot : run) (*recorder)->publish(snapshot);
}

bool same_entity(const Entity& a, const Entity& b) {
  return a.id == b.id && a.kind == b.kind && a.name == b.name && a.namespace_name == b.namespace_name &&
         a.pod_name == b.pod_name && a.uid == b.uid && a.workload == b.workload && a.revision == b.revision;
}

void check_same(const Observation& a, const Observation& b) {
  CHECK(a.time.monotonic_ns == b.time.monotonic_ns);
  CHECK(a.time.wall_ns == b.time.wall_ns);
  CHECK(same_bits(a.interval_s, b.interval_s));
  REQUIRE(a.entities.size() == b.entities.size());
  REQUIRE(a.samples.size() == b.samples.size());
  for (std::size_t i = 0; i < a.entities.size(); ++i) {
    CHECK(same_entity(*a.entities[i], *b.entities[i]));
    CHECK(a.samples[i].entity == b.samples[i].entity);
    CHECK(a.samples[i].counters == b.samples[i].counters);
    CHECK(a.samples[i].histograms == b.samples[i].histograms);
    CHECK(a.samples[i].unknown == b.samples[i].unknown);
    for (std::size_t g = 0; g < GAUGE_COUNT; ++g)
      CHECK(same_bits(a.samples[i].gauges[g], b.samples[i].gauges[g]));
  }
  REQUIRE(a.events.size() == b.events.size());
  for (std::size_t i = 0; i < a.events.size(); ++i) {
    CHECK(a.events[i].type == b.events[i].type);
    CHECK(a.events[i].entity == b.events[i].entity);
    CHECK(a.events[i].time_ns == b.events[i].time_ns);
    CHECK(a.events[i].value == b.events[i].value);
    CHECK(a.events[i].extra == b.events[i].extra);
    CHECK(a.events[i].pid == b.events[i].pid);
    CHECK(a.events[i].comm == b.events[i].comm);
    CHECK(a.events[i].container == b.events[i].container);
    CHECK(a.events[i].text == b.events[i].text);
  }
  CHECK(a.connections == b.connections);
  REQUIRE(a.probes.size() == b.probes.size());
  for (std::size_t i = 0; i < a.probes.size(); ++i) {
    CHECK(a.probes[i].name == b.probes[i].name);
    CHECK(a.probes[i].state == b.probes[i].state);
    CHECK(a.probes[i].reason == b.probes[i].reason);
    CHECK(a.probes[i].runs == b.probes[i].runs);
    CHECK(a.probes[i].misses == b.probes[i].misses);
  }
  CHECK(a.losses.produced == b.losses.produced);
  CHECK(a.losses.missed_ticks == b.losses.missed_ticks);
  CHECK(a.losses.no_start == b.losses.no_start);
}

// Replays to the end or to the first error; every tick must be that of the run. Answers the number of ticks.
struct Replay {
  std::size_t ticks = 0;
  std::string error;
  std::vector<std::string> notes;
  bool exact = false;
};
Replay replay(const std::string& path, const std::vector<std::shared_ptr<const Snapshot>>& run) {
  Replay result;
  auto source = ReplaySource::open(path);
  if (!source) {
    result.error = source.error().text;
    return result;
  }
  Observation observation;
  while (true) {
    const auto wait = (*source)->wait();
    if (!wait) {
      result.error = wait.error().text;
      break;
    }
    if (*wait == Source::Wait::kEnd) break;
    if (const auto status = (*source)->collect(observation); !status) {
      result.error = status.error().text;
      break;
    }
    REQUIRE(result.ticks < run.size());
    const Snapshot& live = *run[result.ticks];
    check_same(live.observation, observation);
    CHECK(verdict_differences((*source)->verdict(), verdict_of(live), live.features.entities).empty());
    CHECK((*source)->act().connected == live.act.connected);
    CHECK((*source)->act().acked_generation == live.act.acked_generation);
    CHECK((*source)->act().last_error == live.act.last_error);
    CHECK((*source)->act().found_verdict == live.act.found_verdict);
    CHECK((*source)->act().found_conditions == live.act.found_conditions);
    CHECK(same_bits((*source)->act().last_evidence_to_ack_s, live.act.last_evidence_to_ack_s));
    const RecordedVerdict verdict = verdict_of(live);
    for (std::size_t i = 0; i < verdict.entities.size(); ++i) {
      const std::vector<Reason>& then = verdict.entities[i].anomaly_reasons;
      const std::vector<Reason>& told = (*source)->verdict().entities[i].anomaly_reasons;
      REQUIRE(then.size() == told.size());
      for (std::size_t r = 0; r < then.size(); ++r) {
        CHECK(then[r].column == told[r].column);
        CHECK(same_bits(static_cast<double>(then[r].value), static_cast<double>(told[r].value)));
        CHECK(same_bits(static_cast<double>(then[r].usual), static_cast<double>(told[r].usual)));
        CHECK(same_bits(static_cast<double>(then[r].weight), static_cast<double>(told[r].weight)));
      }
    }
    REQUIRE(((*source)->policy() == nullptr) == (live.decision.policy == nullptr));
    if (live.decision.policy) {
      CHECK((*source)->policy()->yaml() == live.decision.policy->yaml());
      CHECK((*source)->policy()->origin == live.decision.policy->origin);
    }
    ++result.ticks;
  }
  result.notes = (*source)->notes();
  result.exact = (*source)->exact();
  return result;
}

bool mentions(const std::vector<std::string>& notes, const std::string& part) {
  for (const std::string& note : notes) {
    if (note.find(part) != std::string::npos) return true;
  }
  return false;
}

}  // namespace

TEST_CASE("CRC-32C gives the check value of its specification") {
  CHECK(crc32c("123456789") == 0xE3069283U);
  CHECK(crc32c("") == 0U);
}

TEST_CASE("a recording gives back every tick to the bit, missing values included") {
  const TemporaryFolder folder;
  const auto run = make_run(300, true);
  record(folder.file("run"), run);
  const Replay result = replay(folder.file("run"), run);
  CHECK(result.error == "");
  CHECK(result.ticks == run.size());
  CHECK(result.exact);
  CHECK(result.notes.empty());
}

TEST_CASE("the header says who recorded") {
  const TemporaryFolder folder;
  record(folder.file("run"), make_run(1));
  const auto source = ReplaySource::open(folder.file("run"));
  REQUIRE(source.has_value());
  CHECK((*source)->header().node == "worker-1");
  CHECK((*source)->header().format_version == kRecordingFormat);
}

TEST_CASE("a recording cut at any byte gives back all whole ticks before the cut and says where it ends") {
  const TemporaryFolder folder;
  const auto run = make_run(4);
  record(folder.file("run"), run);
  const std::string bytes = read_bytes(folder.file("run"));
  std::size_t ticks_before = 0;
  for (std::size_t size = 0; size < bytes.size(); ++size) {
    write_bytes(folder.file("cut"), bytes.substr(0, size));
    const Replay result = replay(folder.file("cut"), run);
    CAPTURE(size);
    CHECK(result.ticks >= ticks_before);
    ticks_before = result.ticks;
    if (result.error.empty()) {
      // Cut inside the last bytes of the stream, behind the End: nothing is missing, so nothing is said.
      const bool whole = result.ticks == run.size() && size + 3 >= bytes.size();
      CHECK((whole || mentions(result.notes, "ends early at byte " + std::to_string(size))));
    } else {
      CHECK(result.error.find(folder.file("cut")) != std::string::npos);
      CHECK(result.ticks == 0);
    }
  }
  CHECK(ticks_before == run.size());
}

TEST_CASE("a flipped byte never gives a wrong tick: an error names file and offset, or the end is early") {
  const TemporaryFolder folder;
  const auto run = make_run(4);
  record(folder.file("run"), run);
  const std::string bytes = read_bytes(folder.file("run"));
  for (std::size_t at = 0; at < bytes.size(); ++at) {
    std::string damaged = bytes;
    damaged[at] = static_cast<char>(static_cast<unsigned char>(damaged[at]) ^ (1U << at % 8));
    write_bytes(folder.file("damaged"), damaged);
    const Replay result = replay(folder.file("damaged"), run);  // compares every tick it gets
    CAPTURE(at);
    if (!result.error.empty()) {
      CHECK(result.error.find(folder.file("damaged")) != std::string::npos);
    } else if (result.ticks < run.size()) {
      CHECK(mentions(result.notes, "ends early"));
    }
  }
}

TEST_CASE("what is no recording is refused by name") {
  const TemporaryFolder folder;
  CHECK(replay(folder.file("absent"), {}).error.find("absent: No such file") != std::string::npos);
  write_bytes(folder.file("empty"), "");
  CHECK(replay(folder.file("empty"), {}).error.find("empty file") != std::string::npos);
  write_bytes(folder.file("text"), "hello, world");
  CHECK(replay(folder.file("text"), {}).error.find("not a recording") != std::string::npos);
}

TEST_CASE("the header brings along what the judging stages were told") {
  RecordingHeader header;
  header.settings.emplace();
  header.settings->assess.recovery_s = 42;
  header.settings->assess.risk_threshold = 0.7;
  header.settings->mode = Mode::kEnforce;
  header.settings->max_taints_per_hour = 9;
  header.settings->model = "/models/mine.ubj";
  const auto rules = LogRules::make(
      {{"frobnicator .* on fire", "FrobnicatorFire", Domain::kHardware, Severity::kUnhealthy, 2, "disk"}});
  REQUIRE(rules.has_value());
  header.settings->assess.log_rules = *rules;
  recording::Header message;
  encode_header(header, message);
  CHECK(message.settings().log_rules_size() == 1);  // those that ship are known
  const auto decoder = TickDecoder::make(message);
  REQUIRE(decoder.has_value());
  REQUIRE(decoder->header().settings.has_value());
  const RecordedSettings& read = *decoder->header().settings;
  CHECK(read.assess.recovery_s == 42);
  CHECK(read.assess.risk_threshold == 0.7);
  CHECK(read.mode == Mode::kEnforce);
  CHECK(read.max_taints_per_hour == 9);
  CHECK(read.model == "/models/mine.ubj");
  const LogRule* rule = read.assess.log_rules->find("the frobnicator is on fire");
  REQUIRE(rule != nullptr);
  CHECK(rule->reason == "FrobnicatorFire");
  CHECK(rule->domain == Domain::kHardware);
  CHECK(rule->severity == Severity::kUnhealthy);
  CHECK(rule->unhealthy_at == 2);
  CHECK(rule->probe == "disk");
  CHECK(read.assess.log_rules->rules().size() == (*rules)->rules().size());
  message.mutable_settings()->mutable_log_rules(0)->set_domain(99);
  CHECK(TickDecoder::make(message).error().text.find("log rule") != std::string::npos);
}

TEST_CASE("a recording of format 1 is read: it tells neither settings nor policy nor reasons") {
  const auto run = make_run(5, true);
  recording::Header header;
  encode_header({}, header);
  header.set_format_version(1);
  header.clear_columns();
  auto decoder = TickDecoder::make(header);
  REQUIRE(decoder.has_value());
  CHECK_FALSE(decoder->header().settings.has_value());
  TickEncoder encoder;
  Observation observation;
  for (const auto& snapshot : run) {
    recording::Tick tick;
    encoder.encode(*snapshot, 0, tick);
    tick.clear_policy();
    tick.mutable_verdict()->clear_reasons();
    REQUIRE(decoder->decode(tick, observation).has_value());
    CHECK(decoder->policy() == nullptr);
    CHECK(verdict_differences(decoder->verdict(), verdict_of(*snapshot), observation.entities).empty());
  }
}

TEST_CASE("a newer format is refused with both versions") {
  recording::Header header;
  encode_header({}, header);
  header.set_format_version(kRecordingFormat + 1);
  const auto decoder = TickDecoder::make(header);
  REQUIRE_FALSE(decoder.has_value());
  CHECK(decoder.error().text.find("format 4, this agent reads 1 to 3") != std::string::npos);
}

TEST_CASE("signals are found by name: unknown ones are dropped, absent ones missing") {
  const auto run = make_run(40);
  recording::Header header;
  encode_header({}, header);
  // As an agent would have written it whose first counter and first gauge had other names, and which knew no
  // last histogram.
  header.set_counters(0, "retired_counter");
  header.set_gauges(0, "retired_gauge");
  header.mutable_counters()->SwapElements(1, 2);
  header.mutable_histograms()->RemoveLast();
  auto decoder = TickDecoder::make(header);
  REQUIRE(decoder.has_value());
  CHECK(mentions(decoder->notes(), "counter retired_counter is unknown"));
  CHECK(mentions(decoder->notes(), "gauge retired_gauge is unknown"));
  CHECK(mentions(decoder->notes(), "gauge " + std::string(kGauges[0].name) + " is not in the recording"));

  TickEncoder encoder;
  Observation observation;
  for (const auto& snapshot : run) {
    auto cut = std::make_shared<Snapshot>(*snapshot);
    for (Sample& sample : cut->observation.samples) sample.histograms[HISTOGRAM_COUNT - 1] = {};
    recording::Tick tick;
    encoder.encode(*cut, 0, tick);
    REQUIRE(decoder->decode(tick, observation).has_value());
    CHECK(observation.absent_counters.count() == 1);
    CHECK(observation.absent_counters.test(0));
    CHECK(observation.absent_histograms.test(HISTOGRAM_COUNT - 1));
    for (std::size_t i = 0; i < observation.samples.size(); ++i) {
      const Sample& live = cut->observation.samples[i];
      const Sample& replayed = observation.samples[i];
      CHECK(replayed.counters[0] == 0);
      CHECK(replayed.counters[1] == live.counters[2]);
      CHECK(replayed.counters[2] == live.counters[1]);
      CHECK(std::isnan(replayed.gauges[0]));
      CHECK(same_bits(replayed.gauges[1], live.gauges[1]));
    }
  }
}

TEST_CASE("impossible numbers in a tick are errors that name the field") {
  recording::Header header;
  encode_header({}, header);
  const auto error_of = [&](auto&& spoil) {
    auto decoder = TickDecoder::make(header);
    TickEncoder encoder;
    recording::Tick tick;
    encoder.encode(*make_run(1)[0], 0, tick);
    spoil(tick);
    Observation observation;
    const auto status = decoder->decode(tick, observation);
    return status ? std::string() : status.error().text;
  };
  CHECK(error_of([](recording::Tick&) {}) == "");
  CHECK(error_of([](recording::Tick& t) { t.set_number(7); }).find("tick 7 where tick 0") !=
        std::string::npos);
  for (const double odd : {-1.0, HUGE_VAL, 1e300, std::nan("")}) {
    CHECK(error_of([&](recording::Tick& t) { t.set_interval_s(odd); }).find("interval") != std::string::npos);
  }
  CHECK(error_of([](recording::Tick& t) {
          for (int i = 0; i < 8192; ++i) t.add_rows(0);
        }) == "tick 0 has an impossible number of entities");
  CHECK(error_of([](recording::Tick& t) {
          while (t.samples_size() <= t.rows_size()) t.add_samples();
        }) == "tick 0 has an impossible number of samples");
  CHECK(error_of([](recording::Tick& t) { t.add_rows(99); }).find("entity 99") != std::string::npos);
  CHECK(error_of([](recording::Tick& t) { t.add_samples()->set_row(99); }).find("row") != std::string::npos);
  CHECK(error_of([](recording::Tick& t) { t.add_samples()->add_counter(1); }).find("lists") !=
        std::string::npos);
  CHECK(error_of([](recording::Tick& t) { t.add_samples()->add_gauge_missing(9999); }).find("gauge") !=
        std::string::npos);
  CHECK(error_of([](recording::Tick& t) { t.add_events()->set_type(999); }).find("event") !=
        std::string::npos);
  CHECK(error_of([](recording::Tick& t) { t.add_probes()->set_index(999); }).find("probe") !=
        std::string::npos);
  CHECK(error_of([](recording::Tick& t) { t.mutable_verdict()->add_row(0); }).find("verdict") !=
        std::string::npos);
  CHECK(error_of([](recording::Tick& t) {
          t.mutable_verdict()->add_reasons()->set_column(99'999);
        }).find("reason of a verdict") != std::string::npos);
  CHECK(error_of([](recording::Tick& t) { t.set_policy("policy: {rules: 5}"); }).find("policy of tick 0") !=
        std::string::npos);
}

TEST_CASE("a tick without rows, or whose first is not the node, has an impossible first entity") {
  recording::Header header;
  encode_header({}, header);
  Observation observation;
  recording::Tick tick;
  tick.add_events()->set_type(KernelEvent::kLogEvent);
  CHECK(TickDecoder::make(header)->decode(tick, observation).error().text ==
        "tick 0 has an impossible first entity");
  tick.set_same_rows(true);
  CHECK(TickDecoder::make(header)->decode(tick, observation).error().text ==
        "tick 0 has an impossible first entity");
  tick.set_same_rows(false);
  tick.add_entities()->set_id(7);
  tick.add_rows(7);
  CHECK(TickDecoder::make(header)->decode(tick, observation).error().text ==
        "tick 0 has an impossible first entity");
}

TEST_CASE("more parts than a node makes are refused before they are made, wherever they are") {
  const auto error_of = [](auto&& fill) {
    recording::Message message;
    fill(message);
    recording::Message read;
    const Status status = parse_message(message.SerializeAsString(), read);
    return status ? std::string() : status.error().text;
  };
  CHECK(error_of([](auto& m) {
          for (int i = 0; i < 8192; ++i) m.mutable_tick()->add_samples()->add_counter(0);
        }) == "");
  CHECK(error_of([](auto& m) {
          for (int i = 0; i < 8193; ++i) m.mutable_tick()->add_samples();
        }) == "a message has an impossible number of samples");
  CHECK(error_of([](auto& m) {
          for (int i = 0; i < 65'537; ++i) m.mutable_tick()->mutable_act()->mutable_local()->add_veto("a");
        }) == "a message has an impossible number of vetoes");
  CHECK(error_of([](auto& m) {
          for (int i = 0; i < 65'537; ++i)
            m.mutable_tick()->mutable_verdict()->mutable_conditions()->add_list();
        }) == "a message has an impossible number of conditions");
  CHECK(error_of([](auto& m) {
          for (int i = 0; i < 65'537; ++i) m.mutable_header()->mutable_settings()->add_log_rules();
        }) == "a message has an impossible number of log rules");

  // Also those of several ticks in one message, which its parser would put together.
  recording::Message half;
  for (int i = 0; i < 5000; ++i) half.mutable_tick()->add_samples();
  recording::Message read;
  CHECK(parse_message(half.SerializeAsString(), read));
  CHECK(parse_message(half.SerializeAsString() + half.SerializeAsString(), read).error().text ==
        "a message has an impossible number of samples");
  const std::string cut = half.SerializeAsString().substr(0, 5001);
  CHECK(parse_message(cut, read).error().text == "a message cannot be read");

  const TemporaryFolder folder;
  auto writer = RecordingWriter::create(folder.file("run"));
  REQUIRE(writer);
  recording::Message header;
  encode_header({}, *header.mutable_header());
  REQUIRE(writer->append(header.SerializeAsString()));
  REQUIRE(writer->append(half.SerializeAsString() + half.SerializeAsString()));
  REQUIRE(writer->finish());
  const Replay result = replay(folder.file("run"), {});
  CHECK(result.error.find("/run: damaged before byte ") != std::string::npos);
  CHECK(result.error.ends_with(": a message has an impossible number of samples after 0 ticks"));
}

TEST_CASE("a recording that reached its bound ends there, whole, and says so") {
  const TemporaryFolder folder;
  const auto run = make_run(400);
  RecorderOptions options;
  options.path = folder.file("run");
  options.max_bytes = 20'000;
  options.queue_ticks = run.size();
  {
    auto recorder = Recorder::make(options);
    REQUIRE(recorder.has_value());
    for (const auto& snapshot : run) (*recorder)->publish(snapshot);
  }
  // The tick that passes the bound, and the end.
  CHECK(std::filesystem::file_size(options.path) < options.max_bytes + 8'000);
  const Replay result = replay(options.path, run);
  CHECK(result.error == "");
  CHECK(result.ticks > 5);
  CHECK(result.ticks < run.size());
  CHECK(mentions(result.notes, "size bound"));
}

TEST_CASE("ticks that found the queue full are counted and the recording says how many are missing") {
  const auto run = make_run(3);
  recording::Header header;
  encode_header({}, header);
  const TemporaryFolder folder;
  {
    auto writer = RecordingWriter::create(folder.file("run"));
    REQUIRE(writer.has_value());
    recording::Message message;
    *message.mutable_header() = header;
    REQUIRE(writer->append(message.SerializeAsString()).has_value());
    TickEncoder encoder;
    encoder.encode(*run[0], 0, *message.mutable_tick());
    REQUIRE(writer->append(message.SerializeAsString()).has_value());
    encoder.encode(*run[1], 5, *message.mutable_tick());
    REQUIRE(writer->append(message.SerializeAsString()).has_value());
    message.mutable_end()->set_ticks(2);
    REQUIRE(writer->append(message.SerializeAsString()).has_value());
    REQUIRE(writer->finish().has_value());
  }
  const Replay result = replay(folder.file("run"), run);
  CHECK(result.error == "");
  CHECK(result.ticks == 2);
  CHECK_FALSE(result.exact);
  CHECK(mentions(result.notes, "5 ticks were not recorded before tick 1"));
}

TEST_CASE("a tick that finds the queue full is dropped and counted, and publish() does not wait") {
  const TemporaryFolder folder;
  const auto run = make_run(5);
  RecorderOptions options;
  options.path = folder.file("run");
  options.queue_ticks = 0;
  {
    auto recorder = Recorder::make(options);
    REQUIRE(recorder.has_value());
    for (const auto& snapshot : run) (*recorder)->publish(snapshot);
  }
  const Replay result = replay(options.path, run);
  CHECK(result.error == "");
  CHECK(result.ticks == 0);
  CHECK_FALSE(result.exact);
  CHECK(mentions(result.notes, "5 ticks were not recorded"));
}

TEST_CASE("what was written when SIGKILL came is read back") {
  const TemporaryFolder folder;
  const auto run = make_run(20);
  const pid_t child = ::fork();
  REQUIRE(child >= 0);
  if (child == 0) {
    RecorderOptions options;
    options.path = folder.file("run");
    auto recorder = Recorder::make(options);
    for (const auto& snapshot : run) (*recorder)->publish(snapshot);
    while (replay(options.path, run).ticks < run.size()) std::this_thread::yield();
    ::kill(::getpid(), SIGKILL);
  }
  int status = 0;
  REQUIRE(::waitpid(child, &status, 0) == child);
  REQUIRE(WIFSIGNALED(status));
  const Replay result = replay(folder.file("run"), run);
  CHECK(result.error == "");
  CHECK(result.ticks == run.size());
  CHECK(mentions(result.notes, "ends early"));
}

TEST_CASE("a folder that does not exist is an error when the recorder is made") {
  RecorderOptions options;
  options.path = "/nonexistent/folder/run";
  const auto recorder = Recorder::make(options);
  REQUIRE_FALSE(recorder.has_value());
  CHECK(recorder.error().text.find("/nonexistent/folder/run: No such file") != std::string::npos);
}

TEST_CASE("a disk that takes no more ends the recording, not the agent") {
  RecorderOptions options;
  options.path = "/dev/full";
  const auto recorder = Recorder::make(options);
  REQUIRE_FALSE(recorder.has_value());
  CHECK(recorder.error().text.find("No space left") != std::string::npos);
}

TEST_CASE("each part of a verdict that differs is told, up to the limit") {
  const auto run = make_run(20);
  Snapshot other = *run[19];
  const RecordedVerdict recorded = verdict_of(other);
  CHECK(verdict_differences(recorded, verdict_of(other), other.features.entities).empty());
  other.scores.entities[0].risk = std::nextafter(std::isnan(other.scores.entities[0].risk) ? 1.0 : 0.5, 2);
  other.decision.taint = !other.decision.taint;
  const auto differences = verdict_differences(recorded, verdict_of(other), other.features.entities);
  REQUIRE(differences.size() == 2);
  CHECK(differences[0].find("node risk: recorded") == 0);
  CHECK(differences[1].find("decision taint: recorded") == 0);
  CHECK(verdict_differences(recorded, verdict_of(other), other.features.entities, 1).back() == "and 1 more");
}

TEST_CASE("a feature dump holds each float so that it reads back the same") {
  const TemporaryFolder folder;
  auto snapshot = *make_run(1)[0];
  snapshot.features.values.assign(snapshot.features.entities.size() * feature_columns().size(), 0.1F);
  snapshot.features.values[0] = 1.0F / 3.0F;
  snapshot.features.values[1] = std::numeric_limits<float>::quiet_NaN();
  {
    auto dump = FeatureDump::open({folder.file("dump.csv"), {"node"}});
    REQUIRE(dump.has_value());
    REQUIRE(dump->write(snapshot.observation, snapshot.features).has_value());
    REQUIRE(dump->close().has_value());
  }
  std::ifstream file(folder.file("dump.csv"));
  std::string head, line;
  std::getline(file, head);
  std::getline(file, line);
  CHECK(head.find("t_s,entity," + feature_columns()[0].name) == 0);
  CHECK(head.ends_with("count.oom_kills,count.errors_descriptors,count.errors_space"));
  const std::string before = "\"node\",";
  const std::size_t at = line.find(before) + before.size();
  CHECK(std::stof(line.substr(at)) == 1.0F / 3.0F);
  CHECK(line.substr(line.find(',', at), 3).find(",,0") == 0);
  CHECK_FALSE(FeatureDump::open({folder.file("x"), {}, {"no_such"}}).has_value());
}

}  // namespace vedette
