#include "agent/collect/netdev_source.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <utility>

#include <unistd.h>

namespace vedette {
namespace {

constexpr int kHex = 16;

std::optional<std::uint64_t> parse_hex(std::string_view word) {
  std::uint64_t number = 0;
  const auto* end = word.data() + word.size();
  const auto parsed = std::from_chars(word.data(), end, number, kHex);
  if (parsed.ec != std::errc() || parsed.ptr != end) return std::nullopt;
  return number;
}

std::string host_network(const std::string& proc) {
  return ::access((proc + "/1/net/dev").c_str(), R_OK) == 0 ? proc + "/1/net" : proc + "/net";
}

}  // namespace

std::vector<SoftnetCpu> parse_softnet(std::string_view text) {
  // In hexadecimal: processed, dropped, time_squeeze, ..., and in the 13th column the CPU.
  constexpr int kBetween = 9;
  std::vector<SoftnetCpu> cpus;
  std::string_view line;
  while (next_line(text, line)) {
    next_word(line);
    const auto drops = parse_hex(next_word(line));
    const auto squeezes = parse_hex(next_word(line));
    if (!drops || !squeezes) continue;
    for (int i = 0; i < kBetween; ++i) next_word(line);
    cpus.push_back(
        {.cpu = parse_hex(next_word(line)).value_or(cpus.size()), .drops = *drops, .squeezes = *squeezes});
  }
  return cpus;
}

NetdevSource::NetdevSource(const std::string& proc, std::string sys, FileBudget& budget)
    : sys_(std::move(sys)),
      softnet_(host_network(proc) + "/softnet_stat", budget),
      devices_file_(host_network(proc) + "/dev", budget),
      conntrack_(host_network(proc) + "/stat/nf_conntrack", budget),
      conntrack_max_(proc + "/sys/net/netfilter/nf_conntrack_max", budget) {}

bool NetdevSource::read(MonotonicNs now, Gauges& gauges, FileCounts& counts) {
  const bool softnet = read_softnet(counts);
  const auto entries = read_conntrack_entries();
  const auto max_text = entries ? conntrack_max_.read(buffer_) : std::nullopt;
  const auto limit = max_text ? parse_number(*max_text) : std::nullopt;
  if (limit && *limit > 0) {
    gauges[GAUGE_conntrack_use] = static_cast<double>(*entries) / static_cast<double>(*limit);
  }
  return read_devices(now, counts) && softnet;
}

bool NetdevSource::read_softnet(FileCounts& counts) {
  const auto read = parse_softnet(softnet_.read(buffer_).value_or(""));
  if (read.empty()) {
    counts.forget(COUNTER_softnet_drops);
    counts.forget(COUNTER_softnet_squeezes);
    return false;
  }
  for (const auto& line : read) {
    auto& cpu = cpus_[line.cpu];
    cpu.drops.set(line.drops, softnet_drops_);
    cpu.squeezes.set(line.squeezes, softnet_squeezes_);
  }
  counts.set(COUNTER_softnet_drops, softnet_drops_);
  counts.set(COUNTER_softnet_squeezes, softnet_squeezes_);
  return true;
}

// nf_conntrack_count is that of the network we are in, which a pod without hostNetwork has for itself.
std::optional<std::uint64_t> NetdevSource::read_conntrack_entries() {
  auto text = conntrack_.read(buffer_);
  std::string_view line;
  if (text && next_line(*text, line) && next_line(*text, line)) return parse_hex(next_word(line));
  return std::nullopt;
}

bool NetdevSource::read_devices(MonotonicNs now, FileCounts& counts) {
  const auto text = devices_file_.read(buffer_);
  if (!text) {
    for (const auto counter : {COUNTER_nic_errors, COUNTER_nic_drops, COUNTER_carrier_changes}) {
      counts.forget(counter);
    }
    return false;
  }
  auto rest = *text;
  std::string_view line;
  while (next_line(rest, line)) {
    const auto colon = line.rfind(':');  // names may have one, figures do not
    if (colon == std::string_view::npos) continue;
    auto name = line.substr(0, colon);
    name.remove_prefix(std::min(name.find_first_not_of(' '), name.size()));
    // bytes packets errs drop fifo frame compressed multicast, then the same for sending: bytes packets errs
    // drop
    auto figures = line.substr(colon + 1);
    constexpr std::size_t kColumns = 12;
    std::array<std::uint64_t, kColumns> column{};
    bool whole = true;
    for (auto& figure : column) {
      const auto number = parse_number(next_word(figures));
      whole = whole && number;
      figure = number.value_or(0);
    }
    if (!whole) continue;

    auto [at, fresh] = devices_.try_emplace(std::string(name));
    auto& device = at->second;
    if (fresh) device.hardware = ::access((sys_ + "/class/net/" + at->first + "/device").c_str(), F_OK) == 0;
    device.seen_ns = now;
    if (!device.hardware) continue;
    constexpr std::size_t kErrors = 2;
    constexpr std::size_t kDrops = 3;
    constexpr std::size_t kSent = 8;
    device.errors.set(column[kErrors] + column[kSent + kErrors], errors_);
    device.drops.set(column[kDrops] + column[kSent + kDrops], drops_);
    const auto carrier = carrier_buffer_.read_path(sys_ + "/class/net/" + at->first + "/carrier_changes");
    const auto changes = carrier ? parse_number(*carrier) : std::nullopt;
    if (changes) device.carrier_changes.set(*changes, carrier_changes_);
  }
  std::erase_if(devices_, [&](const auto& entry) { return entry.second.seen_ns != now; });
  counts.set(COUNTER_nic_errors, errors_);
  counts.set(COUNTER_nic_drops, drops_);
  counts.set(COUNTER_carrier_changes, carrier_changes_);
  return true;
}

}  // namespace vedette
