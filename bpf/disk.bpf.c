// SPDX-License-Identifier: GPL-2.0
/*
 * Block I/O, for whoever asked for it. Completions run in any context, so all counts are atomic.
 *
 * Who asked is known where a bio is handed to the block layer, and only there: a completion interrupts a
 * bystander, and a scheduler dispatches one task's request in the context of another. So a table keeps it, by
 * bio, until the request whose first bio it is completes.
 *
 * How long a request took the kernel knows itself: no clock of ours at its start. (io_start_time_ns is there
 * where the queue keeps statistics, which writeback throttling, kyber and bfq make it do: by default all.
 * Where it is 0, the time since the request was made stands in, the wait in the scheduler included. Since 6.9
 * the kernel may reuse the time it took first while a task collects requests.) Drivers without requests (zram,
 * device mapper, md) get a start of ours.
 *
 * What device mapper and its like pass on is counted once, by the device at the bottom. Latencies, errors and
 * the counts by device are told of every layer: each can be the one that is slow, or broken.
 */
#include "block.bpf.h"
#include "compat.bpf.h"
#include "totals.bpf.h"

#define ROOT_CGROUP 1 /* inode of the root of every kernfs */

struct asker {
	__u64 bio; /* 0: free */
	__u64 cgroup_id;
	__u64 began_ns; /* for a driver without requests */
	__u32 bytes;    /* likewise */
	__u32 proof;    /* of the first two: two CPUs may write here at once */
};

/* Two places, a cache line. */
struct askers {
	struct asker place[2];
} __attribute__((aligned(64)));

/*
 * Named so that a pause of the probes empties it: after one, the same address may be another bio.
 * 256 KiB. A bio is forgotten when two others take its places while it is in flight: of 256 in flight, one in
 * 500 is. It is then counted for its owner as the io controller has it, and as lost for who asked.
 */
#define ASKERS_BITS 12

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_ALIGNED);
	__uint(max_entries, 1 << ASKERS_BITS);
	__type(key, __u32);
	__type(value, struct askers);
} starts_by_bio SEC(".maps");

/* The verifier lets us calculate with a copy of a pointer's lower half, not with the pointer. */
static __always_inline __u32 lower_half(struct bio *bio)
{
	__u32 half;

	asm("%0 = %1" : "=w"(half) : "w"((__u32)(__u64)bio));
	return half;
}

static __always_inline struct askers *askers_of(struct bio *bio)
{
	__u32 place = lower_half(bio) * 0x9e3779b1u >> (32 - ASKERS_BITS);

	return bpf_map_lookup_elem(&starts_by_bio, &place);
}

static __always_inline __u32 proof_of(struct bio *bio, __u64 cgroup_id)
{
	return lower_half(bio) + cgroup_id;
}

/*
 * The task, or the owner the kernel knows better: writeback and other kernel threads work for whom dirtied the
 * page. The io controller is often not enabled as deep as the task's cgroup; the task says more, then. On
 * layouts with the controller in v1 the kernel has no v2 id to tell: what kernel threads do is the root's.
 */
static __always_inline __u64 who_asks(struct bio *bio)
{
	__u64 current_id = bpf_get_current_cgroup_id();
	struct cgroup *owner = bio_owner(bio);
	__u64 owner_id;

	if (!owner || !owner->level)
		return current_id;
	owner_id = owner->kn->id;
	return owner_id == current_id || current_is_below(owner) ? current_id : owner_id;
}

/* What it asked for is not known any more. */
static __noinline int asker_lost(void)
{
	struct probe_losses *lost = start_lost();

	LACKS(lost, disk_reads);
	LACKS(lost, disk_read_bytes);
	LACKS(lost, disk_writes);
	LACKS(lost, disk_written_bytes);
	return 0;
}

/* Answers who asks. */
static __always_inline __u64 remember(struct bio *bio)
{
	struct askers *here = askers_of(bio);
	const struct gendisk *disk = bio_disk(bio);
	struct asker *asker;

	if (!here)
		return 0;
	asker = &here->place[here->place[0].bio && here->place[0].bio != (__u64)bio];
	if (asker->bio && asker->bio != (__u64)bio)
		asker_lost();
	asker->bio = (__u64)bio;
	asker->cgroup_id = who_asks(bio);
	asker->proof = proof_of(bio, asker->cgroup_id);
	asker->bytes = bio->bi_iter.bi_size;
	asker->began_ns = disk && disk->fops->submit_bio ? bpf_ktime_get_ns() : 0;
	return asker->cgroup_id;
}

/* Fills `asker`, and with `forget` makes room: false, there is none of that bio. */
static __always_inline bool recall(struct bio *bio, struct asker *asker, bool forget)
{
	struct askers *here = bio ? askers_of(bio) : 0;
	struct asker *place;

	if (!here)
		return 0;
	place = &here->place[here->place[0].bio != (__u64)bio];
	*asker = *place;
	if (asker->bio != (__u64)bio || asker->proof != proof_of(bio, asker->cgroup_id))
		return 0;
	if (forget)
		place->bio = 0;
	return 1;
}

/*
 * Whose it is where nobody is remembered: others took the places, it is from before us, or a request-based target
 * of device mapper cloned it.
 */
static __always_inline __u64 owner_id(struct bio *bio)
{
	struct cgroup *owner = bio ? bio_owner(bio) : 0;

	return owner ? owner->kn->id : ROOT_CGROUP;
}

/* Device mapper, md, bcache, drbd: what they are asked for comes by again at a device below. */
static __always_inline bool passes_on(struct gendisk *disk)
{
	char a = disk->disk_name[0], b = disk->disk_name[1];

	return (a == 'd' && (b == 'm' || b == 'r')) || (a == 'm' && b == 'd') || (a == 'b' && b == 'c');
}

/*
 * What is counted of reads and writes, on its way to the totals and the details: four atomic adds and two hash
 * lookups for each request would be most of what all this costs. So a request makes one add here, and the flush
 * before each of the agent's ticks moves the sum on. Only the flush gives a place away, so there is nothing to
 * lock. Who has no place (yet), or meets another there, counts directly.
 *
 * A sum is requests << 36 | sectors. What the flush moves is the difference to the last one, so only what comes
 * between two flushes must fit: 268 million requests, 32 TiB.
 *
 * The time they took is known of those that are timed (below), and reckoned for all: the flush multiplies. It is
 * kept as requests << 44 | microseconds (of 1,024 ns, rounded): a million, and 500 years of waiting.
 */
#define SECTORS_BITS 36
#define SECTORS_MASK ((1ULL << SECTORS_BITS) - 1)
#define SECTOR_BITS 9
#define TOLD_BITS 44
#define TOLD_MASK ((1ULL << TOLD_BITS) - 1)
#define MICROSECOND_BITS 10

/* The reads, or the writes, of a cgroup on a device. */
struct flow {
	__u64 sum, moved_sum;
	__u64 told, moved_told;
	__u64 untold; /* requests in the totals, but not yet their time */
};

struct device_count {
	__u64 cgroup_id; /* whose counts these are */
	__u64 wanted_by; /* who would like to have the place; 0: nobody */
	__u32 device;
	__u32 wanted_device;
	__u32 closed_at; /* the jiffy, | 1, so it may be the next one; 0: open */
	__u16 passes_on;	/* counted by the device below */
	__u16 wanted_passes_on;
	struct flow reads, writes;
} __attribute__((aligned(64)));

/* 64 KiB. Of 110 pods that use one disk, every tenth meets another. */
#define DEVICE_COUNTS_BITS 9

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_ALIGNED);
	__uint(max_entries, 1 << DEVICE_COUNTS_BITS);
	__type(key, __u32);
	__type(value, struct device_count);
} device_counts SEC(".maps");

static __always_inline void move_on(__u64 cgroup_id, __u32 device, bool is_passed_on, bool is_read, __u64 sum)
{
	struct totals *totals_here;
	__u64 requests = sum >> SECTORS_BITS;
	__u64 bytes = (sum & SECTORS_MASK) << SECTOR_BITS;

	if (!sum)
		return;
	if (is_read)
		count_detail(DETAIL_disk_reads_by_device, cgroup_id, device, requests);
	else
		count_detail(DETAIL_disk_writes_by_device, cgroup_id, device, requests);
	count_detail(DETAIL_disk_bytes_by_device, cgroup_id, device, bytes);
	if (is_passed_on)
		return;
	totals_here = totals_of(cgroup_id);
	if (is_read) {
		COUNT_ANYWHERE(totals_here, disk_reads, requests);
		COUNT_ANYWHERE(totals_here, disk_read_bytes, bytes);
	} else {
		COUNT_ANYWHERE(totals_here, disk_writes, requests);
		COUNT_ANYWHERE(totals_here, disk_written_bytes, bytes);
	}
}

static __always_inline void tell_wait(__u64 cgroup_id, __u32 device, bool is_passed_on, bool is_read, __u64 ns)
{
	if (is_read)
		count_detail(DETAIL_disk_read_wait_by_device_ns, cgroup_id, device, ns);
	else
		count_detail(DETAIL_disk_write_wait_by_device_ns, cgroup_id, device, ns);
	if (!is_passed_on)
		COUNT_ANYWHERE(totals_of(cgroup_id), disk_wait_ns, ns);
}

struct completion {
	__u64 cgroup_id;
	__u64 began_ns; /* 0: unknown */
	struct gendisk *disk;
	unsigned int op;
	__u32 bytes;
	int status;
	bool whole; /* not only the first part of a request */
};

static __always_inline __u64 duration_ns(const struct completion *done)
{
	return done->began_ns ? bpf_ktime_get_ns() - done->began_ns : 0;
}

/* `took_ns`: 0, it was not timed. */
static __always_inline void count_request(const struct completion *done, __u64 took_ns)
{
	__u64 cgroup_id = done->cgroup_id;
	__u32 device = disk_device(done->disk);
	__u32 place = ((__u32)cgroup_id * 31 + device) * 0x9e3779b1u >> (32 - DEVICE_COUNTS_BITS);
	struct device_count *count = bpf_map_lookup_elem(&device_counts, &place);
	__u32 bytes = done->status ? 0 : done->bytes;
	__u64 sum = (__u64)done->whole << SECTORS_BITS | bytes >> SECTOR_BITS;
	bool is_read = done->op == REQ_OP_READ;
	bool is_passed_on;

	if (count && count->cgroup_id == cgroup_id && count->device == device && !count->closed_at) {
		struct flow *flow = is_read ? &count->reads : &count->writes;

		ADD_ANYWHERE(flow->sum, sum);
		if (took_ns)
			ADD_ANYWHERE(flow->told, 1ULL << TOLD_BITS | (took_ns + (1 << (MICROSECOND_BITS - 1))) >> MICROSECOND_BITS);
		return;
	}
	is_passed_on = !done->disk || passes_on(done->disk);
	if (count && !count->wanted_by) {
		count->wanted_device = device;
		count->wanted_passes_on = is_passed_on;
		count->wanted_by = cgroup_id;
	}
	move_on(cgroup_id, device, is_passed_on, is_read, sum);
	/* Nobody multiplies here: each is timed. */
	if (done->whole && !took_ns)
		took_ns = duration_ns(done);
	if (took_ns)
		tell_wait(cgroup_id, device, is_passed_on, is_read, took_ns);
}

/* False: there was nothing to move. Whom nobody timed this time is told of with those that come. */
static __always_inline bool flush_flow(const struct device_count *count, struct flow *flow, bool is_read)
{
	__u64 sum = flow->sum - flow->moved_sum;
	__u64 told = flow->told - flow->moved_told;
	__u64 timed = told >> TOLD_BITS;

	if (!sum && !told)
		return 0;
	flow->moved_sum += sum;
	flow->untold += sum >> SECTORS_BITS;
	move_on(count->cgroup_id, count->device, count->passes_on, is_read, sum);
	if (timed) {
		flow->moved_told += told;
		tell_wait(count->cgroup_id, count->device, count->passes_on, is_read,
			  ((told & TOLD_MASK) << MICROSECOND_BITS) / timed * flow->untold);
		flow->untold = 0;
	}
	return 1;
}

/*
 * Its owner keeps a place while it uses it. Then it is closed, and given away 250 jiffies later: whoever was
 * just about to count there has done so.
 */
#define CLOSED_JIFFIES 250

static __always_inline void flush_place(const __u32 *key, const void *value)
{
	struct device_count *count;
	__u32 now = bpf_jiffies64();
	__u32 place = *key;
	bool used;

	count = bpf_map_lookup_elem(&device_counts, &place);
	if (!count)
		return;
	used = flush_flow(count, &count->reads, 1);
	used |= flush_flow(count, &count->writes, 0);
	if (used || !count->wanted_by)
		return;
	if (count->cgroup_id && !count->closed_at) {
		count->closed_at = now | 1;
	} else if (!count->cgroup_id || (__s32)(now - count->closed_at) > CLOSED_JIFFIES) {
		if (count->reads.untold || count->writes.untold)
			LACKS(start_lost(), disk_wait_ns);
		count->reads.untold = 0;
		count->writes.untold = 0;
		count->device = count->wanted_device;
		count->passes_on = count->wanted_passes_on;
		count->cgroup_id = count->wanted_by;
		count->wanted_by = 0;
		count->closed_at = 0;
	}
}

WALK(device_counts, device_counts_flush, flush_place)

static __always_inline void failed(const struct completion *done)
{
	int error = block_fault(done->status, done->op);
	struct totals *totals_here;

	if (!error)
		return;
	totals_here = totals_of(done->cgroup_id);
	COUNT_ANYWHERE(totals_here, disk_errors, 1);
	count_detail(DETAIL_disk_errors_by_device, done->cgroup_id, disk_device(done->disk), 1);
	if (error != ETIMEDOUT)
		return;
	COUNT_ANYWHERE(totals_here, disk_timeouts, 1);
	count_detail(DETAIL_disk_timeouts_by_device, done->cgroup_id, disk_device(done->disk), 1);
}

/*
 * Reading the clock and counting what it said is the dearest part of a fast request. So on each CPU only so many
 * are timed within one jiffy: 8,000 a second where HZ is 250, which is every request of all but the fastest disks
 * when they are busiest. A disk that gets slow makes fewer requests, and is timed in full.
 */
#define TIMED_IN_A_JIFFY 32

static __always_inline bool is_timed(void)
{
	struct cpu_memo *memo = memo_here();

	return memo && is_among_first(TIMED_IN_A_JIFFY, &memo->disk_timed);
}

static __always_inline int completed(const struct completion *done)
{
	struct totals *totals_here;
	__u64 ns = 0;

	if (done->status)
		failed(done);
	if (done->op > REQ_OP_WRITE)
		return 0;
	if (done->whole && is_timed()) {
		ns = duration_ns(done);
		totals_here = totals_of(done->cgroup_id);
		if (!ns)
			start_lost();
		else if (done->op == REQ_OP_READ)
			OBSERVE(totals_here, disk_read_latency, ns);
		else
			OBSERVE(totals_here, disk_write_latency, ns);
	}
	count_request(done, ns);
	return 0;
}

/* By the device at the bottom, as all that is not told by device. */
static __always_inline void count_unowned(struct bio *bio)
{
	struct gendisk *disk = bio_disk(bio);
	struct totals *totals_here;

	if (!disk || passes_on(disk) || !is_kernel_thread())
		return;
	totals_here = totals_of(ROOT_CGROUP);
	COUNT_ANYWHERE(totals_here, disk_unowned_requests, 1);
	COUNT_ANYWHERE(totals_here, disk_unowned_bytes, bio->bi_iter.bi_size);
}

SEC("tp_btf/block_bio_queue")
int bio_queued(unsigned long long *ctx)
{
	struct bio *bio = traced_bio(ctx);

	/* Where kernel threads live. */
	if (remember(bio) == ROOT_CGROUP)
		count_unowned(bio);
	return 0;
}

/* The front of a bio that is too large for its device, a bio of its own; the rest keeps its place. */
SEC("tp_btf/block_split")
int bio_split(unsigned long long *ctx)
{
	remember(traced_bio(ctx));
	return 0;
}

/*
 * Requests in parts (SCSI) come by once for each. A flush with data comes by for its data and, without a byte,
 * at its end; a flush that failed for its own request, which has no bio, and for those who wait for it.
 */
SEC("tp_btf/block_rq_complete")
int BPF_PROG(request_completed, struct request *rq, int status, unsigned int bytes)
{
	struct completion done = { .op = rq->cmd_flags & REQ_OP_MASK, .bytes = bytes, .status = status };
	struct asker asker;

	if (done.op >= FIRST_PASSTHROUGH || (!bytes && !(done.op == REQ_OP_FLUSH && status))) {
		if (!bytes) /* A flush without data: its bio would keep its place for ever. */
			recall(rq->bio, &asker, 1);
		return 0;
	}
	done.whole = bytes >= rq->__data_len;
	done.cgroup_id = recall(rq->bio, &asker, done.whole) ? asker.cgroup_id : owner_id(rq->bio);
	done.began_ns = rq->io_start_time_ns;
	if (!done.began_ns)
		done.began_ns = rq->start_time_ns;
	done.disk = request_disk(rq);
	return completed(&done);
}

/* Only of drivers without requests: a bio that went into a request is told by that. */
SEC("tp_btf/block_bio_complete")
int BPF_PROG(bio_completed, struct request_queue *queue, struct bio *bio)
{
	struct completion done = { .op = bio->bi_opf & REQ_OP_MASK, .bytes = bio->bi_iter.bi_size,
				   .status = bio->bi_status, .whole = 1 };
	struct asker asker;
	bool known = recall(bio, &asker, 1);

	done.disk = bio_disk(bio);
	if (!done.disk || !done.disk->fops->submit_bio)
		return 0;
	done.cgroup_id = known ? asker.cgroup_id : owner_id(bio);
	if (known) {
		done.began_ns = asker.began_ns;
		/* Some drivers count their way through the bio down to 0. */
		if (!done.bytes)
			done.bytes = asker.bytes;
	}
	return completed(&done);
}

/* As the kernel's own statistics count them: bios that join a request, and requests that join each other. */
static __always_inline int merged(struct bio *bio)
{
	struct asker asker;
	/* Where nobody is remembered, the current task's: it just handed over what made them neighbours. */
	__u64 cgroup_id = recall(bio, &asker, 1) ? asker.cgroup_id : bpf_get_current_cgroup_id();

	COUNT_ANYWHERE(totals_of(cgroup_id), disk_merges, 1);
	if (bio)
		count_detail(DETAIL_disk_merges_by_device, cgroup_id, disk_device(bio_disk(bio)), 1);
	return 0;
}

SEC("tp_btf/block_bio_backmerge")
int bio_backmerged(unsigned long long *ctx)
{
	return merged(merged_bio(ctx));
}

SEC("tp_btf/block_bio_frontmerge")
int bio_frontmerged(unsigned long long *ctx)
{
	return merged(merged_bio(ctx));
}

SEC("tp_btf/block_rq_merge")
int request_merged(unsigned long long *ctx)
{
	struct request *rq = traced_request(ctx);

	return merged(rq ? rq->bio : 0);
}

char LICENSE[] SEC("license") = "GPL";
