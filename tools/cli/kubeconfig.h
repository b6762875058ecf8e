// The kubeconfig of kubectl: how to reach the API server of its current context. Read once by `vedette
// cleanup`; any thread.
#pragma once

#include <string>

#include "agent/base/result.h"
#include "agent/kube/client.h"

namespace vedette {

// Server, authority, and a token or client certificate. What would need more than that (a plugin to run, a
// proxy, another's identity, no verification) is refused; errors name the file and the field.
Result<KubeClientOptions> read_kubeconfig(const std::string& file);

}  // namespace vedette
