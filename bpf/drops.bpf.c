// SPDX-License-Identifier: GPL-2.0
/*
 * Packets the kernel threw away, by its own reason. They are the node's: most of them have no socket, and the
 * current task is a bystander whose row is the cheapest place to count, for it is the one remembered.
 */
#include "compat.bpf.h"
#include "totals.bpf.h"

SEC("tp_btf/kfree_skb")
int packet_dropped(unsigned long long *args)
{
	int reason = drop_reason(args);

	if (!is_drop(reason))
		return 0;
	COUNT_ANYWHERE(totals_of(bpf_get_current_cgroup_id()), packets_dropped, 1);
	count_detail(DETAIL_packets_dropped_by_reason, 0, reason, 1);
	return 0;
}

char LICENSE[] SEC("license") = "GPL";
