#include "agent/collect/log_rules.h"

#include <cstdlib>
#include <string>
#include <string_view>
#include <vector>

#include <doctest/doctest.h>

#include "agent/base/clock.h"

namespace vedette {
namespace {

std::string_view reason_of(std::string_view line) {
  const auto* rule = LogRules::builtin()->find(line);
  return rule == nullptr ? "none" : std::string_view(rule->reason);
}

std::string error_of(const std::string& yaml) {
  auto root = YamlSection::parse(yaml, "f");
  REQUIRE(root.has_value());
  const auto rules = read_log_rules(*root);
  if (!rules) return rules.error().text;
  const auto finished = root->finish();
  return finished ? "" : finished.error().text;
}

LogRule rule(std::string pattern, std::string reason) {
  LogRule made;
  made.pattern = std::move(pattern);
  made.reason = std::move(reason);
  return made;
}

// As kernels from 5.10 to 6.18 print them.
TEST_CASE("The kernel's own lines find their rule") {
  struct Line {
    std::string_view text;
    std::string_view reason;
  };
  for (
      const Line& line : std::initializer_list<Line>{
          {"EXT4-fs error (device loop1): trigger_test_error:129: comm bash: 1", "FilesystemError"},
          {"Aborting journal on device loop1-8.", "FilesystemError"},
          {"EXT4-fs (loop1): Remounting filesystem read-only", "FilesystemReadOnly"},
          {"FAT-fs (sda1): Filesystem has been set read-only", "FilesystemReadOnly"},
          {"BTRFS info (device sda1: state E): forced readonly", "FilesystemReadOnly"},
          {"XFS (dm-0): Metadata corruption detected at xfs_agf_read_verify+0x6d/0x110 [xfs], xfs_agf block "
           "0x1",
           "FilesystemError"},
          {"XFS (sda1): Corruption of in-memory data (0x8) detected at xfs_defer_finish_noroll+0x2d4/0x610 "
           "[xfs] "
           "(fs/xfs/libxfs/xfs_defer.c:594).  Shutting down filesystem.",
           "FilesystemError"},
          {"XFS (dm-3): log I/O error -5", "FilesystemError"},
          {"XFS (dm-3): metadata I/O error in \"xfs_buf_ioend_handle_error+0x1b7/0x480\" at daddr 0x2 len 1 "
           "error 5",
           "FilesystemError"},
          {"XFS (sda1): Mounting V5 Filesystem 0d2d8f1c-7a0b-4f6e", "none"},
          {"BTRFS critical (device dm-0): corrupt leaf: root=2 block=22036480 slot=4", "FilesystemError"},
          {"BTRFS error (device sdb): bdev /dev/sdb errs: wr 1, rd 0, flush 0, corrupt 0, gen 0",
           "FilesystemError"},
          {"BTRFS warning (device sda1): csum failed root 5 ino 257 off 0 csum 0x8941f998 expected csum 0x0",
           "FilesystemWarning"},
          {"blk_update_request: I/O error, dev sda, sector 2048 op 0x0:(READ) flags 0x0 phys_seg 1 prio "
           "class 0",
           "DiskError"},
          {"critical medium error, dev sdb, sector 123 op 0x0:(READ) flags 0x80700", "DiskError"},
          {"critical target error, dev sda, sector 0 op 0x3:(DISCARD) flags 0x800", "none"},
          {"nvme nvme0: controller is down; will reset: CSTS=0xffffffff, PCI_STATUS=0xffff", "DiskTimeout"},
          {"nvme nvme0: I/O 12 QID 3 timeout, aborting", "DiskTimeout"},
          {"nvme nvme0: I/O tag 12 (a00c) opcode 0x2 (I/O Cmd) QID 3 timeout, reset controller",
           "DiskTimeout"},
          {"hpsa 0000:03:00.0: aborting cmd 7, timed out", "DiskTimeout"},
          {"nvme nvme0: Removing after probe failure status: -19", "DiskFailed"},
          {"sd 2:0:0:0: rejecting I/O to offline device", "DiskFailed"},
          {"md/raid1:md0: Disk failure on sdb1, disabling device.", "DiskFailed"},
          {"ata1.00: exception Emask 0x0 SAct 0x0 SErr 0x0 action 0x6 frozen", "DiskTimeout"},
          {"device-mapper: multipath: 253:2: Failing path 8:16.", "DiskPathFailed"},
          {"INFO: task dd:4242 blocked for more than 120 seconds.", "TaskHung"},
          {"INFO: task dd:4242 blocked in I/O wait for more than 122 seconds.", "TaskHung"},
          {"watchdog: BUG: soft lockup - CPU#1 stuck for 26s! [stress:1234]", "SoftLockup"},
          {"watchdog: Watchdog detected hard LOCKUP on cpu 3", "HardLockup"},
          {"watchdog: CPU2: Watchdog detected hard LOCKUP on cpu 3", "HardLockup"},
          {"NMI watchdog: Watchdog detected hard LOCKUP on cpu 0", "HardLockup"},
          {"rcu: INFO: rcu_sched self-detected stall on CPU", "RcuStall"},
          {"rcu: INFO: rcu_preempt detected stalls on CPUs/tasks:", "RcuStall"},
          {"rcu: INFO: rcu_preempt detected expedited stalls on CPUs/tasks: { 1-... } 21 jiffies s: 1 root: "
           "0x2/.",
           "RcuStall"},
          {"BUG: workqueue lockup - pool cpus=0 node=0 flags=0x0 nice=0 stuck for 33s!", "WorkqueueLockup"},
          {"Kernel panic - not syncing: Fatal exception in interrupt", "KernelPanic"},
          {"kernel BUG at fs/ext4/inode.c:2721!", "KernelBug"},
          {"BUG: kernel NULL pointer dereference, address: 0000000000000008", "KernelBug"},
          {"BUG: unable to handle page fault for address: ffffa0b2c0a00000", "KernelBug"},
          {"general protection fault, probably for non-canonical address 0xdead000000000100: 0000 [#1] SMP "
           "PTI",
           "KernelBug"},
          {"Oops: 0002 [#1] PREEMPT SMP NOPTI", "KernelBug"},
          {"Oops: Oops: 0002 [#1] SMP NOPTI", "KernelBug"},
          {"Oops: invalid opcode: 0000 [#1] SMP NOPTI", "KernelBug"},
          {"Kernel BUG at do_one_initcall+0x5/0x1f0 [verbose debug info unavailable]", "KernelBug"},
          {"BUG: KASAN: slab-out-of-bounds in kmalloc_oob_right+0xa8/0xbc [test_kasan]", "KernelBug"},
          {"BUG: KCSAN: data-race in wait_for_xmitr / wait_for_xmitr", "KernelBug"},
          {"---[ end trace 0000000000000000 ]---", ""},
          {"invalid opcode: 0000 [#1] SMP PTI", "KernelBug"},
          {"Oops: general protection fault, probably for non-canonical address 0x6b6b: 0000 [#1] SMP",
           "KernelBug"},
          {"Internal error: Oops: 0000000096000004 [#1] SMP", "KernelBug"},
          {"traps: nginx[4711] general protection fault ip:7f12 sp:7ffe error:0 in libc.so.6[7f12+1000]", ""},
          {"nginx[4711]: segfault at 0 ip 00005581 sp 00007ffc error 4 in nginx[5581+1000]", ""},
          {"BUG: Bad page state in process kworker/0:1  pfn:12345", "KernelBug"},
          {"WARNING: CPU: 1 PID: 22 at net/core/dev.c:3210 skb_warn_bad_offload+0xc3/0x120", "KernelWarning"},
          {"WARNING: net/core/dev.c:3210 at skb_warn_bad_offload+0xc3/0x120, CPU#1: x/22", "KernelWarning"},
          {"oom-kill:constraint=CONSTRAINT_NONE,nodemask=(null),cpuset=/"
           ",mems_allowed=0,global_oom,task=x,pid=1,uid=0",
           "NodeOutOfMemory"},
          {"oom-kill:constraint=CONSTRAINT_MEMCG,nodemask=(null),cpuset=/,mems_allowed=0,oom_memcg=/"
           "a,task_memcg=/a",
           "OOMKilled"},
          {"kworker/u4:1: page allocation failure: order:5, mode:0x40a20(GFP_ATOMIC|__GFP_COMP), "
           "nodemask=(null)",
           "AllocationFailure"},
          {"insmod: vmalloc: allocation failure, allocated 4096 of 8192 bytes, mode:0xcc2(GFP_KERNEL)",
           "AllocationFailure"},
          {"insmod: vmalloc: allocation failure: 8192 bytes, mode:0xcc2(GFP_KERNEL)", "AllocationFailure"},
          {"insmod: vmalloc error: size 8192, page order 0, failed to allocate pages, mode:0xcc2(GFP_KERNEL)",
           "AllocationFailure"},
          {"EDAC MC0: 1 UE memory read error on CPU_SrcID#0_Ha#0_Chan#1_DIMM#0 (channel:1 slot:0 page:0x2)",
           "MemoryErrorUncorrected"},
          {"EDAC MC0: 3 CE memory scrubbing error on CPU_SrcID#0_MC#1_Chan#0_DIMM#1 (channel:0 slot:1 "
           "page:0x1)",
           "MemoryErrorCorrected"},
          {"mce: Uncorrected hardware memory error in user-access at 3f2d0c0", "MemoryErrorUncorrected"},
          {"Memory failure: 0x3f2d0: recovery action for dirty LRU page: Recovered", "MemoryFailure"},
          {"Memory failure: 0x3f2d0: recovery action for unknown page: Ignored", "MemoryFailure"},
          {"mce: [Hardware Error]: Machine check events logged", "HardwareErrorCorrected"},
          {"mce: [Hardware Error]: CPU 3: Machine Check Exception: 5 Bank 4: b200000000070f0f",
           "HardwareError"},
          {"{1}[Hardware Error]: event severity: corrected", "HardwareErrorCorrected"},
          {"{2}[Hardware Error]: event severity: recoverable", "HardwareError"},
          {"{3}[Hardware Error]: event severity: fatal", "HardwareError"},
          {"pcieport 0000:00:1c.0: AER: PCIe Bus Error: severity=Corrected, type=Physical Layer, (Receiver "
           "ID)",
           "PcieErrorCorrected"},
          {"pcieport 0000:00:1c.0: PCIe Bus Error: severity=Corrected, type=Physical Layer, (Receiver ID)",
           "PcieErrorCorrected"},
          {"pcieport 0000:00:1c.0: PCIe Bus Error: severity=Correctable, type=Data Link Layer",
           "PcieErrorCorrected"},
          {"nvme 0000:01:00.0: PCIe Bus Error: severity=Uncorrected (Non-Fatal), type=Transaction Layer",
           "PcieError"},
          {"nvme 0000:01:00.0: PCIe Bus Error: severity=Uncorrectable (Fatal), type=Transaction Layer",
           "PcieError"},
          {"mce: CPU3: Core temperature above threshold, cpu clock throttled (total events = 1)",
           "CpuThrottled"},
          {"CPU3: Package temperature is above threshold, cpu clock is throttled (total events = 5)",
           "CpuThrottled"},
          {"thermal thermal_zone0: acpitz: critical temperature reached (105 C), shutting down",
           "Overheated"},
          {"thermal thermal_zone0: critical temperature reached (105 C), shutting down", "Overheated"},
          {"nf_conntrack: nf_conntrack: table full, dropping packet", "ConntrackFull"},
          {"neighbour: arp_cache: neighbor table overflow!", "NeighbourTableFull"},
          {"NETDEV WATCHDOG: eth0 (e1000e): transmit queue 0 timed out", "NicTimeout"},
          {"e1000e 0000:00:19.0 eth0: NETDEV WATCHDOG: CPU: 1: transmit queue 0 timed out 5000 ms",
           "NicTimeout"},
          {"e1000e: eth0 NIC Link is Down", "NicLinkDown"},
          {"igb 0000:01:00.0 eth0: igb: eth0 NIC Link is Down", "NicLinkDown"},
          {"r8169 0000:02:00.0 eth0: Link is Down", "NicLinkDown"},
          {"mlx5_core 0000:3b:00.0 ens1f0: Link down", "NicLinkDown"},
          {"bond0: (slave eth1): link status definitely down, disabling slave", "NicLinkDown"},
          {"ata2: SATA link down (SStatus 0 SControl 300)", "none"},
          {"r8169 0000:02:00.0 eth0: Link is Up - 1Gbps/Full - flow control rx/tx", "none"},
          {"unregister_netdevice: waiting for lo to become free. Usage count = 1", "NetdeviceStuck"},
          {"TCP: request_sock_TCP: Possible SYN flooding on port 80. Sending cookies.", "SynFlood"},
          {"cgroup: fork rejected by pids controller in /kubepods/burstable/pod1", "ForkRejected"},
          {"systemd[1]: Started Session 2 of user root.", ""},
      }) {
    CAPTURE(line.text);
    CHECK(reason_of(line.text) == line.reason);
  }
}

// 15 bytes are a task's name; a file's, a cgroup's, or a mount option is as long as one likes.
TEST_CASE("No program makes the node unhealthy, or counts as its fault, by what it calls itself") {
  const std::string hung = "INFO: task x:1 blocked for more than 120 seconds";
  const std::string lockup = "watchdog: Watchdog detected hard LOCKUP on cpu 3";
  const std::string bug = "kernel BUG at fs/x.c:1!";
  const std::string segfault = ": segfault at 0 ip 00005581 sp 00007ffc error 4 in ";
  std::vector<std::string> lines{
      "traps: nginx[77] general protection fault ip:7f12 sp:7ffe error:0 in " + bug + "[7f12+1000]",
      "nginx[77]" + segfault + lockup + "[5581+1000] likely on CPU 0",
      "nginx[77]" + segfault + "\\x0a---[ end trace 0123456789abcdef ]---\\x0a[5581+1]",
      "nginx[77]: unhandled exception: DABT (lower EL), ESR 0x92000046, in " + hung + "[400000+1000]",
      "tmpfs: Unknown parameter '" + hung + "'",
      "overlayfs: unrecognized mount option \"" + hung + "\" or missing value",
      "request_module: modprobe " + hung + " cannot be processed",
      "process '" + hung + "' started with executable stack",
      "audit: type=1107 audit(1700000000.1:7): pid=77 uid=0 msg='\\x0a" + hung + "'",
      "Memory cgroup stats for /kubepods/x/" + bug + ":",
      "Tasks in /kubepods/x/" + bug + " are going to be killed due to memory.oom.group set",
      "cgroup: fork rejected by pids controller in /kubepods/x/" + hung,
      "oom-kill:constraint=CONSTRAINT_MEMCG,oom_memcg=/oom-kill:constraint=CONSTRAINT_NONE,task_memcg=/x",
  };
  for (const std::string name :
       {"kernel BUG at",   "kernel BUG at a", "Kernel BUG at a", "Oops: 0002 [#1]", "Oops: 1",
        "a: 0000 [#1] SM", "int: 0000 [#1] ", "hard LOCKUP",     "BTRFS critical",  "BTRFS error",
        "EXT4-fs error",   "EXT4-fs warning", "I/O error, dev ", "x: I/O error, d", "---[ end trace ",
        "end trace 01234", "vmalloc error",   "vmalloc error: ", "EDAC : 1 UE ",    "EDAC MC0: 1 UE ",
        "EDAC MC0: 1 CE ", "Hardware Error",  "PCIe Bus Error:", "aborted timeout", "BUG: KASAN: a",
        "BUG: KASAN: a i", "x: link down",    ": Link is Down",  "NETDEV WATCHDOG", "XFS (a): log m",
        "critical temper", "GFP_ATOMIC"}) {
    REQUIRE(name.size() <= 15);
    for (const std::string& task : {name, "\\x0a" + name.substr(0, 14), "\\xff\\x0a" + name.substr(0, 13)}) {
      lines.push_back(task + "[77]: segfault at 0 ip 00005581 sp 00007ffc error 4");
      lines.push_back(task + "[77] bad frame in rt_sigreturn frame:0 ip:0 sp:0 orax:0 in nginx[5581+1000]");
      lines.push_back("traps: " + task + "[77] general protection fault ip:7f12 sp:7ffe error:0");
      lines.push_back("Memory cgroup out of memory: Killed process 77 (" + task +
                      ") total-vm:9kB, anon-rss:9kB");
      lines.push_back("Out of memory: Killed process 77 (" + task + ") total-vm:9kB, anon-rss:9kB");
      lines.push_back(task + " invoked oom-killer: gfp_mask=0xcc0(GFP_KERNEL), order=0, oom_score_adj=0");
      lines.push_back(task + "/77: potentially unexpected fatal signal 11.");
      lines.push_back(task + " (77): drop_caches: 3");
      lines.push_back(task + ": attempt to access beyond end of device");
      lines.push_back("oom_reaper: reaped process 77 (" + task + "), now anon-rss:0kB");
      lines.push_back("CPU: 1 PID: 77 Comm: " + task + " Not tainted 6.12.0 #1");
      lines.push_back("CPU: 1 UID: 0 PID: 77 Comm: " + task);
      lines.push_back("warning: `" + task + "' uses wireless extensions");
      lines.push_back("netlink: 4 bytes leftover after parsing attributes in process `" + task + "'.");
      lines.push_back("mmap: " + task + " (77): VmData 9 exceed data ulimit 9");
      lines.push_back("TCP: " + task + "(77): Application bug, race in MSG_PEEK");
    }
  }
  for (const std::string& line : lines) {
    CAPTURE(line);
    for (const LogRule* rule : LogRules::builtin()->find_all(line)) {
      CHECK_FALSE(rule->counter.has_value());
    }
    const LogRule* taken = LogRules::builtin()->find(line);
    if (taken != nullptr && !taken->reason.empty()) CHECK(taken->severity == Severity::kInfo);
  }
}

TEST_CASE("A task whose name looks like a fault counts as what the line tells of it") {
  CHECK(reason_of("INFO: task EXT4-fs error:77 blocked for more than 120 seconds.") == "TaskHung");
  CHECK(reason_of("Oops: 0002 [#1]: page allocation failure: order:5, mode:0xcc0(GFP_KERNEL)") ==
        "AllocationFailure");
  CHECK(reason_of("BUG: Bad page state in process hard LOCKUP  pfn:12345") == "KernelBug");
}

TEST_CASE("What one line says of corrected errors and of pods never makes the node unhealthy") {
  for (const auto& shipped : LogRules::builtin()->rules()) {
    CAPTURE(shipped.pattern);
    if (shipped.reason.empty()) CHECK(shipped.unhealthy_at == 0);
    if (shipped.severity == Severity::kInfo) CHECK(shipped.unhealthy_at == 0);
    if (shipped.reason.ends_with("Corrected")) CHECK(shipped.severity == Severity::kInfo);
  }
  CHECK(LogRules::builtin()->rules().size() > 40);
}

TEST_CASE("Rules of one's own go first, the first of them wins, and an empty reason silences") {
  const auto made = LogRules::make({rule("qla2xxx .*LOOP DOWN", "FibreDown"),
                                    rule("EXT4-fs error .*loop", ""), rule("LOOP DOWN", "Other")});
  REQUIRE(made.has_value());
  CHECK((*made)->find("qla2xxx [0000:05:00.0]-500b:1: LOOP DOWN detected")->reason == "FibreDown");
  CHECK((*made)->find("x LOOP DOWN")->reason == "Other");
  CHECK((*made)->find("EXT4-fs error (device loop0): x")->reason.empty());
  CHECK((*made)->find("EXT4-fs error (device sda1): x")->reason == "FilesystemError");
  CHECK((*made)->find("nothing of the kind") == nullptr);
}

TEST_CASE("The rules of a file are read with their defaults") {
  auto root = YamlSection::parse(
      "log_rules:\n- {pattern: 'a.*b', reason: Some}\n"
      "- {pattern: c, reason: Other2, domain: network, severity: info, unhealthy_at: 7, probe: tcp, "
      "counter: kernel_bugs}\n",
      "f");
  const auto rules = read_log_rules(*root);
  REQUIRE(rules.has_value());
  REQUIRE(rules->size() == 2);
  CHECK(rules->at(0).domain == Domain::kKernel);
  CHECK(rules->at(0).severity == Severity::kDegraded);
  CHECK(rules->at(0).unhealthy_at == 0);
  CHECK(rules->at(1).domain == Domain::kNetwork);
  CHECK(rules->at(1).severity == Severity::kInfo);
  CHECK(rules->at(1).unhealthy_at == 7);
  CHECK(rules->at(1).probe == "tcp");
  CHECK(!rules->at(0).counter.has_value());
  CHECK(rules->at(1).counter == COUNTER_kernel_bugs);
  CHECK(error_of("log_rules:\n") == "");
  CHECK(error_of("{}") == "");
}

TEST_CASE("A bad rule names its file, its line, the field and what was expected") {
  const std::string first = "log_rules:\n- {pattern: ok, reason: Fine}\n";
  CHECK(error_of(first + "- {pattern: 'a(b', reason: X}\n") ==
        "f:3: log_rules[1].pattern: expected a regular expression (missing ): a(b), found 'a(b'");
  CHECK(error_of(first + "- {pattern: '(a)\\1', reason: X}\n")
            .find("log_rules[1].pattern: expected a regular") != std::string::npos);
  CHECK(error_of(first + "- {pattern: '', reason: X}\n").find("[1].pattern: expected a regular expression") !=
        std::string::npos);
  CHECK(error_of(first + "- {pattern: a, reason: not camel}\n") ==
        "f:3: log_rules[1].reason: expected one word in CamelCase, found 'not camel'");
  CHECK(error_of(first + "- {pattern: a, reason: X, domain: disk}\n")
            .find("[1].domain: expected kernel, memory") != std::string::npos);
  CHECK(
      error_of(first + "- {pattern: a, reason: X, unhealthy_at: -1}\n").find("[1].unhealthy_at: expected") !=
      std::string::npos);
  CHECK(error_of(first + "- {pattern: a, reason: X, level: 3}\n").find("[1].level: expected one of") !=
        std::string::npos);
  CHECK(error_of(first + "- {pattern: a, reason: X, counter: oom_kills}\n") ==
        "f:3: log_rules[1].counter: expected one of allocation_failures, soft_lockups, rcu_stalls, "
        "kernel_bugs, "
        "xfs_errors, found 'oom_kills'");
  CHECK(error_of(first + "- {pattern: a}\n") == "f:3: log_rules[1].reason: expected a value");
  CHECK(error_of(first + "-\n").find("log_rules[1].pattern: expected a value") != std::string::npos);
  CHECK(error_of(first + "- word\n").find("log_rules[1]: expected a mapping") != std::string::npos);
  CHECK(error_of("log_rules: word\n") == "f:1: log_rules: expected a list, found 'word'");
}

TEST_CASE("A line takes no longer for a hostile pattern, and bytes that are no text are only bytes") {
  const auto made = LogRules::make({rule("(a*)*(b*)*(x+x+)+y", "Hostile")});
  REQUIRE(made.has_value());
  const std::string line(8000, 'x');
  const auto began = monotonic_now();
  for (int i = 0; i < 100; ++i) CHECK((*made)->find(line) == nullptr);
  CHECK(seconds_between(began, monotonic_now()) < 5);
  CHECK((*made)->find(std::string("EXT4-fs error (device \xff\xfe\0 \x80", 27))->reason == "FilesystemError");
  CHECK((*made)->find("") == nullptr);
}

}  // namespace
}  // namespace vedette
