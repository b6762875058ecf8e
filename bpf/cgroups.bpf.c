// SPDX-License-Identifier: GPL-2.0
/* Gives each new cgroup its slot before anything can happen in it, and marks the removed ones. */
#include "totals.bpf.h"

/* The v2 hierarchy, the one whose id a task's dfl_cgrp has. */
#define DEFAULT_HIERARCHY 0

SEC("tp_btf/cgroup_mkdir")
int BPF_PROG(cgroup_mkdir, struct cgroup *cgroup, const char *path)
{
	__u64 id = cgroup->kn->id;
	struct slot_owner *owner;
	__u32 slot;

	if (cgroup->root->hierarchy_id != DEFAULT_HIERARCHY)
		return 0;
	/* None left: its counts go to slot 0 and are counted as no_slot, one by one. */
	if (bpf_map_pop_elem(&free_slots, &slot))
		return 0;
	owner = bpf_map_lookup_elem(&owners, &slot);
	if (!owner)
		return 0;
	owner->removed = 0;
	owner->parent_id = cgroup->self.parent ? cgroup->self.parent->cgroup->kn->id : 0;
	bpf_probe_read_kernel_str(owner->name, sizeof(owner->name), cgroup->kn->name);
	if (bpf_map_update_elem(&slots, &id, &slot, BPF_NOEXIST)) {
		/* The agent's walk was first. */
		bpf_map_push_elem(&free_slots, &slot, BPF_ANY);
		return 0;
	}
	owner->cgroup_id = id;
	return 0;
}

SEC("tp_btf/cgroup_rmdir")
int BPF_PROG(cgroup_rmdir, struct cgroup *cgroup, const char *path)
{
	__u64 id = cgroup->kn->id;
	struct slot_owner *owner;
	__u32 *slot;

	if (cgroup->root->hierarchy_id != DEFAULT_HIERARCHY)
		return 0;
	slot = bpf_map_lookup_elem(&slots, &id);
	if (!slot)
		return 0;
	owner = bpf_map_lookup_elem(&owners, slot);
	if (owner)
		owner->removed = 1;
	return 0;
}

char LICENSE[] SEC("license") = "GPL";
