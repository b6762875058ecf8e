// SPDX-License-Identifier: GPL-2.0
/*
 * System calls: every one counted, every error put in its group, one call in about 32 timed. Reading the
 * clock is what timing costs, so the calls to time are drawn at random: a gap per CPU, so that no rhythm of
 * the program can hide from it.
 */
#include "compat.bpf.h"
#include "starts.bpf.h"
#include "syscall_class.bpf.h"

enum errno_value {
	EPERM = 1, ENOENT = 2, EINTR = 4, EIO = 5, ENXIO = 6, EAGAIN = 11, ENOMEM = 12, EACCES = 13, EEXIST = 17,
	ENODEV = 19, ENOTDIR = 20, EISDIR = 21, ENFILE = 23, EMFILE = 24, ENOSPC = 28, EROFS = 30, EPIPE = 32,
	ENAMETOOLONG = 36, ENOTEMPTY = 39, ELOOP = 40, ENETDOWN = 100, ENETUNREACH = 101, ENETRESET = 102,
	ECONNABORTED = 103, ECONNRESET = 104, ENOBUFS = 105, ETIMEDOUT = 110, ECONNREFUSED = 111, EHOSTDOWN = 112,
	EHOSTUNREACH = 113, EINPROGRESS = 115, EDQUOT = 122, ERESTARTSYS = 512, ERESTART_RESTARTBLOCK = 516,
};

#if defined(__TARGET_ARCH_x86)
enum syscall { CLONE = 56, FORK = 57, VFORK = 58, EXIT = 60, FSYNC = 74, FUTEX = 202, EXIT_GROUP = 231, CLONE3 = 435 };
#else
enum syscall { CLONE = 220, FORK = -2, VFORK = -2, EXIT = 93, FSYNC = 82, FUTEX = 98, EXIT_GROUP = 94, CLONE3 = 435 };
#endif
enum { FUTEX_WAITV = 449, FUTEX_WAIT = 455 };

/* fdatasync is the next one. Each of them is timed: there are few, and whoever calls them waits for a disk. */
static __always_inline bool is_fsync(__u64 id)
{
	return id - FSYNC <= 1;
}

SEC("tp_btf/sys_enter")
int BPF_PROG(sys_enter, struct pt_regs *regs, long id)
{
	struct cpu_memo *memo = memo_here();

	if (!memo)
		return 0;
	if (memo->gap > 1) {
		memo->gap--;
		if (!is_fsync(id))
			return 0;
	} else {
		memo->gap = draw_gap();
	}
	/* They do not return: their start would stay for the next task with that id. */
	if (id == EXIT || id == EXIT_GROUP)
		return 0;
	/* The call is counted as it returns, whatever comes of this. */
	if (!start_begin(bpf_get_current_pid_tgid(), id))
		start_lost();
	return 0;
}

/* No error group: the call did what it was asked to. */
#define NO_ERROR SLOT_COUNTER_COUNT

static __always_inline __u32 error_group(long error, long id)
{
	switch (error) {
	case EAGAIN: /* of the others the caller knows */
		return id == CLONE || id == FORK || id == VFORK || id == CLONE3 ? COUNTER_errors_processes : NO_ERROR;
	case EINTR:
	case EINPROGRESS:
	case ERESTARTSYS ... ERESTART_RESTARTBLOCK:
		return NO_ERROR;
	case ENOENT:
	case EEXIST:
	case ENOTDIR:
	case EISDIR:
	case ENAMETOOLONG:
	case ENOTEMPTY:
	case ELOOP:
		return COUNTER_errors_file;
	case EPERM:
	case EACCES:
		return COUNTER_errors_permission;
	case ENOSPC:
	case EDQUOT:
		return COUNTER_errors_space;
	case ENOMEM:
	case ENOBUFS:
		return COUNTER_errors_memory;
	case EMFILE:
	case ENFILE:
		return COUNTER_errors_descriptors;
	case EIO:
	case EROFS:
	case ENXIO:
	case ENODEV:
		return COUNTER_errors_io;
	case ETIMEDOUT:
		/* A futex that waited as long as it was asked to is no failure, and there are many. */
		return id == FUTEX || id == FUTEX_WAITV || id == FUTEX_WAIT ? NO_ERROR : COUNTER_errors_network;
	case ENETDOWN:
	case ENETUNREACH:
	case ENETRESET:
	case ECONNABORTED:
	case ECONNRESET:
	case ECONNREFUSED:
	case EHOSTDOWN:
	case EHOSTUNREACH:
	case EPIPE:
		return COUNTER_errors_network;
	default:
		return COUNTER_errors_other;
	}
}

static __noinline int count_error(struct totals *totals_here, __u64 error, __u64 id)
{
	__u32 class = class_of(traits_of(id));
	__u32 group = error_group(error, id);

	if (!totals_here || group >= NO_ERROR)
		return 0;
	ADD_HERE(totals_here->counter[group], 1);
	if (class < CLASS_COUNT)
		ADD_HERE(totals_here->counter[COUNTER_failed_file + class], 1);
	return 0;
}

/*
 * Task context only, and no nesting: COUNT() is exact. One helper call instead of two: following the task's
 * own pointers takes a third of the time of bpf_get_current_cgroup_id() and bpf_get_current_pid_tgid().
 */
SEC("tp_btf/sys_exit")
int BPF_PROG(sys_exit, struct pt_regs *regs, long result)
{
	struct task_struct *task = current_task();
	__u64 cgroup_id = task ? task_cgroup_id(task) : bpf_get_current_cgroup_id();
	__u32 tid = task ? task->pid : bpf_get_current_pid_tgid();
	long id = regs_syscall(regs);
	__u32 class = class_of(traits_of(id));
	struct totals *totals_here = totals_of(cgroup_id);
	__u64 ns;

	if (!totals_here)
		return 0;
	COUNT(totals_here, syscalls, 1);
	if (class < CLASS_COUNT)
		ADD_HERE(totals_here->counter[COUNTER_syscalls_file + class], 1);
	/* Nothing to read yet is what a server hears most. */
	if (result < 0 && result >= -MAX_ERRNO && !(result == -EAGAIN && class != CLASS_PROCESS))
		count_error(totals_here, -result, id);
	ns = start_end(tid, id); /* rt_sigreturn forgets its number: it is not timed */
	if (!ns)
		return 0;
	if (is_fsync(id))
		OBSERVE(totals_here, fsync_latency, ns);
	else
		OBSERVE(totals_here, syscall_latency, ns);
	return 0;
}

char LICENSE[] SEC("license") = "GPL";
