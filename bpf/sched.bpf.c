// SPDX-License-Identifier: GPL-2.0
/*
 * The scheduler: how long runnable tasks wait for a CPU, and how long tasks are blocked and what for, at every
 * switch. A block is known when it ends; one that never does is for hung_task, the survey of tasks and the
 * pressure files.
 *
 * No clock is read and no wake-up is watched: the run queue's own clock was brought up to date as the switch
 * began, and the kernel has noted in the task when it was queued (sched_info.last_queued). Two programs and a
 * clock read less for each switch than with sched_wakeup, and it works on every kernel. Where a task that waits is
 * moved to another CPU it is queued anew: what it waited before is in sched_info.run_delay alone.
 */
#include "compat.bpf.h"
#include "syscall_class.bpf.h"
#include "totals.bpf.h"

#define TASK_DEAD 0x0080

/*
 * Since when each task that gave up its CPU has none, by thread id, in one of two places: 1.5 MiB, no allocation
 * under the run-queue lock, no hash. With 2,000 sleepers one block in 1,000 finds both places taken, with 10,000
 * one in 40: its time is then lost, and counted so. The name is for the agent, which forgets what maps called so
 * remember when it attaches a probe again.
 */
#define SLEEPERS 65536
#define WAIT_CPU WAIT_COUNT /* it was preempted: it waits for nothing else */

struct sleeper {
	__u64 since_ns;     /* run-queue clock */
	__u64 run_delay_ns; /* all its waits for a CPU until then */
	__u32 tid;          /* 0: free */
	__u32 wait;         /* enum wait_kind, or WAIT_CPU */
};

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_ALIGNED);
	__uint(max_entries, SLEEPERS);
	__type(key, __u32);
	__type(value, struct sleeper);
} starts SEC(".maps");

static __always_inline struct sleeper *first_place(__u32 tid)
{
	__u32 place = tid % SLEEPERS;

	return bpf_map_lookup_elem(&starts, &place);
}

static __always_inline struct sleeper *second_place(__u32 tid)
{
	__u32 place = tid * 0x9e3779b1U >> 16; /* 2^32 over the golden ratio: neighbours go far apart */

	return bpf_map_lookup_elem(&starts, &place);
}

/* Of a task that has no CPU, or of which it was not seen that it got one; or 0. */
static __always_inline struct sleeper *find_sleeper(__u32 tid)
{
	struct sleeper *place = first_place(tid);

	if (place && place->tid != tid)
		place = second_place(tid);
	return place && place->tid == tid ? place : 0;
}

static __always_inline void leaves_cpu(struct task_struct *task, __u64 now, __u32 wait)
{
	__u32 tid = task->pid;
	struct sleeper *place = first_place(tid);
	struct probe_losses *lost;

	if (place && place->tid && place->tid != tid)
		place = second_place(tid);
	if (!place)
		return;
	if (place->tid && place->tid != tid) {
		if (wait >= WAIT_COUNT)
			return;
		lost = start_lost();
		if (lost)
			ADD_ANYWHERE(lost->no_start[COUNTER_blocked_disk_ns + wait], 1);
		if (wait == WAIT_DISK)
			LACKS(lost, slow_calls);
		else if (wait != WAIT_SLEEP)
			LACKS(lost, slow_waits);
		return;
	}
	place->since_ns = now;
	place->run_delay_ns = task->sched_info.run_delay;
	place->wait = wait;
	place->tid = tid;
}

/* What a task waits for that sleeps in this state. */
static __always_inline enum wait_kind wait_of(struct task_struct *task, long state)
{
	const struct call_traits *traits;

	if (state & TASK_UNINTERRUPTIBLE)
		return WAIT_DISK;
	traits = traits_of(task_syscall(task));
	return traits->class_plus_1 ? traits->wait : WAIT_OTHER;
}

/*
 * A thousand threads that wait for one reader wake up together. All are counted; so few are told that a CPU cannot
 * fill the ring with them.
 */
#define TOLD_IN_A_JIFFY 4

static __always_inline bool is_told(void)
{
	struct cpu_memo *memo = memo_here();

	return memo && is_among_first(TOLD_IN_A_JIFFY, &memo->slow_told);
}

static __always_inline void say_slow_call(struct task_struct *task, long call, enum wait_kind wait,
					  __u64 blocked_ns)
{
	struct event *event = is_told() ? event_begin(EVENT_slow_call) : 0;

	if (!event)
		return;
	event_task(event, task);
	event->value = blocked_ns;
	event->extra = call;
	if (wait == WAIT_NETWORK)
		__builtin_memcpy(event->text, "network", 8);
	else if (wait == WAIT_LOCK)
		__builtin_memcpy(event->text, "lock", 5);
	else if (wait == WAIT_OTHER)
		__builtin_memcpy(event->text, "other", 6);
	else if (BPF_CORE_READ_BITFIELD(task, in_iowait))
		__builtin_memcpy(event->text, "disk", 5);
	else
		__builtin_memcpy(event->text, "kernel", 7);
	event_send(event, EVENT_slow_call);
}

/* Rare: a call, so that sched_switch stays short. */
static __noinline int slow_call(struct task_struct *task, __u64 cgroup_id, enum wait_kind wait, __u64 blocked_ns)
{
	struct totals *totals_here = totals_of(cgroup_id);
	long call = task_syscall(task);

	if (wait == WAIT_DISK) {
		COUNT(totals_here, slow_calls, 1);
		count_detail(DETAIL_slow_calls_by_name, cgroup_id, call, 1);
	} else if (traits_of(call)->prompt) {
		COUNT(totals_here, slow_waits, 1);
		count_detail(DETAIL_slow_waits_by_name, cgroup_id, call, 1);
	} else {
		return 0;
	}
	say_slow_call(task, call, wait, blocked_ns);
	return 0;
}

/* For a CPU since it left one, before the last time it was queued. Some switches are hidden: never more than can be. */
static __always_inline __u64 waited_elsewhere(struct task_struct *task, const struct sleeper *place, __u64 queued_ns)
{
	__u64 waited_ns = task->sched_info.run_delay - place->run_delay_ns;

	return queued_ns > place->since_ns && waited_ns <= queued_ns - place->since_ns ? waited_ns : 0;
}

static __always_inline void wakes_up(struct task_struct *task, __u64 cgroup_id, struct totals *totals_here,
				     const struct sleeper *place, __u64 woken_ns)
{
	__u64 blocked_ns;
	__u32 wait = place->wait;

	/* Clocks of two CPUs may differ by a little. */
	blocked_ns = woken_ns > place->since_ns ? woken_ns - place->since_ns : 0;
	if (!totals_here || wait >= WAIT_COUNT)
		return;
	ADD_HERE(totals_here->counter[COUNTER_blocked_disk_ns + wait], blocked_ns);
	if (wait == WAIT_DISK)
		OBSERVE_IRQS_OFF(totals_here, blocked_disk_latency, blocked_ns);
	if (blocked_ns >= config.slow_call_ns && wait != WAIT_SLEEP)
		slow_call(task, cgroup_id, wait, blocked_ns);
}

/*
 * Some switches are hidden from every tracer (where a monitor runs beside a virtual machine, those from its tasks
 * to others): whoever woke up in one is still noted as asleep. The next task with that id must not end that sleep.
 */
static __always_inline void dies(__u32 tid)
{
	struct sleeper *place = find_sleeper(tid);

	if (place)
		place->tid = 0;
}

/* Interrupts are off and no other program writes these counters: COUNT() is exact. */
SEC("tp_btf/sched_switch")
int BPF_PROG(sched_switch, bool preempt, struct task_struct *prev, struct task_struct *next)
{
	/* Every task, of whatever class, knows its CPU's run queue so (CONFIG_FAIR_GROUP_SCHED). */
	__u64 now = prev->se.cfs_rq->rq->clock;
	__u64 queued_ns, waited_ns = 0, cgroup_id;
	struct totals *totals_here;
	struct sleeper *place;
	bool is_queued;
	long state;

	if (prev->pid) {
		state = preempt ? 0 : task_state(prev);
		if (!state) {
			totals_here = totals_of(task_cgroup_id(prev));
			COUNT(totals_here, involuntary_switches, 1);
			leaves_cpu(prev, now, WAIT_CPU);
		} else if (state & TASK_DEAD) {
			dies(prev->pid);
		} else if (!(state & TASK_NOLOAD) &&
			   (state & TASK_UNINTERRUPTIBLE || !(prev->flags & PF_KTHREAD))) {
			leaves_cpu(prev, now, wait_of(prev, state));
		}
	}
	if (!next->pid)
		return 0;
	cgroup_id = task_cgroup_id(next);
	totals_here = totals_of(cgroup_id);
	COUNT(totals_here, context_switches, 1);
	queued_ns = next->sched_info.last_queued;
	is_queued = queued_ns && queued_ns <= now;
	if (!is_queued)
		queued_ns = now;
	place = find_sleeper(next->pid);
	if (place)
		waited_ns = waited_elsewhere(next, place, queued_ns);
	if (is_queued || waited_ns) {
		COUNT(totals_here, runqueue_wait_ns, now - queued_ns + waited_ns);
		OBSERVE_IRQS_OFF(totals_here, runqueue_latency, now - queued_ns + waited_ns);
	}
	if (place) {
		place->tid = 0;
		wakes_up(next, cgroup_id, totals_here, place, queued_ns - waited_ns);
	}
	return 0;
}

/* Under the task's own lock, interrupts off. */
SEC("tp_btf/sched_migrate_task")
int BPF_PROG(sched_migrate_task, struct task_struct *task, int cpu)
{
	COUNT(totals_of(task_cgroup_id(task)), migrations, 1);
	return 0;
}

char LICENSE[] SEC("license") = "GPL";
