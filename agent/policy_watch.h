// Sees the configuration file change and reads its policy anew; all else of the file waits for a restart, and
// says so. A thread of its own watches and reads; the tick thread takes what get() has.
#pragma once

#include <memory>
#include <string>
#include <string_view>
#include <thread>
#include <vector>

#include "agent/act/policy.h"
#include "agent/base/handle.h"
#include "agent/base/latest.h"
#include "agent/base/result.h"

namespace vedette {

struct ReloadedPolicy {
  std::shared_ptr<const Policy> policy;  // in force
  std::string error;                     // why the newest file is not; empty: it is
  std::string restart_for;  // keys of the file that changed since the start but for the policy: "act, slots"
};

class PolicyWatch {
public:
  // Watches the directory of `file`, so that a file that is replaced, or a ConfigMap's symbolic link that is
  // swapped, is seen as well as one that is written; and SIGHUP, which must be blocked in all threads.
  // `text` is what the file said when `policy` was read from it: what has changed since is seen at once.
  // Errors: no inotify.
  static Result<std::unique_ptr<PolicyWatch>> make(std::string file, bool standalone,
                                                   std::shared_ptr<const Policy> policy, std::string text);
  ~PolicyWatch();

  // Never null.
  std::shared_ptr<const ReloadedPolicy> get() const { return newest_.get(); }

private:
  PolicyWatch(std::string file, bool standalone, std::shared_ptr<const Policy> policy, std::string text,
              FileHandle changes, FileHandle signals, FileHandle stop);
  void run();
  void reload(bool asked);

  const std::string file_;
  const bool standalone_;
  FileHandle changes_, signals_, stop_;
  Latest<ReloadedPolicy> newest_;
  std::string started_with_;  // the file's text at the start
  std::string read_;          // and when it was read last
  std::jthread thread_;       // last: it uses all of the above
};

// Keys at the top of two YAML texts, but for `policy`, whose values differ: "act, slots". Empty where a text
// is no YAML.
std::string changed_keys(const std::string& before, const std::string& after);

}  // namespace vedette
