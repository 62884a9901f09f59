"""Which part of a body each of several holders fetches next.

A body is cut into segments of equal size, taken in order by whichever holder is free: a faster one takes
more. Pure; knows neither buffers nor sockets, only how many segments may be ahead of the reader.
"""

from dataclasses import dataclass

from topology.placement import NodeName

SEGMENT_BYTES = 8 * 1024 * 1024
"""Long enough that asking for one (a round trip) costs a few per cent, a quarter of the default buffer."""


@dataclass(slots=True, kw_only=True, eq=False)
class Segment:
    """Bytes ``start`` to ``stop`` of a content; ``owner`` fetches them, from ``received_bytes`` on."""

    start: int
    stop: int
    owner: NodeName | None = None
    received_bytes: int = 0

    @property
    def length(self) -> int:
        """How many bytes it has."""
        return self.stop - self.start

    @property
    def whole(self) -> bool:
        """Whether all of it was received."""
        return self.received_bytes == self.length


class Stripes:
    """The segments from ``start`` to ``stop``. What is taken and not delivered is in `pending`, in order."""

    def __init__(self, start: int, stop: int, *, segment_bytes: int = SEGMENT_BYTES) -> None:
        self._next = start
        self._stop = stop
        self._segment_bytes = segment_bytes
        self.pending: list[Segment] = []

    @property
    def done(self) -> bool:
        """Whether everything was taken and delivered."""
        return not self.pending and self._next >= self._stop

    @property
    def head(self) -> Segment | None:
        """The segment that the reader is at."""
        return self.pending[0] if self.pending else None

    def finish(self) -> None:
        """Begin no more segments: what is pending is the last."""
        self._stop = self._next

    def next_segment(self, node: NodeName, *, room: bool) -> Segment | None:
        """The next segment for this holder: one that another left, else a new one, if there is ``room``."""
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
        """This holder fetches no more: others go on with what it has begun."""
        for segment in self.pending:
            if segment.owner == node:
                segment.owner = None

    def delivered(self) -> Segment:
        """The reader has all of the head; it is returned, and the next one is the head."""
        return self.pending.pop(0)
