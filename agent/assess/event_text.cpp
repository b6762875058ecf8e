#include "agent/assess/event_text.h"

#include <cstdio>
#include <cstdlib>
#include <cstring>

#include "agent/assess/rules.h"
#include "agent/base/clock.h"
#include "agent/base/kernel_names.h"
#include "agent/collect/signals.h"

namespace vedette {
namespace {

// Host, channel and target, as in bpf/events.h.
std::string scsi_device(std::int64_t code) {
  return std::to_string(code >> 32) + ":" + std::to_string(code >> 16 & 0xffff) + ":" +
         std::to_string(code & 0xffff);
}

std::string hex(std::int64_t value) {
  char text[32];
  std::snprintf(text, sizeof text, "0x%llx", static_cast<unsigned long long>(value));
  return text;
}

std::string rounded(double value, int digits) {
  char text[32];
  std::snprintf(text, sizeof text, "%.*f", digits, value);
  return text;
}

std::string error_name(std::int64_t number) {
  const char* name = ::strerrorname_np(static_cast<int>(std::llabs(number)));
  return name == nullptr ? "error " + std::to_string(number) : name;
}

const char* oom_cause_of(std::int64_t cause) {
  switch (cause) {
    case OOM_CGROUP_LIMIT:
      return " at its cgroup's memory limit";
    case OOM_NODE:
      return " because the node was out of memory";
    case OOM_CPUSET:
      return " because the NUMA nodes of its cpuset were full";
    case OOM_POLICY:
      return " because the NUMA nodes of its memory policy were full";
    default:
      return "";
  }
}

std::string slow_call(const KernelEvent& event) {
  std::string text = "was blocked for " + rounded(static_cast<double>(event.value) / kNsPerSecond, 2) + " s";
  if (!event.text.empty()) text += " (" + event.text + ")";
  if (event.extra >= 0) text += " in " + syscall_name(event.extra);
  return text;
}

}  // namespace

std::string describe(const KernelEvent& event) {
  switch (event.type) {
    case EVENT_exec:
      return "executed " + event.text;
    case EVENT_signal_exit:
      return "was ended by " + signal_name(event.value);
    case EVENT_oom_kill:
      return std::string("was killed by the OOM killer") + oom_cause_of(event.value) + ", " +
             rounded(static_cast<double>(event.extra) / 1024, 0) + " MiB resident";
    case EVENT_slow_call:
      return slow_call(event);
    case EVENT_connect_failed:
      return "could not connect to " + event.text + " port " + std::to_string(event.extra) + ": " +
             error_name(event.value);
    case EVENT_new_destination:
      return "first connected to " + event.text + " port " + std::to_string(event.extra);
    case EVENT_dns_failed:
      return "got no address for " + event.text +
             (event.value < 0 ? ": no answer in 5 s" : ": response code " + std::to_string(event.value));
    case EVENT_ext4_error:
      return "ext4 found an error in " + event.text + ":" + std::to_string(event.value) + " on device " +
             device_number(event.extra);
    case EVENT_hung_task:
      return "hangs in the kernel";
    case EVENT_block_error:
      return "a request to block device " + device_number(event.extra) + " failed with " +
             error_name(event.value);
    case EVENT_scsi_error:
      return "a command of SCSI device " + scsi_device(event.extra) +
             (is_timeout(event) ? " got no answer" : " failed");
    case EVENT_nvme_error:
      return "a command of nvme" + std::to_string(event.extra) + " failed with status " + hex(event.value);
    case EVENT_machine_check:
      return "machine check, " + event.text + ": bank " + std::to_string(event.extra) + " status " +
             hex(event.value);
    case EVENT_memory_failure:
      return "the hardware gave up on the memory page " + hex(event.value) +
             (is_contained(event) ? ", which is out of use now"
                                  : ", and the kernel could not take it out of use");
    case EVENT_pcie_error:
      return "PCI Express device " + event.text + " reported " +
             (is_correctable(event) ? "a corrected"
              : is_fatal(event)     ? "a fatal"
                                    : "an uncorrected") +
             " error, status " + hex(event.value);
    default:
      return event.text;
  }
}

std::string who(const KernelEvent& event) {
  return event.comm.empty() ? "a task" : event.comm + " (pid " + std::to_string(event.pid) + ")";
}

}  // namespace vedette
