#include "agent/collect/kernel_source.h"

#include <algorithm>
#include <cstdint>
#include <optional>
#include <utility>

#include <unistd.h>

namespace vedette {
namespace {

// Limits change when people change them.
constexpr MonotonicNs kTaskLimitsAgeNs = 10'000'000'000;
constexpr double kBytesPerKb = 1024;

std::optional<double> find_bytes(std::string_view meminfo, std::string_view key) {
  const auto kb = find_number(meminfo, key);
  if (!kb) return std::nullopt;
  return static_cast<double>(*kb) * kBytesPerKb;
}

struct Counted {
  std::string_view key;
  vedette_counter counter;
};
constexpr std::array<Counted, 5> kVmstat{{
    {"pgfault", COUNTER_page_faults},
    {"pgmajfault", COUNTER_major_faults},
    {"pswpin", COUNTER_swapped_in_pages},
    {"pswpout", COUNTER_swapped_out_pages},
    {"thp_split_page", COUNTER_huge_page_splits},
}};

}  // namespace

KernelSource::KernelSource(std::string proc, FileBudget& budget)
    : proc_(std::move(proc)),
      meminfo_(proc_ + "/meminfo", budget),
      stat_(proc_ + "/stat", budget),
      vmstat_(proc_ + "/vmstat", budget),
      loadavg_(proc_ + "/loadavg", budget),
      tainted_(proc_ + "/sys/kernel/tainted", budget) {}

bool KernelSource::read(MonotonicNs now, Gauges& gauges, FileCounts& counts) {
  const auto meminfo = meminfo_.read(buffer_);
  bool complete = meminfo && read_memory(*meminfo, gauges);

  if (const auto stat = stat_.read(buffer_)) {
    read_cpu(*stat, now, gauges);
  } else {
    complete = false;
  }
  const auto vmstat = vmstat_.read(buffer_);
  read_counters(vmstat.value_or(""), counts);
  complete = read_tasks(now, gauges) && vmstat && complete;

  if (const auto text = tainted_.read(buffer_)) {
    if (const auto flags = parse_number(*text)) gauges[GAUGE_kernel_taint] = static_cast<double>(*flags);
  }
  return complete;
}

bool KernelSource::read_memory(std::string_view meminfo, Gauges& gauges) {
  if (const auto slab = find_bytes(meminfo, "Slab:")) gauges[GAUGE_slab_bytes] = *slab;
  if (const auto tables = find_bytes(meminfo, "PageTables:")) gauges[GAUGE_page_table_bytes] = *tables;
  const auto swap = find_bytes(meminfo, "SwapTotal:");
  const auto swap_free = find_bytes(meminfo, "SwapFree:");
  if (swap && swap_free) {
    const double used = std::max(0.0, *swap - *swap_free);
    gauges[GAUGE_swap_bytes] = used;
    if (*swap > 0) gauges[GAUGE_swap_use] = used / *swap;
  }
  const auto total = find_bytes(meminfo, "MemTotal:");
  const auto available = find_bytes(meminfo, "MemAvailable:");
  if (!total || !available || *total <= 0) return false;
  gauges[GAUGE_memory_bytes] = *total - *available;
  gauges[GAUGE_memory_use] = (*total - *available) / *total;
  return true;
}

void KernelSource::read_cpu(std::string_view stat, MonotonicNs now, Gauges& gauges) {
  auto line = find_line(stat, "cpu").value_or("");
  CpuTimes times{};
  for (double& time : times) time = static_cast<double>(parse_number(next_word(line)).value_or(0));
  double cpus = 0;
  std::string_view row;
  while (next_line(stat, row) && row.starts_with("cpu")) ++cpus;
  cpus = std::max(1.0, cpus - 1);

  const double passed = seconds_between(cpu_ns_, now);
  if (cpu_ns_ != 0 && passed > 0) {
    const double ticks = static_cast<double>(::sysconf(_SC_CLK_TCK)) * passed;
    // CPUs that went offline take their time with them, and a column may run backwards: nothing was used
    // then.
    const auto cores = [&](std::initializer_list<CpuTime> columns) {
      double spent = 0;
      for (const auto column : columns) spent += times[column] - cpu_[column];
      return std::max(0.0, spent) / ticks;
    };
    const auto share = [&](double used) { return std::min(1.0, used / cpus); };
    // What the hypervisor gave to others nobody here used.
    gauges[GAUGE_cpu_cores] = cores({kUser, kNice, kSystem, kIrq, kSoftirq});
    gauges[GAUGE_cpu_limit_use] = share(gauges[GAUGE_cpu_cores]);
    gauges[GAUGE_irq_time] = share(cores({kIrq}));
    gauges[GAUGE_softirq_time] = share(cores({kSoftirq}));
    gauges[GAUGE_steal_time] = share(cores({kSteal}));
  }
  cpu_ = times;
  cpu_ns_ = now;
}

void KernelSource::read_counters(std::string_view vmstat, FileCounts& counts) {
  for (const auto& [key, counter] : kVmstat) {
    if (const auto total = find_number(vmstat, key)) {
      counts.set(counter, *total);
    } else {
      counts.forget(counter);
    }
  }
}

bool KernelSource::read_tasks(MonotonicNs now, Gauges& gauges) {
  if (max_tasks_ns_ == 0 || now > max_tasks_ns_ + kTaskLimitsAgeNs) {
    max_tasks_ = 0;
    for (const auto* name : {"/sys/kernel/pid_max", "/sys/kernel/threads-max"}) {
      const auto text = buffer_.read_path(proc_ + name);
      const auto limit = text ? parse_number(*text) : std::nullopt;
      if (limit && (max_tasks_ == 0 || static_cast<double>(*limit) < max_tasks_)) {
        max_tasks_ = static_cast<double>(*limit);
      }
    }
    max_tasks_ns_ = now;
  }
  const auto text = loadavg_.read(buffer_);
  if (!text) return false;
  // "0.00 0.01 0.05 1/234 5678": 234 threads exist.
  const auto slash = text->find('/');
  const auto tasks = slash == std::string_view::npos ? std::nullopt : parse_number(text->substr(slash + 1));
  if (tasks) {
    gauges[GAUGE_pids] = static_cast<double>(*tasks);
    if (max_tasks_ > 0) gauges[GAUGE_pids_use] = static_cast<double>(*tasks) / max_tasks_;
  }
  return true;
}

}  // namespace vedette
