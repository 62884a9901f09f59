"""The twin of content that a store's owner is still writing: the test says how far it is, and how it ends."""

import asyncio
from dataclasses import dataclass, field

from agent.content.store import ContentGone, Growing, Identity


@dataclass
class Flight:
    """A content that is being written. ``available_bytes``: how much of it is there."""

    content: bytes
    available_bytes: int = 0
    gone: bool = False
    quiet_s: float = 0.0
    open_blobs: int = 0
    _changed: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def growing(self) -> Growing:
        return Growing(
            size_bytes=len(self.content), available_bytes=self.available_bytes, quiet_s=self.quiet_s
        )

    def grow(self, size_bytes: int) -> None:
        """So many bytes more are written."""
        self.available_bytes = min(self.available_bytes + size_bytes, len(self.content))
        self._tell()

    def finish(self) -> None:
        """All bytes are written."""
        self.grow(len(self.content))

    def vanish(self) -> None:
        """The owner gives it up."""
        self.gone = True
        self._tell()

    def open(self) -> "FlightBlob":
        self.open_blobs += 1
        return FlightBlob(self)

    async def changed(self) -> None:
        """Wait for the next change."""
        await self._changed.wait()

    def _tell(self) -> None:
        self._changed.set()
        self._changed = asyncio.Event()


class FlightBlob:
    """An open blob of a `Flight`. See `GrowingBlob`."""

    fd: int | None = None
    identity: Identity | None = None

    def __init__(self, flight: Flight) -> None:
        self._flight = flight
        self.size_bytes = len(flight.content)
        self._open = True

    @property
    def available_bytes(self) -> int:
        return self._flight.available_bytes

    async def read(self, offset: int, length: int) -> bytes:
        return self._flight.content[: self.available_bytes][offset : offset + length]

    async def wait_beyond(self, offset: int) -> int:
        if offset >= self.size_bytes:
            raise ValueError(f"there is no byte {offset} in {self.size_bytes}")
        while self.available_bytes <= offset:
            if self._flight.gone:
                raise ContentGone("given up")
            await self._flight.changed()
        return self.available_bytes

    def close(self) -> None:
        if self._open:
            self._open = False
            self._flight.open_blobs -= 1
