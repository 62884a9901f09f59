"""Which part of a body each of several holders fetches next.

A body is cut into segments of equal size. Each free holder gets the next segment, so a faster holder gets
more of them. Pure. Knows neither buffers nor sockets.
"""

from dataclasses import dataclass

from topology.placement import NodeName

SEGMENT_BYTES = 8 * 1024 * 1024
"""At this size the round trip of a request costs a few per cent. It is a quarter of the default buffer."""


@dataclass(slots=True, kw_only=True, eq=False)
class Segment:
    """Bytes ``start`` to ``stop`` of a content. ``owner``: the holder that fetches what is not received."""

    start: int
    stop: int
    owner: NodeName | None = None
    received_bytes: int = 0

    @property
    def length(self) -> int:
        """The size in bytes."""
        return self.stop - self.start

    @property
    def whole(self) -> bool:
        """Whether all its bytes were received."""
        return self.received_bytes == self.length


class Stripes:
    """The segments from ``start`` to ``stop``. `pending`: those begun and not yet delivered, in order."""

    def __init__(self, start: int, stop: int, *, segment_bytes: int = SEGMENT_BYTES) -> None:
        self._next = start
        self._stop = stop
        self._segment_bytes = segment_bytes
        self.pending: list[Segment] = []

    @property
    def done(self) -> bool:
        """Whether everything was delivered."""
        return not self.pending and self._next >= self._stop

    @property
    def head(self) -> Segment | None:
        """The segment that the reader is at."""
        return self.pending[0] if self.pending else None

    def finish(self) -> None:
        """Begin no more segments. Those that are pending are the last."""
        self._stop = self._next

    def next_segment(self, node: NodeName, *, room: bool) -> Segment | None:
        """The next segment for this holder: one that another left, else a new one if there is ``room``."""
        for segment in self.pending:
            if segment.owner is None and not segment.whole:
                segment.owner = node
                return segment
        if self._next >= self._stop or not room:
            return None
        segment = Segment(
            start=self._next, stop=min(self._next + self._segment_bytes, self._stop), owner=node
        )
        self._next = segment.stop
        self.pending.append(segment)
        return segment

    def leave(self, node: NodeName) -> None:
        """This holder fetches no more. Others go on with its segments."""
        for segment in self.pending:
            if segment.owner == node:
                segment.owner = None

    def delivered(self) -> Segment:
        """The reader has all of the head. Returns it; the next segment becomes the head."""
        return self.pending.pop(0)
