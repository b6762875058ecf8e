#include "agent/act/operator_store.h"

#include <utility>

#include <nlohmann/json.hpp>
#include <spdlog/spdlog.h>
#include <unistd.h>

#include "agent/act/kept_json.h"
#include "agent/base/kept_text.h"

namespace vedette {
namespace {

using nlohmann::json;

// Of the file, 1 where it says none. Fields that are added keep it, for an older agent does not look at them;
// what an older one may not overlook (another way to be paused) is a new format.
constexpr std::uint64_t kSaidFormat = 1;
// What people say in a year is some kB.
constexpr std::size_t kMaxSaidBytes = std::size_t{1} << 20;

Result<OperatorSay> read_said(const std::string& file) {
  OperatorSay say;
  const auto text = read_kept_text(file, kMaxSaidBytes);
  if (!text) return tl::unexpected(text.error());
  if (!*text) return say;
  const json root = json::parse(**text, nullptr, false);
  std::string error;
  const KeptJson said(root, "", error);
  if (said.has("format"))
    said.expect(said.number("format") == kSaidFormat, "format",
                std::to_string(kSaidFormat) + ", for it is a newer agent's");
  say.paused_until_wall_ns = said.number("paused_until_wall_ns");
  say.healthy_wall_ns = said.number("healthy_wall_ns");
  const KeptJson vetoes = said.object("vetoes");
  for (const std::string& reason : vetoes.keys()) say.vetoes[reason] = vetoes.number(reason);
  if (!error.empty()) return fail(file + ": " + error);
  return say;
}

}  // namespace

OperatorStore::OperatorStore(std::string file) : file_(std::move(file)) {
  Result<OperatorSay> say = read_said(file_);
  if (!say) {
    const std::string error =
        say.error().text +
        "; what operators said is not known, so the agent acts on nothing until `vedette resume`";
    spdlog::error("{}", error);
    say = OperatorSay{.paused_until_wall_ns = kForever, .vetoes = {}, .error = error};
  }
  said_.set(std::move(*say));
}

Status OperatorStore::set(OperatorSay say) {
  const json text = {{"format", kSaidFormat},
                     {"paused_until_wall_ns", say.paused_until_wall_ns},
                     {"vetoes", say.vetoes},
                     {"healthy_wall_ns", say.healthy_wall_ns}};
  if (!said_.get()->error.empty()) {
    // A second name for it: at no moment is there no file, which would be no pause.
    const std::string aside = file_ + ".damaged";
    ::unlink(aside.c_str());
    if (::link(file_.c_str(), aside.c_str()) != 0 && errno != ENOENT)
      return fail_errno("keep " + file_ + " as " + aside);
  }
  Status written = replace_kept_text(file_, text.dump(2, ' ', false, json::error_handler_t::replace) + "\n");
  if (!written) return written;
  say.error.clear();
  said_.set(std::move(say));
  return {};
}

}  // namespace vedette
