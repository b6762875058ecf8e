#include <algorithm>
#include <chrono>
#include <cmath>
#include <fstream>
#include <iterator>
#include <thread>

#include <doctest/doctest.h>
#include <zstd.h>

#include "agent/record/baseline_file.h"
#include "agent/record/baseline_store.h"
#include "agent/record/baselines.pb.h"
#include "agent/score/exact_math.h"
#include "tests/unit/temporary_folder.h"

namespace {

using namespace vedette;

constexpr const char* kApi = "pod/shop/Deployment/api";

// Knows the node and one pod.
std::unique_ptr<AnomalyScorer> learnt_scorer() {
  auto scorer = std::make_unique<AnomalyScorer>(AnomalyOptions{});
  FeatureTable table;
  table.time.monotonic_ns = 1'000'000'000;
  Entity pod;
  pod.id = 1;
  pod.kind = EntityKind::kPod;
  pod.namespace_name = "shop";
  pod.workload = "Deployment/api";
  pod.revision = "5d4f8c7b9";
  table.entities = {std::make_shared<const Entity>(), std::make_shared<const Entity>(pod)};
  table.values.resize(2 * feature_columns().size());
  Scores scores;
  scores.entities.resize(2);
  RandomBits random(3);
  for (int tick = 0; tick < 500; ++tick) {
    for (std::size_t i = 0; i < table.values.size(); ++i) {
      table.values[i] = i % 9 == 0 ? 20 * random.uniform() : i % 7 == 0 ? 5 : 0;
    }
    table.time.monotonic_ns += 500'000'000;
    scorer->score(table, scores);
  }
  return scorer;
}

std::string written(const std::string& path, const AnomalyScorer& scorer) {
  auto writer = BaselineWriter::create(path, {{}, "node-a", "1.2.3", 77, false, {}, {}});
  REQUIRE(writer);
  for (const std::string& workload : scorer.workloads()) REQUIRE(writer->append(*scorer.baseline(workload)));
  const auto bytes = writer->finish();
  REQUIRE(bytes);
  std::ifstream stream(path, std::ios::binary);
  std::string file{std::istreambuf_iterator<char>(stream), {}};
  CHECK(file.size() == *bytes);
  return file;
}

void put(const std::string& path, const std::string& bytes) {
  std::ofstream(path, std::ios::binary) << bytes;
}

bool same(const Detector::Memory& a, const Detector::Memory& b) {
  const auto same_column = [](const auto& x, const auto& y) {
    return x.mean == y.mean && x.variance == y.variance && x.weight == y.weight;
  };
  return std::ranges::equal(a.columns, b.columns, same_column) && a.joint == b.joint &&
         a.factor == b.factor && a.factor_weight == b.factor_weight && a.age_rows == b.age_rows &&
         a.step_square == b.step_square && a.tails == b.tails;
}

}  // namespace

TEST_CASE("baselines come back from a file to the bit") {
  const TemporaryFolder folder;
  const auto scorer = learnt_scorer();
  const auto read = parse_baselines(written(folder.file("b"), *scorer), "b");
  REQUIRE(read);
  CHECK(read->node == "node-a");
  CHECK(read->agent_version == "1.2.3");
  CHECK(read->saved_wall_ns == 77);
  REQUIRE(read->list.size() == 2);
  CHECK(read->list[0].workload == "node");
  CHECK(read->list[1].workload == kApi);
  CHECK(read->list[1].revision == "5d4f8c7b9");
  for (const Baseline& each : read->list) {
    const Detector::Memory before = scorer->baseline(each.workload)->detector.memory();
    CHECK(before.joint.size() > 3);
    CHECK(same(each.detector.memory(), before));
  }
}

TEST_CASE("each damaged or cut file of baselines is refused with its name") {
  const TemporaryFolder folder;
  const std::string whole = written(folder.file("b"), *learnt_scorer());
  const auto good = parse_baselines(whole, "file b");
  REQUIRE(good);
  for (std::size_t at = 0; at < whole.size(); at += 1 + whole.size() / 1500) {
    CAPTURE(at);
    std::string damaged = whole;
    damaged[at] = static_cast<char>(damaged[at] ^ (1 << at % 8));
    const auto read = parse_baselines(damaged, "file b");
    // A few bits of zstd's frames mean nothing.
    if (read) {
      REQUIRE(read->list.size() == 2);
      for (std::size_t i = 0; i < 2; ++i)
        CHECK(same(read->list[i].detector.memory(), good->list[i].detector.memory()));
    }
    if (!read) CHECK(read.error().text.starts_with("file b: "));
    CHECK_FALSE(parse_baselines(whole.substr(0, at), "file b"));
  }
  CHECK_FALSE(parse_baselines(whole + "x", "file b"));
  CHECK(load_baselines(folder.file("none")).error().text.find("No such file") != std::string::npos);
}

TEST_CASE("impossible numbers are refused by the detector") {
  const auto scorer = learnt_scorer();
  const Detector::Memory good = scorer->baseline(kApi)->detector.memory();
  CHECK(Detector::from(good));
  const auto refused = [&](const auto& change) {
    Detector::Memory bad = good;
    change(bad);
    return !Detector::from(bad);
  };
  CHECK(refused([](auto& bad) { bad.columns[0].mean = NAN; }));
  CHECK(refused([](auto& bad) { bad.columns[0].mean = 3e38F; }));
  CHECK(refused([](auto& bad) { bad.columns[0].variance = -1; }));
  CHECK(refused([](auto& bad) { bad.columns[0].weight = 2; }));
  CHECK(refused([](auto& bad) { bad.joint[1] = bad.joint[0]; }));
  CHECK(refused([](auto& bad) { bad.joint[0] = 100'000; }));
  CHECK(refused([](auto& bad) { bad.factor.pop_back(); }));
  CHECK(refused([](auto& bad) { bad.factor[0] = 0; }));
  CHECK(refused([](auto& bad) { bad.factor[1] = INFINITY; }));
  CHECK(refused([](auto& bad) { bad.age_rows = -1; }));
  CHECK(refused([](auto& bad) { bad.tails[Detector::kJoint].rows[0] = -1; }));
  CHECK(refused([](auto& bad) { bad.tails[Detector::kHeld].rows.resize(10'000); }));
  CHECK(refused([](auto& bad) { bad.tails[Detector::kHeld].spread = NAN; }));
  CHECK(refused([](auto& bad) { bad.tails[Detector::kHeld].peaks = NAN; }));
  CHECK(refused([](auto& bad) { bad.tails[Detector::kJoint].peaks = -1; }));
  CHECK(refused([](auto& bad) { bad.tails[Detector::kHeld].level = 1e6F; }));
  CHECK(refused([](auto& bad) { bad.tails[Detector::kJoint].tail_share = 0; }));
  CHECK(refused([](auto& bad) { bad.tails[Detector::kJoint].shape = 3; }));
}

TEST_CASE(
    "other messages and newer formats are refused; other columns and a bad workload cost no more than "
    "themselves") {
  const TemporaryFolder folder;
  const std::string whole = written(folder.file("b"), *learnt_scorer());
  std::string plain(std::size_t{1} << 20, ' ');
  const std::size_t size = ZSTD_decompress(plain.data(), plain.size(), whole.data(), whole.size());
  REQUIRE(ZSTD_isError(size) == 0);
  kept::Baselines good;
  REQUIRE(good.ParseFromString(plain.substr(0, size)));
  const auto parsed = [&](const auto& change) {
    kept::Baselines message = good;
    change(message);
    const std::string bytes = message.SerializeAsString();
    std::string file(ZSTD_compressBound(bytes.size()), ' ');
    file.resize(ZSTD_compress(file.data(), file.size(), bytes.data(), bytes.size(), 1));
    return parse_baselines(file, "file b");
  };
  const auto why = [&](const auto& change) {
    const auto read = parsed(change);
    return read ? "" : read.error().text;
  };
  CHECK(parsed([](auto&) {})->list.size() == 2);
  CHECK(why([](auto& bad) { bad.set_magic("other"); }) == "file b: not a file of baselines");
  CHECK(why([](auto& bad) { bad.set_format(2); }) == "file b: format 2, this agent reads 1 to 1");
  CHECK(why([](auto& bad) { bad.add_columns(bad.columns(0)); }).find("is there twice") != std::string::npos);
  CHECK(why([](auto& bad) {
          for (int i = 0; i < 600; ++i) bad.add_list();
        }).find("more than 512") != std::string::npos);

  const auto twice = parsed([](auto& bad) { *bad.add_list() = bad.list(1); });
  REQUIRE(twice);
  CHECK(twice->list.size() == 2);
  CHECK(twice->left_out == std::vector<std::string>{"workload 3: its name was there before"});
  const auto poisoned = parsed([](auto& bad) { bad.mutable_list(0)->set_mean(3, NAN); });
  REQUIRE(poisoned);
  CHECK(poisoned->list.size() == 1);
  CHECK(poisoned->left_out == std::vector<std::string>{"workload 1: impossible mean or variance"});
  CHECK(parsed([](auto& bad) { bad.mutable_list(1)->set_handicap(9); })->left_out ==
        std::vector<std::string>{"workload 2: impossible handicap"});
  CHECK(parsed([](auto& given) { given.mutable_list(1)->set_handicap(0.5F); })->list[1].handicap == 0.5F);
  const auto bytes = parsed([](auto& odd) { odd.mutable_list(0)->set_workload("cgroup/\xff"); });
  REQUIRE(bytes);
  CHECK(bytes->list[0].workload == "cgroup/\xff");

  // An agent of before steps had a scale of their own wrote none: they begin with the variance's, and how
  // rare a score is is learnt anew.
  const auto older = parsed([](auto& old) { old.mutable_list(1)->clear_step_square(); });
  REQUIRE(older);
  CHECK(older->list[1].of_other_columns);
  CHECK_FALSE(older->list[0].of_other_columns);
  const auto first = static_cast<int>(good.list(1).joint(0));
  CHECK(older->list[1].detector.memory().step_square[0] == 2 * good.list(1).variance(first));
  CHECK(parsed([](auto& bad) { bad.mutable_list(1)->set_step_square(0, -1); })->left_out ==
        std::vector<std::string>{"workload 2: impossible step_square"});
  CHECK(parsed([](auto& bad) { bad.mutable_list(1)->add_step_square(1); })->left_out ==
        std::vector<std::string>{"workload 2: impossible step_square"});
  CHECK(parsed([](auto& bad) { bad.mutable_list(1)->mutable_joint_tail()->set_surprises(1e8F); })->left_out ==
        std::vector<std::string>{"workload 2: impossible tail"});

  // One that judged more columns together is known as far as there is room.
  const auto wider = parsed([](auto& old) {
    auto& one = *old.mutable_list(1);
    one.clear_joint();
    one.clear_step_square();
    one.clear_factor();
    constexpr std::size_t kDims = 36 * Detector::kParts;
    for (std::uint32_t i = 0; i < 36; ++i) one.add_joint(i);
    for (std::size_t j = 0; j < kDims; ++j) {
      one.add_factor(static_cast<float>(j + 1));
      for (std::size_t below = j + 1; below < kDims; ++below) one.add_factor(0);
    }
  });
  REQUIRE(wider);
  CHECK(wider->left_out.empty());
  const Detector::Memory narrower = wider->list[1].detector.memory();
  CHECK(narrower.joint.size() == Detector::kMaxJoint);
  CHECK(narrower.factor.back() == Detector::kMaxJoint * Detector::kParts);

  // The third of those that are judged together has another name here: the first two are left.
  const int gone = static_cast<int>(good.list(1).joint(2));
  const auto other = parsed([&](auto& old) { old.set_columns(gone, "a_signal_of_old.rate"); });
  REQUIRE(other);
  CHECK(other->list[1].of_other_columns);
  const Detector::Memory memory = other->list[1].detector.memory();
  CHECK(memory.joint.size() == 2);
  CHECK(memory.columns[static_cast<std::size_t>(gone)].weight == 0);
  CHECK(memory.columns[good.list(1).joint(0)].mean ==
        good.list(1).mean(static_cast<int>(good.list(1).joint(0))));
  AnomalyScorer scorer(AnomalyOptions{});
  scorer.learn(*other);
  FeatureTable table;
  table.time.monotonic_ns = 5;
  table.entities = {std::make_shared<const Entity>()};
  table.values.resize(feature_columns().size());
  Scores scores;
  scores.entities.resize(1);
  scorer.score(table, scores);
  CHECK(scores.entities[0].learning == Learning::kNewSignals);
}

TEST_CASE("a store saves at its end, teaches the next one, sets aside what it cannot use") {
  const TemporaryFolder folder;
  const std::string path = folder.file("baselines");
  const auto scorer = learnt_scorer();
  const auto options = [&] {
    BaselineStoreOptions all;
    all.path = path;
    all.node = "node-a";
    return all;
  };
  {
    auto store = BaselineStore::make(options());
    REQUIRE(store);
    CHECK((*store)->take() == nullptr);
    CHECK_FALSE((*store)->exported());
    (*store)->save(*scorer);
    CHECK((*store)->state().workloads == 2);
    CHECK((*store)->state().saved_wall_ns > 0);
    CHECK((*store)->exported());
  }
  {
    auto store = BaselineStore::make(options());
    REQUIRE(store);
    const auto taught = (*store)->take();
    REQUIRE(taught);
    CHECK(taught->list.size() == 2);
    CHECK_FALSE(taught->of_other_node);
    CHECK((*store)->take() == nullptr);
    CHECK((*store)->import(*(*store)->exported()) == 2);
    CHECK((*store)->take()->list.size() == 2);
    CHECK_FALSE((*store)->import("no baselines"));
  }
  {
    // Also where it is asked to in good time, a few at a time.
    BaselineStoreOptions often = options();
    often.path = path + "2";
    often.save_every_s = 1;
    auto store = BaselineStore::make(often);
    REQUIRE(store);
    MonotonicNs now = 1;
    for (int tries = 0; (*store)->state().saved_wall_ns == 0 && tries < 30'000; ++tries) {
      (*store)->tick(now += 500'000'000, *scorer);
      std::this_thread::sleep_for(std::chrono::milliseconds(1));  // for the disk
    }
    CHECK(load_baselines(often.path)->list.size() == 2);
  }
  {
    BaselineStoreOptions elsewhere = options();
    elsewhere.path = path + "3";
    elsewhere.node = "node-b";
    elsewhere.seed = path;
    auto store = BaselineStore::make(elsewhere);
    REQUIRE(store);
    CHECK((*store)->take()->of_other_node);
    elsewhere.seed = folder.file("none");
    CHECK_FALSE(BaselineStore::make(elsewhere));
  }
  put(path, "damaged");
  auto store = BaselineStore::make(options());
  REQUIRE(store);
  CHECK((*store)->take() == nullptr);
  CHECK((*store)->state().set_aside.find(path + ".damaged") != std::string::npos);
  CHECK(std::ifstream(path + ".damaged").good());
  CHECK_FALSE(std::ifstream(path).good());
}
