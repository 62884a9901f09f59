"""Network namespaces on one bridge, and sockets inside them.

The addresses are 10.9.0.0/16, and exist inside the namespaces only. The machine's own namespace gets none.
"""

import contextlib
import ctypes
import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from benchmarks.lab.makers import is_left_behind
from benchmarks.lab.process import LabError, run

_T = TypeVar("_T")
_CLONE_NEWNET = 0x40000000
_BURST_S = 0.01  # seconds of the rate: how late a busy machine may wake up without slowing the link
_BURST_LEAST_BYTES = 128 * 1024  # a segment of 64 KiB, as the kernel passes it on, must fit as a whole
_QUEUE_S = 0.05
_HEADERS_BYTES = 14 + 20 + 32  # Ethernet, IPv4, TCP with timestamps: once per segment, also per large one
_libc = ctypes.CDLL(None, use_errno=True)


class Network:
    """A bridge in its own namespace, and one namespace for each host on it."""

    def __init__(self, prefix: str) -> None:
        self._prefix = prefix
        self._hub = f"{prefix}-hub"
        self._hosts: list[str] = []
        self._ports: dict[str, str] = {}
        run(["ip", "netns", "add", self._hub])
        run(["ip", "-n", self._hub, "link", "add", "br0", "type", "bridge"])
        run(["ip", "-n", self._hub, "link", "set", "br0", "up"])

    def add_host(self, name: str, address: str) -> str:
        """Add a namespace with a loopback and an ``eth0`` with this address. Returns its name."""
        netns = f"{self._prefix}-{name}"
        run(["ip", "netns", "add", netns])
        self._hosts.append(netns)
        port = self._ports[name] = f"v{len(self._hosts)}"
        run(["ip", "-n", netns, "link", "set", "lo", "up"])
        run(
            [
                "ip",
                "link",
                "add",
                "eth0",
                "netns",
                netns,
                "type",
                "veth",
                "peer",
                "name",
                port,
                "netns",
                self._hub,
            ]
        )
        run(["ip", "-n", self._hub, "link", "set", port, "master", "br0", "up"])
        run(["ip", "-n", netns, "addr", "add", f"{address}/16", "dev", "eth0"])
        run(["ip", "-n", netns, "link", "set", "eth0", "up"])
        return netns

    def shape(self, name: str, mbit_s: float | None) -> None:
        """Limit a host's link in both directions, in megabits (10**6) per second. None: no limit.

        There is a token bucket at each end. Headers count, so the payload is a few per cent less.
        """
        ends = [(f"{self._prefix}-{name}", "eth0"), (self._hub, self._ports[name])]
        for netns, device in ends:
            if mbit_s is not None:
                run(["tc", "-n", netns, "qdisc", "replace", "dev", device, "root", *token_bucket(mbit_s)])
            elif '"tbf"' in run(["tc", "-j", "-n", netns, "qdisc", "show", "dev", device]):
                run(["tc", "-n", netns, "qdisc", "del", "dev", device, "root"])

    def close(self) -> None:
        """Remove every namespace, and so every interface."""
        for netns in (*self._hosts, self._hub):
            run(["ip", "netns", "del", netns])
        self._hosts.clear()
        self._ports.clear()


def token_bucket(mbit_s: float) -> list[str]:
    """The tc arguments of a token bucket (tc-tbf(8)) with this rate."""
    bytes_s = mbit_s * 1e6 / 8
    burst = max(_BURST_LEAST_BYTES, int(bytes_s * _BURST_S))
    limit = burst + int(bytes_s * _QUEUE_S)
    return ["tbf", "rate", f"{int(bytes_s * 8)}bit", "burst", str(burst), "limit", str(limit)]


def sweep(prefix: str) -> None:
    """Remove the namespaces of labs whose maker (the number behind ``prefix``) is gone.

    Several processes may sweep at once: what another one removed first is no error.
    """
    folder = Path("/run/netns")
    if not folder.is_dir():
        return
    for entry in folder.iterdir():
        if is_left_behind(entry, prefix):
            _remove_with_processes(entry)


def sent_bytes(netns: str | None) -> int:
    """How many bytes a host has sent over its link so far, as the kernel counts them, less their headers."""

    def read() -> int:
        for line in Path("/proc/thread-self/net/dev").read_text().splitlines():
            device, _, numbers = line.partition(":")
            if device.strip() == "eth0":
                sent, packets = numbers.split()[8:10]
                return int(sent) - int(packets) * _HEADERS_BYTES
        raise LabError(f"{netns} has no link")

    return inside(netns, read)


def _remove_with_processes(entry: Path) -> None:
    with contextlib.suppress(LabError):  # gone meanwhile, or no namespace is mounted there
        for pid in run(["ip", "netns", "pids", entry.name]).split():
            with contextlib.suppress(ProcessLookupError):
                os.kill(int(pid), 9)
    try:
        run(["ip", "netns", "del", entry.name])
    except LabError:
        # `ip netns add` was killed before it mounted the namespace: what is left is a plain file.
        entry.unlink(missing_ok=True)


def inside(netns: str | None, work: Callable[[], _T]) -> _T:
    """Call a function in a namespace. The sockets that it makes stay in that namespace.

    setns(2) moves one thread, so the function runs in its own thread.
    """
    if netns is None:
        return work()
    results: list[_T] = []
    errors: list[BaseException] = []

    def enter_and_work() -> None:
        try:
            fd = os.open(f"/run/netns/{netns}", os.O_RDONLY)
            try:
                if _libc.setns(fd, _CLONE_NEWNET) != 0:
                    raise LabError(f"setns({netns}): {os.strerror(ctypes.get_errno())}")
            finally:
                os.close(fd)
            results.append(work())
        except BaseException as error:  # noqa: BLE001 - passed to the caller
            errors.append(error)

    thread = threading.Thread(target=enter_and_work, name=f"in {netns}")
    thread.start()
    thread.join()
    if errors:
        raise errors[0]
    return results[0]
