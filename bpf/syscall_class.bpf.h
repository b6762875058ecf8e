/* SPDX-License-Identifier: GPL-2.0 */
/* What a system call is about: one table, made from syscall_classes.list for the target's architecture. */
#ifndef VEDETTE_SYSCALL_CLASS_BPF_H
#define VEDETTE_SYSCALL_CLASS_BPF_H

#include "kernel_types.bpf.h"

/* In the order of the counters syscalls_file ... and failed_file ... */
enum call_class { CLASS_FILE = 0, CLASS_NETWORK, CLASS_MEMORY, CLASS_PROCESS, CLASS_SYNC, CLASS_COUNT };

/* In the order of the counters blocked_disk_ns ... */
enum wait_kind { WAIT_DISK = 0, WAIT_NETWORK, WAIT_LOCK, WAIT_SLEEP, WAIT_OTHER, WAIT_COUNT };

#define CALLS 512 /* numbers grow by a few a year; x86's end at some 470 */

/* Zero: a call that the list does not have. */
struct call_traits {
	__u8 class_plus_1 : 4;
	__u8 wait : 3;   /* enum wait_kind */
	__u8 prompt : 1; /* it never waits for work or for time */
};

static const struct call_traits call_table[CALLS] = {
#include "syscall_classes.inc"
};

/* The last place stands for every number that is none. The mask is for the verifier, after what clang knows. */
static __always_inline const struct call_traits *traits_of(__u64 id)
{
	if (id >= CALLS)
		id = CALLS - 1;
	barrier_var(id);
	return &call_table[id & (CALLS - 1)];
}

/* CLASS_COUNT or more: none. Opaque to clang, so that the verifier sees the caller's check on what it indexes by. */
static __always_inline __u32 class_of(const struct call_traits *traits)
{
	__u32 class = traits->class_plus_1 - 1;

	barrier_var(class);
	return class;
}

#endif
