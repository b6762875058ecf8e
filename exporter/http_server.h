// The HTTP side: GET /metrics and GET /healthz, served by civetweb (the server prometheus-cpp comes with) on
// two threads of its own. Not prometheus-cpp's Exposer: that holds a scrape three times in memory (families,
// text, compressed text), this sends one family after the other.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <string_view>

#include "agent/base/result.h"

struct mg_context;

namespace vedette {

struct HttpHandlers {
  // Writes the exposition piece by piece. Called by the server's threads, up to two at a time.
  std::function<void(const std::function<void(std::string_view)>& write)> metrics;
  // Empty: fine; otherwise why not (answered with 503).
  std::function<std::string()> trouble;
  // A scrape that takes longer is broken off at the end of a piece. Prometheus itself waits 10 s by default.
  double scrape_limit_s = 10;
};

class HttpServer {
public:
  // `listen`: ADDRESS:PORT; port 0 takes a free one.
  static Result<std::unique_ptr<HttpServer>> make(const std::string& listen, HttpHandlers handlers);
  HttpServer(const HttpServer&) = delete;
  HttpServer& operator=(const HttpServer&) = delete;
  ~HttpServer();

  int port() const;

private:
  explicit HttpServer(HttpHandlers handlers) : handlers_(std::move(handlers)) {}

  const HttpHandlers handlers_;
  mg_context* context_ = nullptr;
};

}  // namespace vedette
