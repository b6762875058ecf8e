#include "tools/cli/kubeconfig.h"

#include <fstream>
#include <string>

#include <doctest/doctest.h>

#include "tests/unit/temporary_folder.h"

namespace {

using vedette::KubeClientOptions;
using vedette::read_kubeconfig;
using vedette::Result;

constexpr const char* kPem = "-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----\n";
constexpr const char* kPemBase64 =
    "LS0tLS1CRUdJTiBDRVJUSUZJQ0FURS0tLS0tCk1JSUIKLS0tLS1FTkQgQ0VSVElGSUNBVEUtLS0tLQo=";

class Folder : public vedette::TemporaryFolder {
public:
  std::string write(const std::string& name, const std::string& text) const {
    std::ofstream(file(name)) << text;
    return file(name);
  }
};

// As kubectl writes it, with the given cluster and user, and a user beside it that is none of our business.
std::string kubeconfig(const std::string& cluster, const std::string& user) {
  return "apiVersion: v1\nkind: Config\npreferences: {}\ncurrent-context: prod\n"
         "clusters:\n- name: c1\n  cluster: {" +
         cluster +
         "}\n"
         "contexts:\n- name: prod\n  context: {cluster: c1, user: u1, namespace: default}\n"
         "users:\n- name: other\n  user: {exec: {command: aws}}\n- name: u1\n  user: {" +
         user + "}\n";
}

}  // namespace

TEST_CASE("a kubeconfig with data, files or a token says how to reach the server") {
  const Folder folder;
  const std::string data = kPemBase64;
  auto read = read_kubeconfig(
      folder.write("data", kubeconfig("server: 'https://10.0.0.1:6443', certificate-authority-data: " + data,
                                      "client-certificate-data: " + data + ", client-key-data: " + data)));
  if (!read) FAIL(read.error().text);
  CHECK(read->url == "https://10.0.0.1:6443");
  CHECK(read->ca_pem == kPem);
  CHECK(read->certificate_pem == kPem);
  CHECK(read->key_pem == kPem);
  CHECK(read->token_file.empty());

  folder.write("ca.crt", kPem);
  read =
      read_kubeconfig(folder.write("files", kubeconfig("server: 'https://api', certificate-authority: ca.crt",
                                                       "token: abc, tokenFile: /run/token")));
  if (!read) FAIL(read.error().text);
  CHECK(read->ca_pem == kPem);
  CHECK(read->token_file == "/run/token");
  CHECK(read->token.empty());

  read = read_kubeconfig(folder.write("token", kubeconfig("server: 'https://api'", "token: abc")));
  if (!read) FAIL(read.error().text);
  CHECK(read->token == "abc");
}

TEST_CASE("a kubeconfig that cannot be used is refused in one sentence that names the file and the field") {
  const Folder folder;
  struct Case {
    std::string text, error;
  };
  const std::string server = "server: 'https://api'";
  const Case cases[] = {
      {"", "current-context: expected a value"},
      {"[1]", "expected a mapping"},
      {"{", "not valid YAML"},
      {"current-context: a\n", "contexts: expected one with the name 'a', which current-context names"},
      {"current-context: a\ncontexts: 3\n", "contexts: expected a list"},
      {"current-context: a\ncontexts: [7, {name: a}]\n", "contexts: expected one with the name 'a'"},
      {"current-context: a\ncontexts: [{name: a, context: 7}]\n", "context: expected a mapping"},
      {"current-context: a\ncontexts: [{name: a, context: {cluster: c, user: u}}]\n",
       "clusters: expected one with the name 'c', which the context names"},
      {kubeconfig("certificate-authority: ca.crt", "token: t"),
       "clusters[0].cluster.server: expected a value"},
      {kubeconfig("server: 'api:6443'", "token: t"),
       "clusters[0].cluster.server: expected https://HOST:PORT, found 'api:6443'"},
      {kubeconfig(server + ", certificate-authority: gone.crt", "token: t"),
       "certificate-authority: expected a readable PEM file, found 'gone.crt'"},
      {kubeconfig(server + ", certificate-authority-data: '!!!'", "token: t"),
       "certificate-authority-data: expected a PEM file in base64"},
      {kubeconfig(server + ", certificate-authority-data: YWJjZA==", "token: t"),
       "certificate-authority-data: expected a PEM file in base64"},
      {kubeconfig(server + ", insecure-skip-tls-verify: true", "token: t"),
       "insecure-skip-tls-verify: expected a certificate-authority"},
      {kubeconfig(server + ", proxy-url: 'http://p'", "token: t"), "proxy-url: expected a server"},
      {kubeconfig(server + ", colour: red", "token: t"), "clusters[0].cluster.colour: expected one of"},
      {kubeconfig(server, "exec: {command: aws}"), "users[1].user.exec: expected no plugin"},
      {kubeconfig(server, "auth-provider: {name: gcp}"), "users[1].user.auth-provider: expected no plugin"},
      {kubeconfig(server, "username: me, password: secret"), "users[1].user.username: expected a token"},
      {kubeconfig(server, "token: t, as: admin"), "users[1].user.as: expected rights of one's own"},
      {kubeconfig(server, "token: 'secret with spaces'"), "token: expected one word"},
      {kubeconfig(server, std::string("client-certificate-data: ") + kPemBase64),
       "expected client-certificate and client-key together"},
      {kubeconfig(server, "client-key-data: c2VjcmV0"), "client-key-data: expected a PEM file in base64"},
      {kubeconfig(server, ""), "users: expected a token, a tokenFile or a client-certificate"},
  };
  for (const Case& bad : cases) {
    const std::string file = folder.write("config", bad.text);
    const Result<KubeClientOptions> read = read_kubeconfig(file);
    INFO(bad.text);
    REQUIRE_FALSE(read);
    INFO(read.error().text);
    CHECK(read.error().text.find(bad.error) != std::string::npos);
    CHECK(read.error().text.find(file) != std::string::npos);
    CHECK(read.error().text.find('\n') == std::string::npos);
    CHECK(read.error().text.find("secret") == std::string::npos);
  }
  const Result<KubeClientOptions> gone = read_kubeconfig(folder.file("gone"));
  REQUIRE_FALSE(gone);
  CHECK(gone.error().text.find("/gone") != std::string::npos);
}
