// `vedette cleanup`: takes what agents left on nodes away through the API server, for an uninstall and for a
// human with rights over nodes. Needs no agent. Called once per process.
#pragma once

#include <iosfwd>
#include <string>

#include "agent/base/result.h"
#include "agent/kube/client.h"

namespace vedette {

struct CleanupOptions {
  KubeClientOptions client;
  std::string namespace_name = "vedette-system";  // of the agents' Leases
  bool all = false;                               // also what a living agent vouches for
};

// What is left of a node: the taint first, then condition and annotation, its Leases last; a foreign taint is
// never touched. Says on `out` what it did, line by line or as one JSON document; false: some node could not
// be cleaned, as `err` says. Errors: the nodes or Leases cannot be listed.
Result<bool> run_cleanup(const CleanupOptions& options, bool json, std::ostream& out, std::ostream& err);

}  // namespace vedette
