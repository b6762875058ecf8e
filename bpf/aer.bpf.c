// SPDX-License-Identifier: GPL-2.0
/*
 * Errors that PCI Express devices report: corrected by the link, fatal or not. A probe of its own: kernels of
 * virtual machines are often built without (CONFIG_PCIEAER).
 */
#include "totals.bpf.h"

/* Newer kernels have more arguments after these. */
SEC("tp_btf/aer_event")
int BPF_PROG(pcie_error, const char *device, __u32 status, __u8 severity)
{
	struct event *event;

	COUNT_ANYWHERE(totals_of(bpf_get_current_cgroup_id()), pcie_errors, 1);
	event = event_begin(EVENT_pcie_error);
	if (!event)
		return 0;
	event->value = status;
	event->extra = severity; /* 0: not fatal, 1: fatal, 2: corrected */
	bpf_probe_read_kernel_str(event->text, sizeof(event->text), device);
	event_send(event, EVENT_pcie_error);
	return 0;
}

char LICENSE[] SEC("license") = "GPL";
