// Baselines as a file: compressed, with a checksum and a version, columns by their names, so that an upgrade
// keeps what it can. Written by the baseline store's thread, read at start, by replay and by the CLI.
#pragma once

#include <memory>
#include <string>

#include "agent/base/handle.h"
#include "agent/base/result.h"
#include "agent/score/baselines.h"

struct ZSTD_CCtx_s;

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
  // Mode 0600. Of the header: node, agent_version, saved_wall_ns.
  static Result<BaselineWriter> create(const std::string& path, const Baselines& header);
  BaselineWriter(BaselineWriter&&) noexcept = default;
  BaselineWriter& operator=(BaselineWriter&&) = delete;
  // What was not finished is removed.
  ~BaselineWriter();

  Status append(const Baseline& baseline);
  // On disk when it returns. Returns the file's size in bytes.
  Result<std::uint64_t> finish();

private:
  struct FreeContext {
    void operator()(ZSTD_CCtx_s* context) const;
  };

  BaselineWriter() = default;
  Status compress(const std::string& bytes, bool last);

  std::string path_;
  FileHandle file_;
  std::unique_ptr<ZSTD_CCtx_s, FreeContext> context_;
  std::string output_;
  std::uint64_t written_ = 0;
};

}  // namespace vedette
