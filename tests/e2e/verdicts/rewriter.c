/*
 * A stand-in for socket-level load balancing, as Cilium has it: whoever asks for the Service is sent to a
 * backend by connect() itself. VIP, NODE: IPv4 addresses as numbers; VIP_PORT, HOST_PORT, AGENT_PORT.
 */
#include <uapi/linux/bpf.h>

#define LOOPBACK 0x7f000001

static __always_inline int rewrite(struct bpf_sock_addr *ctx, __u32 address, __u16 port)
{
	if (ctx->user_ip4 == bpf_htonl(VIP) && ctx->user_port == bpf_htons(VIP_PORT)) {
		ctx->user_ip4 = bpf_htonl(address);
		ctx->user_port = bpf_htons(port);
	}
	return 1;
}

int to_loopback(struct bpf_sock_addr *ctx)
{
	return rewrite(ctx, LOOPBACK, HOST_PORT);
}

int to_node(struct bpf_sock_addr *ctx)
{
	return rewrite(ctx, NODE, AGENT_PORT);
}
