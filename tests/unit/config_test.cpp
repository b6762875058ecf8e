#include "agent/config.h"

#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <string>

#include <doctest/doctest.h>
#include <unistd.h>

using namespace vedette;

namespace {

// These tests may run in a pod.
const bool kOutsidePod = ::unsetenv("KUBERNETES_SERVICE_HOST") == 0;

class ConfigFile {
public:
  explicit ConfigFile(const std::string& text) {
    char name[] = "/tmp/vedette-config-XXXXXX";
    ::close(::mkstemp(name));
    path_ = name;
    std::ofstream(path_) << text;
  }
  ~ConfigFile() { std::remove(path_.c_str()); }
  const std::string& path() const { return path_; }

private:
  std::string path_;
};

std::string error_of(const std::string& text) {
  const ConfigFile file(text);
  const Result<Config> config = load_config(file.path(), false);
  if (config) return "";
  const std::string& error = config.error().text;
  CHECK(error.starts_with(file.path()));
  return error.substr(file.path().size());
}

}  // namespace

TEST_CASE("an empty file means the defaults: observe, standalone") {
  const ConfigFile file("# nothing\n");
  const Result<Config> config = load_config(file.path(), false);
  REQUIRE(config);
  CHECK(config->decide.mode == Mode::kObserve);
  REQUIRE(kOutsidePod);
  CHECK_FALSE(config->kubernetes);
  CHECK_FALSE(config->live.kernel.budget.step.has_value());
  CHECK(config->exporter.listen == "127.0.0.1:9464");
}

TEST_CASE("every section reaches the options of its stage") {
  const ConfigFile file(
      "tick_ms: 250\nprobes_off: [tcp]\nservices: {kubelet_url: 'http://[::1]:10248/healthz', "
      "runtime_socket: off, dns_server: 10.0.0.10}\n"
      "budget: {cpu_share: 0.05, map_mib: 8, step: 2}\nscore: {model: 'off', baselines: /b, baselines_seed: "
      "/s, false_alarms_per_week: 3}\nassess: {recovery_s: 42}\n"
      "act: {mode: enforce, max_taints_per_hour: 9}\n"
      "policy: {rules: [{reason: DiskError, effect: NoExecute}], critical: [a/b]}\n"
      "kube: {url: 'https://127.0.0.1:6443', ca: /ca, token_file: /token, node_name: n1}\n"
      "export: {listen: '', socket: /run/x, top_pods: 5}\nrecord: {file: /r, max_mib: 8, flight: /f, "
      "flight_minutes: 30, "
      "flight_max_mib: 9, incidents_max_mib: 10}\n");
  const Result<Config> config = load_config(file.path(), false);
  REQUIRE(config);
  CHECK(config->live.tick_interval == std::chrono::milliseconds(250));
  CHECK(config->live.kernel.off == std::vector<std::string>{"tcp"});
  CHECK(config->live.files.services.kubelet_url == "http://[::1]:10248/healthz");
  CHECK(config->live.files.services.runtime_socket == "off");
  CHECK(config->live.files.services.dns_server == "10.0.0.10");
  CHECK(config->live.kernel.budget.cpu_share == 0.05);
  CHECK(config->live.kernel.budget.map_mib == 8);
  CHECK(config->live.kernel.budget.step == 2);
  CHECK(config->model == "off");
  CHECK(config->assess.recovery_s == 42);
  CHECK(config->decide.recovery_s == 42);
  CHECK(config->decide.mode == Mode::kEnforce);
  REQUIRE(config->decide.policy->rules.size() == 1);
  CHECK(config->decide.policy->rules[0].effect == Effect::kNoExecute);
  CHECK(config->decide.policy->origin == file.path());
  CHECK(config->decide.max_taints_per_hour == 9);
  CHECK(config->kubernetes);
  CHECK(config->kube.token_file == "/token");
  CHECK(config->node_name == "n1");
  CHECK(config->exporter.top_pods == 5);
  CHECK(config->record_mib == 8);
  CHECK(config->baselines.path == "/b");
  CHECK(config->baselines.seed == "/s");
  CHECK(config->anomaly.false_alarms_per_week == 3);
  CHECK(config->flight.folder == "/f");
  CHECK(config->flight.keep_s == 1800);
  CHECK(config->flight.max_bytes == 9 << 20);
  CHECK(config->flight.max_slice_bytes == 10 << 20);
}

TEST_CASE("a wrong value names the file, the line, the field and what was expected") {
  CHECK(error_of("act:\n  mode: maybe\n") ==
        ":2: act.mode: expected observe, advise or enforce, found 'maybe'");
  CHECK(error_of("tick_ms: fast\n") == ":1: tick_ms: expected a number from 50 to 10000, found 'fast'");
  CHECK(error_of("tick_ms: 100.5\n") ==
        ":1: tick_ms: expected a whole number from 50 to 10000, found '100.5'");
  CHECK(error_of("budget: {cpu_share: .nan}\n") ==
        ":1: budget.cpu_share: expected a number from 0.0001 to 1, found '.nan'");
  CHECK(error_of("\n\nassess: 5\n") == ":3: assess: expected a mapping of keys to values, found '5'");
  CHECK(error_of("kube: {url: [a]}\n") == ":1: kube.url: expected a single value");
  CHECK(error_of("probes_off: tcp\n") == ":1: probes_off: expected a list of words, found 'tcp'");
  CHECK(error_of("services: {dns_server: dns.example}\n") ==
        ":1: services.dns_server: expected an address like 10.0.0.10 or 10.0.0.10:53, off, or nothing to "
        "find it, "
        "found 'dns.example'");
  CHECK(error_of("services: {kubelet_url: 'https://127.0.0.1/'}\n").find("expected http://ADDRESS") !=
        std::string::npos);
  CHECK(error_of("- a\n- b\n") == ":1: expected a mapping of keys to values");
}

TEST_CASE("an unknown key is an error that lists the known ones") {
  CHECK(error_of("export:\n  lisen: 1\n") ==
        ":2: export.lisen: expected one of listen socket top_pods, found 'lisen'");
  CHECK(error_of("act: {moed: x}\n").find("act.moed: expected one of max_tainted_share") !=
        std::string::npos);
}

TEST_CASE("what is not YAML is one sentence with its line") {
  CHECK(error_of("act: {mode: observe\n").find("not valid YAML") != std::string::npos);
  CHECK(error_of("a: b: c\n").find(":1: not valid YAML") != std::string::npos);
}

TEST_CASE("enforce without an API server, and a server without a node name, are refused") {
  CHECK(error_of("act: {mode: advise}\n").find("advise needs an API server") != std::string::npos);
  CHECK(error_of("act: {mode: enforce}\n").find("needs an API server") != std::string::npos);
  CHECK(error_of("kube: {url: 'https://127.0.0.1:1'}\n").find("kube.node_name") != std::string::npos);
}

TEST_CASE(
    "who is told to do without Kubernetes has no API server, whatever the file says, and acts on none") {
  const std::string server = "kube: {url: 'https://127.0.0.1:1'}\n";
  const ConfigFile observes(server);
  const Result<Config> config = load_config(observes.path(), true);
  REQUIRE(config);
  CHECK_FALSE(config->kubernetes);
  const ConfigFile enforces(server + "act: {mode: enforce}\n");
  const Result<Config> refused = load_config(enforces.path(), true);
  REQUIRE_FALSE(refused);
  CHECK(refused.error().text ==
        enforces.path() + ": act.mode: enforce needs an API server: start without --standalone");
}

TEST_CASE("a file that does not exist is named") {
  const Result<Config> config = load_config("/nonexistent/agent.yaml", false);
  REQUIRE_FALSE(config);
  CHECK(config.error().text == "open /nonexistent/agent.yaml: No such file or directory");
}

TEST_CASE("a file that opens and cannot be read is no empty one, nor is one without an end") {
  const auto error_of_file = [](const char* file) {
    const Result<Config> config = load_config(file, false);
    return config ? "" : config.error().text;
  };
  CHECK(error_of_file("/tmp") == "read /tmp: Is a directory");
  CHECK(error_of_file("/dev/zero") == "/dev/zero: expected at most 4194304 bytes");
  const ConfigFile rules_elsewhere("log_rules_file: /tmp\n");
  CHECK(error_of_file(rules_elsewhere.path().c_str()) == "read /tmp: Is a directory");
}
