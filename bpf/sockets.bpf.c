// SPDX-License-Identifier: GPL-2.0
/*
 * Sockets whose owner does not keep up. All of it is rare, and most of it happens in softirq: it is put down to
 * the cgroup that made the socket, atomically. TCP says the same with its window (zero_windows, from /proc).
 */
#include "compat.bpf.h"
#include "totals.bpf.h"

/*
 * SO_RCVBUF is full: of ping sockets, CAN, Bluetooth and whatever else queues the common way. TCP, UDP and packet
 * sockets have ways of their own, raw ones too on newer kernels (seen on 6.18).
 */
SEC("tp_btf/sock_rcvqueue_full")
int BPF_PROG(receive_queue_full, struct sock *sk, struct sk_buff *skb)
{
	COUNT_ANYWHERE(totals_of(sock_cgroup_id(sk)), socket_overruns, 1);
	return 0;
}

/* Any protocol: the memory of all its sockets (tcp_mem, udp_mem), or of the cgroup's, is used up. */
SEC("tp_btf/sock_exceed_buf_limit")
int BPF_PROG(buffer_limit_exceeded, struct sock *sk, struct proto *protocol, long allocated, int kind)
{
	COUNT_ANYWHERE(totals_of(sock_cgroup_id(sk)), socket_overruns, 1);
	return 0;
}

/* The argument behind it differs between kernels, see compat.bpf.h. */
SEC("tp_btf/udp_fail_queue_rcv_skb")
int BPF_PROG(datagram_refused, int error, struct sock *sk)
{
	COUNT_ANYWHERE(totals_of(sock_cgroup_id(sk)), udp_receive_errors, 1);
	return 0;
}

char LICENSE[] SEC("license") = "GPL";
