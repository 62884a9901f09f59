"""The programs at work: attached to cgroups by links, which go with this process, and their events.

A link never takes another tool's place: every program of a cgroup runs. The kernel removes it when its
descriptor closes, however the process ends.
"""

import contextlib
import itertools
import os
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, Protocol, Self

from bpf.cgroups import own_cgroup
from bpf.child import Loaded, Wanted, load
from bpf.errors import BpfError
from bpf.libbpf import PREORDER, Hook, LibBpf, RingBuffer

# Names of the functions in bpf/programs/flows.c.
_CONNECTS = {"shorthaul_con4": Hook.CONNECT4, "shorthaul_con6": Hook.CONNECT6}
_NEAR = {"shorthaul_near4": Hook.CONNECT4, "shorthaul_near6": Hook.CONNECT6}
_NO_PROGRAM = -1
_OTHERS = {"shorthaul_out": Hook.EGRESS, "shorthaul_ops": Hook.SOCK_OPS}


@dataclass(frozen=True, slots=True, kw_only=True)
class Lost:
    """What the programs could not tell, since they were loaded; and ``told``: the events they did."""

    events: int = 0  # the ring buffer was full
    flows: int = 0  # no memory for a flow's state
    packets: int = 0  # of a watched port, whose headers could not be read
    told: int = 0


class Order(NamedTuple):
    """Whether no other program can have rewritten a connect() before it was read: of any process, or at
    least of those in containerd's own cgroup (`Flag.FIRST`). ``alone``: there is no other at all.
    """

    everywhere: bool
    near: bool
    alone: bool


class EventSource(Protocol):
    """Where events come from."""

    def read(self, at_most: int) -> list[bytes]:
        """The next records, in order, without waiting."""

    def lost(self) -> Lost:
        """What was lost so far."""

    def sure_of_intent(self) -> Order:
        """Whether intent is what the process asked for."""

    def close(self) -> None:
        """Detach."""


class ReplaySource:
    """Events from a list, for tests and recordings."""

    def __init__(self, records: list[bytes], *, lost: Lost | None = None, order: Order | None = None) -> None:
        self._records = list(records)
        self._lost = lost or Lost()
        self._order = order or Order(everywhere=True, near=True, alone=True)

    def read(self, at_most: int) -> list[bytes]:
        """See `EventSource`."""
        taken, self._records = self._records[:at_most], self._records[at_most:]
        return taken

    def lost(self) -> Lost:
        """See `EventSource`."""
        return self._lost

    def sure_of_intent(self) -> Order:
        """See `EventSource`."""
        return self._order

    def close(self) -> None:
        """See `EventSource`."""


class LiveSource:
    """The kernel. ``root``: the cgroup whose sockets are watched, with all below it.

    ``containerd``: containerd's own cgroup, where intent is read before programs further up rewrite it;
    needed only by kernels before 6.15, which can't put a program in front (``preorder``). ``known``: ids
    of another probe's programs, which rewrite nothing.
    """

    def __init__(
        self,
        wanted: Wanted,
        *,
        root: Path,
        containerd: Path | None = None,
        preorder: bool = True,
        known: Collection[int] = (),
    ) -> None:
        self._libbpf = LibBpf()
        self._root = root
        self._containerd = containerd
        self._own_cgroup = own_cgroup(root)
        self._own: tuple[int, int] | None = None  # device and inode of the cgroup that `_near` hangs on
        self._links: list[int] = []
        self._near: list[int] = []
        self.loaded: Loaded = load(wanted)
        self.programs = tuple(number for fd in self.loaded.fds.values() if (number := _program_id(fd)))
        self._ours = dict.fromkeys((*self.programs, *known), True) | {_NO_PROGRAM: False}
        self.preordered = False
        try:
            self._attach(preorder)
            self._ring = RingBuffer(self._libbpf, self.loaded.fds["events"])
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def read(self, at_most: int) -> list[bytes]:
        """See `EventSource`."""
        return self._ring.read(at_most)

    def lost(self) -> Lost:
        """See `EventSource`."""
        events, flows, packets, told = self._libbpf.sums(self.loaded.fds["counters"], 4)
        return Lost(events=events, flows=flows, packets=packets, told=told)

    def follow_containerd(self) -> bool:
        """Attach to containerd's cgroup anew if it is another one now, as after a restart of its unit.

        Returns whether intent is read there, or need not be.
        """
        if self.preordered or self._containerd is None:
            return self.preordered
        try:
            status = self._containerd.stat()
        except OSError:
            self._detach_near()
            return False
        if (status.st_dev, status.st_ino) != self._own:
            self._detach_near()
            self._near = self._link_all(_NEAR, self._containerd)
            self._own = status.st_dev, status.st_ino
        return True

    def sure_of_intent(self) -> Order:
        """See `EventSource`. Takes a chance to follow containerd to another cgroup."""
        near = self.follow_containerd() and not self.preordered
        below = [place for place in (self._containerd, self._own_cgroup) if place not in (None, self._root)]
        lists = [self._programs(place) for place in (self._root, *below) if place is not None]
        return Order(
            # Programs of cgroups further down run before ours, where the kernel can't order them.
            everywhere=all(
                self._is_first(programs) for programs in (lists[:1] if self.preordered else lists)
            ),
            near=near and self._containerd is not None and self._is_first(self._programs(self._containerd)),
            alone=all(self._is_ours(program) for programs in lists for program in itertools.chain(*programs)),
        )

    def _programs(self, cgroup: Path) -> list[list[int]]:
        """What runs on connect() in a cgroup, in order, by family; no program of ours where nobody tells."""
        try:
            with _opened(cgroup) as fd:
                return [self._libbpf.effective(fd, hook) for hook in _CONNECTS.values()]
        except (OSError, BpfError):
            return [[_NO_PROGRAM], [_NO_PROGRAM]]

    def _is_first(self, programs: list[list[int]]) -> bool:
        return all(ids and self._is_ours(ids[0]) for ids in programs)

    def _is_ours(self, program: int) -> bool:
        """Whether a program is one of ours, or of another probe of this product: those rewrite nothing."""
        if program not in self._ours:
            name = self._libbpf.name(program)
            self._ours[program] = name is not None and name.startswith("shorthaul_")
        return self._ours[program]

    def close(self) -> None:
        """Detach everything."""
        if hasattr(self, "_ring"):
            self._ring.close()
        self._detach_near()
        while self._links:
            os.close(self._links.pop())
        if self._ours:
            self._ours = {}
            self.loaded.close()

    def _attach(self, preorder: bool) -> None:
        if preorder:
            with contextlib.suppress(BpfError):  # Linux before 6.15
                self._links += self._link_all(_CONNECTS, self._root, PREORDER)
                self.preordered = True
        if not self.preordered:
            self._links += self._link_all(_CONNECTS, self._root)
        self._links += self._link_all(_OTHERS, self._root)
        self.follow_containerd()

    def _link_all(self, programs: dict[str, Hook], cgroup: Path, flags: int = 0) -> list[int]:
        links: list[int] = []
        try:
            with _opened(cgroup) as fd:
                for name, hook in programs.items():
                    links.append(self._libbpf.link(self.loaded.fds[name], fd, hook, flags))
        except OSError as error:
            raise BpfError(f"{cgroup}: {error.strerror}", hint="probe.cgroup names a cgroup v2") from error
        except BaseException:
            for link in links:
                os.close(link)
            raise
        return links

    def _detach_near(self) -> None:
        while self._near:
            os.close(self._near.pop())
        self._own = None


class _opened(contextlib.AbstractContextManager[int]):  # noqa: N801 - used as a verb
    def __init__(self, folder: Path) -> None:
        self._fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)

    def __enter__(self) -> int:
        return self._fd

    def __exit__(self, *_: object) -> None:
        os.close(self._fd)


def _program_id(fd: int) -> int:
    """A program's id, from what procfs tells of its descriptor; 0 for what is no program."""
    with open(f"/proc/self/fdinfo/{fd}") as lines:
        return next((int(line.split()[1]) for line in lines if line.startswith("prog_id:")), 0)
