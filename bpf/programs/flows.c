/*
 * Reports the flows to and from the watched ports. Uses stable UAPI hooks only.
 *
 * The loader defines WATCHED(port), so that packets of other ports return after two comparisons. The state
 * of a flow is kept with its socket (sk_storage). It needs no look-up by tuple, can't be confused with another
 * flow's state, and is freed with the socket.
 *
 * User space marks the agent's listening sockets with OWNER_AGENT. The kernel copies a listener's state to each
 * socket that it accepts (BPF_F_CLONE), so who took a connection is known before the agent itself knows of it.
 *
 * Nothing that another network namespace does costs an event, or room in the ring buffer. The loader defines
 * NODE_NETNS, the cookie of the node's own namespace. An accepting end tells only of clients on this node:
 * their addresses are loopback's or in "own_ips".
 *
 * Neither can other users of the node. Connections of root, which may be containerd's, and of the probe's own user
 * (PROBE_UID), whose canaries are, have the ring buffer "events". All others share "others", and a bound.
 */
#include <uapi/linux/bpf.h>
#include "event.h"

#define ALLOW 1
#define STREAM 1       /* SOCK_STREAM */
#define ETHERTYPE_IPV4 0x0800
#define ETHERTYPE_IPV6 0x86dd
#define PROTOCOL_TCP 6
#define FAMILY_IPV6 10
#define RTT_EVERY_NS 1000000000ULL
/* Events of other users' connections, and of clients that may be masqueraded pods: some 4,000 a second. */
#define OTHERS_MAX 256
#define OTHERS_SPELL_NS_LOG2 26 /* in 67 ms */
#define OTHERS_BYTES 131072 /* 680 events: those of a spell, and as many ends */
#define SPARED_MAX 4096 /* connections at a time between their first packet and the other end's */
#define IS_FOREIGN(netns) (NODE_NETNS && (netns) && (netns) != NODE_NETNS)

/* States of a socket whose handshake was completed. SYN-ACKs carry LISTEN, which is not one of them. */
#define SYNCHRONISED (1 << BPF_TCP_ESTABLISHED | 1 << BPF_TCP_FIN_WAIT1 | 1 << BPF_TCP_FIN_WAIT2 | \
		      1 << BPF_TCP_CLOSE_WAIT | 1 << BPF_TCP_LAST_ACK | 1 << BPF_TCP_CLOSING)
#define JUDGED (SYNCHRONISED | 1 << BPF_TCP_SYN_SENT)

struct flow {
	__u8 owner;            /* first, because user space writes it */
	__u8 flags;
	__u8 sent_flags;       /* the flags of the last event that was sent */
	__u64 connect_ns;
	__u64 netns;
	__u64 cgroup;
	__u64 rtt_sent_ns;     /* when the last EVENT_RTT was sent */
	__u32 pid;
	__u32 rtt_us;
	__u32 least_us;        /* the minimum round trip since rtt_sent_ns */
	__u32 mark;            /* of its SYN: rules of a nat table see no other packet of it, and so mark no other */
	char comm[16];
	struct endpoint intent;
	struct tuple wire;
};

struct spent {
	__u64 spell;
	__u64 events;
};

struct address {
	__u8 bytes[16];
};

/* BPF_SK_STORAGE with one more flag. */
struct flows_table_t {
	int key;
	struct flow leaf;
	void *(*sk_storage_get)(void *, void *, int);
	int (*sk_storage_delete)(void *);
	__u32 flags;
};
__attribute__((section("maps/sk_storage")))
struct flows_table_t flows = { .flags = BPF_F_NO_PREALLOC | BPF_F_CLONE };
BPF_ANNOTATE_KV_PAIR(flows, int, struct flow);

BPF_HASH(own_ips, struct address, __u8, OWN_IPS);
BPF_TABLE("lru_hash", struct endpoint, __u8, spared, SPARED_MAX); /* the clients that are always told of */
BPF_ARRAY(spent, struct spent, 1);
BPF_RINGBUF_OUTPUT(events, RING_PAGES);
BPF_RINGBUF_OUTPUT(others, OTHERS_BYTES / PAGE_SIZE);
BPF_PERCPU_ARRAY(counters, __u64, COUNTERS);

static __always_inline void count(int which)
{
	__u64 *counter = counters.lookup(&which);

	if (counter)
		*counter += 1;
}

/* Whether one more event of others may be sent. The bound is rough where a spell begins. */
static __always_inline int is_affordable(void)
{
	int zero = 0;
	struct spent *now = spent.lookup(&zero);
	__u64 spell = bpf_ktime_get_ns() >> OTHERS_SPELL_NS_LOG2;

	if (!now)
		return 0;
	if (now->spell != spell) {
		now->spell = spell;
		now->events = 0;
	}
	if (now->events >= OTHERS_MAX)
		return 0;
	__sync_fetch_and_add(&now->events, 1);
	return 1;
}

static __always_inline __u8 owner_of(__u32 uid)
{
	if (!uid)
		return OWNER_ROOT;
	return uid == PROBE_UID ? OWNER_PROBE : 0;
}

/* Whether a client is one of those that are always told of. */
static __always_inline int is_spared(struct flow *flow)
{
	return flow->owner & (OWNER_ROOT | OWNER_PROBE);
}

static __always_inline void set_ipv4(__u8 *address, __u32 ipv4)
{
	__u32 *words = (__u32 *)address;

	words[0] = 0;
	words[1] = 0;
	words[2] = bpf_htonl(0xffff);
	words[3] = ipv4;
}

static __always_inline void set_ipv6(__u8 *address, __u32 a, __u32 b, __u32 c, __u32 d)
{
	__u32 *words = (__u32 *)address;

	words[0] = a;
	words[1] = b;
	words[2] = c;
	words[3] = d;
}

/*
 * The socket's addresses. A v4-mapped address of an IPv6 socket has the same 16 bytes as an IPv4 socket's.
 */
static __always_inline void set_socket(struct tuple *tuple, struct bpf_sock *sk, __u16 source,
				       __u16 destination)
{
	if (sk->family == FAMILY_IPV6) {
		set_ipv6(tuple->source.address, sk->src_ip6[0], sk->src_ip6[1], sk->src_ip6[2], sk->src_ip6[3]);
		set_ipv6(tuple->destination.address, sk->dst_ip6[0], sk->dst_ip6[1], sk->dst_ip6[2], sk->dst_ip6[3]);
		/* Without this the compiler merges the loads of both branches, and the verifier refuses that. */
		asm volatile("");
	} else {
		set_ipv4(tuple->source.address, sk->src_ip4);
		set_ipv4(tuple->destination.address, sk->dst_ip4);
	}
	tuple->source.port = source;
	tuple->destination.port = destination;
	tuple->source.unused = tuple->destination.unused = 0;
}

static __always_inline int same_tuple(struct tuple *one, struct tuple *other)
{
	__u32 *a = (__u32 *)one, *b = (__u32 *)other;

#pragma unroll
	for (int word = 0; word < sizeof(struct tuple) / 4; word++)
		if (a[word] != b[word])
			return 0;
	return 1;
}

/* Fills in what is known of the flow. The caller adds what only its hook knows. */
static __always_inline void set_event(struct event *event, __u8 kind, struct flow *flow, __u64 cookie)
{
	event->version = EVENT_VERSION;
	event->size = sizeof(*event);
	event->kind = kind;
	event->flags = flow->flags;
	event->owner = flow->owner;
	event->time_ns = bpf_ktime_get_ns();
	event->connect_ns = flow->connect_ns;
	event->cookie = cookie;
	event->netns = flow->netns;
	event->cgroup = flow->cgroup;
	event->bytes_received = 0;
	event->bytes_acked = 0;
	event->pid = flow->pid;
	event->mark = 0;
	event->rtt_us = flow->rtt_us;
	__builtin_memcpy(event->comm, flow->comm, sizeof(event->comm));
	event->intent = flow->intent;
	event->wire = flow->wire;
}

/* cgroup/connect4 and connect6: the address that the process asked for (the intent). */

static __always_inline int on_connect(struct bpf_sock_addr *ctx, int first, int ipv6)
{
	struct flow *flow;
	__u16 port = bpf_ntohs(ctx->user_port);
	__u64 netns;

	if (ctx->type != STREAM || !ctx->sk)
		return ALLOW;
	if (!WATCHED(port)) {
		flow = flows.sk_storage_get(ctx->sk, 0, 0);
		/* Either the socket was disconnected and connects elsewhere now. Or a program that runs between
		 * containerd's cgroup's and this one has just rewritten its destination; then the intent stays. */
		if (flow && (first || !(flow->flags & FLOW_FIRST)))
			flow->flags = 0;
		return ALLOW;
	}
	netns = bpf_get_netns_cookie(ctx);
	flow = flows.sk_storage_get(ctx->sk, 0, BPF_SK_STORAGE_GET_F_CREATE);
	if (!flow) {
		count(IS_FOREIGN(netns) ? FOREIGN : LOST_FLOWS);
		return ALLOW;
	}
	/* A child cgroup's programs run before its parent's, so what the child's program read is original. */
	if (flow->flags & FLOW_FIRST && !first)
		return ALLOW;
	flow->flags = FLOW_INTENT | FLOW_CLIENT | (first ? FLOW_FIRST : 0);
	flow->sent_flags = 0;
	flow->rtt_us = 0;
	flow->mark = 0;
	flow->connect_ns = bpf_ktime_get_ns();
	flow->netns = netns;
	if (IS_FOREIGN(netns)) {
		count(FOREIGN);
		return ALLOW;
	}
	flow->cgroup = bpf_get_current_cgroup_id();
	flow->owner = owner_of(bpf_get_current_uid_gid());
	flow->pid = bpf_get_current_pid_tgid() >> 32;
#ifdef COMM
	bpf_get_current_comm(flow->comm, sizeof(flow->comm));
#endif
	if (ipv6)
		set_ipv6(flow->intent.address, ctx->user_ip6[0], ctx->user_ip6[1], ctx->user_ip6[2],
			 ctx->user_ip6[3]);
	else
		set_ipv4(flow->intent.address, ctx->user_ip4);
	flow->intent.port = port;
	return ALLOW;
}

int shorthaul_con4(struct bpf_sock_addr *ctx)
{
	return on_connect(ctx, 0, 0);
}

int shorthaul_con6(struct bpf_sock_addr *ctx)
{
	return on_connect(ctx, 0, 1);
}

int shorthaul_near4(struct bpf_sock_addr *ctx)
{
	return on_connect(ctx, 1, 0);
}

int shorthaul_near6(struct bpf_sock_addr *ctx)
{
	return on_connect(ctx, 1, 1);
}

static __always_inline int is_loopback(struct bpf_sock *sk)
{
	/* dst_ip4 is valid in v4-mapped sockets too. In other IPv6 sockets it may hold anything. */
	if (sk->family == FAMILY_IPV6 && (sk->dst_ip6[0] || sk->dst_ip6[1] || sk->dst_ip6[2] != bpf_htonl(0xffff)))
		return !sk->dst_ip6[0] && !sk->dst_ip6[1] && !sk->dst_ip6[2] && sk->dst_ip6[3] == bpf_htonl(1);
	return (sk->dst_ip4 & bpf_htonl(0xff000000)) == bpf_htonl(0x7f000000);
}

/* cgroup_skb/egress: the addresses that the packet leaves with. */

int shorthaul_out(struct __sk_buff *skb)
{
	struct bpf_sock *sk = skb->sk;
	void *data, *end;
	struct tuple own, wire;
	struct flow *flow;
	struct event *event;
	__u16 source, destination;
	__u16 ports[2];
	__u8 flags, told, sent_later, client, ours;

	if (!sk)
		return ALLOW;
	source = sk->src_port;
	destination = bpf_ntohs(sk->dst_port);
	if (!WATCHED(source) && !WATCHED(destination))
		return ALLOW;
	sk = bpf_sk_fullsock(sk);
	if (!sk || sk->protocol != PROTOCOL_TCP || !(1 << (sk->state & 31) & JUDGED))
		return ALLOW;
	flow = flows.sk_storage_get(sk, 0, BPF_SK_STORAGE_GET_F_CREATE);
	if (!flow) {
#ifdef NETNS_OF_PACKETS
		if (IS_FOREIGN(bpf_get_netns_cookie(skb)))
			return ALLOW;
#endif
		count(LOST_FLOWS);
		return ALLOW;
	}
#ifdef NETNS_OF_PACKETS
	if (!flow->netns)
		flow->netns = bpf_get_netns_cookie(skb);
#endif
	client = flow->flags & FLOW_CLIENT || (WATCHED(destination) && !WATCHED(source));
	if (client && IS_FOREIGN(flow->netns))
		return ALLOW;

	data = (void *)(long)skb->data;
	end = (void *)(long)skb->data_end;
	if (skb->protocol == bpf_htons(ETHERTYPE_IPV4)) {
		__u8 *ip = data;

		if (data + 24 > end || ip[9] != PROTOCOL_TCP)
			goto unreadable;
		if ((ip[0] & 15) == 5)
			__builtin_memcpy(ports, ip + 20, sizeof(ports));
		else if (bpf_skb_load_bytes(skb, (ip[0] & 15) * 4, ports, sizeof(ports)))
			goto unreadable; /* after IP options; computing the address would need CAP_PERFMON */
		set_ipv4(wire.source.address, *(__u32 *)(ip + 12));
		set_ipv4(wire.destination.address, *(__u32 *)(ip + 16));
	} else if (skb->protocol == bpf_htons(ETHERTYPE_IPV6)) {
		__u8 *ip = data;
		__u32 *words = data + 8;

		if (data + 44 > end || ip[6] != PROTOCOL_TCP)
			goto unreadable;
		__builtin_memcpy(ports, ip + 40, sizeof(ports));
		set_ipv6(wire.source.address, words[0], words[1], words[2], words[3]);
		set_ipv6(wire.destination.address, words[4], words[5], words[6], words[7]);
	} else {
		goto unreadable;
	}
	wire.source.port = bpf_ntohs(ports[0]);
	wire.destination.port = bpf_ntohs(ports[1]);
	wire.source.unused = wire.destination.unused = 0;
	set_socket(&own, sk, source, destination);

	flags = flow->flags & ~FLOW_TRANSLATED;
	flags |= FLOW_WIRE;
	if (1 << (sk->state & 31) & SYNCHRONISED)
		flags |= FLOW_ESTABLISHED;
	else
		flow->mark = skb->mark;
	if (!same_tuple(&own, &wire))
		flags |= FLOW_TRANSLATED;
	if (client)
		flags |= FLOW_CLIENT;
	/* An untranslated flow has its socket's addresses, so there is nothing else to compare. */
	if (flags == flow->sent_flags && (!(flags & FLOW_TRANSLATED) || same_tuple(&wire, &flow->wire)))
		return ALLOW;
	sent_later = flow->flags & FLOW_INTENT && !(flow->flags & FLOW_ESTABLISHED) && !(flags & FLOW_TRANSLATED);
	flow->flags = flags;
	told = flow->sent_flags ? FLOW_TOLD : 0;
	if (client && !flow->cgroup) { /* it is older than the programs */
		flow->cgroup = bpf_skb_cgroup_id(skb);
		flow->owner = owner_of(bpf_get_socket_uid(skb));
	}
	if (!same_tuple(&wire, &flow->wire)) {
		flow->wire = wire;
		flow->sent_flags = 0; /* so that it is sent again if there is no room for the event now */
		if (client && is_spared(flow))
			spared.update(&wire.source, &client); /* so that the other end is told of as well */
	}
	/*
	 * A SYN is reported when the handshake completes or when the socket closes. The packet that completes the
	 * handshake leaves while the process waits in connect(), so the next packet reports it instead.
	 */
	if (!(flags & FLOW_ESTABLISHED) || sent_later)
		return ALLOW;
	if (client) {
		ours = is_spared(flow);
	} else if (is_loopback(sk) ? IS_FOREIGN(flow->netns) : !own_ips.lookup((struct address *)&own.destination)) {
		flow->sent_flags = flags; /* its client is not of this node, and neither are its next packets */
		return ALLOW;
	} else {
		ours = !!spared.lookup(&own.destination);
	}
	if (ours)
		event = events.ringbuf_reserve(sizeof(*event));
	else
		event = is_affordable() ? others.ringbuf_reserve(sizeof(*event)) : 0;
	if (!event) {
		count(ours ? LOST_EVENTS : HELD_BACK);
		return ALLOW;
	}
	set_event(event, EVENT_FLOW, flow, bpf_get_socket_cookie(skb));
	event->flags |= told;
	event->socket = own;
	event->state = sk->state;
	event->mark = flow->mark | skb->mark;
	events.ringbuf_submit(event, BPF_RB_NO_WAKEUP);
	flow->sent_flags = flags;
	count(EVENTS);
	return ALLOW;

unreadable:
	count(LOST_PACKETS);
	return ALLOW;
}

/* sock_ops: when a flow begins and ends, and its round trips. */

static __always_inline void send_event(struct bpf_sock_ops *ctx, struct flow *flow, struct bpf_sock *sk, __u8 kind)
{
	int ours = is_spared(flow) || !(flow->flags & FLOW_CLIENT);
	/* The end of what was told costs nothing, else it would seem to stay open. */
	int free = kind == EVENT_CLOSED && flow->sent_flags;
	struct event *event;

	if (ours)
		event = events.ringbuf_reserve(sizeof(*event));
	else
		event = free || is_affordable() ? others.ringbuf_reserve(sizeof(*event)) : 0;
	if (!event) {
		count(!ours ? HELD_BACK : kind == EVENT_CLOSED ? LOST_ENDS : LOST_EVENTS);
		return;
	}
	set_event(event, kind, flow, bpf_get_socket_cookie(ctx));
	set_socket(&event->socket, sk, ctx->local_port, bpf_ntohl(ctx->remote_port));
	event->state = ctx->state;
	event->bytes_received = ctx->bytes_received;
	event->bytes_acked = ctx->bytes_acked;
	if (flow->sent_flags)
		event->flags |= FLOW_TOLD;
	if (kind == EVENT_RTT)
		event->rtt_us = flow->least_us;
	if (kind == EVENT_FLOW)
		flow->sent_flags = flow->flags;
	events.ringbuf_submit(event, BPF_RB_NO_WAKEUP);
	count(EVENTS);
}

/* Keeps the callbacks that other programs asked for. */
static __always_inline void request_callbacks(struct bpf_sock_ops *ctx, int callbacks)
{
	bpf_sock_ops_cb_flags_set(ctx, ctx->bpf_sock_ops_cb_flags | callbacks);
}

static __always_inline void add_rtt_sample(struct bpf_sock_ops *ctx, struct flow *flow, struct bpf_sock *sk)
{
	__u64 now_ns = bpf_ktime_get_ns();
	__u32 rtt_us = ctx->args[0]; /* from Linux 6.11 on the sample itself; older kernels give 0 here */

	if (!rtt_us)
		rtt_us = ctx->srtt_us >> 3;
	if (rtt_us && (!flow->least_us || rtt_us < flow->least_us))
		flow->least_us = rtt_us;
	if (!flow->least_us || now_ns - flow->rtt_sent_ns < RTT_EVERY_NS)
		return;
	flow->rtt_sent_ns = now_ns;
	send_event(ctx, flow, sk, EVENT_RTT);
	flow->least_us = 0;
}

int shorthaul_ops(struct bpf_sock_ops *ctx)
{
	struct bpf_sock *sk = ctx->sk;
	struct flow *flow;
	int create = 0;

	/* Called about ten times per connection. Most calls are of no interest. */
	switch (ctx->op) {
	case BPF_SOCK_OPS_TCP_CONNECT_CB:
		create = WATCHED(bpf_ntohl(ctx->remote_port)) ? BPF_SK_STORAGE_GET_F_CREATE : 0;
		break;
	case BPF_SOCK_OPS_PASSIVE_ESTABLISHED_CB:
		if (!WATCHED(ctx->local_port))
			return ALLOW;
#ifdef NETNS_OF_PACKETS
		/* The client still waits in connect(), so the state is made later, with the first packet. */
		if (sk && is_loopback(sk))
			return ALLOW;
#endif
		create = BPF_SK_STORAGE_GET_F_CREATE;
		break;
	case BPF_SOCK_OPS_ACTIVE_ESTABLISHED_CB:
	case BPF_SOCK_OPS_RTT_CB:
		break;
	case BPF_SOCK_OPS_STATE_CB:
		if (ctx->args[1] != BPF_TCP_CLOSE)
			return ALLOW;
		break;
	default:
		return ALLOW;
	}
	if (!sk)
		return ALLOW;
	flow = flows.sk_storage_get(sk, 0, create);
	if (!flow) {
		if (create && !IS_FOREIGN(bpf_get_netns_cookie(ctx)))
			count(LOST_FLOWS);
		return ALLOW;
	}
	if (create)
		flow->netns = bpf_get_netns_cookie(ctx);
	if (IS_FOREIGN(flow->netns))
		return ALLOW;
	switch (ctx->op) {
	case BPF_SOCK_OPS_TCP_CONNECT_CB:
		if (!(flow->flags & FLOW_INTENT) && !create)
			break;
		flow->flags |= FLOW_CLIENT | FLOW_BEGUN;
		flow->netns = bpf_get_netns_cookie(ctx);
		/* A loopback round trip is of no use, so the call for each packet is saved. */
		request_callbacks(ctx, BPF_SOCK_OPS_STATE_CB_FLAG | (is_loopback(sk) ? 0 : BPF_SOCK_OPS_RTT_CB_FLAG));
		break;
	case BPF_SOCK_OPS_PASSIVE_ESTABLISHED_CB:
		flow->rtt_sent_ns = bpf_ktime_get_ns(); /* so that many short connections send nothing */
		if (!is_loopback(sk))
			request_callbacks(ctx, BPF_SOCK_OPS_RTT_CB_FLAG);
		break;
	case BPF_SOCK_OPS_ACTIVE_ESTABLISHED_CB:
		flow->rtt_us = ctx->srtt_us >> 3;
		/* The destination was rewritten to an unwatched port, so its packets are not looked at. */
		if (flow->flags & FLOW_INTENT && !WATCHED(bpf_ntohl(ctx->remote_port))) {
			flow->flags |= FLOW_ESTABLISHED;
			send_event(ctx, flow, sk, EVENT_FLOW);
		}
		break;
	case BPF_SOCK_OPS_STATE_CB:
		if (flow->flags & FLOW_CLIENT)
			send_event(ctx, flow, sk, EVENT_CLOSED);
		flow->flags = flow->sent_flags = 0; /* the socket may connect again */
		break;
	case BPF_SOCK_OPS_RTT_CB:
		add_rtt_sample(ctx, flow, sk);
		break;
	}
	return ALLOW;
}
