/* SPDX-License-Identifier: GPL-2.0 */
/*
 * The kernel types the probes read, by hand: only the fields we use, relocated by CO-RE when a probe is
 * loaded, so that nothing depends on the build host's kernel. Fields that differ between kernels are in
 * compat.bpf.h, and only there.
 */
#ifndef VEDETTE_KERNEL_TYPES_BPF_H
#define VEDETTE_KERNEL_TYPES_BPF_H

typedef unsigned char __u8;
typedef unsigned short __u16;
typedef unsigned int __u32;
typedef unsigned long long __u64;
typedef signed char __s8;
typedef short __s16;
typedef int __s32;
typedef long long __s64;
typedef __u16 __be16;
typedef __u32 __be32;
typedef __u32 __wsum;
typedef _Bool bool;

/* UAPI values, fixed for ever: linux/bpf.h itself would need the headers of some architecture. */
enum {
	BPF_MAP_TYPE_HASH = 1,
	BPF_MAP_TYPE_ARRAY = 2,
	BPF_MAP_TYPE_LRU_HASH = 9,
	BPF_MAP_TYPE_STACK = 23,
	BPF_MAP_TYPE_RINGBUF = 27,
};
enum { BPF_ANY = 0, BPF_NOEXIST = 1 };
enum { BPF_F_MMAPABLE = 1 << 10 };
enum { BPF_RB_NO_WAKEUP = 1, BPF_RB_FORCE_WAKEUP = 2, BPF_RB_AVAIL_DATA = 0 };

#pragma clang attribute push(__attribute__((preserve_access_index)), apply_to = record)

typedef struct {
	int counter;
} atomic_t;

typedef struct {
	__s64 counter;
} atomic_long_t;

struct kernfs_node {
	const char *name;
	__u64 id;
};

struct cgroup_root {
	int hierarchy_id;
};

struct cgroup;

struct cgroup_subsys_state {
	struct cgroup *cgroup;
	struct cgroup_subsys_state *parent;
};

struct cgroup {
	struct cgroup_subsys_state self;
	int level; /* 0: the root */
	struct kernfs_node *kn;
	struct cgroup_root *root;
};

struct css_set {
	struct cgroup_subsys_state *subsys[1]; /* [CGROUP_SUBSYS_COUNT], which depends on the configuration */
	struct cgroup *dfl_cgrp;
};

enum cgroup_subsys_id { cpuset_cgrp_id = 0, memory_cgrp_id = 4 };

struct page_counter {
	atomic_long_t usage;
	unsigned long max;
	struct page_counter *parent;
};

struct mem_cgroup {
	struct cgroup_subsys_state css;
	struct page_counter memory;
};

/* A set of NUMA nodes: as many bits as the configuration allows nodes. */
typedef struct {
	unsigned long bits[1];
} nodemask_t;

struct cpuset {
	struct cgroup_subsys_state css;
	nodemask_t effective_mems;
};

struct mempolicy {
	unsigned short mode;
};

struct mm_struct;

struct signal_struct {
	int nr_threads;
};

/* Times of the run queue's clock, which stands still between two looks at it: no clock is read here. */
struct sched_info {
	__u64 last_queued; /* since when it waits for a CPU; 0: it does not */
	__u64 run_delay;   /* all its waits that are over; moved to another CPU, it begins a new one */
};

struct rq {
	__u64 clock;
};

struct cfs_rq {
	struct rq *rq;
};

struct sched_entity {
	struct cfs_rq *cfs_rq;
};

struct task_struct {
	void *stack;
	int pid;
	int tgid;
	unsigned int flags;
	int exit_state;
	int exit_code;
	char comm[16];
	unsigned int in_iowait : 1;
	struct sched_info sched_info;
	struct sched_entity se;
	struct css_set *cgroups;
	nodemask_t mems_allowed;
	struct mempolicy *mempolicy;
	struct mm_struct *mm;
	struct signal_struct *signal;
};

struct linux_binprm {
	const char *filename;
};

struct in6_addr {
	union {
		__u8 u6_addr8[16];
	} in6_u;
};

struct ns_common {
	unsigned int inum;
};

struct net {
	struct ns_common ns;
};

typedef struct {
	struct net *net;
} possible_net_t;

struct sock_common {
	__be32 skc_daddr;
	__be32 skc_rcv_saddr;
	__be16 skc_dport;
	__u16 skc_num;
	unsigned short skc_family;
	volatile unsigned char skc_state;
	possible_net_t skc_net;
	struct in6_addr skc_v6_daddr;
	struct in6_addr skc_v6_rcv_saddr;
};

struct sock_cgroup_data {
	struct cgroup *cgroup;
};

struct sock {
	struct sock_common __sk_common;
	int sk_err;
	__u16 sk_protocol;
	__u8 sk_shutdown;
	struct sock_cgroup_data sk_cgrp_data;
};

struct tcp_sock {
	__u32 total_retrans;
	__u32 srtt_us;
};

struct sk_buff;
struct proto;

struct super_block {
	__u32 s_dev;
};

struct block_device_operations {
	void *submit_bio; /* null: the driver takes requests, not bios */
};

struct gendisk {
	int major;
	int first_minor;
	char disk_name[32];
	const struct block_device_operations *fops;
};

struct block_device {
	struct gendisk *bd_disk;
	__u32 bd_dev;
};

struct request_queue {
	struct gendisk *disk;
};

struct blkcg {
	struct cgroup_subsys_state css;
};

struct blkcg_gq {
	struct blkcg *blkcg;
};

struct bvec_iter {
	unsigned int bi_size; /* bytes left */
};

struct bio {
	struct block_device *bi_bdev;
	unsigned int bi_opf;
	__u8 bi_status;
	struct bvec_iter bi_iter;
	struct blkcg_gq *bi_blkg;
};

struct request {
	struct request_queue *q;
	unsigned int cmd_flags;
	unsigned int __data_len; /* bytes left */
	struct bio *bio;
	__u64 start_time_ns;    /* when it was made, */
	__u64 io_start_time_ns; /* and given to the driver; 0 where the kernel keeps no such time */
};

struct mce {
	__u64 status;
	__u8 bank;
};

struct Scsi_Host {
	unsigned int host_no;
};

struct scsi_device {
	struct Scsi_Host *host;
	unsigned int id, channel;
};

struct scsi_cmnd {
	struct scsi_device *device;
	unsigned char *sense_buffer;
	int result;
};

struct nvme_ctrl {
	int instance;
};

struct nvme_request {
	__u16 status;
	struct nvme_ctrl *ctrl;
};

#if defined(__TARGET_ARCH_x86)
struct pt_regs {
	unsigned long orig_ax;
};
#elif defined(__TARGET_ARCH_arm64)
struct pt_regs {
	int syscallno;
};
#else
#error "name the system call number in struct pt_regs of this architecture, and its calls in syscalls.bpf.c"
#endif

struct seq_file;
struct bpf_iter_meta {
	struct seq_file *seq;
};
struct bpf_iter__task {
	struct bpf_iter_meta *meta;
	struct task_struct *task;
};
struct bpf_iter__bpf_map_elem {
	struct bpf_iter_meta *meta;
	struct bpf_map *map;
	void *key;
	void *value;
};

#pragma clang attribute pop

/* The context of programs on packets: UAPI, so it is never relocated. */
struct __sk_buff {
	__u32 len;
	__u32 unused[18];
	__u32 data; /* from the IP header on, as far as it is in one piece */
	__u32 data_end;
};

#include <bpf/bpf_helpers.h>
/* After the helpers, whose names they use. */
#include <bpf/bpf_core_read.h>
#include <bpf/bpf_tracing.h>

#define MAX_ERRNO 4095
#define PF_KTHREAD 0x00200000

#endif
