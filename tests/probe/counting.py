"""Another tool's programs, which count what happens in a cgroup: counting.py HOW CGROUP PORT

Run as a process of its own. HOW: ``link``, or ``attach`` for BPF_PROG_ATTACH with BPF_F_ALLOW_MULTI.
Tells the programs' ids, then the counts with each line of its input, and ends with it.
"""

import ctypes
import json
import os
import sys
from pathlib import Path

_HEADERS = Path(__file__).parents[2] / "bpf/headers"
_ALLOW_MULTI = 2
_SOURCE = """
#include <uapi/linux/bpf.h>
BPF_ARRAY(counts, u64, 3);
static __always_inline int count(int which)
{
	u64 *number = counts.lookup(&which);

	if (number)
		__sync_fetch_and_add(number, 1);
	return 1;
}
int other_egress(struct __sk_buff *skb) { return count(0); }
int other_connect(struct bpf_sock_addr *ctx) { return ctx->user_port == bpf_htons(PORT) ? count(1) : 1; }
int other_ops(struct bpf_sock_ops *ctx) { return count(2); }
"""
_HOOKS = {
    "other_egress": ("CGROUP_SKB", 1),
    "other_connect": ("CGROUP_SOCK_ADDR", 10),
    "other_ops": ("SOCK_OPS", 3),
}


def main(how: str, cgroup: str, port: str) -> None:
    """Attach and count."""
    os.environ["BCC_KERNEL_SOURCE"] = str(_HEADERS)
    import bcc

    libbpf = ctypes.CDLL("libbpf.so.1")
    module = bcc.BPF(text=_SOURCE, cflags=[f"-DPORT={int(port)}"])
    directory = os.open(cgroup, os.O_RDONLY)
    ids, links = [], []
    for name, (kind, hook) in _HOOKS.items():
        function = module.load_func(name.encode(), getattr(bcc.BPF, kind), attach_type=hook)
        if how == "link":
            links.append(libbpf.bpf_link_create(function.fd, directory, hook, None))
            assert links[-1] >= 0, name
        else:
            assert libbpf.bpf_prog_attach(function.fd, directory, hook, _ALLOW_MULTI) == 0, name
        lines = Path(f"/proc/self/fdinfo/{function.fd}").read_text().splitlines()
        ids.append(next(int(line.split()[1]) for line in lines if line.startswith("prog_id:")))
    print(json.dumps(ids), flush=True)
    for _ in sys.stdin:
        print(json.dumps([module[b"counts"][ctypes.c_int(which)].value for which in range(3)]), flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
