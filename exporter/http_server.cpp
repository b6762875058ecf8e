#include "exporter/http_server.h"

#include <csignal>
#include <cstring>
#include <optional>

#include <arpa/inet.h>
#include <civetweb.h>
#include <netinet/in.h>
#include <pthread.h>
#include <sys/socket.h>

#include "agent/base/clock.h"
#include "agent/base/handle.h"

namespace vedette {
namespace {

// civetweb buffers nothing: pieces of this size keep the number of writes and the memory small.
constexpr std::size_t kChunkBytes = std::size_t{16} * 1024;

int discard_log(const mg_connection* /*connection*/, const char* /*message*/) {
  return 1;
}

int serve_metrics(mg_connection* connection, void* data) {
  const auto& handlers = *static_cast<const HttpHandlers*>(data);
  const MonotonicNs begin_ns = monotonic_now();
  mg_send_http_ok(connection, "text/plain; version=0.0.4; charset=utf-8", -1);
  std::string chunk;
  bool broken = false;
  const auto flush = [&] {
    broken = broken || seconds_between(begin_ns, monotonic_now()) >= handlers.scrape_limit_s;
    if (!chunk.empty() && !broken) {
      broken = mg_send_chunk(connection, chunk.data(), static_cast<unsigned>(chunk.size())) <= 0;
    }
    chunk.clear();
  };
  handlers.metrics([&](std::string_view text) {
    chunk.append(text);
    if (chunk.size() >= kChunkBytes) flush();
  });
  flush();
  if (!broken) mg_send_chunk(connection, "", 0);
  return 200;
}

int serve_health(mg_connection* connection, void* data) {
  const std::string trouble = static_cast<const HttpHandlers*>(data)->trouble();
  const std::string body = (trouble.empty() ? "ok" : trouble) + "\n";
  mg_printf(connection,
            "HTTP/1.1 %s\r\nContent-Type: text/plain\r\nContent-Length: %zu\r\nConnection: close\r\n\r\n%s",
            trouble.empty() ? "200 OK" : "503 Service Unavailable", body.size(), body.c_str());
  return trouble.empty() ? 200 : 503;
}

// An IPv4 or bracketed IPv6 address and a port; nothing else, so that civetweb's own syntax (lists, TLS
// suffixes, a bare port on all addresses) stays out of the configuration.
struct ListenAddress {
  sockaddr_storage storage{};
  socklen_t bytes = 0;
};
std::optional<ListenAddress> parse_listen(const std::string& listen) {
  const std::size_t colon = listen.rfind(':');
  if (colon == std::string::npos || colon == 0) return std::nullopt;
  const std::string digits = listen.substr(colon + 1);
  if (digits.empty() || digits.size() > 5 || digits.find_first_not_of("0123456789") != std::string::npos ||
      std::stoi(digits) > 65535) {
    return std::nullopt;
  }
  const auto port = htons(static_cast<std::uint16_t>(std::stoi(digits)));
  std::string host = listen.substr(0, colon);
  ListenAddress address;
  if (host.front() == '[' && host.back() == ']') {
    auto& six = reinterpret_cast<sockaddr_in6&>(address.storage);
    six.sin6_family = AF_INET6;
    six.sin6_port = port;
    address.bytes = sizeof six;
    if (::inet_pton(AF_INET6, host.substr(1, host.size() - 2).c_str(), &six.sin6_addr) != 1)
      return std::nullopt;
    return address;
  }
  auto& four = reinterpret_cast<sockaddr_in&>(address.storage);
  four.sin_family = AF_INET;
  four.sin_port = port;
  address.bytes = sizeof four;
  if (::inet_pton(AF_INET, host.c_str(), &four.sin_addr) != 1) return std::nullopt;
  return address;
}

// civetweb does not tell why it could not listen: ask the kernel once more.
std::string why_not(const ListenAddress& address) {
  // As Debian builds it.
  if (address.storage.ss_family == AF_INET6 && mg_check_feature(MG_FEATURES_IPV6) == 0)
    return "the HTTP server (civetweb) was built without IPv6: expected an IPv4 address";
  const FileHandle socket(::socket(address.storage.ss_family, SOCK_STREAM | SOCK_CLOEXEC, 0));
  const int yes = 1;
  ::setsockopt(socket.get(), SOL_SOCKET, SO_REUSEADDR, &yes, sizeof yes);
  if (::bind(socket.get(), reinterpret_cast<const sockaddr*>(&address.storage), address.bytes) != 0 ||
      ::listen(socket.get(), 1) != 0) {
    return std::strerror(errno);
  }
  return "the HTTP server could not be started";
}

}  // namespace

Result<std::unique_ptr<HttpServer>> HttpServer::make(const std::string& listen, HttpHandlers handlers) {
  const auto address = parse_listen(listen);
  if (!address) {
    return fail("cannot serve metrics on \"" + listen +
                "\": expected ADDRESS:PORT with a numeric address, as in 127.0.0.1:9464");
  }
  std::unique_ptr<HttpServer> server(new HttpServer(std::move(handlers)));
  mg_callbacks callbacks{};
  callbacks.log_message = discard_log;
  // Two threads: a scrape and a health check at once. Requests have no body: 5 s are ample. A client that
  // takes nothing for so long is let go, too; one that takes a little now and then by serve_metrics(),
  // between chunks.
  const char* options[] = {
      "listening_ports",          listen.c_str(), "num_threads", "2", "request_timeout_ms", "5000",
      "enable_directory_listing", "no",           nullptr};
  // civetweb's threads inherit the mask: signals are for the main thread.
  sigset_t all;
  sigset_t before;
  ::sigfillset(&all);
  ::pthread_sigmask(SIG_BLOCK, &all, &before);
  server->context_ = mg_start(&callbacks, nullptr, options);
  ::pthread_sigmask(SIG_SETMASK, &before, nullptr);
  if (server->context_ == nullptr)
    return fail("cannot serve metrics on " + listen + ": " + why_not(*address));
  void* data = const_cast<HttpHandlers*>(&server->handlers_);
  mg_set_request_handler(server->context_, "/metrics$", serve_metrics, data);
  mg_set_request_handler(server->context_, "/healthz$", serve_health, data);
  return server;
}

HttpServer::~HttpServer() {
  if (context_ != nullptr) mg_stop(context_);
}

int HttpServer::port() const {
  mg_server_port port{};
  return mg_get_server_ports(context_, 1, &port) == 1 ? port.port : 0;
}

}  // namespace vedette
