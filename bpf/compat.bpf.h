/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Everything in which kernels differ, and nothing else: 5.10 is the floor, 7.2 the newest one tried. Each
 * case names the kernel, and the commit where it is known for certain. CO-RE settles every choice when the
 * probe is loaded; the branch not taken is removed before the verifier sees it.
 *
 * A tracepoint that some kernels lack: write a second program NAME_fallback beside program NAME. The loader
 * takes it only where NAME's tracepoint does not exist, or what WALK() is made of.
 */
#ifndef VEDETTE_COMPAT_BPF_H
#define VEDETTE_COMPAT_BPF_H

#include "kernel_types.bpf.h"

/* -- tasks ------------------------------------------------------------------------------------------- */

/* 5.14: state became __state, and int (2f064a59a11f, "sched: Change task_struct::state"). */
struct task_struct___before_5_14 {
	long state;
} __attribute__((preserve_access_index));
struct task_struct___since_5_14 {
	unsigned int __state;
} __attribute__((preserve_access_index));

/*
 * Not the fourth argument of sched_switch (5.18, fa2c3254d7cf): it is absent before, and what it protects
 * against, a wake-up within the switch itself, ends a block that lasted no time.
 */
static __always_inline long task_state(struct task_struct *task)
{
	if (bpf_core_field_exists(struct task_struct___since_5_14, __state))
		return ((struct task_struct___since_5_14 *)task)->__state;
	return ((struct task_struct___before_5_14 *)task)->state;
}

#define TASK_UNINTERRUPTIBLE 0x0002
#define TASK_NOLOAD 0x0400 /* with the one above: TASK_IDLE, a kernel thread that waits for work */

/* D state, in these or other words of task_state(). */
static __always_inline bool is_blocked(long state)
{
	return (state & (TASK_UNINTERRUPTIBLE | TASK_NOLOAD)) == TASK_UNINTERRUPTIBLE;
}

/* 6.16: sched_process_exit says whether the last thread went ("exit: move and extend sched_process_exit() tracepoint"). */
struct trace_event_raw_sched_process_exit___since_6_16 {
	bool group_dead;
} __attribute__((preserve_access_index));

/* 5.17: group_exit_task became group_exec_task (60700e38fb68). */
struct signal_struct___before_5_17 {
	struct task_struct *group_exit_task;
} __attribute__((preserve_access_index));
struct signal_struct___since_5_17 {
	struct task_struct *group_exec_task;
} __attribute__((preserve_access_index));

/*
 * Whether a process ends with this sched_process_exit (`args`: the tracepoint's). Before 6.16 the leader's
 * exit stands for it: signal->live may be 0 for several threads at once. A leader that goes because another
 * thread called execve is not the end of its process.
 */
static __always_inline bool process_ends(unsigned long long *args, struct task_struct *task)
{
	void *execing;

	if (bpf_core_field_exists(struct trace_event_raw_sched_process_exit___since_6_16, group_dead))
		return args[1] & 1;
	if (task->pid != task->tgid)
		return 0;
	if (bpf_core_field_exists(struct signal_struct___since_5_17, group_exec_task))
		execing = ((struct signal_struct___since_5_17 *)task->signal)->group_exec_task;
	else
		execing = ((struct signal_struct___before_5_17 *)task->signal)->group_exit_task;
	return !execing;
}

enum bpf_func_id { BPF_FUNC_get_current_task_btf = 158, BPF_FUNC_task_pt_regs = 175 };

/* 5.11: the current task as a pointer that can be followed. Null before: use the helpers that answer by number. */
static __always_inline struct task_struct *current_task(void)
{
	if (bpf_core_enum_value_exists(enum bpf_func_id, BPF_FUNC_get_current_task_btf))
		return bpf_get_current_task_btf();
	return 0;
}

/* Not hot: current_task() is there since 5.11 only. */
static __always_inline bool is_kernel_thread(void)
{
	struct task_struct *task = (struct task_struct *)bpf_get_current_task();

	return BPF_CORE_READ(task, flags) & PF_KTHREAD;
}

/* 5.15: bpf_task_pt_regs() (dd6e10fbd9fb). -1: not in a system call, or not to be known here. */

static __always_inline long regs_syscall(struct pt_regs *regs)
{
#if defined(__TARGET_ARCH_x86)
	return regs->orig_ax;
#else
	return regs->syscallno;
#endif
}

#if defined(__TARGET_ARCH_x86)
/* x86-64 before FRED: the registers of user mode end where the stack does. 16 KiB without KASAN. */
#define THREAD_SIZE 16384
#define PT_REGS_SIZE 168
#define PT_REGS_ORIG_AX 120
#endif

static __always_inline long task_syscall(struct task_struct *task)
{
	long call = -1;

	if (task->flags & PF_KTHREAD)
		return -1;
	if (bpf_core_enum_value_exists(enum bpf_func_id, BPF_FUNC_task_pt_regs))
		return regs_syscall((struct pt_regs *)bpf_task_pt_regs(task));
#if defined(__TARGET_ARCH_x86)
	bpf_probe_read_kernel(&call, sizeof(call), task->stack + THREAD_SIZE - PT_REGS_SIZE + PT_REGS_ORIG_AX);
#endif
	return call;
}

/* 6.1: a cgroup names its ancestors by pointer ("cgroup: Replace cgroup->ancestor_ids[] with ->ancestors[]"). */
struct cgroup___before_6_1 {
	__u64 ancestor_ids[1]; /* [level + 1] */
} __attribute__((preserve_access_index));
struct cgroup___since_6_1 {
	struct cgroup *ancestors[1];
} __attribute__((preserve_access_index));

/* Whether the current task is in `ancestor` or below it. Not hot: a helper does this only since 5.15. */
static __always_inline bool current_is_below(struct cgroup *ancestor)
{
	struct task_struct *task = (struct task_struct *)bpf_get_current_task();
	struct cgroup *cgroup = BPF_CORE_READ(task, cgroups, dfl_cgrp);
	int level = ancestor->level;
	struct cgroup *there = 0;
	void *place = cgroup;
	__u64 id = 0;

	if (BPF_CORE_READ(cgroup, level) < level)
		return 0;
	if (bpf_core_field_exists(struct cgroup___since_6_1, ancestors)) {
		place += bpf_core_field_offset(struct cgroup___since_6_1, ancestors) + level * sizeof(there);
		return !bpf_probe_read_kernel(&there, sizeof(there), place) && there == ancestor;
	}
	place += bpf_core_field_offset(struct cgroup___before_6_1, ancestor_ids) + level * sizeof(id);
	return !bpf_probe_read_kernel(&id, sizeof(id), place) && id == ancestor->kn->id;
}

/* -- sockets ----------------------------------------------------------------------------------------- */

/*
 * 5.15: a socket always knows its v2 cgroup (8520e224f547). Before, the word held a pointer or, with its
 * lowest bit set, the numbers of net_cls and net_prio.
 */
struct sock_cgroup_data___before_5_15 {
	__u64 val;
} __attribute__((preserve_access_index));

static __always_inline __u64 sock_cgroup_id(const struct sock *sk)
{
	struct cgroup *cgroup;
	__u64 word;

	if (bpf_core_field_exists(struct sock_cgroup_data, cgroup)) {
		cgroup = sk->sk_cgrp_data.cgroup;
		return cgroup ? cgroup->kn->id : 0;
	}
	word = ((struct sock_cgroup_data___before_5_15 *)&sk->sk_cgrp_data)->val;
	if (!word || word & 1)
		return 0;
	return BPF_CORE_READ((struct cgroup *)word, kn, id);
}

/*
 * udp_fail_queue_rcv_skb(rc, sk) got the packet behind them in 6.10 (e9669a00bba7): the socket stands where it
 * stood, and the rest is not read.
 */

/*
 * 5.17: kfree_skb says why, as its third argument (c504e5c2f964). The numbers moved more than once since, and what
 * is no drop came one by one, so each is known by its name, where the kernel has it.
 */
enum skb_drop_reason {
	SKB_NOT_DROPPED_YET = -1,
	SKB_CONSUMED = -2,
	SKB_DROP_REASON_QUEUE_PURGE = -3, /* what a socket that was closed had not read: with TCP, every last FIN */
	SKB_DROP_REASON_SOCKET_CLOSE = -4, /* the same of a Unix socket */
};

/* `args`: those of kfree_skb. Before 5.17 no reason is known, and 0 stands for all of them. */
static __always_inline int drop_reason(unsigned long long *args)
{
	if (bpf_core_type_exists(enum skb_drop_reason))
		return args[2];
	return 0;
}

#define DROP_REASON_IS(reason, name)                             \
	(bpf_core_enum_value_exists(enum skb_drop_reason, name) && \
	 (reason) == (int)bpf_core_enum_value(enum skb_drop_reason, name))

static __always_inline bool is_drop(int reason)
{
	if (!bpf_core_type_exists(enum skb_drop_reason))
		return 1;
	return !DROP_REASON_IS(reason, SKB_NOT_DROPPED_YET) && !DROP_REASON_IS(reason, SKB_CONSUMED) &&
	       !DROP_REASON_IS(reason, SKB_DROP_REASON_QUEUE_PURGE) &&
	       !DROP_REASON_IS(reason, SKB_DROP_REASON_SOCKET_CLOSE);
}

/* -- memory ------------------------------------------------------------------------------------------ */

/* 6.9: mark_victim hands the task, not its pid ("mm: update mark_victim tracepoints fields"). */
struct trace_event_raw_mark_victim___since_6_9 {
	unsigned long anon_rss;
} __attribute__((preserve_access_index));

static __always_inline bool mark_victim_has_task(void)
{
	return bpf_core_field_exists(struct trace_event_raw_mark_victim___since_6_9, anon_rss);
}

/* 5.14: a memory policy's nodes left its union (269fbe72cded). */
struct mempolicy___before_5_14 {
	union {
		nodemask_t nodes;
	} v;
} __attribute__((preserve_access_index));
struct mempolicy___since_5_14 {
	nodemask_t nodes;
} __attribute__((preserve_access_index));

static __always_inline const void *policy_nodes(const struct mempolicy *policy)
{
	if (bpf_core_field_exists(struct mempolicy___since_5_14, nodes))
		return (const void *)policy + bpf_core_field_offset(struct mempolicy___since_5_14, nodes);
	return (const void *)policy + bpf_core_field_offset(struct mempolicy___before_5_14, v.nodes);
}

/* 6.2: rss_stat became an array of per-CPU counters (f1a7941243c1), of which `count` is the settled part. */
struct percpu_counter {
	__s64 count;
} __attribute__((preserve_access_index));
struct mm_struct___since_6_2 {
	struct percpu_counter rss_stat[4];
} __attribute__((preserve_access_index));
struct mm_rss_stat___before_6_2 {
	atomic_long_t count[4];
} __attribute__((preserve_access_index));
struct mm_struct___before_6_2 {
	struct mm_rss_stat___before_6_2 rss_stat;
} __attribute__((preserve_access_index));

/* Pages of files, anonymous and shared memory: rss_stat[0], [1], [3]; [2] counts what is swapped out. */
static __always_inline __s64 resident_pages(struct mm_struct *mm)
{
	struct mm_struct___since_6_2 *since = (void *)mm;
	struct mm_struct___before_6_2 *before = (void *)mm;

	if (!mm)
		return 0;
	if (bpf_core_type_exists(struct mm_rss_stat___before_6_2))
		return BPF_CORE_READ(before, rss_stat.count[0].counter) +
		       BPF_CORE_READ(before, rss_stat.count[1].counter) +
		       BPF_CORE_READ(before, rss_stat.count[3].counter);
	return BPF_CORE_READ(since, rss_stat[0].count) + BPF_CORE_READ(since, rss_stat[1].count) +
	       BPF_CORE_READ(since, rss_stat[3].count);
}

/* -- block devices ----------------------------------------------------------------------------------- */

/* 5.17: struct request lost rq_disk (f3fa33acca9f); its queue has the disk. */
struct request___before_5_17 {
	struct gendisk *rq_disk;
} __attribute__((preserve_access_index));

static __always_inline struct gendisk *request_disk(struct request *rq)
{
	if (bpf_core_field_exists(struct request___before_5_17, rq_disk))
		return ((struct request___before_5_17 *)rq)->rq_disk;
	return rq->q->disk;
}

static __always_inline __u32 disk_device(struct gendisk *disk)
{
	return disk ? disk->major << 20 | disk->first_minor : 0;
}

static __always_inline __u32 request_device(struct request *rq)
{
	return disk_device(request_disk(rq));
}

/* 5.12: a bio points to its block_device (309dca309fc3), before to its disk. */
struct bio___before_5_12 {
	struct gendisk *bi_disk;
} __attribute__((preserve_access_index));

static __always_inline struct gendisk *bio_disk(struct bio *bio)
{
	if (bpf_core_field_exists(struct bio, bi_bdev))
		return bio->bi_bdev ? bio->bi_bdev->bd_disk : 0;
	return ((struct bio___before_5_12 *)bio)->bi_disk;
}

static __always_inline __u32 bio_device(struct bio *bio)
{
	if (bpf_core_field_exists(struct bio, bi_bdev))
		return bio->bi_bdev ? bio->bi_bdev->bd_dev : 0;
	return disk_device(bio_disk(bio));
}

/*
 * 5.11: the tracepoints of bios lost the queue, their first argument, and those of merges the request between
 * the two (e8a676d61c07). struct hd_struct went in the same release and tells. block_rq_complete and block_rq_error never had a queue; block_bio_complete keeps it.
 * The error of the two is a negative errno up to 5.15 or so and a blk_status_t after, told apart by the sign.
 */
struct hd_struct___before_5_11 {
	int partno;
} __attribute__((preserve_access_index));

/* The asm keeps clang from one load through a context pointer it chose before, which the verifier refuses. */
#define TRACED_ARGUMENT(args, n)                                \
	({                                                      \
		unsigned long long value_ = (args)[n];          \
		asm volatile("" : "+r"(value_) : "i"(n));       \
		(void *)value_;                                 \
	})

static __always_inline void *traced_bio(unsigned long long *args)
{
	if (bpf_core_type_exists(struct hd_struct___before_5_11))
		return TRACED_ARGUMENT(args, 1);
	return TRACED_ARGUMENT(args, 0);
}

/* Null before 5.11: releases of 5.10 differ in the place of block_rq_merge's request. */
static __always_inline void *traced_request(unsigned long long *args)
{
	if (bpf_core_type_exists(struct hd_struct___before_5_11))
		return 0;
	return TRACED_ARGUMENT(args, 0);
}

static __always_inline void *merged_bio(unsigned long long *args)
{
	if (bpf_core_type_exists(struct hd_struct___before_5_11))
		return TRACED_ARGUMENT(args, 2);
	return TRACED_ARGUMENT(args, 0);
}

/* Whose bio it is, as the io controller has it. Null: kernels without that controller, and v1's. */
static __always_inline struct cgroup *bio_owner(struct bio *bio)
{
	struct cgroup *owner;

	if (!bpf_core_field_exists(struct bio, bi_blkg) || !bio->bi_blkg)
		return 0;
	owner = bio->bi_blkg->blkcg->css.cgroup;
	return owner->root->hierarchy_id ? 0 : owner;
}

/* -- maps -------------------------------------------------------------------------------------------- */

/*
 * A program that walks a map when the agent asks it to (NAME_survey, NAME_flush): `visit(key, value)` is called
 * with each of its elements. What is at `value` is to be read only. 5.13 brought bpf_for_each_map_elem()
 * (69c087ba6225); before, an iterator does it, a type of program that not every kernel allows.
 */
#define WALK(map, name, visit)                                                      \
	static long name##_visit(void *map_, void *key, void *value, void *context) \
	{                                                                           \
		visit(key, value);                                                  \
		return 0;                                                           \
	}                                                                           \
	SEC("raw_tp")                                                               \
	int name(void *context)                                                     \
	{                                                                           \
		bpf_for_each_map_elem(&map, name##_visit, 0, 0);                    \
		return 0;                                                           \
	}                                                                           \
	SEC("iter/bpf_map_elem")                                                    \
	int name##_fallback(struct bpf_iter__bpf_map_elem *at)                      \
	{                                                                           \
		void *key = at->key, *value = at->value;                            \
                                                                                    \
		if (key && value)                                                   \
			visit(key, value);                                          \
		return 0;                                                           \
	}

/* -- network ----------------------------------------------------------------------------------------- */

/* 6.17: tcp_retransmit_skb tells of what could not be sent as well, by a third argument. */
struct trace_event_raw_tcp_retransmit_skb___since_6_17 {
	int err;
} __attribute__((preserve_access_index));

/* Of tcp_retransmit_skb's arguments: 0, it was sent. */
static __always_inline int retransmit_error(unsigned long long *args)
{
	if (bpf_core_field_exists(struct trace_event_raw_tcp_retransmit_skb___since_6_17, err))
		return (int)args[2];
	return 0;
}

/*
 * 6.10: tcp_send_reset may come without a socket. Until 6.12 (838a10bd2ebf, "bpf: Augment raw_tp arguments with
 * PTR_MAYBE_NULL") the verifier believes that none does, and drops a test of the pointer; of its copy it does not.
 */
static __always_inline bool is_null(const void *pointer)
{
	__u64 address = 0;

	bpf_probe_read_kernel(&address, sizeof(address), &pointer);
	return !address;
}

/* -- hardware ---------------------------------------------------------------------------------------- */

/* 6.13: mce_record hands a struct mce_hw_err; the struct mce before is its first member, at the same address. */

/* 5.18: a SCSI command holds its bytes itself ("scsi: core: Remove the cmd field from struct scsi_request"). */
struct scsi_cmnd___before_5_18 {
	unsigned char *cmnd;
} __attribute__((preserve_access_index));
struct scsi_cmnd___since_5_18 {
	unsigned char cmnd[32];
} __attribute__((preserve_access_index));

/* The operation code, its first byte. */
static __always_inline __u8 scsi_operation(struct scsi_cmnd *command)
{
	__u8 operation = 0;

	if (!bpf_core_field_exists(struct scsi_cmnd___before_5_18, cmnd)) /* a pointer, that is */
		return ((struct scsi_cmnd___since_5_18 *)command)->cmnd[0];
	bpf_probe_read_kernel(&operation, sizeof(operation), ((struct scsi_cmnd___before_5_18 *)command)->cmnd);
	return operation;
}

#endif
