#include "agent/record/baseline_file.h"

#include <algorithm>
#include <cstdio>
#include <fstream>
#include <memory>
#include <optional>
#include <set>

#include <unistd.h>
#include <zstd.h>

#include "agent/base/kept_text.h"
#include "agent/record/baselines.pb.h"
#include "agent/record/part_count.h"
#include "agent/score/anomaly.h"

namespace vedette {
namespace {

constexpr const char* kBaselinesMagic = "vedette baselines";
// What a file of kMaxBaselineBytes can hold at most: floats hardly get smaller.
constexpr std::size_t kMaxPlainBytes = 2 * kMaxBaselineBytes;
// A file that asks for more than 8 MiB of history is not ours.
constexpr int kMaxBaselineWindowLog = 23;
constexpr std::size_t kMaxName = 4096;  // a path's
constexpr std::size_t kMaxColumns = 4096;

struct FreeDecompressor {
  void operator()(ZSTD_DCtx* context) const { ZSTD_freeDCtx(context); }
};

Result<std::string> decompress(const std::string& bytes) {
  const std::unique_ptr<ZSTD_DCtx, FreeDecompressor> context(ZSTD_createDCtx());
  if (!context) return fail("no memory for the decompressor");
  ZSTD_DCtx_setParameter(context.get(), ZSTD_d_windowLogMax, kMaxBaselineWindowLog);
  std::string plain;
  std::string chunk(ZSTD_DStreamOutSize(), '\0');
  ZSTD_inBuffer in{bytes.data(), bytes.size(), 0};
  for (;;) {
    ZSTD_outBuffer out{chunk.data(), chunk.size(), 0};
    const std::size_t left = ZSTD_decompressStream(context.get(), &out, &in);
    if (ZSTD_isError(left) != 0)
      return fail("damaged at byte " + std::to_string(in.pos) + ": " + ZSTD_getErrorName(left));
    plain.append(chunk, 0, out.pos);
    if (plain.size() > kMaxPlainBytes)
      return fail("more than " + std::to_string(kMaxPlainBytes) + " bytes of baselines");
    if (left == 0 && in.pos == in.size) return plain;
    if (left == 0) return fail("bytes after its end at byte " + std::to_string(in.pos));
    if (in.pos == in.size && out.pos < out.size)
      return fail("ends early, after " + std::to_string(in.size) + " bytes");
  }
}

void encode(const TailDistribution::Memory& memory, kept::Tail& message) {
  message.mutable_rows()->Add(memory.rows.begin(), memory.rows.end());
  message.set_age_rows(memory.age_rows);
  message.set_level(memory.level);
  message.set_tail_share(memory.tail_share);
  message.set_shape(memory.shape);
  message.set_spread(memory.spread);
  message.set_peaks(memory.peaks);
  message.set_judged(memory.judged);
  message.set_surprises(memory.surprises);
}

TailDistribution::Memory decode(const kept::Tail& message) {
  return {{message.rows().begin(), message.rows().end()},
          message.age_rows(),
          message.level(),
          message.tail_share(),
          message.shape(),
          message.spread(),
          message.peaks(),
          message.judged(),
          message.surprises()};
}

// `places`: of each kept column here, or nothing.
Result<Detector> decode(const kept::Baseline& message,
                        const std::vector<std::optional<std::uint32_t>>& places) {
  const auto columns = static_cast<int>(places.size());
  if (message.mean_size() != columns || message.variance_size() != columns ||
      message.weight_size() != columns)
    return fail("mean, variance or weight");
  const bool knows_steps = message.step_square_size() != 0;
  if (knows_steps && message.step_square_size() != message.joint_size()) return fail("step_square");
  Detector::Memory memory;
  memory.columns.resize(AnomalyScorer::columns().size());
  for (int i = 0; i < columns; ++i) {
    if (const auto place = places[static_cast<std::size_t>(i)])
      memory.columns[*place] = {message.mean(i), message.variance(i), message.weight(i)};
  }
  const std::size_t all = Detector::kParts * static_cast<std::size_t>(message.joint_size());
  if (static_cast<std::size_t>(message.factor_size()) != all * (all + 1) / 2) return fail("factor");
  // The factor of the first of them is a factor of its own: they are known up to one that is not, or has no
  // place here (an older agent had two more).
  std::size_t known = 0;
  for (const std::uint32_t index : message.joint()) {
    if (index >= places.size()) return fail("joint");
    if (!places[index] || known == Detector::kMaxJoint) break;
    memory.joint.push_back(*places[index]);
    if (knows_steps) memory.step_square.push_back(message.step_square(static_cast<int>(known)));
    ++known;
  }
  const std::size_t taken = Detector::kParts * known;
  std::size_t start = 0;
  for (std::size_t j = 0; j < taken; ++j) {
    const auto from = message.factor().begin() + static_cast<int>(start);
    memory.factor.insert(memory.factor.end(), from, from + static_cast<int>(taken - j));
    start += all - j;
  }
  memory.factor_weight = message.factor_weight();
  memory.age_rows = message.age_rows();
  memory.tails[Detector::kJoint] = decode(message.joint_tail());
  memory.tails[Detector::kStrongest] = decode(message.top_tail());
  memory.tails[Detector::kHeld] =
      message.has_held_tail() ? decode(message.held_tail()) : TailDistribution::Memory{};
  return Detector::from(memory);
}

Result<Baselines> decode(const std::string& plain) {
  static const std::vector<PartBound> bounds{
      {"workloads", {kept::Baselines::kListFieldNumber}, kMaxBaselines},
      {"columns", {kept::Baselines::kColumnsFieldNumber}, kMaxColumns}};
  if (const PartBound* bound = too_many_parts(plain, bounds))
    return fail("more than " + std::to_string(bound->most) + " " + std::string(bound->name));
  kept::Baselines message;
  if (!message.ParseFromString(plain)) return fail("not a message of record/baselines.proto");
  if (message.magic() != kBaselinesMagic) return fail("not a file of baselines");
  if (message.format() == 0 || message.format() > kBaselinesFormat) {
    return fail("format " + std::to_string(message.format()) + ", this agent reads 1 to " +
                std::to_string(kBaselinesFormat));
  }
  const std::vector<std::string>& ours = AnomalyScorer::columns();
  std::vector<std::optional<std::uint32_t>> places;
  std::set<std::string> names;
  for (const std::string& name : message.columns()) {
    if (!names.insert(name).second) return fail("column " + std::to_string(names.size()) + " is there twice");
    const auto found = std::ranges::find(ours, name);
    places.push_back(found == ours.end() ? std::nullopt
                                         : std::optional(static_cast<std::uint32_t>(found - ours.begin())));
  }
  Baselines baselines;
  baselines.node = message.node();
  baselines.agent_version = message.agent_version();
  baselines.saved_wall_ns = message.saved_wall_ns();
  const bool other_columns = !std::ranges::equal(message.columns(), ours);
  names.clear();
  for (int i = 0; i < message.list_size(); ++i) {
    const kept::Baseline& entry = message.list(i);
    const auto leave_out = [&](const std::string& why) {
      baselines.left_out.push_back("workload " + std::to_string(i + 1) + ": " + why);
    };
    if (entry.workload().empty() || entry.workload().size() > kMaxName ||
        entry.revision().size() > kMaxName) {
      leave_out("expected a name and a revision of at most " + std::to_string(kMaxName) + " bytes");
      continue;
    }
    if (!names.insert(entry.workload()).second) {
      leave_out("its name was there before");
      continue;
    }
    if (!(entry.handicap() >= 0) || entry.handicap() > static_cast<float>(AnomalyOptions{}.max_handicap)) {
      leave_out("impossible handicap");
      continue;
    }
    Result<Detector> detector = decode(entry, places);
    if (!detector) {
      leave_out("impossible " + detector.error().text);
      continue;
    }
    // What is known of its scores is of others, too, where steps had no part in them.
    const bool of_other_scores = other_columns || entry.step_square_size() < entry.joint_size();
    baselines.list.push_back({entry.workload(), entry.revision(), std::move(*detector),
                              entry.of_other_columns() || of_other_scores, entry.handicap(),
                              entry.of_other_node()});
  }
  return baselines;
}

}  // namespace

Result<Baselines> parse_baselines(std::string bytes, const std::string& origin) {
  if (bytes.size() > kMaxBaselineBytes)
    return fail(origin + ": more than " + std::to_string(kMaxBaselineBytes) + " bytes");
  const Result<std::string> plain = decompress(bytes);
  if (!plain) return fail(origin + ": " + plain.error().text);
  Result<Baselines> baselines = decode(*plain);
  if (!baselines) return fail(origin + ": " + baselines.error().text);
  baselines->file = std::move(bytes);
  return baselines;
}

Result<std::string> read_baseline_file(const std::string& path) {
  std::ifstream stream(path, std::ios::binary);
  if (!stream) return fail_errno("open " + path);
  std::string bytes;
  std::string chunk(std::size_t{64} << 10, '\0');
  while (stream.read(chunk.data(), static_cast<std::streamsize>(chunk.size())) || stream.gcount() > 0) {
    bytes.append(chunk, 0, static_cast<std::size_t>(stream.gcount()));
    if (bytes.size() > kMaxBaselineBytes) break;
  }
  if (stream.bad()) return fail_errno("read " + path);
  return bytes;
}

Result<Baselines> load_baselines(const std::string& path) {
  Result<std::string> bytes = read_baseline_file(path);
  if (!bytes) return tl::unexpected(bytes.error());
  return parse_baselines(std::move(*bytes), path);
}

Result<BaselineWriter> BaselineWriter::create(const std::string& path, const Baselines& header) {
  const std::string fresh = path + ".new";
  Result<ZstdWriter> stream = ZstdWriter::create(fresh, fresh, true);
  if (!stream) return tl::unexpected(stream.error());
  BaselineWriter writer(path, std::move(*stream));
  kept::Baselines message;
  message.set_magic(kBaselinesMagic);
  message.set_format(kBaselinesFormat);
  message.set_agent_version(header.agent_version);
  message.set_node(header.node);
  message.set_saved_wall_ns(header.saved_wall_ns);
  for (const std::string& name : AnomalyScorer::columns()) message.add_columns(name);
  if (Status ok = writer.stream_.write(message.SerializeAsString(), ZstdWriter::Then::kMore); !ok)
    return tl::unexpected(ok.error());
  return writer;
}

BaselineWriter::~BaselineWriter() {
  if (!path_.empty()) ::unlink((path_ + ".new").c_str());
}

Status BaselineWriter::append(const Baseline& baseline) {
  // The path of a cgroup deep down: its reader would have to refuse it.
  if (baseline.workload.size() > kMaxName) return {};
  kept::Baselines part;
  kept::Baseline& message = *part.add_list();
  message.set_workload(baseline.workload);
  message.set_revision(baseline.revision);
  const Detector::Memory memory = baseline.detector.memory();
  for (const Detector::Memory::Column& column : memory.columns) {
    message.add_mean(column.mean);
    message.add_variance(column.variance);
    message.add_weight(column.weight);
  }
  message.mutable_joint()->Add(memory.joint.begin(), memory.joint.end());
  message.mutable_step_square()->Add(memory.step_square.begin(), memory.step_square.end());
  message.mutable_factor()->Add(memory.factor.begin(), memory.factor.end());
  message.set_factor_weight(memory.factor_weight);
  message.set_age_rows(memory.age_rows);
  encode(memory.tails[Detector::kJoint], *message.mutable_joint_tail());
  encode(memory.tails[Detector::kStrongest], *message.mutable_top_tail());
  encode(memory.tails[Detector::kHeld], *message.mutable_held_tail());
  message.set_of_other_columns(baseline.of_other_columns);
  message.set_handicap(baseline.handicap);
  message.set_of_other_node(baseline.of_other_node);
  return stream_.write(part.SerializeAsString(), ZstdWriter::Then::kMore);
}

Result<std::uint64_t> BaselineWriter::finish() {
  const std::string fresh = path_ + ".new";
  if (Status ok = stream_.write({}, ZstdWriter::Then::kEnd); !ok) return tl::unexpected(ok.error());
  if (Status ok = stream_.sync(); !ok) return tl::unexpected(ok.error());
  if (Status ok = replace_kept_file(path_, fresh); !ok) return tl::unexpected(ok.error());
  path_.clear();
  return stream_.bytes_written();
}

}  // namespace vedette
