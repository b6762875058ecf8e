// How health leaves the node: Prometheus metrics over HTTP and the local socket of the CLI. publish() is
// called by the tick thread and takes well below 100 us; everything else happens on the servers' threads.
#pragma once

#include <memory>
#include <string>

#include "agent/base/latest.h"
#include "agent/base/result.h"
#include "agent/snapshot.h"
#include "exporter/services.h"

namespace vedette {

class History;
class HttpServer;
class SocketServer;
class Totals;

struct ExporterOptions {
  // Loopback: metrics name every pod of the node, so serving them to the network is the operator's choice.
  // Empty: no HTTP at all.
  std::string listen = "127.0.0.1:9464";
  // Below /run: gone after a reboot, and only root may replace it. Empty: no socket.
  std::string socket_path = "/run/vedette/agent.sock";
  // Pods and units with series of their own; the rest shares one. A kubelet's default limit is 110 pods.
  std::size_t top_pods = 100;
  // Empty: the host's name.
  std::string node_name;
};

class Exporter : public Sink {
public:
  // Errors: an address or path that is taken, malformed or forbidden.
  static Result<std::unique_ptr<Exporter>> make(const ExporterOptions& options,
                                                const Services& services = {});
  ~Exporter() override;

  void publish(const std::shared_ptr<const Snapshot>& snapshot) override;

  // The port that metrics are served on (of interest where 0 was asked for); 0: none.
  int port() const;

private:
  explicit Exporter(std::size_t top_pods);

  Latest<Snapshot> latest_;
  std::unique_ptr<Totals> totals_;
  std::unique_ptr<History> history_;
  std::unique_ptr<HttpServer> http_;      // after what it reads
  std::unique_ptr<SocketServer> socket_;  // likewise
};

}  // namespace vedette
