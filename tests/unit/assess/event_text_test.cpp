#include "agent/assess/event_text.h"

#include <cerrno>
#include <csignal>
#include <string>

#include <doctest/doctest.h>
#include <sys/syscall.h>

#include "agent/collect/signals.h"

using namespace vedette;

namespace {

std::string told(std::uint32_t type, std::int64_t value, std::int64_t extra = 0, const char* text = "") {
  return describe({.type = type, .value = value, .extra = extra, .text = text});
}

}  // namespace

TEST_CASE("what a task did or met is told without the task") {
  CHECK(told(EVENT_exec, 0, 0, "/bin/true") == "executed /bin/true");
  CHECK(told(EVENT_signal_exit, SIGSEGV) == "was ended by SIGSEGV");
  CHECK(told(EVENT_signal_exit, 40) == "was ended by signal 40");
  CHECK(told(EVENT_oom_kill, OOM_CGROUP_LIMIT, 512L * 1024) ==
        "was killed by the OOM killer at its cgroup's memory limit, 512 MiB resident");
  CHECK(told(EVENT_oom_kill, 99, 1024) == "was killed by the OOM killer, 1 MiB resident");
  CHECK(told(EVENT_slow_call, 1'234'000'000, SYS_fsync, "disk") == "was blocked for 1.23 s (disk) in fsync");
  CHECK(told(EVENT_slow_call, 500'000'000, -1) == "was blocked for 0.50 s");
  CHECK(told(EVENT_connect_failed, -ECONNREFUSED, 80, "10.0.0.1") ==
        "could not connect to 10.0.0.1 port 80: ECONNREFUSED");
  CHECK(told(EVENT_new_destination, 0, 443, "10.0.0.1") == "first connected to 10.0.0.1 port 443");
  CHECK(told(EVENT_dns_failed, -1, 0, "db.") == "got no address for db.: no answer in 5 s");
  CHECK(told(EVENT_dns_failed, 3, 0, "db.") == "got no address for db.: response code 3");
  CHECK(told(EVENT_hung_task, 0) == "hangs in the kernel");
}

TEST_CASE("a fault is told with its device and the kernel's own code") {
  const std::int64_t sda1 = 8 << 20 | 1;
  CHECK(told(EVENT_ext4_error, 812, sda1, "ext4_find_entry") ==
        "ext4 found an error in ext4_find_entry:812 on device 8:1");
  CHECK(told(EVENT_block_error, EIO, sda1) == "a request to block device 8:1 failed with EIO");
  CHECK(told(EVENT_block_error, 4000, sda1) == "a request to block device 8:1 failed with error 4000");
  const std::int64_t target = std::int64_t{2} << 32 | 1 << 16 | 5;
  CHECK(told(EVENT_scsi_error, 0, target, "timeout") == "a command of SCSI device 2:1:5 got no answer");
  CHECK(told(EVENT_scsi_error, 0, target, "error") == "a command of SCSI device 2:1:5 failed");
  CHECK(told(EVENT_nvme_error, 0x281, 1) == "a command of nvme1 failed with status 0x281");
  CHECK(told(EVENT_machine_check, 0x9c, 5, "corrected") == "machine check, corrected: bank 5 status 0x9c");
  CHECK(told(EVENT_memory_failure, 0x1234, 3) ==
        "the hardware gave up on the memory page 0x1234, which is out of use now");
  CHECK(told(EVENT_memory_failure, 0x1234, 1) ==
        "the hardware gave up on the memory page 0x1234, and the kernel could not take it out of use");
  CHECK(told(EVENT_pcie_error, 0x40, 2, "0000:01:00.0") ==
        "PCI Express device 0000:01:00.0 reported a corrected error, status 0x40");
  CHECK(told(EVENT_pcie_error, 0x40, 1, "0000:01:00.0") ==
        "PCI Express device 0000:01:00.0 reported a fatal error, status 0x40");
  CHECK(told(KernelEvent::kLogEvent, 0, 0, "sda: timed out") == "sda: timed out");
}

TEST_CASE("a task is named with its id, or is just one") {
  CHECK(who({.pid = 812, .comm = "nginx"}) == "nginx (pid 812)");
  CHECK(who({.pid = 812}) == "a task");
}
