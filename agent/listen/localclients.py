"""Who on this node is at the other end of a connection, by the kernel's word, and whether that is enough.

The kernel tells who *made* the client's socket (`agent.sockdiag`). A process that gives its socket away gives
its admission away, too. It is asked once per connection, when the client has just connected, and answers at
once. Where it can't say, the value of ``listen.local_callers`` decides: nobody is admitted on a guess.
"""

import asyncio
import os
import socket
import time
from collections.abc import Callable, Collection
from contextlib import closing
from pathlib import Path

from agent.listen.caller import Maker
from agent.observe.refusals import Reason
from agent.sockdiag import SocketAsker, SocketUnknown
from bpf.cgroups import find_root, trusted_containerds
from bpf.errors import BpfMissing

_AGAIN_S = 1.0  # containerd may have restarted in a new cgroup; looking takes milliseconds
_KERNEL = "sock_diag does not tell whose a local client's socket is"


class ContainerdCgroups:
    """The ids of containerd's cgroups. ``given``: the only one, by the settings; None: they are searched for.

    ``search``: the directories of containerd's cgroups as they are now. It may block for some milliseconds.
    ``again_s``: seconds between the beginnings of two searches, at least.
    """

    def __init__(
        self,
        given: Path | None = None,
        *,
        search: Callable[[], Collection[Path]] | None = None,
        again_s: float = _AGAIN_S,
    ) -> None:
        self._search = search or (lambda: _containerds() if given is None else (given,))
        self._again_s = again_s
        self._began_s = float("-inf")
        self._looking: asyncio.Task[None] | None = None
        self.ids: frozenset[int] = frozenset()

    def look(self) -> None:
        """Look which there are now. Blocks."""
        self._began_s = time.monotonic()
        self.ids = frozenset(inode for place in self._search() if (inode := _inode(place)) is not None)

    async def look_again(self) -> None:
        """Look which there are, in a thread, later than now. Many may wait for the same look.

        Clients that are none of containerd's can't make it look often. They can't have containerd refused
        either: who comes right after a look waits for the next one.
        """
        asked_s = time.monotonic()
        while self._began_s < asked_s:
            if self._looking is None:
                self._looking = asyncio.create_task(self._look_in_time(), name="containerd's cgroups")
                self._looking.add_done_callback(self._looked)
            await asyncio.shield(self._looking)

    async def _look_in_time(self) -> None:
        await asyncio.sleep(self._began_s + self._again_s - time.monotonic())
        await asyncio.to_thread(self.look)

    def _looked(self, _: object) -> None:
        self._looking = None


class LocalClients:
    """Knows the makers of local clients' sockets, and which of them are admitted.

    ``callers``: ``listen.local_callers``. ``asker``: None where no client is on this network namespace, as in
    a pod that has one of its own. ``users``: the numbers of those who count as root.
    """

    def __init__(
        self,
        callers: str,
        *,
        asker: SocketAsker | None,
        cgroups: ContainerdCgroups,
        users: Collection[int] | None = None,
        nobody: int | None = None,
    ) -> None:
        self._callers = callers
        self._asker = asker
        self._cgroups = cgroups
        self._nobody = unmapped_user() if nobody is None else nobody
        self._users = frozenset({0, os.geteuid()} if users is None else users) - {self._nobody}
        self._blind = "" if asker is not None else "the clients are not on this network namespace"

    @property
    def asks(self) -> bool:
        """Whether the kernel is asked at all."""
        return self._callers != "any" and self._asker is not None

    def maker(self, client: tuple[str, int], listener: tuple[str, int]) -> Maker | Reason:
        """Who made the socket of a client that just connected. Takes some 10 µs and never waits."""
        if self._asker is None:
            return Reason.UNKNOWN
        try:
            found = self._asker.at(client, listener)
        except SocketUnknown as error:
            if error.gone:
                return Reason.CLOSED
            self._blind = f"{_KERNEL}: {error}"
            return Reason.UNKNOWN
        if found.uid == self._nobody:  # a user without a number here may be anyone
            return Reason.UNKNOWN
        self._blind = ""
        return Maker(uid=found.uid, cgroup=found.cgroup)

    async def refusal(self, maker: Maker | Reason | None) -> Reason | None:
        """Why a client is not admitted. None: it is. ``maker``: as told when it connected.

        It waits only if containerd may have moved to another cgroup.
        """
        if self._callers == "any":
            return None
        if not isinstance(maker, Maker):
            return maker or Reason.UNKNOWN
        if maker.uid not in self._users:
            return Reason.USER
        if self._callers == "root" or maker.cgroup in self._cgroups.ids:
            return None
        if not maker.cgroup:
            return Reason.UNKNOWN
        await self._cgroups.look_again()
        return None if maker.cgroup in self._cgroups.ids else Reason.CGROUP

    def begin(self, host: str) -> None:
        """Try what the kernel tells, with a connection of one's own at this address. Blocks some ms."""
        if not self.asks:
            return
        if self._callers == "containerd":
            self._cgroups.look()
        try:
            told = self._try(host)
        except OSError:
            return  # the listener's own error says more
        if isinstance(told, Reason) and not self._blind:
            self._blind = "this agent's user namespace has no numbers for the node's users"
        elif isinstance(told, Maker) and not told.cgroup and self._callers == "containerd":
            self._blind = "this kernel does not tell a socket's cgroup"

    def _try(self, host: str) -> Maker | Reason:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        with (
            closing(socket.create_server((host, 0), family=family)) as server,
            closing(socket.create_connection(server.getsockname()[:2])) as client,
        ):
            return self.maker(client.getsockname()[:2], server.getsockname()[:2])

    @property
    def problem(self) -> str | None:
        """Why clients that should be admitted are not. None: nothing is known to be wrong."""
        if self._callers == "any":
            return None
        if self._blind:
            return f"{self._blind}: only who sends the service token is answered"
        if self._callers == "containerd" and not self._cgroups.ids:
            return "containerd's cgroup was not found: only who sends the service token is answered"
        return None

    @property
    def hint(self) -> str:
        """What to do about the problem."""
        if self._asker is None:
            return "let containerd send the token: `shorthaul configure --pod-network --key-file FILE`"
        if not self._blind:
            return "name it with probe.containerd_cgroup, or set listen.local_callers to root"
        return (
            "sock_diag needs inet_diag in the kernel, and Linux 5.9 for cgroups; set listen.local_callers to "
            "what it tells, or let containerd send the token"
        )

    def state(self) -> str:
        """Who is answered, in words."""
        match self._callers:
            case "any":
                return "every process of this node is answered"
            case "root":
                return "root and this agent's own user are answered"
            case _:
                return "containerd's cgroup is answered"


def unmapped_user(proc: Path = Path("/proc")) -> int:
    """The number under which this process's user namespace shows users that it has no number for.

    -1 in the first user namespace, which has a number for each.
    """
    try:
        maps = [line.split() for line in (proc / "self/uid_map").read_text().splitlines()]
        if maps == [["0", "0", "4294967295"]]:
            return -1
        return int((proc / "sys/kernel/overflowuid").read_text())
    except (OSError, ValueError):
        return 65534


def _containerds() -> Collection[Path]:
    try:
        return trusted_containerds(find_root(), {0, os.geteuid()})
    except BpfMissing:
        return ()


def _inode(place: Path) -> int | None:
    try:
        return place.stat().st_ino
    except OSError:
        return None
