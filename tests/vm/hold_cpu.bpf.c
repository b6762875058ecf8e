// SPDX-License-Identifier: GPL-2.0
/*
 * For faults/stuck_cpu: a program that keeps its CPU for HOLD_NS, where the kernel neither schedules nor passes a
 * quiescent state of RCU. Copies take the time: kernels before 5.17 have no bpf_loop(), and the verifier walks
 * through each turn of a loop.
 */
#include "kernel_types.bpf.h"

#include <bpf/bpf_helpers.h>

#define HOLD_NS 8000000000ULL
#define TURNS 4000		  /* below 8192, the jumps that the verifier of 5.10 remembers */
#define COPIES 8		  /* so that all turns take longer than HOLD_NS: 120 GB */
#define COPIED_BYTES (4000 << 10) /* nearly the largest value of an array */

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 2);
	__type(key, __u32);
	__type(value, char[COPIED_BYTES]);
} copied SEC(".maps");

SEC("raw_tp/sys_enter")
int hold_cpu(void *context)
{
	__u32 first = 0, second = 1;
	char *from = bpf_map_lookup_elem(&copied, &first);
	char *to = bpf_map_lookup_elem(&copied, &second);
	__u64 end = bpf_ktime_get_ns() + HOLD_NS;

	if (!from || !to)
		return 0;
	for (int i = 0; i < TURNS && bpf_ktime_get_ns() < end; i++) {
		for (int j = 0; j < COPIES; j++)
			bpf_probe_read_kernel(to, COPIED_BYTES, from);
	}
	return 0;
}

char LICENSE[] SEC("license") = "GPL";
