// SPDX-License-Identifier: GPL-2.0
/*
 * System calls: every one counted, every error put in its group, one call in about 16 timed. Reading the
 * clock is what timing costs, so the calls to time are drawn at random: a gap per CPU, so that no rhythm of
 * the program can hide from it.
 */
#include "compat.bpf.h"
#include "starts.bpf.h"

enum errno_value {
	EPERM = 1, ENOENT = 2, EINTR = 4, EIO = 5, ENXIO = 6, EAGAIN = 11, ENOMEM = 12, EACCES = 13, EEXIST = 17,
	ENODEV = 19, ENOTDIR = 20, EISDIR = 21, ENFILE = 23, EMFILE = 24, ENOSPC = 28, EROFS = 30, EPIPE = 32,
	ENAMETOOLONG = 36, ENOTEMPTY = 39, ELOOP = 40, ENETDOWN = 100, ENETUNREACH = 101, ENETRESET = 102,
	ECONNABORTED = 103, ECONNRESET = 104, ENOBUFS = 105, ETIMEDOUT = 110, ECONNREFUSED = 111, EHOSTDOWN = 112,
	EHOSTUNREACH = 113, EINPROGRESS = 115, EDQUOT = 122, ERESTARTSYS = 512, ERESTART_RESTARTBLOCK = 516,
};

#if defined(__TARGET_ARCH_x86)
enum syscall { CLONE = 56, FORK = 57, VFORK = 58, EXIT = 60, FUTEX = 202, EXIT_GROUP = 231, CLONE3 = 435 };
#else
enum syscall { CLONE = 220, FORK = -2, VFORK = -2, EXIT = 93, FUTEX = 98, EXIT_GROUP = 94, CLONE3 = 435 };
#endif
enum { FUTEX_WAITV = 449, FUTEX_WAIT = 455 };

SEC("tp_btf/sys_enter")
int BPF_PROG(sys_enter, struct pt_regs *regs, long id)
{
	struct cpu_memo *memo = memo_here();

	if (!memo)
		return 0;
	if (memo->gap > 1) {
		memo->gap--;
		return 0;
	}
	memo->gap = draw_gap();
	/* They do not return: their start would stay for the next task with that id. */
	if (id == EXIT || id == EXIT_GROUP)
		return 0;
	start_begin(bpf_get_current_pid_tgid());
	return 0;
}

static __noinline int count_error(struct totals *totals_here, struct pt_regs *regs, long error)
{
	long id;

	if (!totals_here || !regs)
		return 0;
	switch (error) {
	case EAGAIN:
		id = regs_syscall(regs);
		if (id == CLONE || id == FORK || id == VFORK || id == CLONE3)
			COUNT(totals_here, errors_processes, 1);
		return 0;
	case EINTR:
	case EINPROGRESS:
	case ERESTARTSYS ... ERESTART_RESTARTBLOCK:
		return 0;
	case ENOENT:
	case EEXIST:
	case ENOTDIR:
	case EISDIR:
	case ENAMETOOLONG:
	case ENOTEMPTY:
	case ELOOP:
		COUNT(totals_here, errors_file, 1);
		return 0;
	case EPERM:
	case EACCES:
		COUNT(totals_here, errors_permission, 1);
		return 0;
	case ENOSPC:
	case EDQUOT:
		COUNT(totals_here, errors_space, 1);
		return 0;
	case ENOMEM:
	case ENOBUFS:
		COUNT(totals_here, errors_memory, 1);
		return 0;
	case EMFILE:
	case ENFILE:
		COUNT(totals_here, errors_descriptors, 1);
		return 0;
	case EIO:
	case EROFS:
	case ENXIO:
	case ENODEV:
		COUNT(totals_here, errors_io, 1);
		return 0;
	case ETIMEDOUT:
		/* A futex that waited as long as it was asked to is no failure, and there are many. */
		id = regs_syscall(regs);
		if (id == FUTEX || id == FUTEX_WAITV || id == FUTEX_WAIT)
			return 0;
		COUNT(totals_here, errors_network, 1);
		return 0;
	case ENETDOWN:
	case ENETUNREACH:
	case ENETRESET:
	case ECONNABORTED:
	case ECONNRESET:
	case ECONNREFUSED:
	case EHOSTDOWN:
	case EHOSTUNREACH:
	case EPIPE:
		COUNT(totals_here, errors_network, 1);
		return 0;
	default:
		COUNT(totals_here, errors_other, 1);
		return 0;
	}
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
	struct totals *totals_here = totals_of(cgroup_id);
	__u64 ns;

	COUNT(totals_here, syscalls, 1);
	if (result < 0 && result >= -MAX_ERRNO)
		count_error(totals_here, regs, -result);
	ns = start_end(tid);
	if (ns)
		OBSERVE(totals_here, syscall_latency, ns);
	return 0;
}

char LICENSE[] SEC("license") = "GPL";
