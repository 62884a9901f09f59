/* Programs that do nothing. They measure what the kernel takes for calling any program under the same load. */
#include <uapi/linux/bpf.h>

BPF_RINGBUF_OUTPUT(events, 1);
BPF_PERCPU_ARRAY(counters, __u64, 4);
BPF_ARRAY(flows, __u64, 1);
BPF_HASH(own_ips, __u64, __u8, 1);
BPF_ARRAY(others, __u64, 1);

int shorthaul_con4(struct bpf_sock_addr *ctx)
{
	return 1;
}

int shorthaul_con6(struct bpf_sock_addr *ctx)
{
	return 1;
}

int shorthaul_near4(struct bpf_sock_addr *ctx)
{
	return 1;
}

int shorthaul_near6(struct bpf_sock_addr *ctx)
{
	return 1;
}

int shorthaul_out(struct __sk_buff *skb)
{
	return 1;
}

int shorthaul_ops(struct bpf_sock_ops *ctx)
{
	return 1;
}
