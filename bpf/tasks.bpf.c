// SPDX-License-Identifier: GPL-2.0
/*
 * A survey of what counts as it happens cannot say: how many tasks are blocked now, and how many processes
 * wait for their parents. Nothing is attached; the agent's read goes through all tasks, in its own context.
 */
#include "compat.bpf.h"
#include "totals.bpf.h"

#define EXIT_ZOMBIE 0x20

/* Where the buffer is full the kernel sees it, and visits this task again in the next read. */
static __always_inline int say(struct seq_file *seq, struct task_struct *task, enum vedette_gauge gauge)
{
	struct survey_record record = { .cgroup_id = task_cgroup_id(task), .gauge = gauge, .value = 1 };

	bpf_seq_write(seq, &record, sizeof(record));
	return 0;
}

SEC("iter/task")
int tasks_survey(struct bpf_iter__task *ctx)
{
	struct task_struct *task = ctx->task;
	struct seq_file *seq = ctx->meta->seq;

	if (!task)
		return 0;
	if (!task->exit_state)
		return is_blocked(task_state(task)) ? say(seq, task, GAUGE_blocked_tasks) : 0;
	/* It keeps its cgroup until its parent has asked. A leader whose other threads go on is none. */
	if (task->exit_state == EXIT_ZOMBIE && task->pid == task->tgid && task->signal->nr_threads <= 1)
		return say(seq, task, GAUGE_zombies);
	return 0;
}

char LICENSE[] SEC("license") = "GPL";
