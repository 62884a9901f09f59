"""How containerd fetches a layer in chunks, and how its requests are to be understood. Pure.

Since version 2.1 containerd can fetch a layer in several parallel ranges (``concurrent_layer_fetch_buffer``
and ``max_concurrent_downloads``). Each request asks for the rest of the blob (``bytes=K-``), and containerd
closes the connection after its chunk.

**The first chunk is answered with the whole layer.** A request from the blob's first byte (``bytes=0-``)
selects the whole content, and a server may answer it with a 200 (RFC 9110, 14.2). containerd then fetches the
layer in one stream, as without the setting (``errContentRangeIgnored`` in its ``fetcher.go``, 2.1 to 2.3).

**Only a layer that it resumes is still fetched in chunks.** Then no failure may reach it. This is what it
does (``open`` in ``fetcher.go``, ``Read`` in ``httpreadseeker.go``, 2.1.5 and 2.3.4):

- It *opens* the layer at the byte that it has reached: it sends one request for the rest to each of its hosts
  in turn, until one answers with a 206. A 404 to this request leads to the next host.
- Then it sends further requests to this host, in the order of their chunks: at the opening's first byte, plus
  1, 2, 3 … chunks. So two parallel requests show the size of a chunk.
- Whatever goes wrong with one of these cancels all others. The reader, which takes the chunks in order, meets
  the error of the lowest one that is not complete. If a body ended early with a FIN, it opens the layer again
  where it is. Everything else (a status, an RST, a close before a head, being cancelled) fails the pull.

So a layer can be handed over to the next host, the registry, by a FIN to *the lowest request that is under
way* and to no other, and by a 404 when containerd opens the layer again. Evidence: docs/decisions/0018.
Times are seconds of one monotonic clock.
"""

import math
from collections import OrderedDict
from dataclasses import dataclass, field
from enum import Enum

from agent.oci.digest import Digest
from agent.oci.ranges import RangeSpec

HEAD_AFTER_S = 10.0
"""After this wait for a first byte, the head of a later chunk is sent without one.

containerd 2.3 gives the pull up if no head comes for 30 s. After the head it waits for 320 s.
"""

HAND_OVER_S = 0.3
"""How long to wait with the FIN that hands a layer over. A request for a lower chunk may be on its way."""

LEAVES_S = 1.0
"""A client that has its chunk closes at once. If it has not closed after this time, it reads on."""

_SHOWS_S = (
    0.05  # once; the next request, which shows the size of a chunk, comes a moment after the first head
)
_GUESS_BYTES = 1 << 20  # fetched at a time until the size of a chunk is known, a round trip later
_OVERTAKEN_S = 1.0  # a request may be behind all others, when this process or containerd is busy
_FORGOTTEN_S = 30.0  # containerd goes on with an opening at once, or not at all
_OPENINGS_MAX = 1024
_CHUNK_LEAST_BYTES = 512  # containerd's own least; else two clients resume the same layer
_ASKED_MAX = 1 << 16


class Unserved(Enum):
    """What to do about a request that no peer can serve now."""

    NOT_FOUND = "answer 404"  # it opens the layer, so containerd goes to its next host
    SEARCH = "search again"  # a lower one is under way, and a failure of this one would cancel it
    HAND_OVER = "hand over"  # end the body with a FIN, so that containerd opens the layer again


def is_first_chunk(range_spec: RangeSpec | None) -> bool:
    """Whether a range of containerd's is the first chunk of a layer. It is answered with a 200."""
    return range_spec is not None and range_spec.first == 0 and range_spec.last is None


@dataclass(slots=True, kw_only=True, eq=False)
class Opening:
    """containerd opened a layer at byte ``base``, and fetches the rest of it from there, perhaps in chunks.

    ``in_chunks``: whether it does, as far as it is known. ``chunk_bytes``: the size of a chunk, once two
    requests showed it. ``guess_bytes``: what to fetch at a time until then. ``asked``: where the requests
    began. ``parts``: the requests that are under way. ``cuts``: where bodies were cut. ``size_bytes``: the
    layer's size, once a 206 was sent. ``used_s``: when a request began or ended last.
    """

    base: int
    used_s: float
    in_chunks: bool
    guess_bytes: int
    chunk_bytes: int | None = None
    asked: set[int] = field(default_factory=set)
    parts: "set[Part]" = field(default_factory=set)
    cuts: set[int] = field(default_factory=set)
    size_bytes: int | None = None

    def has(self, start: int, now_s: float) -> bool:
        """Whether a request from this byte belongs to this opening. If not, containerd opens the layer again.

        It does so where a body was cut, and not while all is well. If in doubt, the request belongs to it:
        that costs a moment if nobody has the layer, and the other error fails the pull.
        """
        if self.size_bytes is None or start <= self.base or start in self.asked or start in self.cuts:
            return False
        if len(self.asked) >= _ASKED_MAX or self._chunk_shown_by(start) < _CHUNK_LEAST_BYTES:
            return False
        if self.parts:
            return True
        idle_s = now_s - self.used_s
        aligned = self.chunk_bytes is not None and (start - self.base) % self.chunk_bytes == 0
        return self.in_chunks and idle_s < (_FORGOTTEN_S if aligned else _OVERTAKEN_S)

    def add(self, start: int, now_s: float) -> "Part":
        """A request from this byte begins."""
        if start > self.base:
            self.chunk_bytes, self.in_chunks = self._chunk_shown_by(start), True
        self.asked.add(start)
        self.used_s = now_s
        part = Part(opening=self, start=start)
        self.parts.add(part)
        return part

    def is_lowest(self, start: int) -> bool:
        """Whether no lower request is under way, and none is still to come."""
        lower = sum(asked < start for asked in self.asked)
        expected = 0 if self.chunk_bytes is None else (start - self.base) // self.chunk_bytes
        return lower >= expected and all(part.start >= start for part in self.parts)

    def _chunk_shown_by(self, start: int) -> int:
        """The size of a chunk. Requests overtake each other, so the first two need not be neighbours."""
        return math.gcd(start - self.base, self.chunk_bytes or 0)


@dataclass(slots=True, kw_only=True, eq=False)
class Part:
    """One request of containerd for the rest of a layer. In chunks it reads one chunk of it and leaves.

    ``reads_on``: the client had its chunk and did not leave.
    """

    opening: Opening
    start: int
    reads_on: bool = False

    @property
    def in_chunks(self) -> bool:
        """Whether the client leaves after a chunk, as far as it is known."""
        return self.opening.in_chunks and not self.reads_on

    @property
    def opens(self) -> bool:
        """Whether nothing of this opening was answered yet: containerd can still go to its next host."""
        return self.opening.size_bytes is None

    def answered(self, size_bytes: int) -> None:
        """The head of a 206 goes to containerd. From now on it forgives nothing but a FIN."""
        self.opening.size_bytes = size_bytes

    def cut(self, position: int) -> None:
        """The body ends before this byte, with a FIN: containerd opens the layer again there."""
        self.opening.cuts.add(position)

    def unserved(self) -> Unserved:
        """What to do, since no peer can serve it now."""
        if self.opens:
            return Unserved.NOT_FOUND
        return Unserved.HAND_OVER if self.opening.is_lowest(self.start) else Unserved.SEARCH

    def piece_stop(self, position: int) -> int | None:
        """Where to stop fetching from this byte on: at the end of the chunk. None: nowhere.

        What a peer sends beyond the chunk would cross the network for nothing.
        """
        if not self.in_chunks:
            return None
        chunk_bytes = self.opening.chunk_bytes
        if chunk_bytes is None:
            return position + max(self.opening.guess_bytes, position - self.start)
        return position + chunk_bytes - (position - self.start) % chunk_bytes

    def is_chunk_end(self, position: int) -> bool:
        """Whether the client that was sent all bytes up to this one has exactly its chunk."""
        chunk_bytes = self.opening.chunk_bytes
        return self.in_chunks and chunk_bytes is not None and position == self.start + chunk_bytes

    def pause_s(self, position: int) -> float:
        """How long to wait for the client to leave, before more is fetched for it."""
        if self.is_chunk_end(position):
            return LEAVES_S
        unknown = self.in_chunks and self.opening.chunk_bytes is None
        return _SHOWS_S if unknown and position == self.start + self.opening.guess_bytes else 0.0

    def stayed(self, position: int) -> None:
        """The client was sent the bytes up to this one, and did not leave within the pause."""
        if self.is_chunk_end(position):
            self.reads_on = True


class ChunkedLayers:
    """The layers that this node's containerd fetches from somewhere within them.

    ``in_chunks``: whether it fetches whole layers in chunks, as far as it is known.
    """

    def __init__(self) -> None:
        self.in_chunks = False
        self._guess_bytes = _GUESS_BYTES
        self._openings: OrderedDict[Digest, Opening] = OrderedDict()

    def note(self, range_spec: RangeSpec | None) -> None:
        """containerd requests this range of a blob. None: all of the blob.

        The first of several chunks is requested from the start of the blob, and with an open end. Without
        chunks, containerd requests a range only to resume, and that does not begin at the start.
        """
        if range_spec is None or range_spec.first == 0:
            self.in_chunks = is_first_chunk(range_spec)

    def begin(self, digest: Digest, start: int, now_s: float) -> Part:
        """containerd requests the rest of a layer from byte ``start`` on. `end` it when it was answered."""
        opening = self._openings.get(digest)
        if opening is None or not opening.has(start, now_s):
            opening = self._openings[digest] = Opening(
                base=start, used_s=now_s, in_chunks=self.in_chunks, guess_bytes=self._guess_bytes
            )
        self._openings.move_to_end(digest)
        if len(self._openings) > _OPENINGS_MAX:
            self._openings.popitem(last=False)
        part = opening.add(start, now_s)
        if opening.chunk_bytes is not None:
            self.in_chunks, self._guess_bytes = True, opening.chunk_bytes
        return part

    def end(self, part: Part, now_s: float) -> None:
        """The request ended, whole or not."""
        part.opening.parts.discard(part)
        part.opening.used_s = now_s
