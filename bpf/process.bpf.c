// SPDX-License-Identifier: GPL-2.0
/* Processes: started, executed, ended, killed. Process context only, so COUNT() is exact. */
#include "compat.bpf.h"
#include "totals.bpf.h"

/* An exit code as wait(2) has it. */
#define SIGNAL_MASK 0x7f
#define CODE_SHIFT 8
#define CODE_MASK 0xff

SEC("tp_btf/sched_process_fork")
int BPF_PROG(process_fork, struct task_struct *parent, struct task_struct *child)
{
	COUNT(totals_of(task_cgroup_id(child)), forks, 1);
	return 0;
}

SEC("tp_btf/sched_process_exec")
int BPF_PROG(process_exec, struct task_struct *task, int old_pid, struct linux_binprm *program)
{
	struct event *event;

	COUNT(totals_of(task_cgroup_id(task)), execs, 1);
	event = event_begin(EVENT_exec);
	if (!event)
		return 0;
	event_task(event, task);
	bpf_probe_read_kernel_str(event->text, sizeof(event->text), program->filename);
	event_send(event, EVENT_exec);
	return 0;
}

SEC("tp_btf/sched_process_exit")
int process_exit(unsigned long long *ctx)
{
	struct task_struct *task = (struct task_struct *)ctx[0];
	struct totals *totals_here;
	struct event *event;
	__u64 cgroup_id;
	int signal, code;

	if (!process_ends(ctx, task))
		return 0;
	cgroup_id = task_cgroup_id(task);
	totals_here = totals_of(cgroup_id);
	COUNT(totals_here, exits, 1);
	signal = task->exit_code & SIGNAL_MASK;
	code = task->exit_code >> CODE_SHIFT & CODE_MASK;
	if (!signal && !code)
		return 0;
	if (!signal) {
		COUNT(totals_here, exits_with_error, 1);
		count_detail(DETAIL_exits_by_code, cgroup_id, code, 1);
		return 0;
	}
	COUNT(totals_here, exits_by_signal, 1);
	count_detail(DETAIL_deaths_by_signal, cgroup_id, signal, 1);
	event = event_begin(EVENT_signal_exit);
	if (!event)
		return 0;
	event_task(event, task);
	event->value = signal;
	event_send(event, EVENT_signal_exit);
	return 0;
}

char LICENSE[] SEC("license") = "GPL";
