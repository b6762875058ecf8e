// The local socket on which the CLI asks. One thread of its own polls the clients; it reads the newest
// snapshot and never makes the tick thread wait. make() and the destructor belong to whoever owns it;
// snapshot_published() may be called by any thread.
#pragma once

#include <atomic>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "agent/base/handle.h"
#include "agent/base/latest.h"
#include "agent/base/result.h"
#include "agent/snapshot.h"
#include "exporter/history.h"
#include "exporter/services.h"

namespace vedette {

struct AnswerContext;

struct SocketServerOptions {
  std::string path;
  std::string node;  // this node's name, in every answer
  Services services;
};

class SocketServer {
public:
  // `latest` and `history` must outlive the server. Makes the path's directory (0755), removes a socket that
  // nobody listens on, and refuses one where somebody does or which is no socket.
  static Result<std::unique_ptr<SocketServer>> make(SocketServerOptions options,
                                                    const Latest<Snapshot>& latest, const History& history);
  SocketServer(const SocketServer&) = delete;
  SocketServer& operator=(const SocketServer&) = delete;
  ~SocketServer();

  // Wakes the thread if anybody streams; otherwise costs one atomic load.
  void snapshot_published();

private:
  struct Client;

  SocketServer(SocketServerOptions options, const Latest<Snapshot>& latest, const History& history,
               FileHandle listener, FileHandle wake, MonotonicNs started_ns);

  AnswerContext context(const Client& client) const;
  void run(const std::stop_token& stop);
  void accept_clients();
  void read_from(Client& client);
  void write_to(Client& client);
  void answer_requests(Client& client);
  void stream_to(Client& client);
  void wake() const;

  const SocketServerOptions options_;
  const Latest<Snapshot>& latest_;
  const History& history_;
  FileHandle listener_;
  FileHandle wake_;
  const MonotonicNs started_ns_;
  std::vector<std::unique_ptr<Client>> clients_;
  std::atomic<bool> streaming_ = false;
  std::jthread thread_;  // last: it stops before anything it uses goes
};

}  // namespace vedette
