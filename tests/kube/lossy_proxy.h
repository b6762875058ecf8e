// A TCP proxy before the API server that loses answers, and delivers requests after their sender has given
// up: what a network does, to bytes it does not understand (TLS). Test thread starts it; it has a thread per
// connection.
#pragma once

#include <atomic>
#include <chrono>
#include <cstdint>
#include <random>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include <arpa/inet.h>
#include <doctest/doctest.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "agent/base/handle.h"
#include "tests/kube/loopback.h"

namespace vedette {

class LossyProxy {
public:
  // Of what a client sends after its TLS handshake, one in `lost` has its answer cut off, and one in `late`
  // is delivered only after the client was cut off.
  LossyProxy(const std::string& url, unsigned one_lost_in, unsigned one_late_in)
      : lost_(one_lost_in), late_(one_late_in) {
    port_ = static_cast<std::uint16_t>(std::stoul(url.substr(url.rfind(':') + 1)));
    url_ = "https://" + listener_.host;
    thread_ = std::jthread([this](const std::stop_token& stop) { serve(stop); });
  }

  const std::string& url() const { return url_; }
  std::atomic<unsigned> lost{0}, late{0};

private:
  void serve(const std::stop_token& stop) {
    std::vector<std::jthread> connections;
    std::minstd_rand seeds(1);
    while (!stop.stop_requested()) {
      pollfd waiting{listener_.socket.get(), POLLIN, 0};
      if (::poll(&waiting, 1, 20) <= 0) continue;
      FileHandle peer(::accept4(listener_.socket.get(), nullptr, nullptr, SOCK_CLOEXEC));
      if (!peer) continue;
      connections.emplace_back([this, seed = seeds(), own = std::move(peer)](
                                   const std::stop_token& end) mutable { carry(std::move(own), seed, end); });
    }
  }

  static bool pass(int from, int to) {
    char buffer[65536];
    const auto count = ::recv(from, buffer, sizeof buffer, 0);
    return count > 0 && send_all(to, buffer, static_cast<std::size_t>(count));
  }
  static bool send_all(int to, const char* data, std::size_t size) {
    for (std::size_t sent = 0; sent < size;) {
      const auto count = ::send(to, data + sent, size - sent, MSG_NOSIGNAL);
      if (count <= 0) return false;
      sent += static_cast<std::size_t>(count);
    }
    return true;
  }

  void carry(FileHandle client, unsigned seed, const std::stop_token& stop) {
    std::minstd_rand random(seed);
    const FileHandle server(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
    sockaddr_in address = loopback(port_);
    if (::connect(server.get(), reinterpret_cast<sockaddr*>(&address), sizeof address) != 0) return;
    unsigned flights = 0;
    while (!stop.stop_requested()) {
      pollfd both[2] = {{client.get(), POLLIN, 0}, {server.get(), POLLIN, 0}};
      if (::poll(both, 2, 50) <= 0) continue;
      if ((both[1].revents & (POLLIN | POLLHUP)) != 0 && !pass(server.get(), client.get())) return;
      if ((both[0].revents & (POLLIN | POLLHUP)) == 0) continue;
      // The first two flights of a client are its handshake.
      if (++flights > 2 && random() % late_ == 0) {
        ++late;
        char buffer[65536];
        const auto count = ::recv(client.get(), buffer, sizeof buffer, 0);
        client = FileHandle();
        std::this_thread::sleep_for(std::chrono::milliseconds(random() % 400));
        if (count > 0) send_all(server.get(), buffer, static_cast<std::size_t>(count));
        char answer[4096];
        ::recv(server.get(), answer, sizeof answer, 0);
        return;
      }
      if (!pass(client.get(), server.get())) return;
      if (flights > 2 && random() % lost_ == 0) {
        ++lost;
        client = FileHandle();
        char answer[4096];
        ::recv(server.get(), answer, sizeof answer, 0);
        return;
      }
    }
  }

  unsigned lost_, late_;
  std::uint16_t port_ = 0;
  LoopbackListener listener_;
  std::string url_;
  std::jthread thread_;
};

}  // namespace vedette
