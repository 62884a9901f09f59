"""Attaches and detaches the programs, and reads the kernel's counts of their runs."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple, Self

from benchmarks.lab.process import LabError
from bpf.child import ProgramConfig, load
from bpf.libbpf import PREORDER, Hook, LibBpf, RingBuffer

EMPTY = Path(__file__).parent / "empty.c"
OUT, OPS, CONNECT = "shorthaul_out", "shorthaul_ops", "shorthaul_con4"
_ATTACHED = {  # like bpf.live if the kernel can put programs in front
    CONNECT: (Hook.CONNECT4, PREORDER),
    "shorthaul_con6": (Hook.CONNECT6, PREORDER),
    OUT: (Hook.EGRESS, 0),
    OPS: (Hook.SOCK_OPS, 0),
}
_RING_PAGES = 256  # the probe's default, 1 MiB
_RUN_TIME = 0  # enum bpf_stats_type


class Runs(NamedTuple):
    """How often a program ran, and for how long, by the kernel's counts."""

    number: int
    ns: int

    def since(self, before: "Runs") -> "Runs":
        """The runs since an earlier reading."""
        return Runs(self.number - before.number, self.ns - before.ns)

    @property
    def each_ns(self) -> float:
        """The mean time of a run. NaN if the program never ran."""
        return self.ns / self.number if self.number else float("nan")


class Programs:
    """Loaded programs of one source file. None: the probe's. They are attached only within `attached`."""

    def __init__(self, cgroup: Path, ports: tuple[int, ...], source: Path | None = None) -> None:
        self._cgroup = cgroup
        self._libbpf = LibBpf()
        self._loaded = load(ProgramConfig(ports=ports, source=source, ring_pages=_RING_PAGES))
        self._ring = RingBuffer(self._libbpf, self._loaded.fds["events"])

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._ring.close()
        self._loaded.close()

    @contextmanager
    def attached(self) -> Iterator[None]:
        """A context in which the programs are attached. Afterwards their events are dropped."""
        links: list[int] = []
        folder = os.open(self._cgroup, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            for name, (hook, flags) in _ATTACHED.items():
                links.append(self._libbpf.link(self._loaded.fds[name], folder, hook, flags))
            yield
        finally:
            for link in links:
                os.close(link)
            os.close(folder)
            self.drain()

    def drain(self) -> int:
        """Drop the waiting events. Returns their number."""
        return len(self._ring.read(1 << 20))

    def lost(self) -> int:
        """How many events found the ring buffer full, since the programs were loaded."""
        return self._libbpf.sums(self._loaded.fds["counters"], 1)[0]

    def runs(self, name: str) -> Runs:
        """The runs of one program since it was loaded. They are counted only within `counting`."""
        with open(f"/proc/self/fdinfo/{self._loaded.fds[name]}") as lines:
            told = dict(line.split(":", 1) for line in lines)
        return Runs(int(told["run_cnt"]), int(told["run_time_ns"]))


@contextmanager
def counting() -> Iterator[None]:
    """A context in which the kernel counts the runs and times of all eBPF programs."""
    fd = LibBpf().lib.bpf_enable_stats(_RUN_TIME)
    if fd < 0:
        raise LabError(f"the kernel does not count the runs of eBPF programs: {os.strerror(-fd)}")
    try:
        yield
    finally:
        os.close(fd)
