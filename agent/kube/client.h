// A small client of the Kubernetes API: JSON over TLS, a bearer token, one kept-alive connection. It knows
// nothing about health. One object per thread; interrupt it through the stop_token given at its making.
#pragma once

#include <chrono>
#include <cstddef>
#include <functional>
#include <memory>
#include <stop_token>
#include <string>
#include <string_view>

#include "agent/base/result.h"

namespace vedette {

struct KubeClientOptions {
  // "https://HOST:PORT". Empty: inside a pod, from KUBERNETES_SERVICE_HOST and _PORT, and the service
  // account's own CA and token where those two are empty as well.
  std::string url;
  std::string ca_file;     // PEM; empty with an explicit url: the system's authorities
  std::string token_file;  // read anew for every request, since the kubelet rotates it; empty: no token
  // The same as text, and a client certificate with its key, PEM: from a kubeconfig. Empty: none.
  std::string ca_pem{}, token{}, certificate_pem{}, key_pem{};
  // A SYN that is lost twice is sent again after 1 s and 3 s; whoever waits longer had better connect anew.
  std::chrono::milliseconds connect_timeout{2'000};
  // 99 % of single-object calls are promised within 1 s (Kubernetes' own objective); five times that is hung.
  std::chrono::milliseconds request_timeout{5'000};
  // A page of 50 pods is .5 MB as a rule; whoever lists more asks for smaller pages where this is not enough.
  std::size_t max_body_bytes = 16U << 20;
  // One watch event holds one object. etcd holds at most 1.5 MB of it as protobuf; in JSON each '<', '>', '&'
  // and control byte has six: 9 MB.
  std::size_t max_line_bytes = 16U << 20;
  // Longer than any watch of ours lasts (watch_seconds, twice at most): the server ends it by its time.
  // Silence before that says nothing: there are no bookmarks where no object of the kind has changed since
  // the watch began. A line that is cut is noticed by TCP's keepalive, within two minutes.
  std::chrono::milliseconds watch_silence{630'000};
};

struct KubeReply {
  long status = 0;
  std::string body;
  std::chrono::seconds retry_after{0};  // 0: the server did not say
};

enum class PatchType { kStrategic, kMerge };

class KubeClient {
public:
  // Errors: no url and not in a pod, a token that would go over http to another machine, an unreadable file.
  static Result<KubeClient> make(KubeClientOptions options, std::stop_token stop = {});
  KubeClient(KubeClient&&) noexcept;
  KubeClient& operator=(KubeClient&&) noexcept;
  ~KubeClient();

  // `path` begins with "/" and is already percent-encoded. An error is one of the transport (unreachable,
  // TLS, timeout, too large, stopped); any HTTP status is a reply.
  Result<KubeReply> get(std::string_view path, const std::string& accept = "application/json");
  Result<KubeReply> patch(std::string_view path, PatchType type, std::string_view body);
  Result<KubeReply> post(std::string_view path, std::string_view body);
  Result<KubeReply> put(std::string_view path, std::string_view body);
  // `body`: DeleteOptions, for its preconditions.
  Result<KubeReply> del(std::string_view path, std::string_view body = {});

  // Streams GET `path`, giving each whole line of a 200 to `on_line` until that returns false, the server
  // ends the stream (a line cut in its midst is dropped) or an error occurs. Another status comes back with
  // its body.
  using OnLine = std::function<bool(std::string_view line)>;
  Result<KubeReply> watch(std::string_view path, const OnLine& on_line);

  const std::string& url() const;
  // What the server asked for in its last answer (a 429 or 503); 0 otherwise.
  std::chrono::seconds retry_after() const;
  // The last request met no server: none to connect to, none that answered in time, or a 502 to 504 of
  // whoever stands before it.
  bool away() const;
  // The last request was refused by what passes: an overloaded or broken server (429, 5xx), a token that it
  // does not know (401) or that is not there: the kubelet brings a newer one. What is forbidden stays so.
  bool refused_for_now() const;
  // The last answer, or a line of it, was larger than the options allow.
  bool too_large() const;

private:
  class Connection;
  explicit KubeClient(std::unique_ptr<Connection> connection);
  std::unique_ptr<Connection> connection_;
};

// "HTTP 403: nodes is forbidden …": the message of the Status object, else the body's first bytes.
std::string explain(const KubeReply& reply);

// Any status but 2xx becomes an error that begins with `call` ("GET /api/v1/nodes/n1").
Result<KubeReply> require_success(Result<KubeReply> reply, std::string_view call);

// One word of printable ASCII, of a bounded size: anything else would end its header line and begin another.
bool is_bearer_token(std::string_view text);

// Percent-encodes for a path or query.
std::string url_encode(std::string_view text);

}  // namespace vedette
