// Whether the services that a node cannot do without answer: its kubelet, its container runtime, its name
// server. Asked by a thread of its own, for a dead one takes its time; the tick thread takes the newest
// answers.
#pragma once

#include <chrono>
#include <cstdint>
#include <optional>
#include <stop_token>
#include <string>
#include <string_view>

#include <sys/socket.h>

#include "agent/base/clock.h"
#include "agent/collect/polled.h"
#include "agent/collect/psi_source.h"

namespace vedette {

// "" finds a service by itself, "off" leaves it alone.
struct ServicesOptions {
  // found: http://127.0.0.1:10248/healthz, or the socket of its pod resources, if anything ever listened
  // there
  std::string kubelet_url;
  std::string runtime_socket;  // found: the first socket of containerd, CRI-O, Docker that is there
  std::string dns_server;      // found: the first nameserver of the host's resolv.conf
  // A kubelet's own probes have the same pace; a question costs each of them well under a millisecond.
  std::chrono::milliseconds interval{10'000};
  // A healthy one answers in milliseconds, and in a second while its node is starved.
  std::chrono::milliseconds timeout{2000};
};

// Where to ask: "10.0.0.10", "10.0.0.10:53", "[fd00::1]:53", "fe80::1%eth0"; names are not looked up.
struct SocketAddress {
  sockaddr_storage bytes{};
  socklen_t size = 0;
};
std::optional<SocketAddress> parse_address(std::string_view text, std::uint16_t default_port);

struct HttpTarget {
  SocketAddress address;
  std::string host;
  std::string path;
};
// "http://ADDRESS[:PORT][/PATH]"; nothing for anything else.
std::optional<HttpTarget> parse_http_url(std::string_view url);

// The first "nameserver" of a resolv.conf.
std::optional<std::string> first_nameserver(std::string_view resolv_conf);

struct ServiceAnswer {
  bool there = false;  // somebody should answer; otherwise all below means nothing
  bool up = false;
  double answer_s = kMissing;  // until it answered, if it did
};

struct ServicesReading {
  MonotonicNs read_ns = 0;
  ServiceAnswer kubelet;
  ServiceAnswer runtime;
  ServiceAnswer dns;
};

// One round of questions, without a thread: for tests and for the thread itself.
class ServicesReader {
public:
  // `host` is put before the paths of the runtime's socket and of resolv.conf.
  ServicesReader(ServicesOptions options, std::string host);

  // Takes up to a timeout for each service; less once `stop` says so.
  ServicesReading read(const std::stop_token& stop);

private:
  ServiceAnswer ask_kubelet(const std::stop_token& stop);
  ServiceAnswer ask_runtime(const std::stop_token& stop);
  ServiceAnswer ask_dns(const std::stop_token& stop);

  ServicesOptions options_;
  std::string host_;
  // Configured, or met once. Before that, one who refuses is not there: it may not be installed, or listen on
  // the loopback of the host while we are in a pod's network.
  bool kubelet_expected_;
  bool kubelet_by_socket_ = false;
  bool dns_expected_;
  std::string runtime_socket_;  // the one that is expected; empty: none was found yet
  std::uint16_t query_id_;
};

class ServicesSource {
public:
  ServicesSource(const ServicesOptions& options, std::string host);

  // Sets the gauges of the services that are there.
  void take(MonotonicNs now, Gauges& gauges) const;
  double held_s(MonotonicNs now) const { return polled_.overdue_s(now); }

private:
  Polled<ServicesReading> polled_;
};

}  // namespace vedette
