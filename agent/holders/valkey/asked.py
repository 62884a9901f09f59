"""What the index needs of the connection to its server. `agent.holders.valkey.server.Server` is one."""

from collections.abc import Callable, Sequence
from typing import Any, Protocol

from agent.documents.index import IndexWarningEntry
from agent.holders.valkey.facts import Facts

Command = tuple[str | bytes | int, ...]
"""A command and its arguments."""


class IndexServer(Protocol):
    """A server that may be out of reach at any time."""

    @property
    def healthy(self) -> bool:
        """Whether it is asked now."""
        ...

    @property
    def writable(self) -> bool:
        """Whether it takes announcements, as far as is known."""
        ...

    @property
    def tracking(self) -> bool:
        """Whether it tells when a tracked key changes."""
        ...

    @property
    def clustered(self) -> bool:
        """Whether the keys of one command have to be in one slot."""
        ...

    @property
    def problem(self) -> str | None:
        """Why it is not asked, or not for everything, in words. None: it is."""
        ...

    @property
    def hint(self) -> str:
        """What a person can do about that. May be empty."""
        ...

    @property
    def warnings(self) -> tuple[IndexWarningEntry, ...]:
        """What works, and that a person should know."""
        ...

    @property
    def facts(self) -> Facts:
        """What it says of itself."""
        ...

    @property
    def cluster(self) -> str | None:
        """The id of this cluster there. None: not known yet."""
        ...

    @property
    def latency_us(self) -> float | None:
        """How long the last answer took, there and back."""
        ...

    @property
    def young_s(self) -> float | None:
        """Seconds since the index on the server was made, by the server's clock. None: not known."""
        ...

    @property
    def caught_up(self) -> bool:
        """Whether the nodes had the time to tell it what came while it was out of reach or full."""
        ...

    async def is_as_seen(self) -> bool:
        """Whether it was not emptied since it was looked at last. Raises `IndexDown`."""
        ...

    async def call(
        self, *commands: Command, tracked: bool = False, timeout_s: float | None = None
    ) -> Sequence[Any]:
        """One reply for each command, in one round trip; an error about one command in its place.

        ``tracked``: the server tells when a key changes that the first command reads. Raises `IndexDown`.
        """
        ...

    def on_reset(self, callback: Callable[[], None]) -> None:
        """Call this when what was told to the server may be gone."""
        ...

    def on_invalid(self, callback: Callable[[Sequence[bytes] | None], None]) -> None:
        """Call this with the tracked keys that changed. None: it may be any."""
        ...

    async def run(self) -> None:
        """Keep the connection, until cancelled."""
        ...
