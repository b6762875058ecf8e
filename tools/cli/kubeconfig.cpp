#include "tools/cli/kubeconfig.h"

#include <algorithm>
#include <cstdint>
#include <filesystem>
#include <fstream>
#include <optional>
#include <sstream>
#include <string_view>
#include <vector>

#include "agent/yaml_section.h"

namespace vedette {
namespace {

std::optional<std::string> base64_decode(std::string_view text) {
  constexpr std::string_view kDigits = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
  std::string bytes;
  std::uint32_t bits = 0;
  unsigned count = 0;
  const std::size_t padding = text.size() - std::min(text.size(), text.find_last_not_of('=') + 1);
  if (text.size() % 4 != 0 || padding > 2) return std::nullopt;
  text.remove_suffix(padding);
  for (const char c : text) {
    const std::size_t digit = kDigits.find(c);
    if (digit == std::string_view::npos) return std::nullopt;
    bits = (bits << 6U) | static_cast<std::uint32_t>(digit);
    count += 6;
    if (count < 8) continue;
    count -= 8;
    bytes += static_cast<char>((bits >> count) & 0xffU);
  }
  return bytes;
}

bool is_pem(std::string_view text) {
  return text.find("-----BEGIN ") != std::string_view::npos;
}

class Kubeconfig {
public:
  explicit Kubeconfig(const std::string& file) : file_(file) {}

  Result<KubeClientOptions> read() {
    Result<YamlSection> root = YamlSection::load(file_);
    if (!root) return tl::unexpected(root.error());
    std::string ignored;
    std::string current;
    root->text("apiVersion", ignored).text("kind", ignored).required("current-context", current);
    root->section("preferences");
    root->section("extensions");
    std::vector<YamlSection> contexts = root->sections("contexts");
    std::vector<YamlSection> clusters = root->sections("clusters");
    std::vector<YamlSection> users = root->sections("users");
    if (Status done = root->finish(); !done) return tl::unexpected(done.error());

    Result<YamlSection> context = named(contexts, "context", current, "current-context");
    if (!context) return tl::unexpected(context.error());
    std::string cluster_name;
    std::string user_name;
    context->required("cluster", cluster_name).required("user", user_name).text("namespace", ignored);
    context->section("extensions");
    if (Status done = context->finish(); !done) return tl::unexpected(done.error());

    Result<YamlSection> cluster = named(clusters, "cluster", cluster_name, "the context");
    if (!cluster) return tl::unexpected(cluster.error());
    if (Status done = read_cluster(*cluster); !done) return tl::unexpected(done.error());
    Result<YamlSection> user = named(users, "user", user_name, "the context");
    if (!user) return tl::unexpected(user.error());
    if (Status done = read_user(*user); !done) return tl::unexpected(done.error());
    return options_;
  }

private:
  // What the entry called `name` has below `key` ("user" for the list "users").
  Result<YamlSection> named(std::vector<YamlSection>& list, const std::string& key, const std::string& name,
                            const std::string& by) const {
    for (YamlSection& item : list) {
      std::string found;
      if (item.text("name", found).has(key) && found == name) return item.section(key);
    }
    return fail(file_ + ": " + key + "s: expected one with the name '" + name + "', which " + by + " names");
  }

  Status read_cluster(YamlSection& cluster) {
    std::string ignored;
    cluster.required("server", options_.url)
        .text("disable-compression", ignored)
        .refuse("insecure-skip-tls-verify", "a certificate-authority: credentials go to no server unverified")
        .refuse("tls-server-name", "a server whose certificate has the name in its address")
        .refuse("proxy-url", "a server that is reached without a proxy");
    cluster.section("extensions");
    if (!options_.url.starts_with("https://") && !options_.url.starts_with("http://"))
      cluster.refuse("server", "https://HOST:PORT");
    if (Status done = read_pem(cluster, "certificate-authority", options_.ca_pem); !done) return done;
    return cluster.finish();
  }

  Status read_user(YamlSection& user) {
    for (const char* plugin : {"exec", "auth-provider"})
      user.refuse(plugin, "no plugin: run it, and hand its token over with --server and --token-file");
    for (const char* basic : {"username", "password"})
      user.refuse(basic, "a token or a client-certificate: no API server takes passwords since 1.19");
    for (const char* other : {"as", "as-uid", "as-groups", "as-user-extra"})
      user.refuse(other, "rights of one's own");
    user.text("tokenFile", options_.token_file).text("token", options_.token);
    user.section("extensions");
    // As kubectl: the file wins.
    if (!options_.token_file.empty()) {
      options_.token_file = beside(options_.token_file);
      options_.token.clear();
    }
    if (Status done = read_pem(user, "client-certificate", options_.certificate_pem); !done) return done;
    if (Status done = read_pem(user, "client-key", options_.key_pem); !done) return done;
    if (Status done = user.finish(); !done) return done;
    // No secret may end up in a message.
    if (!options_.token.empty() && !is_bearer_token(options_.token))
      return fail(file_ + ": users: token: expected one word of printable ASCII");
    if (options_.certificate_pem.empty() != options_.key_pem.empty())
      return fail(file_ + ": users: expected client-certificate and client-key together");
    if (options_.certificate_pem.empty() && options_.token.empty() && options_.token_file.empty())
      return fail(file_ + ": users: expected a token, a tokenFile or a client-certificate");
    return {};
  }

  // `key`-data (base64 of it) or `key` (a file).
  Status read_pem(YamlSection& section, const std::string& key, std::string& pem) const {
    std::string data;
    std::string path;
    section.text(key + "-data", data).text(key, path);
    if (!data.empty()) {
      pem = base64_decode(data).value_or("");
      if (!is_pem(pem)) return fail(file_ + ": " + key + "-data: expected a PEM file in base64");
    } else if (!path.empty()) {
      std::ostringstream text;
      text << std::ifstream(beside(path)).rdbuf();
      pem = text.str();
      if (!is_pem(pem)) section.refuse(key, "a readable PEM file");
    }
    return {};
  }

  // A relative path is relative to the kubeconfig.
  std::string beside(const std::string& path) const {
    return std::filesystem::path(file_).parent_path() / path;
  }

  const std::string& file_;
  KubeClientOptions options_;
};

}  // namespace

Result<KubeClientOptions> read_kubeconfig(const std::string& file) {
  return Kubeconfig(file).read();
}

}  // namespace vedette
