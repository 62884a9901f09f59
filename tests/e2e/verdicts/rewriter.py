"""An eBPF program that rewrites connect(), as socket-level load balancers do."""

import contextlib
import json
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from ipaddress import IPv4Address
from pathlib import Path
from typing import Literal, Self

from benchmarks.lab.process import LabError
from bpf.libbpf import PREORDER, Hook, LibBpf
from tests.e2e.verdicts.running import (
    AGENT_PORT,
    HOST_PORT,
    VIP,
    VIP_PORT,
)

_ALLOW_MULTI = 2  # BPF_F_ALLOW_MULTI


_LOADER = """
import json, os, socket, sys
fd, headers, source, flags = int(sys.argv[1]), sys.argv[2], sys.argv[3], sys.argv[4:]
os.environ["BCC_KERNEL_SOURCE"] = headers
import bcc
module = bcc.BPF(text=open(source, "rb").read(), cflags=flags)
names = ["to_loopback", "to_node"]
fds = [module.load_func(name.encode(), bcc.BPF.CGROUP_SOCK_ADDR, attach_type=10).fd for name in names]
with socket.socket(fileno=fd) as parent:
    socket.send_fds(parent, [json.dumps(names).encode()], fds)
"""

How = Literal["link", "multi", "preorder", "front"]
_LINK_FLAGS = {"link": 0, "preorder": PREORDER, "front": PREORDER | 1 << 3}  # BPF_F_BEFORE, Linux 6.17


class Rewriter:
    """Programs that rewrite connect() to an address, the Service's. Use as a context manager."""

    def __init__(self, node_address: str, *, asked: tuple[str, int] = (VIP, VIP_PORT)) -> None:
        here = Path(__file__).resolve()
        flags = [
            f"-DVIP={int(IPv4Address(asked[0]))}u",
            f"-DNODE={int(IPv4Address(node_address))}u",
            f"-DVIP_PORT={asked[1]}",
            f"-DHOST_PORT={HOST_PORT}",
            f"-DAGENT_PORT={AGENT_PORT}",
        ]
        headers = here.parents[3] / "bpf/headers"
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with ours:
            with theirs:
                source = str(here.with_name("rewriter.c"))
                command = [sys.executable, "-c", _LOADER, str(theirs.fileno()), str(headers), source, *flags]
                done = subprocess.run(
                    command, pass_fds=[theirs.fileno()], capture_output=True, timeout=60, check=False
                )
            said, fds, _, _ = socket.recv_fds(ours, 4096, 2)
        if not said:
            raise LabError(f"the rewriter was not loaded: {done.stderr.decode()[-1500:]}")
        self._programs = dict(zip(json.loads(said), fds, strict=True))
        self._lib = LibBpf()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        while self._programs:
            os.close(self._programs.popitem()[1])

    @contextlib.contextmanager
    def attached(self, cgroup: Path, program: str = "to_loopback", how: How = "link") -> Iterator[None]:
        """At work in a cgroup and all below. Last in its row; with "preorder" before those of other cgroups;
        with "front" before those that are before others.
        """
        number = self._programs[program]
        fd = os.open(cgroup, os.O_RDONLY | os.O_DIRECTORY)
        try:
            if how == "multi":
                result = self._lib.lib.bpf_prog_attach(number, fd, int(Hook.CONNECT4), _ALLOW_MULTI)
                assert result == 0, os.strerror(-result)
                try:
                    yield
                finally:
                    self._lib.lib.bpf_prog_detach2(number, fd, int(Hook.CONNECT4))
            else:
                link = self._lib.link(number, fd, Hook.CONNECT4, _LINK_FLAGS[how])
                try:
                    yield
                finally:
                    os.close(link)
        finally:
            os.close(fd)
