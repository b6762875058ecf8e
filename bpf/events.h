/* SPDX-License-Identifier: GPL-2.0 OR Apache-2.0 */
/*
 * Ring-buffer records: rare, discrete facts that must not be averaged. Written by bpf/, read by
 * agent/collect. EVENT(name, urgent, help): an urgent record wakes the agent's tick at once, the others wait
 * for the next one.
 */
#ifndef VEDETTE_EVENTS_H
#define VEDETTE_EVENTS_H

#include "signals.h"

/* clang-format off */
#define VEDETTE_EVENTS(EVENT) \
	EVENT(exec,            0, "A program was executed; text: its file") \
	EVENT(signal_exit,     0, "A process was ended by a signal; value: the signal") \
	EVENT(oom_kill,        1, "The OOM killer chose a victim; value: enum oom_cause, extra: its resident kB") \
	EVENT(slow_call,       0, "A task was blocked for long (up to 4 in a jiffy and CPU are told); value: ns, extra: system call or -1; text: for what (disk, kernel, network, lock, other)") \
	EVENT(connect_failed,  0, "A TCP connect failed; value: errno, extra: port; text: address") \
	EVENT(new_destination, 0, "A first TCP connect to this peer lately; extra: port; text: address") \
	EVENT(dns_failed,      0, "A DNS query failed; value: response code, or -1 for no answer in 5 s; text: name") \
	EVENT(ext4_error,      1, "ext4 found an error; value: line, extra: device (major << 20 | minor); text: function") \
	EVENT(hung_task,       1, "The kernel reported a hung task") \
	EVENT(block_error,     1, "A block request failed; value: errno, extra: device (major << 20 | minor)") \
	EVENT(machine_check,   1, "A machine check; value: status word of the bank, extra: bank; text: corrected or uncorrected") \
	EVENT(memory_failure,  1, "The hardware gave up on a page; value: page frame, extra: the kernel's result (0: ignored, 1: failed, 2: delayed, 3: recovered)") \
	EVENT(pcie_error,      1, "A PCI Express error; value: status bits, extra: severity; text: device") \
	EVENT(scsi_error,      1, "A SCSI command failed; value: result word, extra: host << 32 | channel << 16 | id; text: timeout or error") \
	EVENT(nvme_error,      1, "An NVMe command failed; value: status, extra: controller")
/* clang-format on */

#define VEDETTE_ENUM_EVENT(name, ...) EVENT_##name,
enum vedette_event { VEDETTE_EVENTS(VEDETTE_ENUM_EVENT) EVENT_COUNT };

/* Whose limit the OOM killer enforced: only OOM_NODE is a node without memory. */
enum oom_cause {
	OOM_UNKNOWN = 0,
	OOM_CGROUP_LIMIT = 1,
	OOM_NODE = 2,
	OOM_CPUSET = 3, /* the NUMA nodes that its cpuset allows, */
	OOM_POLICY = 4, /* or its own memory policy */
};

#define EVENT_TEXT_BYTES 64

struct event {
	unsigned long long time_ns;   /* bpf_ktime_get_ns(): CLOCK_MONOTONIC */
	unsigned long long cgroup_id; /* v2 id of the task (or socket) it is about; 0: none */
	long long value;
	long long extra;
	unsigned int type; /* enum vedette_event */
	unsigned int pid;  /* thread group id */
	char comm[16];
	char text[EVENT_TEXT_BYTES];
};

/*
 * What the probes themselves lost, one per CPU, in a memory-mapped array: every way in which a total or a
 * record can be missing is counted here, and the agent shows all of it.
 */
struct probe_losses {
	unsigned long long produced[EVENT_COUNT]; /* records the probes wanted to send */
	unsigned long long lost[EVENT_COUNT];     /* of them, those the full ring refused */
	unsigned long long no_slot;               /* counts that went to slot 0: their cgroup had none */
	unsigned long long no_task_storage;       /* starts dropped: no room to keep when something began */
	unsigned long long no_start[SLOT_COUNTER_COUNT]; /* of them, what a counter may lack for it */
	unsigned long long no_detail; /* counts by label that found the map of details full, or forgot whose they are */
} __attribute__((aligned(64)));

/*
 * Whose slot it is, by slot, in a memory-mapped array. The kernel fills it at cgroup_mkdir and marks it at
 * cgroup_rmdir; the agent fills it for cgroups older than itself and clears it when it takes the slot back.
 */
struct slot_owner {
	unsigned long long cgroup_id; /* 0: free */
	unsigned long long parent_id; /* 0: none, the root */
	unsigned int removed;
	unsigned int unused;
	char name[104]; /* of its directory; a container's id has 64 characters, a scope's some 90 */
};

/*
 * How connect_failed and new_destination carry their address in `text` before the agent prints it: bpf_snprintf
 * needs 5.13. (dns_failed carries its name as DNS has it, each label behind its length.)
 */
struct raw_address {
	unsigned char family; /* 4 or 6 */
	unsigned char unused[3];
	unsigned char bytes[16];
};

/* How often something was done within the jiffy in which it was done last. */
struct jiffy_count {
	unsigned int jiffy;
	unsigned int times;
};

/* What a CPU remembers between two runs of a probe, by CPU; a cache line each. */
struct cpu_memo {
	unsigned int row;        /* of the totals it counted in last */
	unsigned int gap;        /* system calls left until the next one that is timed */
	unsigned int packet_row; /* as row, for packets that come in: they are not the running task's */
	unsigned int rtt_gap;    /* reads from TCP connections left until one's round-trip time is taken */
	struct jiffy_count disk_timed; /* disk requests that were timed */
	struct jiffy_count slow_told;  /* slow calls that were told one by one */
} __attribute__((aligned(64)));

/* What the agent tells every probe as it loads it (const volatile struct probe_config config). */
struct probe_config {
	unsigned int cpus;  /* possible ones */
	unsigned int lanes; /* rows of a slot: as many as CPUs, or fewer that neighbours share */
	unsigned int shared; /* fewer rows than CPUs, or PREEMPT_RT: every add must be atomic */
	unsigned int ring_bytes;
	unsigned long long slow_call_ns;
	unsigned long long jiffy_ns; /* time between two of the kernel's ticks */
};

/* What the agent may change while the probes run, in a memory-mapped array of one. */
struct probe_controls {
	unsigned int gap_mask; /* gaps between sampled calls are drawn from 1 ... 1 + mask: a power of two less 1 */
	unsigned int unused;
};

#endif
