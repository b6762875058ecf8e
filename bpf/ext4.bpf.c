// SPDX-License-Identifier: GPL-2.0
/*
 * ext4's own findings. A probe of its own: where ext4 is a module that is not loaded, only this one is off.
 *
 * raw_tp, not tp_btf, because ext4 may be a module: modules have BTF from 5.11 on (36e68442d1af), libbpf would
 * read that of every module to find it, and since 6.13 all pointers of a module's tracepoint may be null to
 * the verifier (838a10bd2ebf). The price: what the arguments point to is read with BPF_CORE_READ().
 */
#include "totals.bpf.h"

SEC("raw_tp/ext4_error")
int BPF_PROG(ext4_error, struct super_block *sb, const char *function, unsigned int line)
{
	__u64 cgroup_id = bpf_get_current_cgroup_id();
	struct event *event;

	/* An I/O completion may find an error too. */
	COUNT_ANYWHERE(totals_of(cgroup_id), ext4_errors, 1);
	event = event_begin(EVENT_ext4_error);
	if (!event)
		return 0;
	event->cgroup_id = cgroup_id;
	event->pid = bpf_get_current_pid_tgid() >> 32;
	event->value = line;
	event->extra = BPF_CORE_READ(sb, s_dev); /* the kernel's dev_t: major << 20 | minor */
	bpf_get_current_comm(event->comm, sizeof(event->comm));
	bpf_probe_read_kernel_str(event->text, sizeof(event->text), function);
	event_send(event, EVENT_ext4_error);
	return 0;
}

char LICENSE[] SEC("license") = "GPL";
