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
#define ETIMEDOUT 110
/* The first SYN is repeated after 1 s (RFC 6298): who gives up later has met a peer that does not answer. */
#define UNANSWERED_NS (1000ULL * 1000 * 1000)
/* Of what has no socket (a reset for a closed port): the node itself. */
#define ROOT_CGROUP 1

struct connecting {
	__u64 start_ns;
	__u32 pid;
	char comm[16];
	__u32 unused;
};

/*
 * By socket. Each leaves SYN_SENT through inet_sock_set_state, so none is left behind. 4096 (some 350 KiB)
 * connects in flight: a service whose peer is dead, at 30 connects a second with the default time-out.
 */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 4096);
	__type(key, __u64);
	__type(value, struct connecting);
} connecting SEC(".maps");

static __always_inline __u16 port_of(const struct sock *sk)
{
	return __builtin_bswap16(sk->__sk_common.skc_dport);
}

static __always_inline void connect_failed(const struct sock *sk, int error, struct connecting *start)
{
	struct event *event = event_begin(EVENT_connect_failed);
	struct raw_address *address;

	if (!event)
		return;
	event->cgroup_id = sock_cgroup_id(sk);
	event->value = error;
	event->extra = port_of(sk);
	if (start) {
		event->pid = start->pid;
		__builtin_memcpy(event->comm, start->comm, sizeof(event->comm));
	}
	address = (struct raw_address *)event->text;
	if (sk->__sk_common.skc_family == AF_INET6) {
		address->family = 6;
		bpf_probe_read_kernel(address->bytes, 16, &sk->__sk_common.skc_v6_daddr);
	} else {
		address->family = 4;
		bpf_probe_read_kernel(address->bytes, 4, &sk->__sk_common.skc_daddr);
	}
	event_send(event, EVENT_connect_failed);
}

static __always_inline void connect_begin(__u64 key)
{
	struct connecting start = { .start_ns = bpf_ktime_get_ns(), .pid = bpf_get_current_pid_tgid() >> 32 };
	struct probe_losses *lost;

	bpf_get_current_comm(start.comm, sizeof(start.comm));
	if (!bpf_map_update_elem(&connecting, &key, &start, BPF_ANY))
		return;
	lost = losses_here();
	if (lost)
		ADD_ANYWHERE(lost->no_task_storage, 1);
}

SEC("tp_btf/inet_sock_set_state")
int BPF_PROG(inet_sock_set_state, const struct sock *sk, int before, int after)
{
	struct connecting *start;
	struct totals *totals_here;
	__u64 key = (__u64)sk;
	int error;

	if (sk->sk_protocol != IPPROTO_TCP)
		return 0;
	if (after == TCP_SYN_SENT) {
		connect_begin(key);
		return 0;
	}
	if (before == TCP_SYN_RECV && after == TCP_ESTABLISHED) {
		totals_here = totals_of(sock_cgroup_id(sk));
		COUNT_ANYWHERE(totals_here, tcp_accepts, 1);
		return 0;
	}
	if (before != TCP_SYN_SENT)
		return 0;
	start = bpf_map_lookup_elem(&connecting, &key);
	totals_here = totals_of(sock_cgroup_id(sk));
	if (after == TCP_ESTABLISHED) {
		COUNT_ANYWHERE(totals_here, tcp_connects, 1);
		if (start)
			OBSERVE(totals_here, tcp_connect_latency, bpf_ktime_get_ns() - start->start_ns);
	} else if (after == TCP_CLOSE) {
		error = sk->sk_err;
		/* Closed by its own program: a failure only if the peer left it waiting. */
		if (!error && sk->sk_shutdown == SHUTDOWN_MASK && start &&
		    bpf_ktime_get_ns() - start->start_ns >= UNANSWERED_NS)
			error = ETIMEDOUT;
		if (error || sk->sk_shutdown != SHUTDOWN_MASK) {
			COUNT_ANYWHERE(totals_here, tcp_connect_failures, 1);
			connect_failed(sk, error, start);
		}
	}
	if (start)
		bpf_map_delete_elem(&connecting, &key);
	return 0;
}

/* Time-wait and request sockets are smaller than struct sock: there is no cgroup to read in them. */
static __always_inline __u64 owner_of(const struct sock *sk)
{
	if (!sk || sk->__sk_common.skc_state == TCP_TIME_WAIT || sk->__sk_common.skc_state == TCP_NEW_SYN_RECV)
		return ROOT_CGROUP;
	return sock_cgroup_id(sk);
}

SEC("tp_btf/tcp_retransmit_skb")
int BPF_PROG(tcp_retransmit_skb, const struct sock *sk, const struct sk_buff *skb)
{
	struct totals *totals_here = totals_of(owner_of(sk));

	COUNT_ANYWHERE(totals_here, tcp_retransmits, 1);
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

char LICENSE[] SEC("license") = "GPL";
