// A server that answers what no API server should: it sends, per connection, one scripted text and closes.
// For bad input only; everything else is tested against the real one.
#pragma once

#include <mutex>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include <doctest/doctest.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "agent/base/handle.h"
#include "tests/kube/loopback.h"

namespace vedette {

class ScriptedServer {
public:
  // The last answer is repeated for ever.
  explicit ScriptedServer(std::vector<std::string> answers) : answers_(std::move(answers)) {
    url_ = "http://" + listener_.host;
    thread_ = std::jthread([this](const std::stop_token& stop) { serve(stop); });
  }

  const std::string& url() const { return url_; }
  std::vector<std::string> requests() const {
    const std::lock_guard lock(mutex_);
    return requests_;
  }

  static std::string answer(int status, const std::string& body) {
    return "HTTP/1.1 " + std::to_string(status) +
           " Text\r\nContent-Type: application/json\r\nContent-Length: " + std::to_string(body.size()) +
           "\r\nConnection: close\r\n\r\n" + body;
  }
  // Without a length: the body ends with the connection.
  static std::string stream(const std::string& body) {
    return "HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n" + body;
  }

private:
  void serve(const std::stop_token& stop) {
    std::size_t next = 0;
    while (!stop.stop_requested()) {
      pollfd waiting{listener_.socket.get(), POLLIN, 0};
      if (::poll(&waiting, 1, 20) <= 0) continue;
      const FileHandle peer(::accept4(listener_.socket.get(), nullptr, nullptr, SOCK_CLOEXEC));
      if (!peer) continue;
      std::string request;
      char buffer[4096];
      while (request.find("\r\n\r\n") == std::string::npos) {
        const auto count = ::recv(peer.get(), buffer, sizeof buffer, 0);
        if (count <= 0) break;
        request.append(buffer, static_cast<std::size_t>(count));
      }
      {
        const std::lock_guard lock(mutex_);
        requests_.push_back(request);
      }
      const std::string& text = answers_[std::min(next, answers_.size() - 1)];
      ++next;
      for (std::size_t sent = 0; sent < text.size();) {
        const auto count = ::send(peer.get(), text.data() + sent, text.size() - sent, MSG_NOSIGNAL);
        if (count <= 0) break;
        sent += static_cast<std::size_t>(count);
      }
      ::shutdown(peer.get(), SHUT_WR);
    }
  }

  std::vector<std::string> answers_;
  LoopbackListener listener_;
  std::string url_;
  mutable std::mutex mutex_;
  std::vector<std::string> requests_;
  std::jthread thread_;
};

}  // namespace vedette
