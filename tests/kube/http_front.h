// What stands before the real API server and answers some requests itself: an overloaded server, a load
// balancer whose server is gone, a broken line. All others are passed on as they are. Plain HTTP to the
// client, so that it understands what it passes on (LossyProxy does not). Test thread starts it; it has a
// thread per connection.
#pragma once

#include <chrono>
#include <functional>
#include <mutex>
#include <string>
#include <string_view>
#include <thread>
#include <utility>
#include <vector>

#include <doctest/doctest.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "agent/base/handle.h"
#include "agent/kube/client.h"
#include "tests/kube/loopback.h"

namespace vedette {

class HttpFront {
public:
  struct Request {
    std::string method, path, accept, type, body;
    std::chrono::steady_clock::time_point at;
  };
  struct Instead {
    std::string answer;        // as ScriptedServer makes them; empty: the server's own
    bool carried_out = false;  // given although the server has done what was asked
  };
  // Asked once for each request, by one thread at a time.
  using Hook = std::function<Instead(const Request&)>;

  HttpFront(KubeClientOptions server, Hook hook) : server_(std::move(server)), hook_(std::move(hook)) {
    client_.url = "http://" + listener_.host;
    thread_ = std::jthread([this](const std::stop_token& stop) { serve(stop); });
  }

  // For a client of it; whom the server takes it for is the front's affair.
  const KubeClientOptions& client() const { return client_; }
  std::vector<Request> requests() const {
    const std::lock_guard lock(mutex_);
    return requests_;
  }

private:
  void serve(const std::stop_token& stop) {
    std::vector<std::jthread> connections;
    while (!stop.stop_requested()) {
      pollfd waiting{listener_.socket.get(), POLLIN, 0};
      if (::poll(&waiting, 1, 20) <= 0) continue;
      FileHandle peer(::accept4(listener_.socket.get(), nullptr, nullptr, SOCK_CLOEXEC));
      if (!peer) continue;
      connections.emplace_back([this, own = std::move(peer)](const std::stop_token& end) mutable {
        answer(own.get(), end);
        ::shutdown(own.get(), SHUT_WR);
      });
    }
  }

  static std::string header(const std::string& head, const std::string& name) {
    const std::size_t at = head.find("\r\n" + name + ": ");
    if (at == std::string::npos) return {};
    const std::size_t begin = at + name.size() + 4;
    return head.substr(begin, head.find("\r\n", begin) - begin);
  }

  static bool read(int peer, Request& request) {
    std::string text;
    std::size_t whole = std::string::npos;
    char buffer[65536];
    while (text.size() < whole) {
      const auto count = ::recv(peer, buffer, sizeof buffer, 0);
      if (count <= 0) return false;
      text.append(buffer, static_cast<std::size_t>(count));
      const std::size_t end = text.find("\r\n\r\n");
      if (end == std::string::npos) continue;
      const std::string length = header(text, "Content-Length");
      whole = end + 4 + (length.empty() ? 0 : std::stoul(length));
    }
    const std::size_t end = text.find("\r\n\r\n");
    const std::size_t space = text.find(' ');
    request.method = text.substr(0, space);
    request.path = text.substr(space + 1, text.find(' ', space + 1) - space - 1);
    request.accept = header(text, "Accept");
    request.type = header(text, "Content-Type");
    request.body = text.substr(end + 4);
    request.at = std::chrono::steady_clock::now();
    return true;
  }

  static bool send(int peer, std::string_view text) {
    while (!text.empty()) {
      const auto count = ::send(peer, text.data(), text.size(), MSG_NOSIGNAL);
      if (count <= 0) return false;
      text.remove_prefix(static_cast<std::size_t>(count));
    }
    return true;
  }

  void answer(int peer, const std::stop_token& end) {
    Request request;
    if (!read(peer, request)) return;
    Instead instead;
    {
      const std::lock_guard lock(mutex_);
      requests_.push_back(request);
      instead = hook_(request);
    }
    if (!instead.answer.empty() && !instead.carried_out) {
      send(peer, instead.answer);
      return;
    }
    auto client = KubeClient::make(server_, end);
    if (!client) return;
    if (request.path.find("watch=1") != std::string::npos) {
      bool begun = false;
      const auto reply = client->watch(request.path, [&](std::string_view line) {
        if (!begun) begun = send(peer, "HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n");
        return begun && send(peer, std::string(line) + "\n");
      });
      if (reply && !begun) send(peer, text_of(*reply));
      return;
    }
    const auto reply =
        request.method == "GET"    ? client->get(request.path, request.accept)
        : request.method == "POST" ? client->post(request.path, request.body)
        : request.method == "PUT"  ? client->put(request.path, request.body)
        : request.method == "DELETE"
            ? client->del(request.path, request.body)
            : client->patch(request.path,
                            request.type.find("strategic") != std::string::npos ? PatchType::kStrategic
                                                                                : PatchType::kMerge,
                            request.body);
    if (!instead.answer.empty()) {
      send(peer, instead.answer);
    } else if (reply) {
      send(peer, text_of(*reply));
    }
  }

  static std::string text_of(const KubeReply& reply) {
    return "HTTP/1.1 " + std::to_string(reply.status) +
           " Text\r\nContent-Type: application/json\r\nContent-Length: " + std::to_string(reply.body.size()) +
           "\r\nConnection: close\r\n\r\n" + reply.body;
  }

  const KubeClientOptions server_;
  const Hook hook_;
  KubeClientOptions client_;
  LoopbackListener listener_;
  mutable std::mutex mutex_;  // of the hook and the log
  std::vector<Request> requests_;
  std::jthread thread_;
};

}  // namespace vedette
