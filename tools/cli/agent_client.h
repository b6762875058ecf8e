// The client's end of the agent's socket. Used by one thread.
#pragma once

#include <string>

#include "agent/base/handle.h"
#include "agent/base/result.h"

namespace vedette {

namespace api {
class Request;
class Response;
}  // namespace api

// What is wrong with an agent whose newest tick is so old; empty: nothing.
std::string stuck_text(double age_s);

class AgentClient {
public:
  // The error says in one sentence why the agent cannot be reached.
  static Result<AgentClient> connect(const std::string& socket_path);

  // Sends one request (its version is filled in) and waits for its answer. An Error answer is a Response.
  Result<api::Response> ask(api::Request request);
  // The next answer of a stream.
  Result<api::Response> receive();

  int fd() const { return socket_.get(); }

private:
  AgentClient(FileHandle socket, std::string path) : socket_(std::move(socket)), path_(std::move(path)) {}

  FileHandle socket_;
  std::string path_;
};

}  // namespace vedette
