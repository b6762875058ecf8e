#include "agent/kube/client.h"

#include <algorithm>
#include <csignal>
#include <cstdlib>
#include <fstream>
#include <mutex>
#include <optional>
#include <utility>
#include <vector>

#include <curl/curl.h>
#include <nlohmann/json.hpp>

namespace vedette {
namespace {

using std::chrono::milliseconds;

constexpr std::string_view kServiceAccount = "/var/run/secrets/kubernetes.io/serviceaccount";
// A projected token is about 1.2 kB; a file beyond this is not a token.
constexpr std::size_t kMaxTokenBytes = 65'536;
// The apiserver closes a connection that was idle for 90 s. One that is almost so old is not worth the risk
// of writing into its closing.
constexpr long kMaxIdleConnectionSeconds = 85;
// How much of a body that is no Status object goes into an error.
constexpr std::size_t kMaxExplanation = 200;

void start_curl() {
  static std::once_flag once;
  std::call_once(once, [] {
    ::curl_global_init(CURL_GLOBAL_DEFAULT);
    // OpenSSL writes to sockets without MSG_NOSIGNAL: a server that goes away must not end the process.
    std::signal(SIGPIPE, SIG_IGN);
  });
}

std::string environment(const char* name) {
  const char* value = std::getenv(name);
  return value == nullptr ? std::string() : std::string(value);
}

// Host of an http(s) URL, without port and brackets.
std::string host_of(const std::string& url) {
  std::string host;
  CURLU* parts = ::curl_url();
  char* text = nullptr;
  if (::curl_url_set(parts, CURLUPART_URL, url.c_str(), 0) == CURLUE_OK &&
      ::curl_url_get(parts, CURLUPART_HOST, &text, 0) == CURLUE_OK) {
    host = text;
    ::curl_free(text);
  }
  ::curl_url_cleanup(parts);
  if (host.size() > 2 && host.front() == '[') host = host.substr(1, host.size() - 2);
  return host;
}

bool is_loopback(const std::string& host) {
  return host == "localhost" || host == "::1" || host.starts_with("127.");
}

Result<std::string> read_token(const std::string& file) {
  std::ifstream in(file, std::ios::binary);
  if (!in) return fail("token file " + file + ": cannot be read (" + std::strerror(errno) + ")");
  std::string token(kMaxTokenBytes + 1, '\0');
  in.read(token.data(), static_cast<std::streamsize>(token.size()));
  token.resize(static_cast<std::size_t>(in.gcount()));
  while (!token.empty() && (token.back() == '\n' || token.back() == '\r' || token.back() == ' ')) {
    token.pop_back();
  }
  if (token.empty()) return fail("token file " + file + ": empty, expected a bearer token");
  if (!is_bearer_token(token)) {
    return fail("token file " + file + ": not a bearer token (one word of printable ASCII expected)");
  }
  return token;
}

// Neither copied nor changed: `text` must outlive the request.
curl_blob blob_of(const std::string& text) {
  return {.data = const_cast<char*>(text.data()), .len = text.size(), .flags = CURL_BLOB_NOCOPY};
}

struct HeaderList {
  curl_slist* first = nullptr;
  HeaderList() = default;
  HeaderList(const HeaderList&) = delete;
  HeaderList& operator=(const HeaderList&) = delete;
  ~HeaderList() { ::curl_slist_free_all(first); }
  void add(const std::string& line) { first = ::curl_slist_append(first, line.c_str()); }
};

}  // namespace

class KubeClient::Connection {
public:
  Connection(KubeClientOptions options, std::stop_token stop)
      : options_(std::move(options)), stop_(std::move(stop)) {
    start_curl();
    multi_ = ::curl_multi_init();
    easy_ = ::curl_easy_init();
  }
  Connection(const Connection&) = delete;
  Connection& operator=(const Connection&) = delete;
  ~Connection() {
    ::curl_easy_cleanup(easy_);
    ::curl_multi_cleanup(multi_);
  }

  const std::string& url() const { return options_.url; }
  std::chrono::seconds retry_after() const { return retry_after_; }
  bool away() const { return away_; }
  bool refused_for_now() const { return refused_for_now_; }
  bool too_large() const { return too_large_; }

  Result<KubeReply> send(const char* method, std::string_view path, std::string_view content_type,
                         std::string_view body, const OnLine* on_line,
                         const std::string& accept = "application/json") {
    retry_after_ = std::chrono::seconds(0);
    away_ = refused_for_now_ = too_large_ = false;
    // Without the query: it may differ in every try, and an error is logged when its text changes.
    const std::string call =
        std::string(method) + " " + options_.url + std::string(path.substr(0, path.find('?')));
    HeaderList headers;
    headers.add("Accept: " + accept);
    if (!content_type.empty()) headers.add("Content-Type: " + std::string(content_type));
    headers.add("Expect:");  // a patch of 2 kB is not worth the extra round trip
    if (!options_.token_file.empty()) {
      auto token = read_token(options_.token_file);
      refused_for_now_ = !token;
      if (!token) return tl::unexpected(token.error());
      headers.add("Authorization: Bearer " + *token);
    } else if (!options_.token.empty()) {
      headers.add("Authorization: Bearer " + options_.token);
    }

    const std::string full_url = options_.url + std::string(path);
    Transfer transfer{
        .connection = this, .on_line = on_line, .reply = {}, .line = {}, .last_data = Clock::now()};
    char detail[CURL_ERROR_SIZE] = "";
    ::curl_easy_reset(easy_);  // keeps the connection
    set(CURLOPT_URL, full_url.c_str());
    set(CURLOPT_CUSTOMREQUEST, method);
    set(CURLOPT_HTTPHEADER, headers.first);
    set(CURLOPT_USERAGENT, "vedette");
    set(CURLOPT_ERRORBUFFER, detail);
    set(CURLOPT_NOSIGNAL, 1L);
    set(CURLOPT_PROTOCOLS_STR, "http,https");
    // A proxy from the environment could see a token that goes over plain http to the loopback.
    set(CURLOPT_PROXY, "");
    set(CURLOPT_HTTP_VERSION, static_cast<long>(CURL_HTTP_VERSION_1_1));
    set(CURLOPT_TCP_KEEPALIVE, 1L);
    set(CURLOPT_TCP_KEEPIDLE, 30L);
    set(CURLOPT_TCP_KEEPINTVL, 10L);
    set(CURLOPT_MAXAGE_CONN, kMaxIdleConnectionSeconds);
    set(CURLOPT_CONNECTTIMEOUT_MS, static_cast<long>(options_.connect_timeout.count()));
    if (on_line == nullptr) set(CURLOPT_TIMEOUT_MS, static_cast<long>(options_.request_timeout.count()));
    set(CURLOPT_SSLVERSION, static_cast<long>(CURL_SSLVERSION_TLSv1_2));
    // Reading one certificate is cheap; a cached authority would outlive its rotation.
    set(CURLOPT_CA_CACHE_TIMEOUT, 0L);
    if (!options_.ca_file.empty()) {
      set(CURLOPT_CAINFO, options_.ca_file.c_str());
      set(CURLOPT_CAPATH, nullptr);
    }
    curl_blob ca = blob_of(options_.ca_pem);
    curl_blob certificate = blob_of(options_.certificate_pem);
    curl_blob key = blob_of(options_.key_pem);
    if (ca.len != 0) {
      set(CURLOPT_CAINFO_BLOB, &ca);
      set(CURLOPT_CAPATH, nullptr);
    }
    if (certificate.len != 0) {
      set(CURLOPT_SSLCERT_BLOB, &certificate);
      set(CURLOPT_SSLKEY_BLOB, &key);
    }
    if (!body.empty()) {
      set(CURLOPT_POSTFIELDSIZE_LARGE, static_cast<curl_off_t>(body.size()));
      set(CURLOPT_POSTFIELDS, body.data());
    }
    set(CURLOPT_WRITEFUNCTION, &Connection::on_data);
    set(CURLOPT_WRITEDATA, &transfer);

    const CURLcode code = run(transfer);
    transfer.reply.status = status();
    curl_off_t retry_after = 0;
    ::curl_easy_getinfo(easy_, CURLINFO_RETRY_AFTER, &retry_after);
    transfer.reply.retry_after = std::chrono::seconds(retry_after);
    retry_after_ = transfer.reply.retry_after;
    const long answered = transfer.reply.status;
    away_ = answered == 0 || (answered >= 502 && answered <= 504);
    refused_for_now_ = answered == 401 || answered == 429 || answered >= 500;
    if (transfer.done_early) return std::move(transfer.reply);
    if (!transfer.error.empty()) return fail(call + ": " + transfer.error);
    if (code != CURLE_OK) {
      return fail(call + ": " + (detail[0] != '\0' ? detail : ::curl_easy_strerror(code)));
    }
    return std::move(transfer.reply);
  }

private:
  using Clock = std::chrono::steady_clock;

  struct Transfer {
    Connection* connection;
    const OnLine* on_line;
    KubeReply reply;
    std::string line;  // the part of a line that has come so far
    Clock::time_point last_data;
    std::string error = {};
    bool done_early = false;  // on_line has had enough
  };

  template <typename Value>
  void set(CURLoption option, Value value) {
    ::curl_easy_setopt(easy_, option, value);
  }

  long status() const {
    long status = 0;
    ::curl_easy_getinfo(easy_, CURLINFO_RESPONSE_CODE, &status);
    return status;
  }

  static std::size_t on_data(char* data, std::size_t size, std::size_t count, void* context) {
    auto& transfer = *static_cast<Transfer*>(context);
    const std::string_view bytes(data, size * count);
    transfer.last_data = Clock::now();
    const bool streaming = transfer.on_line != nullptr && transfer.connection->status() == 200;
    const bool wanted = streaming ? transfer.connection->take_lines(transfer, bytes)
                                  : transfer.connection->take_body(transfer, bytes);
    return wanted ? bytes.size() : CURL_WRITEFUNC_ERROR;
  }

  bool take_body(Transfer& transfer, std::string_view bytes) {
    too_large_ = transfer.reply.body.size() + bytes.size() > options_.max_body_bytes;
    if (too_large_) {
      transfer.error = "the answer is larger than " + std::to_string(options_.max_body_bytes) + " bytes";
      return false;
    }
    transfer.reply.body += bytes;
    return true;
  }

  bool take_lines(Transfer& transfer, std::string_view bytes) {
    while (!bytes.empty()) {
      const std::size_t end = bytes.find('\n');
      const std::string_view part = bytes.substr(0, end);
      too_large_ = transfer.line.size() + part.size() > options_.max_line_bytes;
      if (too_large_) {
        transfer.error = "a watch event is larger than " + std::to_string(options_.max_line_bytes) + " bytes";
        return false;
      }
      transfer.line += part;
      if (end == std::string_view::npos) return true;
      bytes.remove_prefix(end + 1);
      const bool more = transfer.line.empty() || (*transfer.on_line)(transfer.line);
      transfer.line.clear();
      if (!more) {
        transfer.done_early = true;
        return false;
      }
    }
    return true;
  }

  // curl_easy_perform() with two ways out: a stop request wakes the poll, and a silent watch ends.
  CURLcode run(Transfer& transfer) {
    if (stop_.stop_requested()) {
      transfer.error = "stopped";
      return CURLE_ABORTED_BY_CALLBACK;
    }
    ::curl_multi_add_handle(multi_, easy_);
    CURLcode code = CURLE_OK;
    {
      const std::stop_callback wake(stop_, [this] { ::curl_multi_wakeup(multi_); });
      int running = 1;
      while (running != 0) {
        if (const CURLMcode failed = ::curl_multi_perform(multi_, &running); failed != CURLM_OK) {
          transfer.error = ::curl_multi_strerror(failed);
          break;
        }
        if (stop_.stop_requested()) {
          transfer.error = "stopped";
          break;
        }
        if (transfer.on_line != nullptr && Clock::now() - transfer.last_data > options_.watch_silence) {
          transfer.error = "nothing came for " + std::to_string(options_.watch_silence.count()) + " ms";
          break;
        }
        // curl shortens this to its own next timeout; 1 s is how late the silence may be noticed.
        if (running != 0) ::curl_multi_poll(multi_, nullptr, 0, 1000, nullptr);
      }
      int left = 0;
      while (const CURLMsg* message = ::curl_multi_info_read(multi_, &left)) {
        if (message->msg == CURLMSG_DONE) code = message->data.result;
      }
    }
    ::curl_multi_remove_handle(multi_, easy_);
    return code;
  }

  KubeClientOptions options_;
  std::stop_token stop_;
  std::chrono::seconds retry_after_{0};
  bool away_ = false, refused_for_now_ = false, too_large_ = false;
  CURLM* multi_ = nullptr;
  CURL* easy_ = nullptr;
};

KubeClient::KubeClient(std::unique_ptr<Connection> connection) : connection_(std::move(connection)) {}
KubeClient::KubeClient(KubeClient&&) noexcept = default;
KubeClient& KubeClient::operator=(KubeClient&&) noexcept = default;
KubeClient::~KubeClient() = default;

Result<KubeClient> KubeClient::make(KubeClientOptions options, std::stop_token stop) {
  if (options.url.empty()) {
    std::string host = environment("KUBERNETES_SERVICE_HOST");
    const std::string port = environment("KUBERNETES_SERVICE_PORT");
    if (host.empty() || port.empty()) {
      return fail("kube.url: empty, and KUBERNETES_SERVICE_HOST and _PORT are not set (not inside a pod)");
    }
    if (host.find(':') != std::string::npos) host = "[" + host + "]";
    options.url = "https://" + host + ":" + port;
    if (options.ca_file.empty()) options.ca_file = std::string(kServiceAccount) + "/ca.crt";
    if (options.token_file.empty()) options.token_file = std::string(kServiceAccount) + "/token";
  }
  while (options.url.ends_with('/')) options.url.pop_back();
  const bool https = options.url.starts_with("https://");
  const std::string host = host_of(options.url);
  if ((!https && !options.url.starts_with("http://")) || host.empty()) {
    return fail("kube.url: '" + options.url + "' is not an address, expected https://HOST:PORT");
  }
  if (!https && !(options.token_file.empty() && options.token.empty()) && !is_loopback(host)) {
    return fail("kube.url: '" + options.url + "' would carry the token unencrypted, expected https");
  }
  if (!options.ca_file.empty() && !std::ifstream(options.ca_file)) {
    return fail("kube.ca: " + options.ca_file + " cannot be read (" + std::strerror(errno) + ")");
  }
  // A token that is not there yet is no reason to give up: the kubelet may still be mounting it.
  return KubeClient(std::make_unique<Connection>(std::move(options), std::move(stop)));
}

Result<KubeReply> KubeClient::get(std::string_view path, const std::string& accept) {
  return connection_->send("GET", path, "", "", nullptr, accept);
}
Result<KubeReply> KubeClient::patch(std::string_view path, PatchType type, std::string_view body) {
  return connection_->send("PATCH", path,
                           type == PatchType::kStrategic ? "application/strategic-merge-patch+json"
                                                         : "application/merge-patch+json",
                           body, nullptr);
}
Result<KubeReply> KubeClient::post(std::string_view path, std::string_view body) {
  return connection_->send("POST", path, "application/json", body, nullptr);
}
Result<KubeReply> KubeClient::put(std::string_view path, std::string_view body) {
  return connection_->send("PUT", path, "application/json", body, nullptr);
}
Result<KubeReply> KubeClient::del(std::string_view path, std::string_view body) {
  return connection_->send("DELETE", path, body.empty() ? "" : "application/json", body, nullptr);
}
Result<KubeReply> KubeClient::watch(std::string_view path, const OnLine& on_line) {
  return connection_->send("GET", path, "", "", &on_line);
}
const std::string& KubeClient::url() const {
  return connection_->url();
}
std::chrono::seconds KubeClient::retry_after() const {
  return connection_->retry_after();
}

bool KubeClient::away() const {
  return connection_->away();
}
bool KubeClient::refused_for_now() const {
  return connection_->refused_for_now();
}
bool KubeClient::too_large() const {
  return connection_->too_large();
}

std::string explain(const KubeReply& reply) {
  std::string text = "HTTP " + std::to_string(reply.status);
  const auto body = nlohmann::json::parse(reply.body, nullptr, false);
  if (body.is_object() && body.contains("message") && body["message"].is_string()) {
    return text + ": " + body["message"].get<std::string>();
  }
  if (reply.body.empty()) return text;
  std::string start = reply.body.substr(0, kMaxExplanation);
  std::replace_if(
      start.begin(), start.end(), [](char c) { return c < ' ' || c > '~'; }, ' ');
  return text + ": " + start;
}

Result<KubeReply> require_success(Result<KubeReply> reply, std::string_view call) {
  if (!reply || (reply->status >= 200 && reply->status < 300)) return reply;
  return fail(std::string(call) + ": " + explain(*reply));
}

bool is_bearer_token(std::string_view text) {
  return !text.empty() && text.size() <= kMaxTokenBytes &&
         std::all_of(text.begin(), text.end(), [](char c) { return c > ' ' && c < 0x7f; });
}

std::string url_encode(std::string_view text) {
  constexpr std::string_view kHex = "0123456789ABCDEF";
  std::string out;
  for (const char c : text) {
    const auto byte = static_cast<unsigned char>(c);
    const bool plain = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
                       c == '-' || c == '.' || c == '_' || c == '~';
    if (plain) {
      out += c;
    } else {
      out += {'%', kHex[byte >> 4U], kHex[byte & 15U]};
    }
  }
  return out;
}

}  // namespace vedette
