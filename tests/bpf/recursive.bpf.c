// SPDX-License-Identifier: GPL-2.0
/*
 * For losses_test.cpp: a program whose own work comes to its tracepoint again. The kernel skips the inner run
 * and counts it as missed. (Only for kernels since 6.2: before, bpf_trace_printk() gets there under a lock.)
 */
#include "compat.bpf.h"
#include "totals.bpf.h"

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, __u32);
} recursive SEC(".maps");

SEC("tp_btf/bpf_trace_printk")
int BPF_PROG(printed, const char *text)
{
	bpf_printk("vedette test: inner");
	return 0;
}

/* Asked once as the probe is attached, then by each survey. */
static __always_inline void print(const void *key, const void *value)
{
	bpf_printk("vedette test: outer");
}

WALK(recursive, recursive_survey, print)

char LICENSE[] SEC("license") = "GPL";
