/* SPDX-License-Identifier: GPL-2.0 OR Apache-2.0 */
/*
 * The schema: one row per signal. The kernel's slots, the agent's tables, the metric names, the recording's
 * header and the models' feature names all expand from these lists; bpf/README.md says how to add one.
 *
 *   COUNTER(name, probe, unit, scope, help)       counted in the kernel by <probe>.bpf.c, exact
 *   FILE_COUNTER(name, source, unit, scope, help) counted by the kernel itself, read from files by that source
 *   HISTOGRAM(name, probe, unit, scope, help)     filled in the kernel by <probe>.bpf.c, log2 buckets
 *   GAUGE(name, source, unit, scope, help)        read from files, or by the survey of the probe of that name
 *   DETAIL(name, probe, unit, scope, label, help) counted in the kernel by a label (enum detail_label): shown
 *                                                 and exported, never judged
 *
 * scope POD: one value for each pod (and for the node: sum, or the node's own); NODE: for the node only.
 * unit "ratio": share of a limit, 1 = exhausted; the agent forecasts when it gets there.
 */
#ifndef VEDETTE_SIGNALS_H
#define VEDETTE_SIGNALS_H

/* clang-format off */
#define VEDETTE_COUNTERS(COUNTER) \
	COUNTER(syscalls,               syscalls, "calls",    POD,  "System calls that returned") \
	COUNTER(syscalls_file,          syscalls, "calls",    POD,  "System calls on files: open, read, write, stat, ...") \
	COUNTER(syscalls_network,       syscalls, "calls",    POD,  "System calls on sockets, and waits for any of several descriptors") \
	COUNTER(syscalls_memory,        syscalls, "calls",    POD,  "System calls on memory: mmap, brk, madvise, ...") \
	COUNTER(syscalls_process,       syscalls, "calls",    POD,  "System calls on processes, signals and limits: clone, execve, wait4, kill, ...") \
	COUNTER(syscalls_sync,          syscalls, "calls",    POD,  "System calls that wait for another task or for time: futex, nanosleep, semop, ...") \
	COUNTER(failed_file,            syscalls, "calls",    POD,  "Failed system calls on files") \
	COUNTER(failed_network,         syscalls, "calls",    POD,  "Failed system calls on sockets") \
	COUNTER(failed_memory,          syscalls, "calls",    POD,  "Failed system calls on memory") \
	COUNTER(failed_process,         syscalls, "calls",    POD,  "Failed system calls on processes") \
	COUNTER(failed_sync,            syscalls, "calls",    POD,  "Failed system calls that wait for another task or for time") \
	COUNTER(errors_file,            syscalls, "calls",    POD,  "System calls that failed on a path: ENOENT, ENOTDIR, EEXIST, ENAMETOOLONG, ...") \
	COUNTER(errors_permission,      syscalls, "calls",    POD,  "System calls refused: EPERM, EACCES") \
	COUNTER(errors_space,           syscalls, "calls",    POD,  "System calls that found no room: ENOSPC, EDQUOT") \
	COUNTER(errors_memory,          syscalls, "calls",    POD,  "System calls that found no memory: ENOMEM, ENOBUFS") \
	COUNTER(errors_descriptors,     syscalls, "calls",    POD,  "System calls that found no descriptor: EMFILE, ENFILE") \
	COUNTER(errors_processes,       syscalls, "calls",    POD,  "fork, vfork, clone, clone3 that answered EAGAIN") \
	COUNTER(errors_io,              syscalls, "calls",    POD,  "System calls that failed on a device: EIO, EROFS, ENXIO, ENODEV") \
	COUNTER(errors_network,         syscalls, "calls",    POD,  "System calls that failed on a peer: ECONNREFUSED, ECONNRESET, ETIMEDOUT, EPIPE, ...") \
	COUNTER(errors_other,           syscalls, "calls",    POD,  "Other failed system calls; EAGAIN, EINTR, EINPROGRESS and restarts are not failures") \
	COUNTER(context_switches,       sched,    "switches", POD,  "Times a task was put on a CPU") \
	COUNTER(involuntary_switches,   sched,    "switches", POD,  "Times a task that could go on was taken from its CPU") \
	COUNTER(migrations,             sched,    "moves",    POD,  "Times a task was moved to another CPU") \
	COUNTER(runqueue_wait_ns,       sched,    "ns",       POD,  "Time runnable tasks waited for a CPU") \
	COUNTER(blocked_disk_ns,        sched,    "ns",       POD,  "Time tasks were blocked uninterruptibly (disk, filesystem, kernel locks)") \
	COUNTER(blocked_network_ns,     sched,    "ns",       POD,  "Time tasks waited for a peer or for any of several descriptors") \
	COUNTER(blocked_lock_ns,        sched,    "ns",       POD,  "Time tasks waited for another task: futex, semaphore, file lock, child") \
	COUNTER(blocked_sleep_ns,       sched,    "ns",       POD,  "Time tasks slept because they asked for it") \
	COUNTER(blocked_other_ns,       sched,    "ns",       POD,  "Time tasks waited for anything else: pipes, terminals, signals") \
	COUNTER(slow_calls,             sched,    "calls",    POD,  "Uninterruptible blocks that lasted slow_call_ms or longer") \
	COUNTER(lock_contentions,       locks,    "waits",    POD,  "Times a task waited for a lock inside the kernel") \
	COUNTER(lock_wait_ns,           locks,    "ns",       POD,  "Time tasks waited for locks inside the kernel") \
	COUNTER(tcp_connects,           tcp,      "connects", POD,  "TCP connections opened to a peer") \
	COUNTER(tcp_connect_failures,   tcp,      "connects", POD,  "TCP connects that were refused, reset or timed out") \
	COUNTER(tcp_connects_refused,   tcp,      "connects", POD,  "TCP connects that the peer refused or reset") \
	COUNTER(tcp_connects_timed_out, tcp,      "connects", POD,  "TCP connects that nobody answered") \
	COUNTER(tcp_connects_unreachable, tcp,    "connects", POD,  "TCP connects without a way to the peer: EHOSTUNREACH, ENETUNREACH") \
	COUNTER(tcp_new_destinations,   tcp,      "peers",    POD,  "TCP connects to an address and port not seen lately from there") \
	COUNTER(tcp_accepts,            tcp,      "connects", POD,  "TCP connections taken from a peer") \
	COUNTER(tcp_retransmits,        tcp,      "segments", POD,  "TCP segments sent again, SYNs and their answers too") \
	COUNTER(tcp_resets_sent,        tcp,      "segments", POD,  "TCP resets sent") \
	COUNTER(tcp_resets_received,    tcp,      "segments", POD,  "TCP resets received") \
	COUNTER(socket_overruns,        sockets,  "packets",  POD,  "Packets for which a socket's buffer had no room") \
	COUNTER(udp_receive_errors,     sockets,  "packets",  POD,  "UDP datagrams that could not be queued to their socket") \
	COUNTER(packets_received,       packets,  "packets",  POD,  "IP packets that reached a socket") \
	COUNTER(packets_sent,           packets,  "packets",  POD,  "IP packets that left a socket") \
	COUNTER(received_bytes,         packets,  "bytes",    POD,  "Bytes of IP packets that reached a socket") \
	COUNTER(sent_bytes,             packets,  "bytes",    POD,  "Bytes of IP packets that left a socket") \
	COUNTER(dns_queries,            packets,  "queries",  POD,  "DNS queries sent over UDP") \
	COUNTER(dns_tcp_queries,        tcp,      "connects", POD,  "TCP connections to a DNS server: answers too long for UDP") \
	COUNTER(dns_timeouts,           packets,  "queries",  POD,  "DNS queries that nobody answered within 5 s") \
	COUNTER(dns_nxdomain,           packets,  "answers",  POD,  "DNS answers that the name does not exist") \
	COUNTER(dns_servfail,           packets,  "answers",  POD,  "DNS answers that the server failed or refused") \
	COUNTER(packets_dropped,        drops,    "packets",  NODE, "Packets the kernel dropped for a reason other than success") \
	COUNTER(oom_kills,              memory,   "kills",    POD,  "Processes chosen by the OOM killer") \
	COUNTER(direct_reclaims,        memory,   "stalls",   POD,  "Allocations that had to reclaim memory themselves") \
	COUNTER(direct_reclaim_ns,      memory,   "ns",       POD,  "Time allocations spent in direct reclaim") \
	COUNTER(compaction_stalls,      memory,   "stalls",   POD,  "Allocations that had to compact memory themselves") \
	COUNTER(compaction_ns,          memory,   "ns",       POD,  "Time allocations spent in compaction") \
	COUNTER(forks,                  process,  "forks",    POD,  "Processes and threads started") \
	COUNTER(execs,                  process,  "execs",    POD,  "Programs executed") \
	COUNTER(exits,                  process,  "exits",    POD,  "Processes (not threads) that ended") \
	COUNTER(exits_by_signal,        process,  "exits",    POD,  "Processes ended by a signal") \
	COUNTER(exits_with_error,       process,  "exits",    POD,  "Processes that ended with a code other than 0") \
	COUNTER(disk_reads,             disk,     "requests", POD,  "Block reads completed") \
	COUNTER(disk_writes,            disk,     "requests", POD,  "Block writes completed") \
	COUNTER(disk_read_bytes,        disk,     "bytes",    POD,  "Bytes read from block devices") \
	COUNTER(disk_written_bytes,     disk,     "bytes",    POD,  "Bytes written to block devices") \
	COUNTER(disk_merges,            disk,     "requests", POD,  "Block requests merged into one that waited") \
	COUNTER(disk_errors,            disk,     "requests", POD,  "Block requests that failed, for whoever asked for them") \
	COUNTER(disk_timeouts,          disk,     "requests", POD,  "Block requests that failed because the device did not answer") \
	COUNTER(ext4_errors,            ext4,     "errors",   NODE, "Errors ext4 found in its own structures") \
	COUNTER(hung_tasks,             faults,   "tasks",    NODE, "Tasks the kernel reported as hung") \
	COUNTER(block_errors,           faults,   "requests", NODE, "Block requests that completed with an error") \
	COUNTER(machine_checks,         mce,      "records",  NODE, "Machine check records of the CPU") \
	COUNTER(memory_failures,        memory_failure, "pages", NODE, "Pages of memory the hardware gave up on") \
	COUNTER(pcie_errors,            aer,      "errors",   NODE, "Errors PCI Express devices reported") \
	COUNTER(scsi_errors,            scsi,     "commands", NODE, "SCSI commands that ended with an error") \
	COUNTER(scsi_timeouts,          scsi,     "commands", NODE, "SCSI commands that timed out") \
	COUNTER(nvme_errors,            nvme,     "commands", NODE, "NVMe commands that ended with an error") \
	COUNTER(slow_waits,             sched,    "calls",    POD,  "Calls that waited slow_call_ms or longer, interruptibly, for an answer or for room: connect, send, write, flock, a filesystem in user space, ...") \
	COUNTER(disk_wait_ns,           disk,     "ns",       POD,  "Time block requests took, added up (of those that are timed, reckoned for all): by second the mean number in flight") \
	COUNTER(disk_unowned_requests,  disk,     "requests", NODE, "Block I/Os that kernel threads asked for and the kernel names no owner of: journals, resyncs; writeback, where the io controller is cgroup v1's") \
	COUNTER(disk_unowned_bytes,     disk,     "bytes",    NODE, "Bytes of these")

#define VEDETTE_FILE_COUNTERS(FILE_COUNTER) \
	FILE_COUNTER(page_faults,         cgroup,   "faults",   POD,  "Page faults") \
	FILE_COUNTER(major_faults,        cgroup,   "faults",   POD,  "Page faults that had to read from a disk") \
	FILE_COUNTER(memory_high_events,  cgroup,   "events",   POD,  "Times memory.high held a task back (cgroup v2)") \
	FILE_COUNTER(memory_max_events,   cgroup,   "events",   POD,  "Times the memory limit was hit") \
	FILE_COUNTER(swapped_in_pages,    kernel,   "pages",    NODE, "Pages read from swap") \
	FILE_COUNTER(swapped_out_pages,   kernel,   "pages",    NODE, "Pages written to swap") \
	FILE_COUNTER(huge_page_splits,    kernel,   "pages",    NODE, "Huge pages split into small ones") \
	FILE_COUNTER(cpu_cycles,          pmu,      "cycles",   NODE, "Cycles of all CPUs that were not idle, where the machine counts them") \
	FILE_COUNTER(cpu_instructions,    pmu,      "instructions", NODE, "Instructions all CPUs completed, where the machine counts them") \
	FILE_COUNTER(cache_misses,        pmu,      "misses",   NODE, "Times all CPUs had to wait for memory beyond their caches, where the machine counts them") \
	FILE_COUNTER(allocation_failures, log,      "failures", POD,  "Page allocations the kernel log reports as failed") \
	FILE_COUNTER(softnet_squeezes,    netdev,   "rounds",   NODE, "Times packet processing used up its turn with packets left") \
	FILE_COUNTER(softnet_drops,       netdev,   "packets",  NODE, "Packets dropped because a CPU's queue was full") \
	FILE_COUNTER(nic_errors,          netdev,   "packets",  NODE, "Packets that network devices received or sent with an error") \
	FILE_COUNTER(nic_drops,           netdev,   "packets",  NODE, "Packets that network devices dropped") \
	FILE_COUNTER(carrier_changes,     netdev,   "changes",  NODE, "Times a network device lost or found its link") \
	FILE_COUNTER(listen_overflows,    sockstat, "connects", POD,  "Connections refused because an accept queue was full") \
	FILE_COUNTER(syn_drops,           sockstat, "connects", POD,  "Connection requests dropped") \
	FILE_COUNTER(zero_windows,        sockstat, "segments", POD,  "Times a TCP receiver had to tell its peer to stop") \
	FILE_COUNTER(udp_errors,          sockstat, "packets",  POD,  "UDP datagrams lost to full buffers, bad checksums or no listener") \
	FILE_COUNTER(memory_errors_corrected,   hardware, "errors", NODE, "Memory errors the controller corrected (EDAC)") \
	FILE_COUNTER(memory_errors_uncorrected, hardware, "errors", NODE, "Memory errors the controller could not correct (EDAC)") \
	FILE_COUNTER(thermal_throttles,   hardware, "events",   NODE, "Times a CPU slowed down because it was too hot") \
	FILE_COUNTER(btrfs_errors,        hardware, "errors",   NODE, "Errors btrfs counted on its devices") \
	FILE_COUNTER(clock_jumps,         clock,    "jumps",    NODE, "Times the wall clock was set by more than a second") \
	FILE_COUNTER(memory_oom_events,   cgroup,   "events",   POD,  "Times the memory limit was hit and nothing could be reclaimed (cgroup v2)") \
	FILE_COUNTER(memory_oom_kills,    cgroup,   "kills",    POD,  "Processes that an OOM killer chose, as the cgroup itself counts them (v2)") \
	FILE_COUNTER(soft_lockups,        log,      "lockups",  NODE, "Reports in the kernel log of a CPU stuck in the kernel") \
	FILE_COUNTER(rcu_stalls,          log,      "stalls",   NODE, "RCU stalls the kernel log reports") \
	FILE_COUNTER(kernel_bugs,         log,      "bugs",     NODE, "Oopses, BUGs and warnings of the kernel's own code in its log") \
	FILE_COUNTER(xfs_errors,          log,      "errors",   NODE, "Errors XFS reports in the kernel log") \
	FILE_COUNTER(container_restarts,  pods,     "restarts", POD,  "Times a container was started again, as the kubelet reports them (Kubernetes)")

#define VEDETTE_HISTOGRAMS(HISTOGRAM) \
	HISTOGRAM(syscall_latency,        syscalls, "ns", POD, "Time in a system call; one call in about 32 is timed") \
	HISTOGRAM(fsync_latency,          syscalls, "ns", POD, "Time of each fsync and fdatasync") \
	HISTOGRAM(runqueue_latency,       sched,    "ns", POD, "Time from being queued to running") \
	HISTOGRAM(blocked_disk_latency,   sched,    "ns", POD, "Time of each uninterruptible block") \
	HISTOGRAM(tcp_connect_latency,    tcp,      "ns", POD, "Time from SYN to established") \
	HISTOGRAM(tcp_round_trip,         tcp,      "ns", POD, "Smoothed round-trip time of TCP connections; one read in about 32 is sampled") \
	HISTOGRAM(dns_latency,            packets,  "ns", POD, "Time from a DNS query to its answer") \
	HISTOGRAM(disk_read_latency,      disk,     "ns", POD, "Time from a block read's issue to its completion; up to 32 in a jiffy and CPU are timed") \
	HISTOGRAM(disk_write_latency,     disk,     "ns", POD, "Time from a block write's issue to its completion; up to 32 in a jiffy and CPU are timed") \
	HISTOGRAM(direct_reclaim_latency, memory,   "ns", POD, "Time of each direct reclaim") \
	HISTOGRAM(compaction_latency,     memory,   "ns", POD, "Time of each direct compaction")

#define VEDETTE_GAUGES(GAUGE) \
	GAUGE(cpu_cores,          cgroup, "cores", POD,  "CPU time used per second") \
	GAUGE(cpu_limit_use,      cgroup, "share", POD,  "CPU time used of the quota (of all CPUs for the node)") \
	GAUGE(cpu_throttled,      cgroup, "share", POD,  "Share of time the quota held tasks back") \
	GAUGE(memory_bytes,       cgroup, "bytes", POD,  "Working set: memory that cannot be dropped at once") \
	GAUGE(memory_use,         cgroup, "ratio", POD,  "Working set of the limit (of all memory for the node)") \
	GAUGE(swap_bytes,         cgroup, "bytes", POD,  "Memory that was moved to swap") \
	GAUGE(pids,               cgroup, "tasks", POD,  "Processes and threads") \
	GAUGE(pids_use,           cgroup, "ratio", POD,  "Processes and threads of their limit") \
	GAUGE(blocked_tasks,      tasks,  "tasks", POD,  "Tasks in uninterruptible sleep (D state)") \
	GAUGE(zombies,            tasks,  "tasks", POD,  "Processes that ended and that their parent has not asked for") \
	GAUGE(open_files,         proc,   "files", POD,  "Open descriptors, all processes") \
	GAUGE(open_files_use,     proc,   "ratio", POD,  "Open descriptors of RLIMIT_NOFILE, the worst process (of file-max for the node)") \
	GAUGE(disk_space_use,     mounts, "ratio", POD,  "Space used, the fullest writable mount of its own") \
	GAUGE(disk_inodes_use,    mounts, "ratio", POD,  "Inodes used, the fullest writable mount of its own") \
	GAUGE(read_only_mounts,   mounts, "mounts", NODE, "Mounts of block devices that were writable once and are read-only now") \
	GAUGE(pressure_cpu,       psi,    "share", POD,  "Share of time some task waited for a CPU") \
	GAUGE(pressure_memory,    psi,    "share", POD,  "Share of time some task waited for memory") \
	GAUGE(pressure_memory_full, psi,  "share", POD,  "Share of time all tasks waited for memory") \
	GAUGE(pressure_io,        psi,    "share", POD,  "Share of time some task waited for I/O") \
	GAUGE(pressure_io_full,   psi,    "share", POD,  "Share of time all tasks waited for I/O") \
	GAUGE(irq_time,           kernel, "share", NODE, "Share of all CPUs' time spent in hard interrupts") \
	GAUGE(softirq_time,       kernel, "share", NODE, "Share of all CPUs' time spent in soft interrupts") \
	GAUGE(steal_time,         kernel, "share", NODE, "Share of all CPUs' time that the hypervisor gave to others") \
	GAUGE(slab_bytes,         kernel, "bytes", NODE, "The kernel's own objects") \
	GAUGE(page_table_bytes,   kernel, "bytes", NODE, "Page tables") \
	GAUGE(swap_use,           kernel, "ratio", NODE, "Swap space used") \
	GAUGE(kernel_taint,       kernel, "flags", NODE, "Taint flags of the kernel, as /proc/sys/kernel/tainted has them") \
	GAUGE(conntrack_use,      netdev, "ratio", NODE, "Connection tracking entries of their limit") \
	GAUGE(disk_queue_depth,   hardware, "requests", NODE, "Requests in flight, the deepest queue of all disks") \
	GAUGE(failed_disks,       hardware, "disks", NODE, "Disks whose driver says that they do not run") \
	GAUGE(clock_unsynchronized, clock, "flag", NODE, "1 while the kernel's clock is not synchronized") \
	GAUGE(clock_error_s,      clock,  "s",     NODE, "The kernel's estimate of the clock's error") \
	GAUGE(kubelet_up,         services, "flag", NODE, "1 while the kubelet answers /healthz; absent where there is none") \
	GAUGE(kubelet_answer_s,   services, "s",   NODE, "Time the kubelet took to answer") \
	GAUGE(runtime_up,         services, "flag", NODE, "1 while the container runtime's socket answers; absent where there is none") \
	GAUGE(runtime_answer_s,   services, "s",   NODE, "Time the container runtime took to answer") \
	GAUGE(dns_up,             services, "flag", NODE, "1 while the node's name server answers; absent where there is none") \
	GAUGE(dns_answer_s,       services, "s",   NODE, "Time the node's name server took to answer")

#define VEDETTE_DETAILS(DETAIL) \
	DETAIL(slow_calls_by_name,       sched,   "calls",    POD,  CALL,   "Uninterruptible blocks of slow_call_ms or longer, by system call") \
	DETAIL(exits_by_code,            process, "exits",    POD,  CODE,   "Processes that ended with a code other than 0, by code") \
	DETAIL(disk_reads_by_device,     disk,    "requests", POD,  DEVICE, "Block reads completed, by device") \
	DETAIL(disk_writes_by_device,    disk,    "requests", POD,  DEVICE, "Block writes completed, by device") \
	DETAIL(disk_bytes_by_device,     disk,    "bytes",    POD,  DEVICE, "Bytes read and written, by device") \
	DETAIL(disk_errors_by_device,    disk,    "requests", POD,  DEVICE, "Block requests that failed, by device") \
	DETAIL(disk_timeouts_by_device,  disk,    "requests", POD,  DEVICE, "Block requests that failed because the device did not answer, by device") \
	DETAIL(deaths_by_signal,         process, "exits",    POD,  SIGNAL, "Processes ended by a signal, by signal") \
	DETAIL(packets_dropped_by_reason, drops,  "packets",  NODE, REASON, "Packets the kernel dropped, by its own reason") \
	DETAIL(tcp_connects_by_server,   tcp,     "connects", POD,  SERVER, "TCP connections to others on this node, by who accepted them") \
	DETAIL(slow_waits_by_name,       sched,   "calls",    POD,  CALL,   "Calls that waited slow_call_ms or longer for an answer or for room, by system call") \
	DETAIL(disk_read_wait_by_device_ns,  disk, "ns",      POD,  DEVICE, "Time block reads took, added up, by device (of those that are timed, reckoned for all): by second the mean number in flight, by read the mean latency") \
	DETAIL(disk_write_wait_by_device_ns, disk, "ns",      POD,  DEVICE, "Time block writes took, added up, by device (of those that are timed, reckoned for all)") \
	DETAIL(disk_merges_by_device,    disk,    "requests", POD,  DEVICE, "Block requests merged into one that waited, by device")
/* clang-format on */

/* What a detail's label is: how the agent turns its number into a word. */
enum detail_label {
	LABEL_CALL = 1, /* number of a system call; -1: none */
	LABEL_CODE,     /* as it is */
	LABEL_DEVICE,   /* major << 20 | minor */
	LABEL_REASON,   /* the running kernel's enum skb_drop_reason */
	LABEL_SIGNAL,   /* its number */
	LABEL_SERVER,   /* lower half of a cgroup's id: all of it until 2^31 files of cgroups were made */
};

#define VEDETTE_ENUM_COUNTER(name, ...) COUNTER_##name,
#define VEDETTE_ENUM_HISTOGRAM(name, ...) HISTOGRAM_##name,
#define VEDETTE_ENUM_GAUGE(name, ...) GAUGE_##name,
#define VEDETTE_ENUM_DETAIL(name, ...) DETAIL_##name,

/* Those that the probes count, which have a place in every slot, then those that are read from files. */
enum vedette_counter {
	VEDETTE_COUNTERS(VEDETTE_ENUM_COUNTER)
	SLOT_COUNTER_COUNT,
	LAST_SLOT_COUNTER = SLOT_COUNTER_COUNT - 1,
	VEDETTE_FILE_COUNTERS(VEDETTE_ENUM_COUNTER)
	COUNTER_COUNT
};
enum vedette_histogram { VEDETTE_HISTOGRAMS(VEDETTE_ENUM_HISTOGRAM) HISTOGRAM_COUNT };
enum vedette_gauge { VEDETTE_GAUGES(VEDETTE_ENUM_GAUGE) GAUGE_COUNT };
enum vedette_detail { VEDETTE_DETAILS(VEDETTE_ENUM_DETAIL) DETAIL_COUNT };

/*
 * Bucket 0: below 1024 ns; bucket i: [2^(i+9), 2^(i+10)) ns; the last one (from 4.3 s) is open. Below 1 us nothing
 * waits: of system calls that is the bucket of those that had all they needed, and what of their time is the probe's
 * own is as large as they are. Beyond 4 s the slow-call and hung-task events say more.
 */
#define HISTOGRAM_BUCKETS 24

/*
 * One row of a slot, in a memory-mapped array at slot * lanes + lane: one CPU, or on machines with more CPUs
 * than lanes a few neighbours, count in it, and only the agent reads it. Whole cache lines, so that no lane
 * writes where another does. `cgroup_id` says for whom it was counted here last (the agent clears it when it
 * takes the slot back); `observations` grows with every histogram entry, so that the agent sees without a look
 * at the buckets that nothing is new. Buckets may wrap: the agent takes differences.
 */
struct totals {
	unsigned long long cgroup_id;
	unsigned long long observations;
	unsigned long long counter[SLOT_COUNTER_COUNT];
	unsigned int histogram[HISTOGRAM_COUNT][HISTOGRAM_BUCKETS];
} __attribute__((aligned(64)));

/* Where a detail counts: the key of a hash map whose value is a 64-bit count. */
struct detail_key {
	unsigned int detail; /* enum vedette_detail */
	int label;
	unsigned long long cgroup_id; /* 0 for NODE */
};

/*
 * What a survey says: an iterator program NAME_survey writes these with bpf_seq_write() when the agent reads
 * it. Values of one cgroup and gauge are added up; a cgroup that is not named has 0.
 */
struct survey_record {
	unsigned long long cgroup_id;
	unsigned int gauge; /* enum vedette_gauge */
	unsigned int value;
};

#endif
