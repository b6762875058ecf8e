// SPDX-License-Identifier: GPL-2.0
/*
 * TCP. Most of it happens in softirq, where the current task is a bystander: everything is put down to the
 * cgroup that made the socket. All counts are atomic: connect() counts in task context, and a softirq may
 * interrupt it on the same CPU.
 */
#include "compat.bpf.h"
#include "totals.bpf.h"

enum { TCP_ESTABLISHED = 1, TCP_SYN_SENT = 2, TCP_SYN_RECV = 3, TCP_TIME_WAIT = 6, TCP_CLOSE = 7, TCP_NEW_SYN_RECV = 12 };
#define IPPROTO_TCP 6
#define AF_INET 2
#define AF_INET6 10
#define SHUTDOWN_MASK 3
#define DNS_PORT 53
enum { EEXIST = 17, ENETUNREACH = 101, ECONNRESET = 104, ETIMEDOUT = 110, ECONNREFUSED = 111, EHOSTDOWN = 112,
       EHOSTUNREACH = 113 };
/* The first SYN is repeated after 1 s (RFC 6298): who gives up later has met a peer that does not answer. */
#define UNANSWERED_NS (1000ULL * 1000 * 1000)
/* Of what has no socket (a reset for a closed port): the node itself. */
#define ROOT_CGROUP 1

struct connecting {
	__u64 sk; /* 0: none was here yet */
	__u64 since; /* the jiffy: a clock would cost a quarter of all that is done about a connect */
	__u32 pid;
	char comm[16];
	__u32 unused;
};

/*
 * Who connects, by socket, for the day it fails. Direct-mapped (160 KiB): a socket that finds another's place
 * takes it, and the other's failure, should it come, is counted and told as all are, but not by whom. Of 100
 * connects in flight one in 40 meets that.
 */
#define CONNECTING 4096

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, CONNECTING);
	__type(key, __u32);
	__type(value, struct connecting);
} starts SEC(".maps");

static __always_inline struct connecting *place_of(const struct sock *sk)
{
	__u64 address = 0;
	__u32 place;

	/* The verifier counts with no pointer, but with its copy. */
	bpf_probe_read_kernel(&address, sizeof(address), &sk);
	place = address * 0x9e3779b97f4a7c15ULL >> 52; /* 2^64 over the golden ratio; 12 bits */
	return bpf_map_lookup_elem(&starts, &place);
}

static __always_inline struct connecting *start_of(const struct sock *sk)
{
	struct connecting *start = place_of(sk);

	return start && start->sk == (__u64)sk ? start : 0;
}

/* To the jiffy. */
static __always_inline __u64 connecting_ns(const struct connecting *start)
{
	return (bpf_jiffies64() - start->since) * config.jiffy_ns;
}

struct destination {
	__u64 cgroup_id;
	struct raw_address address;
	__u32 port;
};

/*
 * Where each cgroup connected to lately: until so many others came after that the oldest had to go. 4096 (some
 * 450 KiB): 110 pods with 37 peers each, more than the names and ports a service is configured with. A crawler
 * pushes others out, and they are new once more.
 */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 4096);
	__type(key, struct destination);
	__type(value, __u8);
} destinations SEC(".maps");

static __always_inline __u16 port_of(const struct sock *sk)
{
	return __builtin_bswap16(sk->__sk_common.skc_dport);
}

/* An IPv4 end of an IPv6 socket (::ffff:192.0.2.7) is that IPv4 address. `to` is zeroed. */
static __always_inline void read_address(const struct sock *sk, __be32 v4, const struct in6_addr *v6,
					 struct raw_address *to)
{
	struct {
		__u64 zeros;
		__be32 ones;
		__be32 v4;
	} address;

	to->family = 4;
	if (sk->__sk_common.skc_family != AF_INET6) {
		__builtin_memcpy(to->bytes, &v4, sizeof(v4));
		return;
	}
	bpf_probe_read_kernel(&address, sizeof(address), v6);
	if (!address.zeros && address.ones == __builtin_bswap32(0xffff)) {
		__builtin_memcpy(to->bytes, &address.v4, sizeof(address.v4));
		return;
	}
	to->family = 6;
	__builtin_memcpy(to->bytes, &address, sizeof(address));
}

static __always_inline void peer_of(const struct sock *sk, struct raw_address *to)
{
	read_address(sk, sk->__sk_common.skc_daddr, &sk->__sk_common.skc_v6_daddr, to);
}

/* Where a connection begins, as both of its ends see it: on its way to a Service the other address is changed. */
struct origin {
	struct raw_address address;
	__u32 port;
	__u32 netns; /* every network namespace has a loopback of its own; else 0 */
};

struct client {
	struct origin origin;
	__u32 made_at; /* the jiffy: a clock would cost more than all else here */
	__u64 cgroup_id; /* 0: none, or met */
};

/*
 * Who connected from where, until the accepting end has met it microseconds later, if it is on this node. Of the others
 * an entry stays: behind a translated address another client may come from there one day, so age tells. Direct-mapped
 * as `starts` is (160 KiB): who loses its place unmet is not counted by its server, should that be on this node, and
 * is counted as lost.
 */
#define CLIENTS 4096
/* .25 s (HZ 1000) to 2.6 s (HZ 100). Longer, and connections to elsewhere would be taken for lost ones more often. */
#define MEET_JIFFIES 256

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, CLIENTS);
	__type(key, __u32);
	__type(value, struct client);
} starts_by_origin SEC(".maps");

static __always_inline bool is_waiting(const struct client *client, __u32 now)
{
	return client->cgroup_id && now - client->made_at <= MEET_JIFFIES;
}

static __always_inline void set_netns(const struct sock *sk, struct origin *origin)
{
	const unsigned char *bytes = origin->address.bytes;
	__u64 low, high;

	if (origin->address.family == 4) {
		if (bytes[0] != 127)
			return;
	} else {
		__builtin_memcpy(&low, bytes, sizeof(low));
		__builtin_memcpy(&high, bytes + 8, sizeof(high));
		if (low || high != __builtin_bswap64(1))
			return;
	}
	origin->netns = sk->__sk_common.skc_net.net->ns.inum;
}

static __always_inline struct client *client_at(const struct origin *origin)
{
	__u32 place, word[4];

	__builtin_memcpy(word, origin->address.bytes, sizeof(word));
	place = ((word[0] ^ word[1] ^ word[2] ^ word[3] ^ origin->netns) * 31 + origin->port) * 0x9e3779b1u >> 20; /* 12 bits */
	return bpf_map_lookup_elem(&starts_by_origin, &place);
}

static __always_inline bool same_origin(const struct origin *a, const struct origin *b)
{
	__u32 one[sizeof(*a) / 4], other[sizeof(*a) / 4];

	__builtin_memcpy(one, a, sizeof(one));
	__builtin_memcpy(other, b, sizeof(other));
#pragma unroll
	for (__u32 i = 0; i < sizeof(*a) / 4; i++) {
		if (one[i] != other[i])
			return 0;
	}
	return 1;
}

static __always_inline void note_client(const struct sock *sk)
{
	struct origin origin = { .port = sk->__sk_common.skc_num };
	__u32 now = bpf_jiffies64();
	struct probe_losses *lost;
	struct client *client;

	read_address(sk, sk->__sk_common.skc_rcv_saddr, &sk->__sk_common.skc_v6_rcv_saddr, &origin.address);
	set_netns(sk, &origin);
	client = client_at(&origin);
	if (!client)
		return;
	if (is_waiting(client, now) && !same_origin(&client->origin, &origin)) {
		lost = losses_here();
		if (lost)
			ADD_ANYWHERE(lost->no_detail, 1);
	}
	client->origin = origin;
	client->made_at = now;
	client->cgroup_id = sock_cgroup_id(sk);
}

static __always_inline void meet_client(const struct sock *sk, __u64 server_id)
{
	struct origin origin = { .port = port_of(sk) };
	struct client *client;
	__u64 client_id;

	peer_of(sk, &origin.address);
	set_netns(sk, &origin);
	client = client_at(&origin);
	if (!client)
		return;
	client_id = client->cgroup_id;
	if (!is_waiting(client, bpf_jiffies64()) || !same_origin(&client->origin, &origin))
		return;
	client->cgroup_id = 0;
	if (client_id != server_id)
		count_detail(DETAIL_tcp_connects_by_server, client_id, server_id, 1);
}

static __always_inline void connect_failed(const struct sock *sk, int error, struct connecting *start)
{
	struct event *event = event_begin(EVENT_connect_failed);

	if (!event)
		return;
	event->cgroup_id = sock_cgroup_id(sk);
	event->value = error;
	event->extra = port_of(sk);
	if (start) {
		event->pid = start->pid;
		__builtin_memcpy(event->comm, start->comm, sizeof(event->comm));
	}
	peer_of(sk, (struct raw_address *)event->text);
	event_send(event, EVENT_connect_failed);
}

/*
 * What the peer or the network answered. The others of tcp_connect_failures never got as far as to ask: no free
 * port, for instance. (A connect() that finds no route at all has no state to leave: it is a failed system call.)
 */
static __always_inline void count_cause(struct totals *totals_here, int error)
{
	switch (error) {
	case ECONNREFUSED:
	case ECONNRESET:
		COUNT_ANYWHERE(totals_here, tcp_connects_refused, 1);
		break;
	case ETIMEDOUT:
		COUNT_ANYWHERE(totals_here, tcp_connects_timed_out, 1);
		break;
	case ENETUNREACH:
	case EHOSTDOWN:
	case EHOSTUNREACH:
		COUNT_ANYWHERE(totals_here, tcp_connects_unreachable, 1);
		break;
	}
}

static __always_inline void note_destination(const struct sock *sk)
{
	struct destination to = { .cgroup_id = sock_cgroup_id(sk), .port = port_of(sk) };
	struct event *event;
	__u8 known = 1;

	peer_of(sk, &to.address);
	if (bpf_map_lookup_elem(&destinations, &to))
		return;
	/* Another CPU was first. Whatever else goes wrong, it is new, and will be once more. */
	if (bpf_map_update_elem(&destinations, &to, &known, BPF_NOEXIST) == -EEXIST)
		return;
	COUNT_ANYWHERE(totals_of(to.cgroup_id), tcp_new_destinations, 1);
	event = event_begin(EVENT_new_destination);
	if (!event)
		return;
	event->cgroup_id = to.cgroup_id;
	event->extra = to.port;
	event->pid = bpf_get_current_pid_tgid() >> 32;
	bpf_get_current_comm(event->comm, sizeof(event->comm));
	__builtin_memcpy(event->text, &to.address, sizeof(to.address));
	event_send(event, EVENT_new_destination);
}

static __always_inline void connect_begin(const struct sock *sk)
{
	struct connecting *start = place_of(sk);

	note_destination(sk);
	if (port_of(sk) == DNS_PORT)
		COUNT_ANYWHERE(totals_of(sock_cgroup_id(sk)), dns_tcp_queries, 1);
	if (!start)
		return;
	start->sk = (__u64)sk;
	start->since = bpf_jiffies64();
	start->pid = bpf_get_current_pid_tgid() >> 32;
	bpf_get_current_comm(start->comm, sizeof(start->comm));
}

/*
 * From SYN to established. The kernel has just measured it: the first sample of the round trip is that of the SYN.
 * A SYN that was sent again, after a second or more, gives none; then it is told to the jiffy.
 */
static __always_inline void observe_connect(struct sock *sk, struct totals *totals_here)
{
	struct tcp_sock *tcp = bpf_skc_to_tcp_sock(sk);
	struct connecting *start;

	if (tcp && tcp->srtt_us && !tcp->total_retrans) {
		OBSERVE(totals_here, tcp_connect_latency, tcp->srtt_us * 1000ULL / 8);
		return;
	}
	start = start_of(sk);
	if (start)
		OBSERVE(totals_here, tcp_connect_latency, connecting_ns(start));
}

/* Where another took its place, the SYN that was sent again tells as much. */
static __always_inline bool was_left_waiting(struct sock *sk, const struct connecting *start)
{
	struct tcp_sock *tcp;

	if (start)
		return connecting_ns(start) >= UNANSWERED_NS;
	tcp = bpf_skc_to_tcp_sock(sk);
	return tcp && tcp->total_retrans;
}

SEC("tp_btf/inet_sock_set_state")
int BPF_PROG(inet_sock_set_state, struct sock *sk, int before, int after)
{
	struct connecting *start;
	struct totals *totals_here;
	__u64 cgroup_id;
	int error;

	if (sk->sk_protocol != IPPROTO_TCP)
		return 0;
	if (after == TCP_SYN_SENT) {
		connect_begin(sk);
		return 0;
	}
	if (before == TCP_SYN_RECV && after == TCP_ESTABLISHED) {
		cgroup_id = sock_cgroup_id(sk);
		COUNT_ANYWHERE(totals_of(cgroup_id), tcp_accepts, 1);
		meet_client(sk, cgroup_id);
		return 0;
	}
	if (before != TCP_SYN_SENT)
		return 0;
	totals_here = totals_of(sock_cgroup_id(sk));
	if (after == TCP_ESTABLISHED) {
		COUNT_ANYWHERE(totals_here, tcp_connects, 1);
		note_client(sk);
		observe_connect(sk, totals_here);
	} else if (after == TCP_CLOSE) {
		start = start_of(sk);
		error = sk->sk_err;
		/* Closed by its own program: a failure only if the peer left it waiting. */
		if (!error && sk->sk_shutdown == SHUTDOWN_MASK && was_left_waiting(sk, start))
			error = ETIMEDOUT;
		if (error || sk->sk_shutdown != SHUTDOWN_MASK) {
			COUNT_ANYWHERE(totals_here, tcp_connect_failures, 1);
			count_cause(totals_here, error);
			connect_failed(sk, error, start);
		}
	}
	return 0;
}

/* Time-wait and request sockets are smaller than struct sock: there is no cgroup to read in them. */
static __always_inline __u64 owner_of(const struct sock *sk)
{
	/* The second test is for the verifiers that ask for it. */
	if (is_null(sk) || !sk || sk->__sk_common.skc_state == TCP_TIME_WAIT ||
	    sk->__sk_common.skc_state == TCP_NEW_SYN_RECV)
		return ROOT_CGROUP;
	return sock_cgroup_id(sk);
}

SEC("tp_btf/tcp_retransmit_skb")
int BPF_PROG(tcp_retransmit_skb, const struct sock *sk, const struct sk_buff *skb)
{
	if (!retransmit_error(ctx))
		COUNT_ANYWHERE(totals_of(owner_of(sk)), tcp_retransmits, 1);
	return 0;
}

/* A listener's answers, until the client confirms one; told only once it is sent. */
SEC("tp_btf/tcp_retransmit_synack")
int BPF_PROG(tcp_retransmit_synack, const struct sock *listener)
{
	COUNT_ANYWHERE(totals_of(owner_of(listener)), tcp_retransmits, 1);
	return 0;
}

/* The socket may be null since 6.10; the argument that gives the reason, since then too, is not read. */
SEC("tp_btf/tcp_send_reset")
int BPF_PROG(tcp_send_reset, const struct sock *sk, const struct sk_buff *skb)
{
	struct totals *totals_here = totals_of(owner_of(sk));

	COUNT_ANYWHERE(totals_here, tcp_resets_sent, 1);
	return 0;
}

SEC("tp_btf/tcp_receive_reset")
int BPF_PROG(tcp_receive_reset, struct sock *sk)
{
	struct totals *totals_here = totals_of(owner_of(sk));

	COUNT_ANYWHERE(totals_here, tcp_resets_received, 1);
	return 0;
}

/*
 * Whenever a program took data from a connection. One in about 32 is sampled, drawn as the system calls are; the
 * kernel keeps eight times the smoothed time in us, 0 while it has none.
 */
SEC("tp_btf/tcp_rcv_space_adjust")
int BPF_PROG(tcp_data_read, struct sock *sk)
{
	struct cpu_memo *memo = memo_here();
	struct tcp_sock *tcp;
	__u32 srtt;

	if (!memo)
		return 0;
	if (memo->rtt_gap > 1) {
		memo->rtt_gap--;
		return 0;
	}
	memo->rtt_gap = draw_gap();
	tcp = bpf_skc_to_tcp_sock(sk);
	srtt = tcp ? tcp->srtt_us : 0;
	if (srtt)
		OBSERVE(totals_of(sock_cgroup_id(sk)), tcp_round_trip, srtt * 1000ULL / 8);
	return 0;
}

char LICENSE[] SEC("license") = "GPL";
