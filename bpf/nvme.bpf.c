// SPDX-License-Identifier: GPL-2.0
/*
 * NVMe commands that failed, below the driver's own retries and its other paths. A probe of its own: often a
 * module (nvme_core). Completions run in interrupts.
 */
#include "block.bpf.h"
#include "compat.bpf.h"
#include "totals.bpf.h"

SEC("tp_btf/nvme_complete_rq")
int BPF_PROG(nvme_completed, struct request *rq)
{
	/* The driver's part of a request lies behind it (blk_mq_rq_to_pdu). */
	struct nvme_request *nvme = (void *)rq + bpf_core_type_size(struct request);
	struct event *event;
	__u16 status;

	if (!rq) /* Never, but the verifier asks it of a module's tracepoint since 6.13 (838a10bd2ebf). */
		return 0;
	/* Tools ask for log pages and features that a controller may not have. */
	if ((rq->cmd_flags & REQ_OP_MASK) >= FIRST_PASSTHROUGH)
		return 0;
	status = BPF_CORE_READ(nvme, status);
	if (!status)
		return 0;
	COUNT_ANYWHERE(totals_of(bpf_get_current_cgroup_id()), nvme_errors, 1);
	event = event_begin(EVENT_nvme_error);
	if (!event)
		return 0;
	event->value = status;
	event->extra = BPF_CORE_READ(nvme, ctrl, instance);
	event_send(event, EVENT_nvme_error);
	return 0;
}

char LICENSE[] SEC("license") = "GPL";
