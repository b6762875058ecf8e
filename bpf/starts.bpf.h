/* SPDX-License-Identifier: GPL-2.0 */
/*
 * When a task began something that it will end itself: a table by thread id, direct-mapped. It costs a load
 * and a compare, no hash and no allocation, works on every kernel, and survives sleep and migration. Two
 * threads whose ids share the low bits compete for a place: the one that is there stays, the other's start is
 * dropped; who called start_begin() counts that (start_lost(), LACKS()). Each object that includes this has its
 * own table.
 */
#ifndef VEDETTE_STARTS_BPF_H
#define VEDETTE_STARTS_BPF_H

#include "totals.bpf.h"

/* 64 KiB. Of 1,000 sampled calls asleep at one time, every fifth would meet a taken place; of 10, none. */
#define STARTS 4096
/* An older start is left over (its task died in there): the place is free. */
#define START_STALE_NS (60ULL * 1000 * 1000 * 1000)

struct start {
	__u64 ns;
	__u32 tid;  /* 0: free */
	__u32 what; /* the call's number, the lock's lower half: where the kernel skipped a run, no other end may take it */
};

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_ALIGNED);
	__uint(max_entries, STARTS);
	__type(key, __u32);
	__type(value, struct start);
} starts SEC(".maps");

static __always_inline struct start *start_place(__u32 tid)
{
	__u32 place = tid % STARTS;

	return bpf_map_lookup_elem(&starts, &place);
}

/*
 * False: there was no room, and start_end() will know nothing. Two CPUs may meet here for one place: the loser's
 * start is then a few ns off or dropped, never invented.
 */
static __always_inline bool start_begin(__u32 tid, __u32 what)
{
	struct start *start = start_place(tid);
	__u64 now = bpf_ktime_get_ns();

	if (!start)
		return 0;
	if (start->tid && start->tid != tid && now - start->ns < START_STALE_NS)
		return 0;
	start->ns = now;
	start->what = what;
	start->tid = tid;
	return 1;
}

static __always_inline bool start_is_running(__u32 tid, __u32 what)
{
	struct start *start = start_place(tid);

	return start && start->tid == tid && start->what == what;
}

/* ns since start_begin() of the same, or 0: there was none. Takes away what the task began, whatever that was. */
static __always_inline __u64 start_end(__u32 tid, __u32 what)
{
	struct start *start = start_place(tid);

	if (!start || start->tid != tid)
		return 0;
	start->tid = 0;
	return start->what == what ? bpf_ktime_get_ns() - start->ns : 0;
}

#endif
