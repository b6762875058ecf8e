#include "agent/act/operator_store.h"

#include <fstream>
#include <iterator>
#include <utility>

#include <fcntl.h>
#include <nlohmann/json.hpp>
#include <unistd.h>

#include "agent/base/handle.h"

namespace vedette {
namespace {

using nlohmann::json;

WallNs time_at(const json& object, const char* key) {
  const auto found = object.find(key);
  return found != object.end() && found->is_number_unsigned() ? found->get<WallNs>() : 0;
}

}  // namespace

Result<std::unique_ptr<OperatorStore>> OperatorStore::open(std::string file) {
  std::unique_ptr<OperatorStore> store(new OperatorStore(std::move(file)));
  OperatorSay say;
  if (::access(store->file_.c_str(), F_OK) == 0) {
    std::ifstream stream(store->file_);
    if (!stream) return fail_errno("open " + store->file_);
    const std::string text{std::istreambuf_iterator<char>(stream), {}};
    const json said = json::parse(text, nullptr, false);
    if (!said.is_object() || !said.contains("vetoes") || !said["vetoes"].is_object()) {
      return fail(store->file_ + ": expected JSON as `vedette pause` writes it; remove it to begin anew");
    }
    say.paused_until_wall_ns = time_at(said, "paused_until_wall_ns");
    say.healthy_wall_ns = time_at(said, "healthy_wall_ns");
    for (const auto& [reason, until] : said["vetoes"].items()) {
      say.vetoes[reason] = time_at(said["vetoes"], reason.c_str());
    }
  }
  store->said_.set(std::move(say));
  return store;
}

Status OperatorStore::set(OperatorSay say) {
  const std::string text = json{{"paused_until_wall_ns", say.paused_until_wall_ns},
                                {"vetoes", json(say.vetoes)},
                                {"healthy_wall_ns", say.healthy_wall_ns}}
                               .dump(2, ' ', false, json::error_handler_t::replace) +
                           "\n";
  // A name of its own and a rename: a reader finds the old file or the new one, whole.
  const std::string fresh = file_ + ".new";
  {
    const FileHandle handle(::open(fresh.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600));
    if (!handle) return fail_errno("open " + fresh);
    if (::write(handle.get(), text.data(), text.size()) != static_cast<ssize_t>(text.size()) ||
        ::fsync(handle.get()) != 0) {
      return fail_errno("write " + fresh);
    }
  }
  if (::rename(fresh.c_str(), file_.c_str()) != 0) return fail_errno("rename " + fresh + " to " + file_);
  said_.set(std::move(say));
  return {};
}

}  // namespace vedette
