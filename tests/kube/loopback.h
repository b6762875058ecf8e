// Where the servers of these tests listen. Any thread.
#pragma once

#include <string>

#include <doctest/doctest.h>
#include <netinet/in.h>
#include <sys/socket.h>

#include "agent/base/handle.h"

namespace vedette {

inline sockaddr_in loopback(std::uint16_t port) {
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  address.sin_port = htons(port);
  return address;
}

struct LoopbackListener {
  LoopbackListener() : socket(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)) {
    sockaddr_in address = loopback(0);
    REQUIRE(::bind(socket.get(), reinterpret_cast<sockaddr*>(&address), sizeof address) == 0);
    REQUIRE(::listen(socket.get(), 64) == 0);
    socklen_t length = sizeof address;
    REQUIRE(::getsockname(socket.get(), reinterpret_cast<sockaddr*>(&address), &length) == 0);
    host = "127.0.0.1:" + std::to_string(ntohs(address.sin_port));
  }

  FileHandle socket;
  std::string host;  // with its port
};

}  // namespace vedette
