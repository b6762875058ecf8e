#include "exporter/exporter.h"

#include <sstream>

#include <prometheus/metric_family.h>
#include <prometheus/text_serializer.h>
#include <sys/resource.h>
#include <unistd.h>

#include "agent/base/clock.h"
#include "exporter/history.h"
#include "exporter/http_server.h"
#include "exporter/metrics.h"
#include "exporter/socket_server.h"
#include "exporter/totals.h"
#include "exporter/wire.h"

namespace vedette {
namespace {

std::string host_name() {
  char name[256] = "";
  ::gethostname(name, sizeof name - 1);
  return name;
}

double process_cpu_s() {
  rusage use{};
  ::getrusage(RUSAGE_SELF, &use);
  const auto seconds = [](const timeval& time) {
    return static_cast<double>(time.tv_sec) + static_cast<double>(time.tv_usec) / 1e6;
  };
  return seconds(use.ru_utime) + seconds(use.ru_stime);
}

}  // namespace

Exporter::Exporter(std::size_t top_pods)
    : totals_(std::make_unique<Totals>(top_pods)), history_(std::make_unique<History>()) {}

Exporter::~Exporter() = default;

Result<std::unique_ptr<Exporter>> Exporter::make(const ExporterOptions& options, const Services& services) {
  std::unique_ptr<Exporter> exporter(new Exporter(options.top_pods));
  const Instant started = read_instant();
  if (!options.listen.empty()) {
    HttpHandlers handlers;
    handlers.metrics = [self = exporter.get(), started](const std::function<void(std::string_view)>& write) {
      const std::shared_ptr<const Snapshot> snapshot = self->latest_.get();
      if (snapshot == nullptr) return;
      const TotalsCopy totals = self->totals_->copy();
      const double age_s = seconds_between(snapshot->observation.time.monotonic_ns, monotonic_now());
      const prometheus::TextSerializer serializer;
      for_each_family(
          {*snapshot, totals, age_s, process_cpu_s(), static_cast<double>(started.wall_ns) / kNsPerSecond},
          [&](const prometheus::MetricFamily& family) {
            std::ostringstream text;
            serializer.Serialize(text, {family});
            write(text.str());
          });
    };
    handlers.trouble = [self = exporter.get(), started]() -> std::string {
      const std::shared_ptr<const Snapshot> snapshot = self->latest_.get();
      const MonotonicNs newest_ns =
          snapshot == nullptr ? started.monotonic_ns : snapshot->observation.time.monotonic_ns;
      const double age_s = seconds_between(newest_ns, monotonic_now());
      if (age_s <= kStuckSeconds) return "";
      return "no tick for " + std::to_string(static_cast<long>(age_s)) + " s";
    };
    auto http = HttpServer::make(options.listen, std::move(handlers));
    if (!http) return tl::unexpected(http.error());
    exporter->http_ = std::move(*http);
  }
  if (!options.socket_path.empty()) {
    auto socket = SocketServer::make(
        {options.socket_path, options.node_name.empty() ? host_name() : options.node_name, services},
        exporter->latest_, *exporter->history_);
    if (!socket) return tl::unexpected(socket.error());
    exporter->socket_ = std::move(*socket);
  }
  return exporter;
}

void Exporter::publish(const std::shared_ptr<const Snapshot>& snapshot) {
  totals_->add(*snapshot);
  history_->add(*snapshot);
  latest_.set(snapshot);
  if (socket_ != nullptr) socket_->snapshot_published();
}

int Exporter::port() const {
  return http_ == nullptr ? 0 : http_->port();
}

}  // namespace vedette
