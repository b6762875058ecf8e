#include "agent/policy_watch.h"

#include <array>
#include <csignal>
#include <cstdint>
#include <map>
#include <set>
#include <utility>

#include <poll.h>
#include <pthread.h>
#include <spdlog/spdlog.h>
#include <sys/eventfd.h>
#include <sys/inotify.h>
#include <sys/signalfd.h>
#include <unistd.h>
#include <yaml-cpp/yaml.h>

#include "agent/config.h"
#include "agent/yaml_section.h"

namespace vedette {
namespace {

// Not IN_CREATE nor IN_MODIFY: a file that is being written is half a file, and half a file may be valid.
constexpr std::uint32_t kChanges = IN_CLOSE_WRITE | IN_MOVED_TO | IN_MOVED_FROM | IN_DELETE | IN_ONLYDIR;

void drain(int file) {
  std::array<char, 4096> rest{};
  while (::read(file, rest.data(), rest.size()) > 0) {
  }
}

std::map<std::string, std::string> values_of(const std::string& text) {
  std::map<std::string, std::string> values;
  const YAML::Node root = YAML::Load(text);
  if (!root.IsMap()) return values;
  for (const auto& entry : root) values[entry.first.as<std::string>()] = YAML::Dump(entry.second);
  values.erase("policy");
  return values;
}

}  // namespace

std::string changed_keys(const std::string& before, const std::string& after) {
  std::set<std::string> changed;
  try {
    const auto old = values_of(before);
    const auto now = values_of(after);
    for (const auto& [key, value] : old) {
      if (!now.contains(key) || now.at(key) != value) changed.insert(key);
    }
    for (const auto& [key, value] : now) {
      if (!old.contains(key)) changed.insert(key);
    }
  } catch (const YAML::Exception&) {
    return "";
  }
  std::string text;
  for (const std::string& key : changed) text += (text.empty() ? "" : ", ") + key;
  return text;
}

Result<std::unique_ptr<PolicyWatch>> PolicyWatch::make(std::string file, bool standalone,
                                                       std::shared_ptr<const Policy> policy,
                                                       std::string text) {
  FileHandle changes(::inotify_init1(IN_CLOEXEC | IN_NONBLOCK));
  if (!changes) return fail_errno("make an inotify");
  const std::size_t slash = file.rfind('/');
  const std::string directory = slash == std::string::npos ? "." : file.substr(0, slash + 1);
  // Without a directory there is nothing to see; SIGHUP still asks.
  if (::inotify_add_watch(changes.get(), directory.c_str(), kChanges) < 0 && errno != ENOENT)
    return fail_errno("watch " + directory);
  sigset_t hangup;
  sigemptyset(&hangup);
  sigaddset(&hangup, SIGHUP);
  FileHandle signals(::signalfd(-1, &hangup, SFD_CLOEXEC | SFD_NONBLOCK));
  if (!signals) return fail_errno("make a signalfd");
  FileHandle stop(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
  if (!stop) return fail_errno("make an eventfd");
  return std::unique_ptr<PolicyWatch>(new PolicyWatch(std::move(file), standalone, std::move(policy),
                                                      std::move(text), std::move(changes), std::move(signals),
                                                      std::move(stop)));
}

PolicyWatch::PolicyWatch(std::string file, bool standalone, std::shared_ptr<const Policy> policy,
                         std::string text, FileHandle changes, FileHandle signals, FileHandle stop)
    : file_(std::move(file)),
      standalone_(standalone),
      changes_(std::move(changes)),
      signals_(std::move(signals)),
      stop_(std::move(stop)),
      started_with_(std::move(text)),
      read_(started_with_) {
  newest_.set(ReloadedPolicy{std::move(policy), "", ""});
  thread_ = std::jthread([this] { run(); });
}

PolicyWatch::~PolicyWatch() {
  const std::uint64_t one = 1;
  [[maybe_unused]] const ssize_t written = ::write(stop_.get(), &one, sizeof one);
}

void PolicyWatch::run() {
  ::pthread_setname_np(::pthread_self(), "policy_watch");
  // The file may have been replaced after it was read and before anybody watched.
  reload(false);
  std::array<pollfd, 3> polled{
      {{stop_.get(), POLLIN, 0}, {changes_.get(), POLLIN, 0}, {signals_.get(), POLLIN, 0}}};
  while (::poll(polled.data(), polled.size(), -1) >= 0 || errno == EINTR) {
    if (polled[0].revents != 0) return;
    drain(changes_.get());
    drain(signals_.get());
    reload(polled[2].revents != 0);
  }
}

void PolicyWatch::reload(bool asked) {
  const std::string text = YamlSection::text_of(file_).value_or("");
  if (text == read_ && !asked) return;  // another file of the directory
  // Nor need there be one.
  if (read_.empty() && ::access(file_.c_str(), F_OK) != 0 && errno == ENOENT) return;
  const Result<Config> config = load_config(file_, standalone_);
  // It may be replaced between two looks: what counts is what was read for the policy.
  read_ = config ? config->text : text;
  ReloadedPolicy now = *newest_.get();
  now.restart_for = changed_keys(started_with_, read_);
  if (!config) {
    now.error = config.error().text;
    spdlog::error("policy: {}: the one before stays in force", now.error);
  } else {
    now.error.clear();
    now.policy = config->decide.policy;
    spdlog::info("policy: {} rules of {} are in force", now.policy->rules.size(), now.policy->origin);
  }
  if (!now.restart_for.empty())
    spdlog::warn("policy: {} changed in {} too: that needs a restart", now.restart_for, file_);
  newest_.set(std::move(now));
}

}  // namespace vedette
