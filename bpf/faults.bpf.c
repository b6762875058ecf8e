// SPDX-License-Identifier: GPL-2.0
/*
 * What the kernel itself calls a fault: hung tasks, block requests that failed. Completions run in any
 * context, so all counts are atomic; they are about the node and go to the cgroup that happened to run.
 */
#include "block.bpf.h"
#include "compat.bpf.h"
#include "totals.bpf.h"

SEC("tp_btf/sched_process_hang")
int BPF_PROG(hung_task, struct task_struct *task)
{
	struct event *event;

	COUNT_ANYWHERE(totals_of(task_cgroup_id(task)), hung_tasks, 1);
	event = event_begin(EVENT_hung_task);
	if (!event)
		return 0;
	event_task(event, task);
	event_send(event, EVENT_hung_task);
	return 0;
}

static __always_inline int block_failed(int status, unsigned int op, __u32 device)
{
	__u64 cgroup_id = bpf_get_current_cgroup_id();
	int error = block_fault(status, op);
	struct event *event;

	if (!error)
		return 0;
	COUNT_ANYWHERE(totals_of(cgroup_id), block_errors, 1);
	event = event_begin(EVENT_block_error);
	if (!event)
		return 0;
	event->cgroup_id = cgroup_id;
	event->value = error;
	event->extra = device;
	event_send(event, EVENT_block_error);
	return 0;
}

/* Fires for failed requests only, so a healthy disk pays nothing (5.18, d5869fdc189f). */
SEC("tp_btf/block_rq_error")
int BPF_PROG(request_failed, struct request *rq, int status, unsigned int bytes)
{
	return block_failed(status, rq->cmd_flags, request_device(rq));
}

SEC("tp_btf/block_rq_complete")
int BPF_PROG(request_failed_fallback, struct request *rq, int status, unsigned int bytes)
{
	return status ? block_failed(status, rq->cmd_flags, request_device(rq)) : 0;
}

/* Drivers without a request queue (zram, device mapper, md); those of requests are not reported twice. */
SEC("tp_btf/block_bio_complete")
int BPF_PROG(bio_failed, struct request_queue *queue, struct bio *bio)
{
	__u8 status = bio->bi_status;

	return status ? block_failed(status, bio->bi_opf, bio_device(bio)) : 0;
}

char LICENSE[] SEC("license") = "GPL";
