// Baselines as a file: compressed, with a checksum and a version, columns by their names, so that an upgrade
// keeps what it can. Written by the baseline store's thread, read at start, by replay and by the CLI.
#pragma once

#include <string>
#include <utility>

#include "agent/base/result.h"
#include "agent/record/zstd_writer.h"
#include "agent/score/baselines.h"

namespace vedette {

constexpr std::uint32_t kBaselinesFormat = 1;
// 512 workloads of some 30 kB are 16 MB; a larger file is not ours.
constexpr std::size_t kMaxBaselines = 512;
constexpr std::size_t kMaxBaselineBytes = std::size_t{20} << 20;

Result<std::string> read_baseline_file(const std::string& path);
// `bytes` are those of a file; `origin` names it in errors, which say what is wrong with it. Columns that
// this agent has not are dropped, new ones begin without a past; an impossible workload is left out, and
// told.
Result<Baselines> parse_baselines(std::string bytes, const std::string& origin);
Result<Baselines> load_baselines(const std::string& path);

// A file under another name, which takes its own when it is whole: a reader finds the old one or the new one.
class BaselineWriter {
public:
  // Of the header: node, agent_version, saved_wall_ns.
  static Result<BaselineWriter> create(const std::string& path, const Baselines& header);
  BaselineWriter(BaselineWriter&& other) noexcept
      : path_(std::exchange(other.path_, {})), stream_(std::move(other.stream_)) {}
  BaselineWriter& operator=(BaselineWriter&&) = delete;
  // What was not finished is removed.
  ~BaselineWriter();

  Status append(const Baseline& baseline);
  // On disk when it returns. Returns the file's size in bytes.
  Result<std::uint64_t> finish();

private:
  BaselineWriter(std::string path, ZstdWriter stream) : path_(std::move(path)), stream_(std::move(stream)) {}

  std::string path_;  // empty: it has its file, or another writer has it
  ZstdWriter stream_;
};

}  // namespace vedette
