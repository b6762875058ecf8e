// SPDX-License-Identifier: GPL-2.0
/*
 * Memory: whom the OOM killer chose and whose limit it enforced, and the time allocations spend in reclaim,
 * be it for the node or at a cgroup's own limit (which is where a pod feels it first), and in compaction.
 * Process context only, so COUNT() is exact.
 */
#include "compat.bpf.h"
#include "starts.bpf.h"

/* Deeper trees than this exist nowhere; the verifier wants a bound. */
#define MAX_DEPTH 16
#define PAGE_KIB 4 /* 4 KiB pages: x86, and arm64 as distributions build it */

/* Null: none. */
static __always_inline struct cgroup_subsys_state *css_of(struct task_struct *task, __u64 subsystem)
{
	struct css_set *set = BPF_CORE_READ(task, cgroups);
	void *place = (void *)set + bpf_core_field_offset(set->subsys) + subsystem * sizeof(void *);
	struct cgroup_subsys_state *css;

	return bpf_probe_read_kernel(&css, sizeof(css), place) ? 0 : css;
}

static __always_inline struct page_counter *memory_of(struct task_struct *task)
{
	struct cgroup_subsys_state *css =
		css_of(task, bpf_core_enum_value(enum cgroup_subsys_id, memory_cgrp_id));

	return css ? &((struct mem_cgroup *)css)->memory : 0; /* css is its first member */
}

/*
 * A counter of this chain at its limit: usage may have fallen since the charge failed, by what other CPUs
 * freed (64-page stocks), so 1/64 of the limit and one stock of slack.
 */
static __always_inline struct page_counter *counter_at_limit(struct page_counter *counter)
{
	for (int i = 0; i < MAX_DEPTH && counter; i++) {
		__u64 usage = BPF_CORE_READ(counter, usage.counter);
		__u64 max = BPF_CORE_READ(counter, max);

		if (usage + max / 64 + 64 >= max)
			return counter;
		counter = BPF_CORE_READ(counter, parent);
	}
	return 0;
}

static __always_inline bool is_within(struct page_counter *counter, struct page_counter *ancestor)
{
	for (int i = 0; i < MAX_DEPTH && counter; i++) {
		if (counter == ancestor)
			return 1;
		counter = BPF_CORE_READ(counter, parent);
	}
	return 0;
}

/* At most 1,024 NUMA nodes (CONFIG_NODES_SHIFT is 10 at most). */
#define MAX_NODE_WORDS 16

/* Whether `nodes`, a nodemask_t in the kernel, lacks one that the root's cpuset has: all nodes with memory. */
static __always_inline bool lacks_nodes(const void *nodes, const void *all)
{
	for (__u32 i = 0; i < MAX_NODE_WORDS; i++) {
		unsigned long has = 0, root = 0;

		if (i * sizeof(has) >= bpf_core_field_size(struct cpuset, effective_mems))
			break;
		bpf_probe_read_kernel(&has, sizeof(has), nodes + i * sizeof(has));
		bpf_probe_read_kernel(&root, sizeof(root), all + i * sizeof(root));
		if (root & ~has)
			return 1;
	}
	return 0;
}

#define MPOL_BIND 2

/*
 * Not the whole node, but the part of it in which the current task, the one that needed memory, may allocate.
 * (A policy that mbind() set for a mapping is not seen: without a cpuset that counts as the node's.)
 */
static __always_inline enum oom_cause oom_of_part(struct task_struct *task)
{
	struct cgroup_subsys_state *css, *parent;
	struct mempolicy *policy;
	const void *all;

	if (!bpf_core_type_exists(struct cpuset) || !bpf_core_field_exists(task->mems_allowed) ||
	    !bpf_core_enum_value_exists(enum cgroup_subsys_id, cpuset_cgrp_id))
		return OOM_NODE;
	css = css_of(task, bpf_core_enum_value(enum cgroup_subsys_id, cpuset_cgrp_id));
	for (int i = 0; i < MAX_DEPTH && css; i++) {
		parent = BPF_CORE_READ(css, parent);
		if (!parent)
			break;
		css = parent;
	}
	if (!css)
		return OOM_NODE;
	all = &((struct cpuset *)css)->effective_mems; /* css is its first member */
	if (bpf_core_field_exists(task->mempolicy)) {
		policy = BPF_CORE_READ(task, mempolicy);
		if (policy && BPF_CORE_READ(policy, mode) == MPOL_BIND && lacks_nodes(policy_nodes(policy), all))
			return OOM_POLICY;
	}
	return lacks_nodes(&task->mems_allowed, all) ? OOM_CPUSET : OOM_NODE;
}

/*
 * The OOM killer does not say for whom it works. For a cgroup: some level above the victim is at its limit,
 * and the task that needed memory, the current one, is below that level too. Otherwise it may be for those who
 * share some NUMA nodes, and else the node was out of memory. A victim whose own cgroup happens to be full while
 * the node runs out is told apart by the second half, unless it was the one that asked.
 */
static __always_inline enum oom_cause oom_cause(struct task_struct *victim)
{
	struct task_struct *current = (struct task_struct *)bpf_get_current_task();
	struct page_counter *full;

	if (!bpf_core_type_exists(struct mem_cgroup) ||
	    !bpf_core_enum_value_exists(enum cgroup_subsys_id, memory_cgrp_id))
		return oom_of_part(current);
	full = counter_at_limit(memory_of(victim));
	if (full && is_within(memory_of(current), full))
		return OOM_CGROUP_LIMIT;
	return oom_of_part(current);
}

struct victim {
	__u64 killer; /* pid_tgid of whoever sent the signal, */
	__u64 at_ns;  /* and when */
	__u64 cgroup_id;
	__u64 resident_kib;
	enum oom_cause cause;
	__u32 pid; /* thread group id */
	char comm[16];
};

static __always_inline void describe(struct victim *victim, struct task_struct *task)
{
	victim->resident_kib = resident_pages(BPF_CORE_READ(task, mm)) * PAGE_KIB;
	victim->cause = oom_cause(task);
	victim->pid = BPF_CORE_READ(task, tgid);
	bpf_probe_read_kernel(victim->comm, sizeof(victim->comm), task->comm);
}

/*
 * Where mark_victim tells a number only, the SIGKILL that the kernel sends right before it told the task: kept by
 * that number. Any other kill stands here for a while, too; more than 64 at once happen nowhere.
 */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 64);
	__type(key, __u32);
	__type(value, struct victim);
} killed SEC(".maps");

#define SIGKILL 9

SEC("tp_btf/signal_generate")
int signal_sent(unsigned long long *ctx)
{
	struct task_struct *task = TRACED_ARGUMENT(ctx, 2);
	struct victim victim = {};
	__u32 tid;

	if (mark_victim_has_task() || (int)ctx[0] != SIGKILL)
		return 0;
	victim.killer = bpf_get_current_pid_tgid();
	victim.at_ns = bpf_ktime_get_ns();
	victim.cgroup_id = task_cgroup_id(task);
	describe(&victim, task);
	tid = task->pid;
	bpf_map_update_elem(&killed, &tid, &victim, BPF_ANY);
	return 0;
}

/* Between the signal and the mark the kernel does next to nothing. */
#define JUST_NOW_NS 1000000000ULL

/*
 * Who ends already is marked without a signal: then it may be known by an older one, of somebody else, or be the
 * current task, or be a number only. Whose limit it was the current task tells, for it needed the memory.
 */
static __always_inline void find_victim(struct victim *victim, unsigned long long *ctx)
{
	struct task_struct *task;
	struct victim *known;
	__u32 tid;

	if (mark_victim_has_task()) {
		task = TRACED_ARGUMENT(ctx, 0);
		victim->cgroup_id = task_cgroup_id(task);
		describe(victim, task);
		return;
	}
	tid = ctx[0];
	task = (struct task_struct *)bpf_get_current_task();
	known = bpf_map_lookup_elem(&killed, &tid);
	if (known) {
		*victim = *known;
		bpf_map_delete_elem(&killed, &tid);
		if (victim->killer != bpf_get_current_pid_tgid() || bpf_ktime_get_ns() - victim->at_ns > JUST_NOW_NS)
			victim->cause = oom_cause(task);
		return;
	}
	victim->cgroup_id = bpf_get_current_cgroup_id();
	if ((__u32)bpf_get_current_pid_tgid() == tid) {
		describe(victim, task);
	} else {
		victim->pid = tid;
		victim->cause = oom_cause(task);
	}
}

SEC("tp_btf/mark_victim")
int mark_victim(unsigned long long *ctx)
{
	struct victim victim = {};
	struct event *event;

	find_victim(&victim, ctx);
	COUNT(totals_of(victim.cgroup_id), oom_kills, 1);
	event = event_begin(EVENT_oom_kill);
	if (!event)
		return 0;
	event->cgroup_id = victim.cgroup_id;
	event->pid = victim.pid;
	event->value = victim.cause;
	event->extra = victim.resident_kib;
	__builtin_memcpy(event->comm, victim.comm, sizeof(victim.comm));
	event_send(event, EVENT_oom_kill);
	return 0;
}

static __always_inline int reclaim_begin(void)
{
	if (!start_begin(bpf_get_current_pid_tgid(), 0))
		LACKS(start_lost(), direct_reclaim_ns);
	return 0;
}

static __always_inline int reclaim_end(void)
{
	struct totals *totals_here = totals_of(bpf_get_current_cgroup_id());
	__u64 ns = start_end(bpf_get_current_pid_tgid(), 0);

	COUNT(totals_here, direct_reclaims, 1);
	if (ns) {
		COUNT(totals_here, direct_reclaim_ns, ns);
		OBSERVE(totals_here, direct_reclaim_latency, ns);
	}
	return 0;
}

SEC("tp_btf/mm_vmscan_direct_reclaim_begin")
int direct_reclaim_begin(void *ctx)
{
	return reclaim_begin();
}

SEC("tp_btf/mm_vmscan_direct_reclaim_end")
int direct_reclaim_end(void *ctx)
{
	return reclaim_end();
}

SEC("tp_btf/mm_vmscan_memcg_reclaim_begin")
int memcg_reclaim_begin(void *ctx)
{
	return reclaim_begin();
}

SEC("tp_btf/mm_vmscan_memcg_reclaim_end")
int memcg_reclaim_end(void *ctx)
{
	return reclaim_end();
}

/*
 * Compaction of one zone, by a task that waits for it: an allocation that needs several pages in a row, which
 * may go through several zones, or whoever writes to compact_memory. Kernel threads (kcompactd, khugepaged)
 * hold up nobody. The same table as reclaim's, half of it further: a task that compacts memory may have to
 * reclaim some.
 */
#define COMPACTION (1U << 31 | STARTS / 2)

SEC("tp_btf/mm_compaction_begin")
int compaction_begin(void *ctx)
{
	if (!is_kernel_thread() && !start_begin((__u32)bpf_get_current_pid_tgid() + COMPACTION, 0))
		LACKS(start_lost(), compaction_ns);
	return 0;
}

SEC("tp_btf/mm_compaction_end")
int compaction_end(void *ctx)
{
	struct totals *totals_here;
	__u64 ns;

	if (is_kernel_thread())
		return 0;
	totals_here = totals_of(bpf_get_current_cgroup_id());
	ns = start_end((__u32)bpf_get_current_pid_tgid() + COMPACTION, 0);
	COUNT(totals_here, compaction_stalls, 1);
	if (ns) {
		COUNT(totals_here, compaction_ns, ns);
		OBSERVE(totals_here, compaction_latency, ns);
	}
	return 0;
}

char LICENSE[] SEC("license") = "GPL";
