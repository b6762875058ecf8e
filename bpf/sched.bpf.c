// SPDX-License-Identifier: GPL-2.0
/*
 * The scheduler: how long runnable tasks wait for a CPU, and how long tasks are blocked uninterruptibly,
 * exactly, at the switch. A block is known when it ends; one that never does is for hung_task and the
 * pressure files.
 *
 * The times are in task storage, made outside the scheduler: at fork, and once for the tasks that were here
 * before us. Making it in sched_switch would allocate under the run-queue lock, and on a node short of
 * memory that wakes kswapd, which needs that lock. (Task storage: 5.11 on.)
 */
#include "compat.bpf.h"
#include "totals.bpf.h"

#define TASK_UNINTERRUPTIBLE 0x0002
#define TASK_NOLOAD 0x0400 /* with the one above: TASK_IDLE, a kernel thread that waits for work */

struct task_times {
	__u64 runnable_ns; /* since when it waits for a CPU; 0: it does not */
	__u64 blocked_ns;  /* when it went into this uninterruptible sleep; 0: it did not */
};

struct {
	__uint(type, BPF_MAP_TYPE_TASK_STORAGE);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, int);
	__type(value, struct task_times);
} task_times SEC(".maps");

static __always_inline int make_times(struct task_struct *task)
{
	struct probe_losses *lost;

	if (bpf_task_storage_get(&task_times, task, 0, BPF_LOCAL_STORAGE_GET_F_CREATE))
		return 0;
	lost = losses_here();
	if (lost)
		ADD_ANYWHERE(lost->no_task_storage, 1);
	return 0;
}

SEC("tp_btf/sched_process_fork")
int BPF_PROG(sched_fork, struct task_struct *parent, struct task_struct *child)
{
	return make_times(child);
}

/*
 * Read by the loader after sched_fork and before the others are attached: at the start, and after a pause, which
 * is not to be taken for a wait.
 */
SEC("iter/task")
int sched_tasks(struct bpf_iter__task *ctx)
{
	struct task_struct *task = ctx->task;
	struct task_times *times;

	if (!task)
		return 0;
	make_times(task);
	times = bpf_task_storage_get(&task_times, task, 0, 0);
	if (times) {
		times->runnable_ns = 0;
		times->blocked_ns = 0;
	}
	return 0;
}

static __always_inline int woken(struct task_struct *task)
{
	struct task_times *times = bpf_task_storage_get(&task_times, task, 0, 0);

	/* A task woken before it left its CPU is corrected when it leaves. */
	if (times)
		times->runnable_ns = bpf_ktime_get_ns();
	return 0;
}

SEC("tp_btf/sched_wakeup")
int BPF_PROG(sched_wakeup, struct task_struct *task)
{
	return woken(task);
}

SEC("tp_btf/sched_wakeup_new")
int BPF_PROG(sched_wakeup_new, struct task_struct *task)
{
	return woken(task);
}

static __always_inline void slow_call(struct task_struct *task, __u64 blocked_ns)
{
	struct event *event = event_begin(EVENT_slow_call);

	if (!event)
		return;
	event_task(event, task);
	event->value = blocked_ns;
	event->extra = task_syscall(task);
	event_send(event, EVENT_slow_call);
}

/* Interrupts are off and no other program writes these counters: COUNT() is exact. */
SEC("tp_btf/sched_switch")
int BPF_PROG(sched_switch, bool preempt, struct task_struct *prev, struct task_struct *next)
{
	__u64 now = bpf_ktime_get_ns();
	struct totals *totals_here;
	struct task_times *times;
	__u64 wait_ns, blocked_ns;
	long state;

	if (prev->pid) {
		times = bpf_task_storage_get(&task_times, prev, 0, 0);
		if (times) {
			state = preempt ? 0 : task_state(prev);
			times->runnable_ns = state ? 0 : now;
			times->blocked_ns = (state & (TASK_UNINTERRUPTIBLE | TASK_NOLOAD)) == TASK_UNINTERRUPTIBLE ? now : 0;
		}
	}
	if (!next->pid)
		return 0;
	totals_here = totals_of(task_cgroup_id(next));
	COUNT(totals_here, context_switches, 1);
	times = bpf_task_storage_get(&task_times, next, 0, 0);
	if (!times || !times->runnable_ns)
		return 0;
	wait_ns = now - times->runnable_ns;
	COUNT(totals_here, runqueue_wait_ns, wait_ns);
	OBSERVE(totals_here, runqueue_latency, wait_ns);
	if (times->blocked_ns) {
		blocked_ns = times->runnable_ns - times->blocked_ns;
		COUNT(totals_here, blocked_disk_ns, blocked_ns);
		OBSERVE(totals_here, blocked_disk_latency, blocked_ns);
		if (blocked_ns >= config.slow_call_ns)
			slow_call(next, blocked_ns);
	}
	times->runnable_ns = 0;
	times->blocked_ns = 0;
	return 0;
}

char LICENSE[] SEC("license") = "GPL";
