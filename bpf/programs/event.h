/*
 * The event record: one fixed layout for all kinds of events.
 *
 * bpf/events.py decodes it. tests/unit/bpf/test_events_layout.py checks that both agree. Change the version with any
 * change of the layout. Addresses are 16 bytes, IPv4 as ::ffff:a.b.c.d. Ports are in host byte order.
 */
#ifndef SHORTHAUL_EVENT_H
#define SHORTHAUL_EVENT_H

#include <linux/types.h>

#define EVENT_VERSION 2

enum event_kind {
	EVENT_FLOW = 1,   /* a packet showed this flow, and how it was translated */
	EVENT_CLOSED = 2, /* a client's socket closed; FLOW_ESTABLISHED says whether it ever connected */
	EVENT_RTT = 3,    /* the minimum round trip of the last second, to another node */
};

enum flow_flags {
	FLOW_INTENT = 1,      /* intent, pid and comm are known: connect() was seen */
	FLOW_ESTABLISHED = 2, /* the handshake was completed */
	FLOW_WIRE = 4,        /* a packet was seen: wire is known */
	FLOW_TRANSLATED = 8,  /* the packet's addresses differ from its socket's */
	FLOW_CLIENT = 16,     /* this end called connect(), or sends to a watched port */
	FLOW_FIRST = 32,      /* intent was read in containerd's own cgroup, before the parents' programs */
	FLOW_BEGUN = 64,      /* its beginning was seen; without intent, it connected to an unwatched address */
	FLOW_TOLD = 128,      /* an earlier event told of this connection */
};

enum flow_owner {
	OWNER_ROOT = 1,   /* the client's socket belongs to user 0 */
	OWNER_AGENT = 2,  /* one of the agent's own listening sockets took this connection */
	OWNER_PROBE = 4,  /* the client's socket belongs to the probe's user, who is not user 0 */
};

struct endpoint {
	__u8 address[16];
	__u16 port;
	__u16 unused;
};

struct tuple {
	struct endpoint source;
	struct endpoint destination;
};

struct event {
	__u16 version;
	__u16 size;            /* bytes of this record */
	__u8 kind;             /* enum event_kind */
	__u8 flags;            /* enum flow_flags */
	__u8 state;            /* of the socket, as in linux/tcp.h (BPF_TCP_*) */
	__u8 owner;            /* enum flow_owner */
	__u64 time_ns;         /* CLOCK_MONOTONIC */
	__u64 connect_ns;      /* of connect(); 0 if it was not seen */
	__u64 cookie;          /* of the socket (SO_COOKIE) */
	__u64 netns;           /* cookie of its network namespace (SO_NETNS_COOKIE); 0 if not known */
	__u64 cgroup;          /* id of its cgroup, which is its directory's inode; 0 if not known */
	__u64 bytes_received;
	__u64 bytes_acked;
	__u32 pid;             /* of the process that called connect() */
	__u32 mark;            /* of the packet and of the SYN */
	__u32 rtt_us;          /* EVENT_FLOW: of the handshake; EVENT_RTT: the minimum of the last second */
	char comm[16];
	struct endpoint intent;  /* the argument of connect(), before any other program rewrote it */
	struct tuple socket;   /* the socket's own addresses; the source is this end */
	struct tuple wire;     /* the packet's addresses, after netfilter's output and postrouting hooks */
};

/* Indexes of the array "counters". */
enum counter {
	LOST_EVENTS = 0,   /* the ring buffer was full; an open flow is sent again with its next packet */
	LOST_FLOWS = 1,    /* no memory for a flow's state (net.core.optmem_max) */
	LOST_PACKETS = 2,  /* a packet of a watched port whose headers could not be read */
	LOST_ENDS = 3,     /* the ring buffer was full for a closed flow's event, which is never sent again */
	EVENTS = 4,        /* events that were sent */
	FOREIGN = 5,       /* connections of other network namespaces to watched ports: no events */
	HELD_BACK = 6,     /* events beyond OTHERS_MAX; an open connection is tried again with its next packet */
	COUNTERS = 7,
};

#endif
