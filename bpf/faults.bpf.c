// SPDX-License-Identifier: GPL-2.0
/*
 * What the kernel itself calls a fault: hung tasks, block requests that failed. Completions run in any
 * context, so all counts are atomic; they are about the node and go to the cgroup that happened to run.
 */
#include "compat.bpf.h"
#include "totals.bpf.h"

#define REQ_OP_MASK 0xff
/* SCSI and driver commands (passthrough): udev and smartd ask for what a device may not have. */
#define FIRST_PASSTHROUGH 32
enum { EIO = 5, EAGAIN = 11, ENOMEM = 12, EBUSY = 16, ENODEV = 19, ENOSPC = 28, ENOLINK = 67, EBADE = 52, ENODATA = 61,
       EREMCHG = 78, EILSEQ = 84, EOPNOTSUPP = 95, ETIMEDOUT = 110, EREMOTEIO = 121 };

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

/* blk_status_t as errno, in its order (blk-core.c); kernels add at the end. Negative: an errno already. */
static __always_inline int status_errno(int status)
{
	switch (status) {
	case 1: return EOPNOTSUPP;
	case 2: return ETIMEDOUT;
	case 3: return ENOSPC;
	case 4: return ENOLINK;
	case 5: return EREMOTEIO;
	case 6: return EBADE;
	case 7: return ENODATA;
	case 8: return EILSEQ;
	case 9: return ENOMEM;
	case 11: return EREMCHG;
	case 12: return EAGAIN;
	case 13: return EBUSY;
	case 16: return ENODEV;
	default: return status < 0 ? -status : EIO;
	}
}

static __always_inline int block_failed(int status, unsigned int op, __u32 device)
{
	__u64 cgroup_id = bpf_get_current_cgroup_id();
	int error = status_errno(status);
	struct event *event;

	/* Asked whether it could, asked not to wait, handed back to be sent elsewhere: no faults. */
	if (error == EOPNOTSUPP || error == EAGAIN || error == EREMCHG)
		return 0;
	if ((op & REQ_OP_MASK) >= FIRST_PASSTHROUGH)
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
