// SPDX-License-Identifier: GPL-2.0
/*
 * IP packets of processes: attached to the root of the cgroup v2 hierarchy, these programs see what reaches a
 * socket and what leaves one, with its cgroup, and nothing that is only forwarded. As the stack hands it over:
 * what GRO put together, or TSO will cut, is one packet.
 *
 * Among them DNS over UDP. A question is kept until its answer comes, or until the survey finds it too old.
 *
 * What is sent may be interrupted by a softirq that sends as well: its counts are atomic. What comes in is handed to
 * its socket with softirqs off, so that nothing else here counts it meanwhile.
 */
#include "compat.bpf.h"
#include "totals.bpf.h"

enum { IPV4_BYTES = 20, IPV6_BYTES = 40, UDP_BYTES = 8, DNS_BYTES = 12 };
#define IPPROTO_UDP 17
#define PORT_DNS __builtin_bswap16(53)
enum { PASS = 1 };
enum { DNS_IS_ANSWER = 0x8000, DNS_OPCODE = 0x7800, DNS_CODE = 0xf };
enum { SERVFAIL = 2, NXDOMAIN = 3, REFUSED = 5, UNANSWERED = -1 };
/* What the resolvers of glibc, musl and Go wait before they ask again. */
#define DNS_PATIENCE_NS (5ULL * 1000 * 1000 * 1000)
/* A name that fails is asked for again and again (search domains alone make three of four questions fail). */
#define DNS_SILENCE_NS (60ULL * 1000 * 1000 * 1000)

struct dns_question {
	__u64 cgroup_id;
	__be16 port; /* the local one */
	__be16 id;
	__u32 unused;
};

struct dns_asked {
	__u64 start_ns;
	__u8 name[EVENT_TEXT_BYTES]; /* as it was sent: each label behind its length; cut */
};

/*
 * 4096 (some 600 KiB): 600 questions a second that nobody answers, each kept for 5 s and until the next survey. A
 * question that finds no room is counted as a start that was not kept. (Named so that a pause of this probe forgets
 * them: the answers may have come meanwhile.)
 */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 4096);
	__type(key, struct dns_question);
	__type(value, struct dns_asked);
} starts_dns SEC(".maps");

struct dns_failure {
	__u64 cgroup_id;
	__u64 name_and_code; /* their hash */
};

/*
 * When a failure was told last, so that one name makes one record a minute. 4096 (some 350 KiB): 110 pods with 37
 * failing names each; with more, some are told more often.
 */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 4096);
	__type(key, struct dns_failure);
	__type(value, __u64);
} dns_told SEC(".maps");

/*
 * Clears what follows the name, which ends with the only zero in it, and answers its hash (FNV-1a; some resolvers
 * mix upper and lower case at random). Without a branch: older verifiers follow both ways of each, byte by byte.
 */
static __always_inline __u64 trim_name(__u8 *name)
{
	__u64 hash = 0xcbf29ce484222325;
	__u32 within = 0xff;
	__u32 i;

	for (i = 0; i < EVENT_TEXT_BYTES; i++) {
		__u32 byte = name[i] & within;

		within &= -((byte + 0xff) >> 8);
		name[i] = byte;
		hash = (hash ^ (byte | 0x20)) * 0x100000001b3;
	}
	return hash;
}

static __noinline int dns_failed(__u64 cgroup_id, int code, struct dns_asked *asked)
{
	struct dns_failure failure = { .cgroup_id = cgroup_id };
	__u64 now = bpf_ktime_get_ns();
	struct event *event;
	__u64 *told;

	if (!asked)
		return 0;
	failure.name_and_code = trim_name(asked->name) + code;
	told = bpf_map_lookup_elem(&dns_told, &failure);
	if (told && now - *told < DNS_SILENCE_NS)
		return 0;
	bpf_map_update_elem(&dns_told, &failure, &now, BPF_ANY);
	event = event_begin(EVENT_dns_failed);
	if (!event)
		return 0;
	event->cgroup_id = cgroup_id;
	event->value = code;
	__builtin_memcpy(event->text, asked->name, sizeof(event->text));
	event_send(event, EVENT_dns_failed);
	return 0;
}

/* Of those who find the same question too old, one takes it away and counts. */
static __always_inline void dns_timed_out(struct dns_question *question, struct dns_asked *asked)
{
	struct dns_asked copy = *asked;

	if (bpf_map_delete_elem(&starts_dns, question))
		return;
	COUNT_ANYWHERE(totals_of(question->cgroup_id), dns_timeouts, 1);
	dns_failed(question->cgroup_id, UNANSWERED, &copy);
}

/* The first question, behind the header at `at`. */
static __always_inline void load_name(struct __sk_buff *skb, __u32 at, __u8 *name)
{
	__u32 size = skb->len - at - DNS_BYTES;

	if (!size)
		return;
	if (size > EVENT_TEXT_BYTES)
		size = EVENT_TEXT_BYTES;
	/* Before 6.3 the verifier does not conclude from the first test that there is something to read. */
	barrier_var(size);
	size = ((size - 1) & (EVENT_TEXT_BYTES - 1)) + 1;
	bpf_skb_load_bytes(skb, at + DNS_BYTES, name, size);
}

_Static_assert((EVENT_TEXT_BYTES & (EVENT_TEXT_BYTES - 1)) == 0, "load_name() masks with it");

static __noinline int dns_sent(struct __sk_buff *skb, __u64 cgroup_id, __u32 at)
{
	struct dns_question question = { .cgroup_id = cgroup_id };
	struct dns_asked asked = {};
	struct dns_asked *before;
	__be16 header[2];

	if (bpf_skb_load_bytes(skb, at, header, sizeof(header)) ||
	    __builtin_bswap16(header[1]) & (DNS_IS_ANSWER | DNS_OPCODE))
		return 0;
	bpf_skb_load_bytes(skb, at - UDP_BYTES, &question.port, sizeof(question.port));
	question.id = header[0];
	COUNT_ANYWHERE(totals_of(cgroup_id), dns_queries, 1);
	asked.start_ns = bpf_ktime_get_ns();
	before = bpf_map_lookup_elem(&starts_dns, &question);
	if (before) {
		/* The same once more, since there was no answer: its time runs on. */
		if (asked.start_ns - before->start_ns < DNS_PATIENCE_NS)
			return 0;
		dns_timed_out(&question, before);
	}
	load_name(skb, at, asked.name);
	if (!bpf_map_update_elem(&starts_dns, &question, &asked, BPF_ANY))
		return 0;
	LACKS(start_lost(), dns_timeouts);
	return 0;
}

static __noinline int dns_received(struct __sk_buff *skb, __u64 cgroup_id, __u32 at)
{
	struct dns_question question = { .cgroup_id = cgroup_id };
	struct totals *totals_here = totals_of(cgroup_id);
	struct dns_asked answered = {};
	struct dns_asked *asked;
	__be16 header[2];
	__u64 ns;
	int code;

	if (bpf_skb_load_bytes(skb, at, header, sizeof(header)) ||
	    !(__builtin_bswap16(header[1]) & DNS_IS_ANSWER))
		return 0;
	bpf_skb_load_bytes(skb, at - UDP_BYTES + sizeof(__be16), &question.port, sizeof(question.port));
	question.id = header[0];
	asked = bpf_map_lookup_elem(&starts_dns, &question);
	if (asked) {
		ns = bpf_ktime_get_ns() - asked->start_ns;
		if (ns >= DNS_PATIENCE_NS)
			dns_timed_out(&question, asked);
		else if (!bpf_map_delete_elem(&starts_dns, &question))
			OBSERVE(totals_here, dns_latency, ns);
	}
	code = __builtin_bswap16(header[1]) & DNS_CODE;
	if (!code)
		return 0;
	if (code == NXDOMAIN)
		COUNT_ANYWHERE(totals_here, dns_nxdomain, 1);
	else if (code == SERVFAIL || code == REFUSED)
		COUNT_ANYWHERE(totals_here, dns_servfail, 1);
	load_name(skb, at, answered.name);
	dns_failed(cgroup_id, code, &answered);
	return 0;
}

/*
 * Where the DNS message of this packet begins; 0: it has none. A name server's port is at `port` in the UDP
 * header. Neither options of IPv4 nor extension headers of IPv6 are looked behind: resolvers send none.
 */
static __always_inline __u32 dns_message(struct __sk_buff *skb, __u32 port)
{
	__u8 *data = (__u8 *)(long)skb->data;
	__u8 *end = (__u8 *)(long)skb->data_end;

	if (data + IPV4_BYTES + UDP_BYTES > end)
		return 0;
	if (*data == 0x45)
		return data[9] == IPPROTO_UDP && *(__be16 *)(data + IPV4_BYTES + port) == PORT_DNS ?
			       IPV4_BYTES + UDP_BYTES : 0;
	if (*data >> 4 != 6 || data[6] != IPPROTO_UDP || data + IPV6_BYTES + UDP_BYTES > end)
		return 0;
	return *(__be16 *)(data + IPV6_BYTES + port) == PORT_DNS ? IPV6_BYTES + UDP_BYTES : 0;
}

/* The running task sends, or, in a softirq, whom a packet came to: it acknowledges. */
static __always_inline struct totals *totals_of_sender(__u64 cgroup_id)
{
	struct cpu_memo *memo = memo_here();
	struct totals *totals_here;

	if (!memo)
		return 0;
	totals_here = remembered_totals(&memo->row, cgroup_id);
	return totals_here ? totals_here : totals_by(&memo->packet_row, cgroup_id);
}

SEC("cgroup_skb/egress")
int packet_sent(struct __sk_buff *skb)
{
	__u64 cgroup_id = bpf_skb_cgroup_id(skb);
	struct totals *totals_here = totals_of_sender(cgroup_id);
	__u32 at = dns_message(skb, 2);

	COUNT_ANYWHERE(totals_here, packets_sent, 1);
	COUNT_ANYWHERE(totals_here, sent_bytes, skb->len);
	if (at)
		dns_sent(skb, cgroup_id, at);
	return PASS;
}

/* Here too the id is that of the socket, the one the packet came to. */
SEC("cgroup_skb/ingress")
int packet_received(struct __sk_buff *skb)
{
	__u64 cgroup_id = bpf_skb_cgroup_id(skb);
	struct cpu_memo *memo = memo_here();
	struct totals *totals_here = memo ? totals_by(&memo->packet_row, cgroup_id) : 0;
	__u32 at = dns_message(skb, 0);

	COUNT(totals_here, packets_received, 1);
	COUNT(totals_here, received_bytes, skb->len);
	if (at)
		dns_received(skb, cgroup_id, at);
	return PASS;
}

/*
 * Questions that are too old are taken away while the map is walked: the walk holds no lock, and an element that
 * is gone still leads to the next one. If its place was filled again meanwhile, the rest of the bucket is passed
 * over, until the next survey.
 */
static __always_inline void take_if_old(const struct dns_question *key, struct dns_asked *asked)
{
	struct dns_question question;

	if (bpf_ktime_get_ns() - asked->start_ns < DNS_PATIENCE_NS)
		return;
	question = *key;
	dns_timed_out(&question, asked);
}

WALK(starts_dns, starts_dns_survey, take_if_old)

char LICENSE[] SEC("license") = "GPL";
