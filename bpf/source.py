"""Sources of events: the kernel (`bpf.live`), or a recording."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol


@dataclass(frozen=True, slots=True, kw_only=True)
class LossCounts:
    """What the programs lost or left out since they were loaded.

    ``delivered``: the events that they did not lose. ``foreign``: connections of other network namespaces.
    """

    events: int = 0  # the ring buffer was full
    flows: int = 0  # no memory for a flow's state
    packets: int = 0  # packets of a watched port whose headers could not be read
    ends: int = 0  # the ring buffer was full when a flow closed, so the flow seems to stay open
    delivered: int = 0
    foreign: int = 0
    held_back: int = 0  # events of other users' connections that were too many in a second


class ConnectOrder(NamedTuple):
    """Where our programs run among the programs of other tools on connect().

    ``everywhere``: no other program can rewrite any process's connect() before ours reads it.
    ``near``: the same, but only in the cgroups where ours runs first (see `Flag.FIRST`).
    ``alone``: no other tool's program runs on any connect(), and none did when ours were attached.
    ``alike``: the same programs run on containerd's connect() as on this process's. So whatever happens to a
    canary happens to containerd's connections too. If containerd's cgroup is not known: no other tool's
    program runs on connect() in any cgroup but the root.
    """

    everywhere: bool
    near: bool
    alone: bool
    alike: bool = True


class EventSource(Protocol):
    """A source of the programs' events."""

    def read(self, at_most: int) -> list[bytes]:
        """The next records, in order, at most ``at_most``. Does not wait."""

    def lost(self) -> LossCounts:
        """The counts so far."""

    def connect_order(self) -> ConnectOrder:
        """Where our programs run on connect() now, among those of others. Takes about 10 µs."""

    def follow_containerd(self) -> None:
        """Attach to containerd's cgroup again if it changed, as after a restart of containerd."""

    @property
    def clients(self) -> frozenset[int]:
        """The ids of the cgroups that containerd's connections belong to. Empty if they are not known."""

    def own_listener(self, fd: int) -> None:
        """Mark a listening socket as the agent's own. The sockets that it accepts from now on have
        `Owner.AGENT`. Raises `BpfError`.
        """

    def know(self, programs: Collection[int]) -> None:
        """These are programs of another probe, by their ids. They rewrite nothing, whatever their code is."""

    def own_addresses(self, ips: Sequence[bytes]) -> None:
        """The node's addresses, 16 bytes each, the most important first. Only clients with such an address,
        or on loopback, are told of by the ends that accept their connections.
        """

    def close(self) -> None:
        """Detach the programs."""


class ReplaySource:
    """Events from a list, for tests and recordings."""

    def __init__(
        self,
        records: list[bytes],
        *,
        lost: LossCounts | None = None,
        order: ConnectOrder | None = None,
        clients: Collection[int] = (),
    ) -> None:
        self._records = list(records)
        self.clients = frozenset(clients)
        self._lost = lost or LossCounts()
        self._order = order or ConnectOrder(everywhere=True, near=True, alone=True)

    def read(self, at_most: int) -> list[bytes]:
        """See `EventSource`."""
        taken, self._records = self._records[:at_most], self._records[at_most:]
        return taken

    def lost(self) -> LossCounts:
        """See `EventSource`."""
        return self._lost

    def connect_order(self) -> ConnectOrder:
        """See `EventSource`."""
        return self._order

    def follow_containerd(self) -> None:
        """See `EventSource`."""

    def own_listener(self, fd: int) -> None:
        """See `EventSource`."""

    def know(self, programs: Collection[int]) -> None:
        """See `EventSource`."""

    def own_addresses(self, ips: Sequence[bytes]) -> None:
        """See `EventSource`."""

    def close(self) -> None:
        """See `EventSource`."""
