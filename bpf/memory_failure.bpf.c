// SPDX-License-Identifier: GPL-2.0
/*
 * Pages of memory that the hardware gave up on, and what the kernel could do about it. A probe of its own: not
 * every kernel is built to survive that (CONFIG_MEMORY_FAILURE).
 */
#include "totals.bpf.h"

/* The same in every kernel; it moved from the subsystem ras to memory_failure, which its name does not have. */
SEC("tp_btf/memory_failure_event")
int BPF_PROG(memory_failure, unsigned long page_frame, int page_type, int result)
{
	__u64 cgroup_id = bpf_get_current_cgroup_id();
	struct event *event;

	COUNT_ANYWHERE(totals_of(cgroup_id), memory_failures, 1);
	event = event_begin(EVENT_memory_failure);
	if (!event)
		return 0;
	/* The task that touched the page, or a kernel worker. */
	event->cgroup_id = cgroup_id;
	event->pid = bpf_get_current_pid_tgid() >> 32;
	bpf_get_current_comm(event->comm, sizeof(event->comm));
	event->value = page_frame;
	event->extra = result;
	event_send(event, EVENT_memory_failure);
	return 0;
}

char LICENSE[] SEC("license") = "GPL";
