// How a message of api.proto crosses the socket: a 4-byte big-endian length, then its bytes. Shared by the
// agent's socket server and the CLI. Pure functions: any thread.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

namespace vedette {

constexpr std::uint32_t kApiVersion = 1;
constexpr std::size_t kFrameHeaderBytes = 4;
// The largest request is a name of a few hundred bytes: more is not a client of ours.
constexpr std::size_t kMaxRequestBytes = std::size_t{16} * 1024;
// Root imports baselines: a few MB, 20 MiB at most.
constexpr std::size_t kMaxTrustedBytes = std::size_t{21} * 1024 * 1024;
// A full `top` of 1,000 entities is 2 MB; the CLI refuses more before it allocates.
constexpr std::size_t kMaxResponseBytes = std::size_t{21} * 1024 * 1024;
// A tick comes every 10 s at the latest (tick_ms): an agent whose newest one is older hangs, and what it
// answers from it is no verdict any more. /healthz says so, for a liveness check to restart it, and so does
// `vedette status`.
constexpr double kStuckSeconds = 30;
constexpr const char* kDefaultSocketPath = "/run/vedette/agent.sock";

inline std::string frame_header(std::size_t body_bytes) {
  std::string header;
  for (int shift = 24; shift >= 0; shift -= 8) {
    header.push_back(static_cast<char>((body_bytes >> shift) & 0xff));
  }
  return header;
}

// The length that the first kFrameHeaderBytes of `bytes` announce.
inline std::size_t announced_bytes(std::string_view bytes) {
  std::size_t length = 0;
  for (std::size_t i = 0; i < kFrameHeaderBytes; ++i) {
    length = length << 8 | static_cast<unsigned char>(bytes[i]);
  }
  return length;
}

}  // namespace vedette
