"""What the index needs of the connection to its server. `agent.holders.valkey.server.Server` is one."""

from collections.abc import Callable, Sequence
from typing import Any, Protocol

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
    def young_s(self) -> float | None:
        """Seconds since the index on the server was made, by the server's clock. None: not known."""
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
