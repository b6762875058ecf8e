// SPDX-License-Identifier: GPL-2.0
/*
 * Machine checks, as the CPU's banks report them: corrected ones, and those the machine survived so far. A probe
 * of its own: x86 only. The kernel works through the records in a work item, long after whatever ran then.
 */
#include "compat.bpf.h"
#include "totals.bpf.h"

#define MCI_STATUS_UC (1ULL << 61) /* not corrected */

SEC("tp_btf/mce_record")
int BPF_PROG(machine_check, struct mce *mce)
{
	struct event *event;

	COUNT_ANYWHERE(totals_of(bpf_get_current_cgroup_id()), machine_checks, 1);
	event = event_begin(EVENT_machine_check);
	if (!event)
		return 0;
	event->value = mce->status;
	event->extra = mce->bank;
	if (mce->status & MCI_STATUS_UC)
		__builtin_memcpy(event->text, "uncorrected", sizeof("uncorrected"));
	else
		__builtin_memcpy(event->text, "corrected", sizeof("corrected"));
	event_send(event, EVENT_machine_check);
	return 0;
}

char LICENSE[] SEC("license") = "GPL";
