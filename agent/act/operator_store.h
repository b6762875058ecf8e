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
  // A file that cannot be read or understood may hold a pause or a veto: then the agent is paused, with the
  // reason as `error`, until somebody says what is to hold. The file stays as it is till then, so that a
  // restart ends nothing.
  explicit OperatorStore(std::string file);

  // Never null.
  std::shared_ptr<const OperatorSay> get() const { return said_.get(); }
  // On disk before it counts; an error leaves all as it was. A file that was not understood is kept as
  // FILE.damaged.
  Status set(OperatorSay say);

private:
  const std::string file_;
  Latest<OperatorSay> said_;
};

}  // namespace vedette
