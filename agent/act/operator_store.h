// What was said on the local socket, kept in a file beside it, so that it outlives the agent (not the
// machine: an annotation of the node does). The socket's thread writes; get() is safe from any thread.
#pragma once

#include <memory>
#include <string>

#include "agent/act/operator_say.h"
#include "agent/base/latest.h"
#include "agent/base/result.h"

namespace vedette {

class OperatorStore {
public:
  // Errors: a file that cannot be read or is not one of ours.
  static Result<std::unique_ptr<OperatorStore>> open(std::string file);

  // Never null.
  std::shared_ptr<const OperatorSay> get() const { return said_.get(); }
  // On disk before it counts; an error leaves all as it was.
  Status set(OperatorSay say);

private:
  explicit OperatorStore(std::string file) : file_(std::move(file)) {}

  const std::string file_;
  Latest<OperatorSay> said_;
};

}  // namespace vedette
