// SPDX-License-Identifier: GPL-2.0
/*
 * Waits for sleeping locks inside the kernel (mutexes, semaphores; 5.19 on), by who waited. Spinning ones are
 * left out: their waits are shorter than what looking at them costs.
 */
#include "compat.bpf.h"
#include "starts.bpf.h"

/* include/trace/events/lock.h: not exported, unchanged since 5.19. */
#define LCB_F_SPIN 1
#define LCB_F_MUTEX 32

SEC("tp_btf/contention_begin")
int BPF_PROG(contention_begin, void *lock, unsigned int flags)
{
	__u32 tid = bpf_get_current_pid_tgid(), which = (__u64)lock;
	struct probe_losses *lost;

	/* A mutex that spins first says so twice; the wait began the first time. */
	if (flags & LCB_F_SPIN && !(flags & LCB_F_MUTEX))
		return 0;
	if (start_is_running(tid, which) || start_begin(tid, which))
		return 0;
	/* Waits are counted as they end, so this one will not be. A mutex may say so several times. */
	lost = start_lost();
	LACKS(lost, lock_contentions);
	LACKS(lost, lock_wait_ns);
	return 0;
}

/* Of a spinlock too: then nothing was begun, or the lock that was begun is still waited for (the spinlock is its own). */
SEC("tp_btf/contention_end")
int BPF_PROG(contention_end, void *lock, int result)
{
	__u32 tid = bpf_get_current_pid_tgid(), which = (__u64)lock;
	struct totals *totals_here;
	__u64 ns;

	if (!start_is_running(tid, which))
		return 0;
	ns = start_end(tid, which);
	totals_here = totals_of(bpf_get_current_cgroup_id());
	COUNT_ANYWHERE(totals_here, lock_contentions, 1);
	COUNT_ANYWHERE(totals_here, lock_wait_ns, ns);
	return 0;
}

char LICENSE[] SEC("license") = "GPL";
