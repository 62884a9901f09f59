/*
 * What the programs tell: one fixed record, for all kinds of events.
 *
 * bpf/events.py decodes it; tests/unit/bpf/test_layout.py holds the two together. Change the version with
 * any change of the layout. Addresses are 16 bytes, IPv4 as ::ffff:a.b.c.d; ports in host byte order.
 */
#ifndef SHORTHAUL_EVENT_H
#define SHORTHAUL_EVENT_H

#include <linux/types.h>

#define EVENT_VERSION 1

enum event_kind {
	EVENT_FLOW = 1,   /* a packet answered: this is the flow, and what was done to it */
	EVENT_CLOSED = 2, /* a client's socket closed; FLOW_ESTABLISHED tells whether it ever worked */
	EVENT_RTT = 3,    /* the least round trip of the last second, to another node */
};

enum flow_flags {
	FLOW_INTENT = 1,      /* intent, pid and comm are known: connect() was seen */
	FLOW_ESTABLISHED = 2, /* the handshake was completed */
	FLOW_WIRE = 4,        /* a packet was seen: wire is known */
	FLOW_TRANSLATED = 8,  /* the packet's addresses are not its socket's */
	FLOW_CLIENT = 16,     /* this end called connect(), or talks to a watched port */
	FLOW_FIRST = 32,      /* intent was read in containerd's own cgroup, before its parents' programs */
	FLOW_BEGUN = 64,      /* it began to connect while this was looked at: without intent, to where nobody saw */
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
	__u8 reserved;
	__u64 time_ns;         /* CLOCK_MONOTONIC */
	__u64 connect_ns;      /* of connect(); 0 if it was not seen */
	__u64 cookie;          /* of the socket (SO_COOKIE) */
	__u64 netns;           /* cookie of its network namespace (SO_NETNS_COOKIE); 0 if not known */
	__u64 bytes_received;
	__u64 bytes_acked;
	__u32 pid;             /* of the process that called connect() */
	__u32 mark;            /* of the packet */
	__u32 rtt_us;          /* EVENT_FLOW: of the handshake; EVENT_RTT: the least of the last second */
	char comm[16];
	struct endpoint intent;  /* the argument of connect(), before any other program rewrote it */
	struct tuple socket;   /* the socket's own addresses, source being this end */
	struct tuple wire;     /* the packet's, behind netfilter's output and postrouting hooks */
};

/* Counters of what was lost: indexes of the array "counters". */
enum counter {
	LOST_EVENTS = 0,   /* the ring buffer was full; an open flow is told of with its next packet */
	LOST_FLOWS = 1,    /* no memory for a flow's state (net.core.optmem_max) */
	LOST_PACKETS = 2,  /* a packet of a watched port whose headers could not be read */
	LOST_ENDS = 3,     /* a closed flow's event, for which there was no room: nothing follows it */
	EVENTS = 4,        /* told */
	COUNTERS = 5,
};

#endif
