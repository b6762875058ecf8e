/* SPDX-License-Identifier: GPL-2.0 */
/*
 * What the probes share: the maps (one of each for all objects; the agent makes them, at the sizes of its
 * options, and hands them to every object by name), counting, histograms, and sending records.
 *
 * Who may interrupt whom: a program never nests on a CPU (since 6.1 the kernel skips the inner run and counts a
 * miss; before, none of ours did in any test), but an interrupt or softirq may run another one between the load
 * and the store of a `+=`. So COUNT() is for counters that only task context or only the scheduler (interrupts
 * off) touches, and COUNT_ANYWHERE(), an atomic add, for all others. On 7.x a task may be preempted inside
 * sys_enter and sys_exit: until it is back the kernel skips, and counts as missed, the runs of that program for
 * the others on its CPU. So what these COUNT() is theirs alone. A migration cannot come between: it is disabled.
 * (On PREEMPT_RT a softirq is a task: there COUNT() is atomic, too.)
 */
#ifndef VEDETTE_TOTALS_BPF_H
#define VEDETTE_TOTALS_BPF_H

#include "kernel_types.bpf.h"

#include "events.h"
#include "signals.h"

/* Set by the loader before the verifier runs, so it is a constant to the program. */
const volatile struct probe_config config = { .cpus = 1, .lanes = 1 };

/*
 * Of an array that can be mapped the values begin at a page. Those of others begin in the middle of a cache line: what
 * is aligned for one CPU would then share its line with another's.
 */
#define BPF_F_ALIGNED BPF_F_MMAPABLE

/* Sizes of 1 stand for the agent's own; see KernelOptions. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct totals);
} totals SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct probe_losses);
} losses SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct slot_owner);
} owners SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 1);
	__type(key, __u64);
	__type(value, __u32);
} slots SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_STACK);
	__uint(max_entries, 1);
	__uint(key_size, 0);
	__uint(value_size, sizeof(__u32));
} free_slots SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 4096);
} events SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_ALIGNED);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct cpu_memo);
} memos SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct probe_controls);
} controls SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 1);
	__type(key, struct detail_key);
	__type(value, __u64);
} details SEC(".maps");

#define ADD_ANYWHERE(place, n) __sync_fetch_and_add(&(place), (n))

/* How many are left out until the next one that is sampled: drawn, so that no rhythm can hide from it. */
static __always_inline __u32 draw_gap(void)
{
	__u32 zero = 0;
	struct probe_controls *now = bpf_map_lookup_elem(&controls, &zero);

	return 1 + (bpf_get_prandom_u32() & (now ? now->gap_mask : 0));
}

static __always_inline struct probe_losses *losses_here(void)
{
	__u32 cpu = bpf_get_smp_processor_id();

	return bpf_map_lookup_elem(&losses, &cpu);
}

/*
 * No room to keep when something began, or it was pushed out by another. A sample fewer; where it costs a counter
 * something too, LACKS() says which one.
 */
static __always_inline struct probe_losses *start_lost(void)
{
	struct probe_losses *lost = losses_here();

	if (lost)
		ADD_ANYWHERE(lost->no_task_storage, 1);
	return lost;
}

#define LACKS(lost, name)                                               \
	do {                                                            \
		struct probe_losses *lost_ = (lost);                    \
		if (lost_)                                              \
			ADD_ANYWHERE(lost_->no_start[COUNTER_##name], 1); \
	} while (0)

static __always_inline struct cpu_memo *memo_here(void)
{
	__u32 cpu = bpf_get_smp_processor_id();

	return bpf_map_lookup_elem(&memos, &cpu);
}

/* Counts one more, and says whether it is among the first `most` of this jiffy. */
static __always_inline bool is_among_first(__u32 most, struct jiffy_count *count)
{
	__u32 jiffy = bpf_jiffies64();

	if (count->jiffy != jiffy) {
		count->jiffy = jiffy;
		count->times = 0;
	}
	return count->times++ < most;
}

/* Neighbouring CPUs, which share a cache, share a lane. The verifier drops the branch that is not taken. */
static __always_inline __u32 lane_here(void)
{
	__u32 cpu = bpf_get_smp_processor_id();

	return config.shared ? cpu * config.lanes / config.cpus : cpu;
}

/* The way with the hash lookup: a call, so that the hot path stays short. */
static __noinline struct totals *find_totals(__u64 cgroup_id, __u32 *memo_row)
{
	__u32 *slot = bpf_map_lookup_elem(&slots, &cgroup_id);
	__u32 row = (slot ? *slot : 0) * config.lanes + lane_here();
	struct totals *totals_here = bpf_map_lookup_elem(&totals, &row);
	struct probe_losses *lost;

	if (!totals_here)
		return 0;
	if (slot) {
		totals_here->cgroup_id = cgroup_id;
		if (memo_row)
			*memo_row = row;
	} else {
		lost = losses_here();
		if (lost)
			ADD_ANYWHERE(lost->no_slot, 1);
	}
	return totals_here;
}

/*
 * This CPU's totals of a cgroup. The memo is one number and proves itself by the row's own cgroup id, so an
 * interrupt that replaces it, or a slot given to another cgroup, cannot send a count to the wrong one. Slot
 * 0's rows carry no id: whoever has no slot is looked up, and counted as lost, every time.
 */
static __always_inline struct totals *remembered_totals(const __u32 *memo_row, __u64 cgroup_id)
{
	struct totals *totals_here = bpf_map_lookup_elem(&totals, memo_row);

	return totals_here && cgroup_id && totals_here->cgroup_id == cgroup_id ? totals_here : 0;
}

static __always_inline struct totals *totals_by(__u32 *memo_row, __u64 cgroup_id)
{
	struct totals *totals_here = remembered_totals(memo_row, cgroup_id);

	return totals_here ? totals_here : find_totals(cgroup_id, memo_row);
}

static __always_inline struct totals *totals_of(__u64 cgroup_id)
{
	struct cpu_memo *memo = memo_here();

	return memo ? totals_by(&memo->row, cgroup_id) : 0;
}

/* Where several may count in a lane at once, every add must be atomic; the verifier drops the other branch. */
#define ADD_HERE(place, n)                               \
	do {                                             \
		if (config.shared)                       \
			ADD_ANYWHERE(place, n);          \
		else                                     \
			(place) += (n);                  \
	} while (0)

/* `where` may be null: then there is nowhere to count (never seen; the verifier asks). */
#define COUNT(where, name, n)                                       \
	do {                                                        \
		struct totals *place_ = (where);                    \
		if (place_)                                         \
			ADD_HERE(place_->counter[COUNTER_##name], (n)); \
	} while (0)
#define COUNT_ANYWHERE(where, name, n)                                      \
	do {                                                                \
		struct totals *place_ = (where);                            \
		if (place_)                                                 \
			ADD_ANYWHERE(place_->counter[COUNTER_##name], (n)); \
	} while (0)

/* A table: the target has no instruction for it, and a guess at each half of the way would be wrong often. */
static const __u8 significant_bits[256] = {
	[1] = 1, [2 ... 3] = 2, [4 ... 7] = 3, [8 ... 15] = 4, [16 ... 31] = 5, [32 ... 63] = 6, [64 ... 127] = 7,
	[128 ... 255] = 8,
};

/* Buckets as signals.h says: 0 below 1024 ns, then one for each doubling. */
static __always_inline __u32 histogram_bucket(__u64 ns)
{
	__u64 v = ns >> 10;
	__u32 bucket;

	if (v < 1 << 8)
		bucket = significant_bits[v];
	else if (v < 1 << 16)
		bucket = 8 + significant_bits[v >> 8];
	else if (v < 1 << 24)
		bucket = 16 + significant_bits[v >> 16];
	else
		bucket = HISTOGRAM_BUCKETS;
	return bucket < HISTOGRAM_BUCKETS ? bucket : HISTOGRAM_BUCKETS - 1;
}

/* Atomic: `observations` is one for all probes, and this is never the hottest path. */
#define OBSERVE(where, name, ns)                                                                       \
	do {                                                                                           \
		struct totals *place_ = (where);                                                       \
		if (place_) {                                                                          \
			ADD_ANYWHERE(place_->histogram[HISTOGRAM_##name][histogram_bucket(ns)], 1);    \
			ADD_ANYWHERE(place_->observations, 1);                                         \
		}                                                                                      \
	} while (0)

/* The same where interrupts are off (sched_switch): nobody can come between on this CPU. */
#define OBSERVE_IRQS_OFF(where, name, ns)                                                              \
	do {                                                                                           \
		struct totals *place_ = (where);                                                       \
		if (place_) {                                                                          \
			ADD_HERE(place_->histogram[HISTOGRAM_##name][histogram_bucket(ns)], 1);        \
			ADD_HERE(place_->observations, 1);                                             \
		}                                                                                      \
	} while (0)

/*
 * Counts by label: a hash lookup, so for what is rare or dear already. The agent clears what belongs to
 * removed cgroups; a map that is full is counted.
 */
static __always_inline void count_detail(enum vedette_detail detail, __u64 cgroup_id, __s32 label, __u64 n)
{
	struct detail_key key = { .detail = detail, .label = label, .cgroup_id = cgroup_id };
	__u64 *count = bpf_map_lookup_elem(&details, &key);
	struct probe_losses *lost;

	if (!count) {
		__u64 zero = 0;

		/* Fails where another CPU was first, or where there is no room: the second look tells. */
		bpf_map_update_elem(&details, &key, &zero, BPF_NOEXIST);
		count = bpf_map_lookup_elem(&details, &key);
	}
	if (count) {
		ADD_ANYWHERE(*count, n);
		return;
	}
	lost = losses_here();
	if (lost)
		ADD_ANYWHERE(lost->no_detail, n);
}

static __always_inline __u64 task_cgroup_id(struct task_struct *task)
{
	return task->cgroups->dfl_cgrp->kn->id;
}

/*
 * Room in the ring for a record, zeroed but for its type and time; null when the ring is full. Either way it
 * is counted, so that produced = received + lost holds to the record.
 */
static __always_inline struct event *event_begin(__u32 type)
{
	struct probe_losses *count = losses_here();
	struct event *event = bpf_ringbuf_reserve(&events, sizeof(*event), 0);

	if (count && type < EVENT_COUNT) {
		ADD_ANYWHERE(count->produced[type], 1);
		if (!event)
			ADD_ANYWHERE(count->lost[type], 1);
	}
	if (!event)
		return 0;
	__builtin_memset(event, 0, sizeof(*event));
	event->type = type;
	event->time_ns = bpf_ktime_get_ns();
	return event;
}

#define VEDETTE_URGENT_EVENT(name, is_urgent, help) | ((__u64)(is_urgent) << EVENT_##name)

/*
 * An urgent record wakes the agent now. The others wait for its tick, unless the ring is half full: then
 * waiting would lose what comes next.
 */
static __always_inline void event_send(struct event *event, __u32 type)
{
	const __u64 urgent = 0 VEDETTE_EVENTS(VEDETTE_URGENT_EVENT);
	__u64 flags = BPF_RB_NO_WAKEUP;

	if (urgent >> type & 1)
		flags = BPF_RB_FORCE_WAKEUP;
	else if (bpf_ringbuf_query(&events, BPF_RB_AVAIL_DATA) > config.ring_bytes / 2)
		flags = BPF_RB_FORCE_WAKEUP;
	bpf_ringbuf_submit(event, flags);
}

static __always_inline void event_task(struct event *event, struct task_struct *task)
{
	event->pid = task->tgid;
	event->cgroup_id = task_cgroup_id(task);
	bpf_probe_read_kernel(event->comm, sizeof(event->comm), task->comm);
}

#endif
