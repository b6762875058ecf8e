/* SPDX-License-Identifier: GPL-2.0 OR Apache-2.0 */
/*
 * The schema: one row per signal. The kernel's slots, the agent's tables, the metric names, the recording's
 * header and the models' feature names all expand from these three lists; bpf/README.md says how to add one.
 *
 *   COUNTER(name, probe, unit, scope, help)    counted in the kernel by <probe>.bpf.c, exact
 *   HISTOGRAM(name, probe, unit, scope, help)  filled in the kernel by <probe>.bpf.c, log2 buckets
 *   GAUGE(name, source, unit, scope, help)     read from files by the agent's source of that name
 *
 * scope POD: one value for each pod (and for the node: sum, or the node's own); NODE: for the node only.
 * unit "ratio": share of a limit, 1 = exhausted; the agent forecasts when it gets there.
 */
#ifndef VEDETTE_SIGNALS_H
#define VEDETTE_SIGNALS_H

/* clang-format off */
#define VEDETTE_COUNTERS(COUNTER) \
	COUNTER(syscalls,              syscalls, "calls",    POD,  "System calls that returned") \
	COUNTER(errors_file,           syscalls, "calls",    POD,  "System calls that failed on a path: ENOENT, ENOTDIR, EEXIST, ENAMETOOLONG, ...") \
	COUNTER(errors_permission,     syscalls, "calls",    POD,  "System calls refused: EPERM, EACCES") \
	COUNTER(errors_space,          syscalls, "calls",    POD,  "System calls that found no room: ENOSPC, EDQUOT") \
	COUNTER(errors_memory,         syscalls, "calls",    POD,  "System calls that found no memory: ENOMEM, ENOBUFS") \
	COUNTER(errors_descriptors,    syscalls, "calls",    POD,  "System calls that found no descriptor: EMFILE, ENFILE") \
	COUNTER(errors_processes,      syscalls, "calls",    POD,  "fork, vfork, clone, clone3 that answered EAGAIN") \
	COUNTER(errors_io,             syscalls, "calls",    POD,  "System calls that failed on a device: EIO, EROFS, ENXIO, ENODEV") \
	COUNTER(errors_network,        syscalls, "calls",    POD,  "System calls that failed on a peer: ECONNREFUSED, ECONNRESET, ETIMEDOUT, EPIPE, ...") \
	COUNTER(errors_other,          syscalls, "calls",    POD,  "Other failed system calls; EAGAIN, EINTR, EINPROGRESS and restarts are not failures") \
	COUNTER(context_switches,      sched,    "switches", POD,  "Times a task was put on a CPU") \
	COUNTER(runqueue_wait_ns,      sched,    "ns",       POD,  "Time runnable tasks waited for a CPU") \
	COUNTER(blocked_disk_ns,       sched,    "ns",       POD,  "Time tasks were blocked uninterruptibly (disk, filesystem, kernel locks)") \
	COUNTER(tcp_connects,          tcp,      "connects", POD,  "TCP connections opened to a peer") \
	COUNTER(tcp_connect_failures,  tcp,      "connects", POD,  "TCP connects that were refused, reset or timed out") \
	COUNTER(tcp_accepts,           tcp,      "connects", POD,  "TCP connections taken from a peer") \
	COUNTER(tcp_retransmits,       tcp,      "segments", POD,  "TCP segments sent again") \
	COUNTER(tcp_resets_sent,       tcp,      "segments", POD,  "TCP resets sent") \
	COUNTER(tcp_resets_received,   tcp,      "segments", POD,  "TCP resets received") \
	COUNTER(oom_kills,             memory,   "kills",    POD,  "Processes chosen by the OOM killer") \
	COUNTER(direct_reclaims,       memory,   "stalls",   POD,  "Allocations that had to reclaim memory themselves") \
	COUNTER(direct_reclaim_ns,     memory,   "ns",       POD,  "Time allocations spent in direct reclaim") \
	COUNTER(forks,                 process,  "forks",    POD,  "Processes and threads started") \
	COUNTER(execs,                 process,  "execs",    POD,  "Programs executed") \
	COUNTER(exits,                 process,  "exits",    POD,  "Processes (not threads) that ended") \
	COUNTER(exits_by_signal,       process,  "exits",    POD,  "Processes ended by a signal") \
	COUNTER(ext4_errors,           ext4,     "errors",   NODE, "Errors ext4 found in its own structures") \
	COUNTER(hung_tasks,            faults,   "tasks",    NODE, "Tasks the kernel reported as hung") \
	COUNTER(block_errors,          faults,   "requests", NODE, "Block requests that completed with an error")

#define VEDETTE_HISTOGRAMS(HISTOGRAM) \
	HISTOGRAM(syscall_latency,        syscalls, "ns", POD, "Time in a system call; one call in about 16 is timed") \
	HISTOGRAM(runqueue_latency,       sched,    "ns", POD, "Time from wake-up to running") \
	HISTOGRAM(blocked_disk_latency,   sched,    "ns", POD, "Time of each uninterruptible block") \
	HISTOGRAM(tcp_connect_latency,    tcp,      "ns", POD, "Time from SYN to established") \
	HISTOGRAM(direct_reclaim_latency, memory,   "ns", POD, "Time of each direct reclaim")

#define VEDETTE_GAUGES(GAUGE) \
	GAUGE(cpu_cores,          cgroup, "cores", POD,  "CPU time used per second") \
	GAUGE(cpu_limit_use,      cgroup, "share", POD,  "CPU time used of the quota (of all CPUs for the node)") \
	GAUGE(cpu_throttled,      cgroup, "share", POD,  "Share of time the quota held tasks back") \
	GAUGE(memory_bytes,       cgroup, "bytes", POD,  "Working set: memory that cannot be dropped at once") \
	GAUGE(memory_use,         cgroup, "ratio", POD,  "Working set of the limit (of all memory for the node)") \
	GAUGE(pids,               cgroup, "tasks", POD,  "Processes and threads") \
	GAUGE(pids_use,           cgroup, "ratio", POD,  "Processes and threads of their limit") \
	GAUGE(open_files,         proc,   "files", POD,  "Open descriptors, all processes") \
	GAUGE(open_files_use,     proc,   "ratio", POD,  "Open descriptors of RLIMIT_NOFILE, the worst process (of file-max for the node)") \
	GAUGE(disk_space_use,     mounts, "ratio", POD,  "Space used, the fullest writable mount of its own") \
	GAUGE(disk_inodes_use,    mounts, "ratio", POD,  "Inodes used, the fullest writable mount of its own") \
	GAUGE(pressure_cpu,       psi,    "share", POD,  "Share of time some task waited for a CPU") \
	GAUGE(pressure_memory,    psi,    "share", POD,  "Share of time some task waited for memory") \
	GAUGE(pressure_memory_full, psi,  "share", POD,  "Share of time all tasks waited for memory") \
	GAUGE(pressure_io,        psi,    "share", POD,  "Share of time some task waited for I/O") \
	GAUGE(pressure_io_full,   psi,    "share", POD,  "Share of time all tasks waited for I/O")
/* clang-format on */

#define VEDETTE_ENUM_COUNTER(name, ...) COUNTER_##name,
#define VEDETTE_ENUM_HISTOGRAM(name, ...) HISTOGRAM_##name,
#define VEDETTE_ENUM_GAUGE(name, ...) GAUGE_##name,

enum vedette_counter { VEDETTE_COUNTERS(VEDETTE_ENUM_COUNTER) COUNTER_COUNT };
enum vedette_histogram { VEDETTE_HISTOGRAMS(VEDETTE_ENUM_HISTOGRAM) HISTOGRAM_COUNT };
enum vedette_gauge { VEDETTE_GAUGES(VEDETTE_ENUM_GAUGE) GAUGE_COUNT };

/*
 * Bucket 0: below 1024 ns; bucket i: [2^(i+9), 2^(i+10)) ns; the last one (from 4.3 s) is open. 1 us is below
 * what any of these waits resolves, and beyond 4 s the slow-call and hung-task events say more.
 */
#define HISTOGRAM_BUCKETS 24

/*
 * One slot of one CPU, in a memory-mapped array at slot * CPUs + cpu: only that CPU counts in it, only the
 * agent reads it. Whole cache lines, so that no CPU writes where another does. `cgroup_id` says for whom this
 * CPU counted here last (the agent clears it when it takes the slot back); `observations` grows with every
 * histogram entry, so that the agent sees without a look at the buckets that nothing is new.
 */
struct totals {
	unsigned long long cgroup_id;
	unsigned long long observations;
	unsigned long long counter[COUNTER_COUNT];
	unsigned long long histogram[HISTOGRAM_COUNT][HISTOGRAM_BUCKETS];
} __attribute__((aligned(64)));

#endif
