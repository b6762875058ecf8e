#include "agent/config.h"

#include <cstdlib>
#include <fstream>

#include <unistd.h>

#include "agent/yaml_section.h"

namespace vedette {
namespace {

constexpr const char* kNamespaceFile = "/var/run/secrets/kubernetes.io/serviceaccount/namespace";

std::string environment(const char* name) {
  const char* value = std::getenv(name);  // NOLINT(concurrency-mt-unsafe): before any thread starts
  return value == nullptr ? "" : value;
}

// Rules of the configuration itself go before those of `log_rules_file`, and both before those that ship.
Status read_rules(YamlSection& root, Config& config) {
  std::string file;
  root.text("log_rules_file", file);
  Result<std::vector<LogRule>> rules = read_log_rules(root);
  if (!rules) return tl::unexpected(rules.error());
  if (!file.empty()) {
    Result<YamlSection> more = YamlSection::load(file);
    if (!more) return tl::unexpected(more.error());
    Result<std::vector<LogRule>> others = read_log_rules(*more);
    if (!others) return tl::unexpected(others.error());
    if (Status ok = more->finish(); !ok) return ok;
    rules->insert(rules->end(), others->begin(), others->end());
  }
  Result<std::shared_ptr<const LogRules>> made = LogRules::make(std::move(*rules));
  if (!made) return tl::unexpected(made.error());
  config.live.log_rules = *made;
  config.assess.log_rules = *made;
  return {};
}

Status read(YamlSection root, const std::string& path, Config& config) {
  root.milliseconds("tick_ms", config.live.tick_interval, 50, 10'000)
      .milliseconds("file_ms", config.live.files.interval, 100, 60'000)
      .count<std::uint32_t>("slots", config.live.kernel.slots, 16, kMaxSlots)
      .milliseconds("slow_call_ms", config.live.kernel.slow_call, 1, 60'000)
      .words("probes_off", config.live.kernel.off);

  YamlSection services = root.section("services");
  ServicesOptions& ask = config.live.files.services;
  services.text("kubelet_url", ask.kubelet_url)
      .text("runtime_socket", ask.runtime_socket)
      .text("dns_server", ask.dns_server);
  const auto given = [](const std::string& text) { return !text.empty() && text != "off"; };
  if (given(ask.kubelet_url) && !parse_http_url(ask.kubelet_url)) {
    services.refuse("kubelet_url", "http://ADDRESS:PORT/PATH, off, or nothing to find it");
  }
  if (given(ask.runtime_socket) && !ask.runtime_socket.starts_with('/')) {
    services.refuse("runtime_socket", "the path of a socket, off, or nothing to find it");
  }
  if (given(ask.dns_server) && !parse_address(ask.dns_server, 0)) {
    services.refuse("dns_server", "an address like 10.0.0.10 or 10.0.0.10:53, off, or nothing to find it");
  }
  if (Status ok = services.finish(); !ok) return ok;
  YamlSection budget = root.section("budget");
  static_assert(kBudgetSteps.size() == 7);
  std::size_t step = 0;
  budget.number("cpu_share", config.live.kernel.budget.cpu_share, 0.0001, 1)
      .count<std::uint32_t>("map_mib", config.live.kernel.budget.map_mib, 8, 4096)
      .choice("step", step, {"auto", "0", "1", "2", "3", "4", "5", "6"});
  if (Status ok = budget.finish(); !ok) return ok;
  if (step > 0) config.live.kernel.budget.step = static_cast<unsigned>(step - 1);

  if (Status ok = read_rules(root, config); !ok) return ok;

  YamlSection score = root.section("score");
  score.text("model", config.model)
      .number("false_alarms_per_week", config.anomaly.false_alarms_per_week, 0.01, 10'000)
      .text("baselines", config.baselines.path)
      .text("baselines_seed", config.baselines.seed);
  if (Status ok = score.finish(); !ok) return ok;

  YamlSection assess = root.section("assess");
  assess.number("recovery_s", config.assess.recovery_s, 0.05, 86'400)
      .number("score_recovery_s", config.assess.score_recovery_s, 0.05, 86'400)
      .number("risk_hold_s", config.assess.risk_hold_s, 0, 600)
      .number("anomaly_hold_s", config.assess.anomaly_hold_s, 0, 600);
  if (Status ok = assess.finish(); !ok) return ok;
  config.decide.recovery_s = config.assess.recovery_s;

  YamlSection act = root.section("act");
  std::size_t mode = 0;
  act.choice("mode", mode, {"observe", "advise", "enforce"})
      .count<unsigned>("max_taints_per_hour", config.decide.max_taints_per_hour, 1, 1'000'000)
      .number("max_tainted_share", config.taint_budget.share, 0, 1)
      .text("pool_label", config.pool_label);
  if (Status ok = act.finish(); !ok) return ok;
  config.decide.mode = static_cast<Mode>(mode);

  Result<Policy> policy = Policy::read(root, path);
  if (!policy) return tl::unexpected(policy.error());
  config.decide.policy = std::make_shared<const Policy>(std::move(*policy));

  YamlSection kube = root.section("kube");
  std::string node_name;
  kube.text("url", config.kube.url)
      .text("ca", config.kube.ca_file)
      .text("token_file", config.kube.token_file)
      .text("node_name", node_name)
      .text("namespace", config.taint_budget.namespace_name)
      .milliseconds("start_spread_ms", config.start_spread, 0, 600'000);
  if (!node_name.empty()) config.node_name = node_name;
  if (Status ok = kube.finish(); !ok) return ok;

  YamlSection exported = root.section("export");
  exported.text("listen", config.exporter.listen)
      .text("socket", config.exporter.socket_path)
      .count<std::size_t>("top_pods", config.exporter.top_pods, 1, 10'000);
  if (Status ok = exported.finish(); !ok) return ok;

  YamlSection record = root.section("record");
  std::uint64_t journal_mib = config.journal.max_bytes >> 20;
  std::uint64_t flight_mib = config.flight.max_bytes >> 20;
  std::uint64_t incidents_mib = config.flight.max_slice_bytes >> 20;
  double flight_minutes = config.flight.keep_s / 60;
  record.text("file", config.record_file)
      .count<std::uint64_t>("max_mib", config.record_mib, 2, 1 << 20)
      .text("journal", config.journal.path)
      .count<std::uint64_t>("journal_max_mib", journal_mib, 1, 1 << 20)
      .text("flight", config.flight.folder)
      .number("flight_minutes", flight_minutes, 0.1, 1440)
      .count<std::uint64_t>("flight_max_mib", flight_mib, 1, 1 << 20)
      .count<std::uint64_t>("incidents_max_mib", incidents_mib, 1, 1 << 20);
  config.journal.max_bytes = journal_mib << 20;
  config.flight.keep_s = 60 * flight_minutes;
  config.flight.max_bytes = flight_mib << 20;
  config.flight.max_slice_bytes = incidents_mib << 20;
  if (Status ok = record.finish(); !ok) return ok;
  return root.finish();
}

}  // namespace

Result<Config> load_config(const std::string& file, bool standalone) {
  Config config;
  const std::string journal = kDefaultJournal;
  if (::access(journal.substr(0, journal.rfind('/')).c_str(), W_OK) == 0) {
    config.journal.path = journal;
    config.flight.folder = kDefaultFlight;
    config.baselines.path = kDefaultBaselines;
  }
  config.node_name = environment("NODE_NAME");
  std::ifstream(kNamespaceFile) >> config.taint_budget.namespace_name;
  const bool optional = file.empty();
  const std::string path = optional ? kDefaultConfigFile : file;
  if (!optional || ::access(path.c_str(), F_OK) == 0) {
    Result<std::string> text = YamlSection::text_of(path);
    if (!text) return tl::unexpected(text.error());
    config.text = std::move(*text);
    Result<YamlSection> root = YamlSection::parse(config.text, path);
    if (!root) return tl::unexpected(root.error());
    if (Status ok = read(std::move(*root), path, config); !ok) return tl::unexpected(ok.error());
  }
  config.kubernetes =
      !standalone && (!config.kube.url.empty() || !environment("KUBERNETES_SERVICE_HOST").empty());
  if (config.kubernetes && config.node_name.empty()) {
    return fail((optional ? "environment" : path) +
                ": kube.node_name (or NODE_NAME): expected this node's name, found none");
  }
  if (!config.kubernetes && config.decide.mode != Mode::kObserve) {
    return fail(path + ": act.mode: " + std::string(to_string(config.decide.mode)) +
                " needs an API server: " +
                (standalone ? "start without --standalone" : "set kube.url, or run in a pod"));
  }
  config.exporter.node_name = config.node_name;
  return config;
}

}  // namespace vedette
