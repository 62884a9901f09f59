"""Attaches the programs to cgroups and reads their events.

The programs are attached by links. A link does not replace another tool's program: every program of a
cgroup runs. The kernel removes a link when its descriptor closes, no matter how the process ends.
"""

import contextlib
import itertools
import logging
import os
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Self

from bpf.addresses import AddressTable
from bpf.cgroups import find_containerds, own_cgroup
from bpf.child import LoadedPrograms, ProgramConfig, load
from bpf.errors import BpfError, BpfUnsupported
from bpf.events import Owner
from bpf.libbpf import PREORDER, Hook, LibBpf, RingBuffer
from bpf.source import ConnectOrder, LossCounts

_log = logging.getLogger(__name__)

# Names of the functions in bpf/programs/flows.c.
_CONNECTS = {"shorthaul_con4": Hook.CONNECT4, "shorthaul_con6": Hook.CONNECT6}
_NEAR = {"shorthaul_near4": Hook.CONNECT4, "shorthaul_near6": Hook.CONNECT6}
_OTHERS = {"shorthaul_out": Hook.EGRESS, "shorthaul_ops": Hook.SOCK_OPS}
_CGROUPS_MAX = 20_000  # checked at the start, and every 5 s if containerd's is not known; about 15 µs each


class LiveSource:
    """The kernel's events: a `bpf.source.EventSource`. ``root``: the cgroup whose sockets are watched.

    The argument of connect() (the *intent*) is trusted only if it is read before another program can rewrite
    it. From Linux 6.15 on, a program can be attached in front of all others (``preorder``). Before that,
    intent is trusted in a few cgroups only, where it is read before the programs of the parent cgroups:
    those of the node's containerds (``containerd`` is the only one; all are searched for if it is None) and
    this process's.

    ``known``: ids of another probe's programs, which rewrite nothing.
    """

    def __init__(
        self,
        config: ProgramConfig,
        *,
        root: Path,
        containerd: Path | None = None,
        preorder: bool = True,
        known: Collection[int] = (),
    ) -> None:
        self._libbpf = LibBpf()
        self._root = root
        self._given = containerd
        self.containerds: tuple[Path, ...] = ()
        self.clients: frozenset[int] = frozenset()
        self._own_cgroup = own_cgroup(root)
        self._near: list[_Near] = []
        self.preordered = False
        self._alike = True
        with contextlib.ExitStack() as stack:
            self.loaded: LoadedPrograms = load(config)
            stack.callback(self.loaded.close)
            table = self.loaded.fds["own_ips"]
            self._own_ips = AddressTable(
                partial(self._libbpf.add, table), partial(self._libbpf.remove, table), at_most=config.own_ips
            )
            self.programs = tuple(number for fd in self.loaded.fds.values() if (number := _program_id(fd)))
            self._ours = dict.fromkeys((*self.programs, *known), True)
            connects = (self.loaded.fds[name] for name in (*_CONNECTS, *_NEAR))
            self._tags = {tag for fd in connects if (tag := self._libbpf.tag(fd)) is not None}
            self._at_start = frozenset(self._strangers())
            self._attach(preorder, stack)
            self._ring = RingBuffer(self._libbpf, self.loaded.fds["events"])
            stack.callback(self._ring.close)
            self._others_ring = RingBuffer(self._libbpf, self.loaded.fds["others"])
            stack.callback(self._others_ring.close)
            stack.callback(self._detach_near)
            self.follow_containerd()
            self._stack = stack.pop_all()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def read(self, at_most: int) -> list[bytes]:
        """See `EventSource`. Those of other users come last."""
        records = self._ring.read(at_most)
        if len(records) < at_most:
            records += self._others_ring.read(at_most - len(records))
        return records

    def lost(self) -> LossCounts:
        """See `EventSource`."""
        events, flows, packets, ends, delivered, foreign, held = self._libbpf.sums(
            self.loaded.fds["counters"], 7
        )
        return LossCounts(
            events=events,
            flows=flows,
            packets=packets,
            ends=ends,
            delivered=delivered,
            foreign=foreign,
            held_back=held,
        )

    def own_listener(self, fd: int) -> None:
        """See `EventSource`."""
        self._libbpf.store(self.loaded.fds["flows"], fd, bytes([Owner.AGENT]))

    def know(self, programs: Collection[int]) -> None:
        """See `EventSource`."""
        self._ours |= dict.fromkeys(programs, True)

    def own_addresses(self, ips: Sequence[bytes]) -> None:
        """See `EventSource`."""
        self._own_ips.use(ips)

    def follow_containerd(self) -> None:
        """See `EventSource`."""
        found = (self._given,) if self._given is not None and self._given.is_dir() else None
        self.containerds = found or find_containerds(self._root)
        self.clients = frozenset(inode for place in self.containerds if (inode := _inode(place)) is not None)
        if self.containerds:
            own = self._others(self._own_cgroup or self._root)
            self._alike = all(self._others(place) == own for place in self.containerds)
        else:
            self._alike = next(self._strangers(at_root=False), None) is None
        if self.preordered:
            return
        wanted = {place for place in (*self.containerds, self._own_cgroup) if place not in (None, self._root)}
        for near in list(self._near):
            if near.place not in wanted or near.inode != _inode(near.place):
                self._near.remove(near)
                near.close()
        for place in wanted - {near.place for near in self._near}:
            if place is None:
                continue
            try:
                self._near.append(_Near(place, _inode(place), self._link_all(_NEAR, place)))
            except BpfError as error:
                _log.warning("can't read connect() in %s: %s", place, error)

    def connect_order(self) -> ConnectOrder:
        """See `EventSource`."""
        lists = [self._programs(self._root), *(self._programs(near.place) for near in self._near)]
        in_front = [self._is_in_front(programs) for programs in lists]
        return ConnectOrder(
            everywhere=self.preordered and in_front[0],
            near=bool(self._near) and all(in_front[1:]),
            alone=all(self._is_ours(program) for program in self._at_start)
            and all(self._is_ours(program) for programs in lists for program in itertools.chain(*programs)),
            alike=self._alike,
        )

    def close(self) -> None:
        """Detach everything."""
        self._stack.close()

    def _attach(self, preorder: bool, stack: contextlib.ExitStack) -> None:
        connects: list[int] = []
        if preorder:
            with contextlib.suppress(BpfUnsupported):  # Linux before 6.15
                connects = self._link_all(_CONNECTS, self._root, PREORDER)
                self.preordered = True
        connects = connects or self._link_all(_CONNECTS, self._root)
        stack.callback(_close_all, connects)
        stack.callback(_close_all, self._link_all(_OTHERS, self._root))

    def _link_all(self, programs: dict[str, Hook], cgroup: Path, flags: int = 0) -> list[int]:
        links: list[int] = []
        try:
            with _opened(cgroup) as fd:
                for name, hook in programs.items():
                    links.append(self._libbpf.link(self.loaded.fds[name], fd, hook, flags))
        except OSError as error:
            raise BpfError(f"{cgroup}: {error.strerror}", hint="probe.cgroup names a cgroup v2") from error
        except BaseException:
            _close_all(links)
            raise
        return links

    def _detach_near(self) -> None:
        while self._near:
            self._near.pop().close()

    def _programs(self, cgroup: Path, *, effective: bool = True) -> list[list[int]]:
        """The programs that run on connect() in a cgroup, in order, by address family. Empty if the kernel
        does not tell.
        """
        try:
            with _opened(cgroup) as fd:
                return [self._libbpf.programs(fd, hook, effective=effective) for hook in _CONNECTS.values()]
        except (OSError, BpfError):
            return [[], []]

    def _others(self, cgroup: Path) -> list[list[int]]:
        """The programs of others that run on connect() in a cgroup, by address family."""
        return [[one for one in ids if not self._is_ours(one)] for ids in self._programs(cgroup)]

    def _is_in_front(self, programs: list[list[int]]) -> bool:
        """Whether every program that runs before ours is harmless, in each address family."""
        for ids in programs:
            own = next((place for place, program in enumerate(ids) if program in self.programs), None)
            if own is None or not all(self._is_ours(program) for program in ids[:own]):
                return False
        return True

    def _strangers(self, *, at_root: bool = True) -> Iterator[int]:
        """The programs of other tools that run on connect() in any cgroup. ``at_root``: the root's, too."""
        folders = itertools.islice((path for path in self._root.rglob("*") if path.is_dir()), _CGROUPS_MAX)
        found = (self._programs(folder, effective=False) for folder in folders)
        everywhere = itertools.chain([self._programs(self._root)] if at_root else [], found)
        for programs in everywhere:
            yield from (one for one in itertools.chain(*programs) if not self._is_ours(one))

    def _is_ours(self, program: int) -> bool:
        """Whether a program is ours, or the very same code in another probe. Such code rewrites nothing."""
        if program not in self._ours:
            self._ours[program] = self._libbpf.tag_of(program) in self._tags
        return self._ours[program]


class _Near:
    """The links to a cgroup in which intent is read first.

    ``inode``: of its directory, to notice when the cgroup was removed and made again.
    """

    def __init__(self, place: Path, inode: int | None, links: list[int]) -> None:
        self.place = place
        self.inode = inode
        self._links = links

    def close(self) -> None:
        """Detach the programs from this cgroup."""
        _close_all(self._links)


@contextmanager
def _opened(folder: Path) -> Iterator[int]:
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield fd
    finally:
        os.close(fd)


def _close_all(fds: list[int]) -> None:
    while fds:
        os.close(fds.pop())


def _inode(folder: Path) -> int | None:
    try:
        return folder.stat().st_ino
    except OSError:
        return None


def _program_id(fd: int) -> int:
    """A program's id, read from procfs by its descriptor. 0 if the descriptor is not a program."""
    with open(f"/proc/self/fdinfo/{fd}") as lines:
        return next((int(line.split()[1]) for line in lines if line.startswith("prog_id:")), 0)
