"""Where events come from: the kernel (`bpf.live`), or a recording."""

from dataclasses import dataclass
from typing import NamedTuple, Protocol


@dataclass(frozen=True, slots=True, kw_only=True)
class Lost:
    """What the programs could not tell since they were loaded; and ``told``: the events they did."""

    events: int = 0  # the ring buffer was full
    flows: int = 0  # no memory for a flow's state
    packets: int = 0  # of a watched port, whose headers could not be read
    ends: int = 0  # the ring buffer was full when a flow closed: it stays open as far as anybody knows
    told: int = 0


class Order(NamedTuple):
    """Whether no other program can have rewritten a connect() before it was read: of any process
    (``everywhere``), or of those in the cgroups where it is read first (``near``, see `Flag.FIRST`).
    ``alone``: nobody else's program runs on any connect(), and none did when the programs were attached.
    ``alike``: the same programs run on containerd's connect() as on this process's, so that what becomes of
    a canary becomes of containerd's connections, too.
    """

    everywhere: bool
    near: bool
    alone: bool
    alike: bool = True


class EventSource(Protocol):
    """Where events come from."""

    def read(self, at_most: int) -> list[bytes]:
        """The next records, in order, without waiting."""

    def lost(self) -> Lost:
        """What was lost so far."""

    def sure_of_intent(self) -> Order:
        """Whether intent is what the process asked for, as of now. Some 10 µs."""

    def follow_containerd(self) -> None:
        """Read intent in containerd's cgroup anew if that is another one now, as after a restart."""

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

    def follow_containerd(self) -> None:
        """See `EventSource`."""

    def close(self) -> None:
        """See `EventSource`."""
